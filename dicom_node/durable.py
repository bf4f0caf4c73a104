"""Flushing files and folders to the disk, so that they are there after a power cut."""

from __future__ import annotations

import os
from pathlib import Path


def make_durable(folder: Path) -> None:
    """Flush all files below a folder, and then the folders, to the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            flush(Path(parent) / name)
    for parent, _, _ in os.walk(folder, topdown=False):
        flush(Path(parent))
    flush(folder.parent)


def flush(path: Path) -> None:
    """Flush one file, or the entries of one folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
