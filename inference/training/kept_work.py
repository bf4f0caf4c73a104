"""Folders that keep what was computed already, so that work of hours can be stopped and taken up again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inference.errors import TrainingDataError


def claim(folder: Path, asked: Mapping[str, Any]) -> None:
    """Make a folder for one evaluation or training, or find that of the same one.

    Parameters
    ----------
    asked : mapping
        Everything that decides what is computed, for JSON.

    Raises
    ------
    TrainingDataError
        The folder belongs to another one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "evaluation.json"
    text = json.dumps(asked, indent=1, sort_keys=True, default=str) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise TrainingDataError(
            f"{folder.name} holds work of another evaluation or training; remove that folder, or give "
            "another --out"
        )
    path.write_text(text, encoding="utf-8")
