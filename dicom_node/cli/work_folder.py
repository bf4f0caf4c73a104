"""Where a training writes: its bundle, and what it needs to go on after it was stopped."""

from __future__ import annotations

from pathlib import Path

import typer


def work_folder(out: Path) -> Path:
    """Return the folder beside a bundle, ``OUT.work``."""
    return out.with_name(f"{out.name}.work")


def check_apart(out: Path, start: Path) -> None:
    """Refuse to write a bundle over the one that its training goes on from.

    Raises
    ------
    typer.BadParameter
        Both are the same folder.
    """
    if out.resolve() == start.resolve():
        raise typer.BadParameter("must be another folder than --start-from", param_hint="--out")
