"""Whether a site's segmenter can be used on this machine, and if not, why."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Available:
    """It can be used; `detail` says what was found."""

    detail: str


@dataclass(frozen=True, slots=True)
class NotAvailable:
    """It cannot be used; `reason` says what is missing and what to do."""

    reason: str


Availability = Available | NotAvailable


def find_program(executable: str) -> Path | None:
    """Return the path of a program, found on PATH or given as a path."""
    found = shutil.which(executable)
    return None if found is None else Path(os.path.abspath(found))  # noqa: PTH100 - links stay as they are
