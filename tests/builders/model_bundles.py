"""Bundles for tests: copies of shipped ones that differ in what they compute or say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from inference.bundle_store import METADATA, bundle_folder, seal


def variant(folder: Path, name: str = "mechanistic", version: str = "9.9.9", **metadata: Any) -> Path:
    """Copy a shipped bundle into `folder`, with other bytes, another digest and other metadata."""
    copy = Path(shutil.copytree(bundle_folder(name), folder))
    known = json.loads((copy / METADATA).read_text(encoding="utf-8"))
    (copy / "NOTE").write_text(f"retrained as {version}\n", encoding="utf-8")
    seal(copy, {**known, "version": version, **metadata})
    return copy


def damage(folder: Path) -> None:
    """Change one byte of one file of a bundle."""
    path = next(p for p in sorted(folder.iterdir()) if p.is_file() and p.name != METADATA)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
