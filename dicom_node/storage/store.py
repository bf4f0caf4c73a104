"""The seam between the node and where its files are.

Rows of the database name files by keys: paths with ``/``, relative to the root of a store. What received
objects and results are is said by who makes the keys (`dicom_node.intake.spool`, `dicom_node.worker`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Listing:
    """What is directly below a prefix: names of folders and of files, in order."""

    folders: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


class Store(Protocol):
    """Files by keys.

    Every method raises `TransientError` where the store cannot be reached, and `put` raises `OutOfRoom`
    where it takes nothing now.
    """

    def put(self, key: str, parts: Sequence[memoryview]) -> None:
        """Write a file of these parts; it is whole, durable and seen by all machines once this returns."""
        ...

    def open(self, key: str) -> BufferedReader | BytesIO:
        """Open a file for reading; raise `FileNotFoundError` if it is absent."""
        ...

    def size(self, key: str) -> int | None:
        """Return the size of a file in bytes; None if it is absent."""
        ...

    def listing(self, prefix: str) -> Listing:
        """Return what is directly below a prefix; nothing if it is absent."""
        ...

    def move(self, key: str, to: str) -> None:
        """Give a file another key, durably."""
        ...

    def remove(self, prefix: str) -> None:
        """Remove everything below a prefix, or the file with this key."""
        ...

    def local(self, keys: Iterable[str]) -> Mapping[str, Path]:
        """Return files of this machine with the contents of these keys; the path of an absent one is empty.

        They are for reading only.
        """
        ...

    def forget(self, keys: Iterable[str]) -> None:
        """Give up what `local` copied to this machine."""
        ...

    def apart(self, name: str) -> Store:
        """Return this store with copies of its own, so that one user's `forget` takes nobody else's."""
        ...

    def folder(self, prefix: str) -> Path:
        """Return the folder of this machine in which files below a prefix are made; it may be absent."""
        ...

    def keep(self, prefix: str) -> None:
        """Make everything in `folder` durable and seen by all machines under its keys."""
        ...
