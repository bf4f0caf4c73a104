"""Where a training keeps what it needs to go on after it was stopped."""

from __future__ import annotations

from pathlib import Path


def work_folder(out: Path) -> Path:
    """Return the folder beside a bundle, ``OUT.work``."""
    return out.with_name(f"{out.name}.work")
