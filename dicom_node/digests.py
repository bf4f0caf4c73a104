"""Digests of inputs: of data sets, whatever file meta information they were stored with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

PREAMBLE = 128
META_LENGTH_AT = 140
"""Offset of the value of (0002,0000) File Meta Information Group Length (PS3.10 section 7.1)."""


def data_set_sha256(path: Path) -> str:
    """Return the sha256 of a file's data set as encoded, without preamble and file meta information."""
    content = path.read_bytes()
    start = 0
    if content[PREAMBLE : PREAMBLE + 4] == b"DICM":
        length = int.from_bytes(content[META_LENGTH_AT : META_LENGTH_AT + 4], "little")
        start = META_LENGTH_AT + 4 + length
    return hashlib.sha256(memoryview(content)[start:]).hexdigest()


def inputs_digest(files: Mapping[str, str]) -> str:
    """Return the digest of a study's inputs, from SOP Instance UID to the sha256 of its data set."""
    lines = "".join(f"{uid} {files[uid]}\n" for uid in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()
