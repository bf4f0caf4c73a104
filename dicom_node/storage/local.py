"""A folder as a store: a disk of this machine, or a file system that several mount."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

from dicom_node.durable import flush, make_durable
from dicom_node.errors import OutOfRoom
from dicom_node.storage.store import Listing

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO}


@dataclass(frozen=True)
class LocalStore:
    """Files below one folder.

    A write is: temporary file in the same file system, fsync, rename, fsync of the folder.

    Attributes
    ----------
    incoming : Path
        Folder of temporary files, of one process; on the file system of `root`.
    """

    root: Path
    incoming: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False, compare=False)

    def _path(self, key: str) -> Path:
        """Return the path of a key; raise `ValueError` for one that could lead out of the root."""
        if key.startswith("/") or ".." in key.split("/"):
            raise ValueError("a key is a path below the root")
        return self.root / key

    def put(self, key: str, parts: Sequence[memoryview]) -> None:
        """Write a file so that it survives a power cut; nothing is left behind where that fails."""
        temporary = self.incoming / f"{os.getpid()}-{next(self._numbers)}.part"
        try:
            self._put(temporary, self._path(key), parts)
        except OSError as error:
            with suppress(OSError):  # a disk that became read-only; what is left is swept at the next start
                temporary.unlink(missing_ok=True)
            if error.errno not in _NO_ROOM:
                raise
            raise OutOfRoom(f"the disk refused the file: {os.strerror(error.errno or 0)}") from error

    def _put(self, temporary: Path, target: Path, parts: Sequence[memoryview]) -> None:
        with temporary.open("xb", buffering=0) as file:
            for part in parts:
                while part:
                    part = part[file.write(part) :]
            os.fsync(file.fileno())
        try:
            temporary.rename(target)
        except FileNotFoundError:
            self._make_folder(target.parent)
            temporary.rename(target)
        flush(target.parent)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder below the root; the entries of new folders are made durable too."""
        levels = [folder, *folder.parents]
        for level in reversed(levels[: levels.index(self.root)]):
            level.mkdir(exist_ok=True)
            flush(level.parent)

    def open(self, key: str) -> BufferedReader:
        """Open a file for reading."""
        return self._path(key).open("rb")

    def size(self, key: str) -> int | None:
        """Return the size of a file in bytes."""
        path = self._path(key)
        return path.stat().st_size if path.is_file() else None

    def listing(self, prefix: str) -> Listing:
        """Return the entries of a folder."""
        try:
            entries = sorted(os.scandir(self._path(prefix)), key=lambda e: e.name)
        except (FileNotFoundError, NotADirectoryError):
            return Listing()
        return Listing(
            tuple(e.name for e in entries if e.is_dir()), tuple(e.name for e in entries if not e.is_dir())
        )

    def move(self, key: str, to: str) -> None:
        """Rename a file; both folders are flushed."""
        source, target = self._path(key), self._path(to)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        flush(target.parent)
        flush(source.parent)

    def remove(self, prefix: str) -> None:
        """Remove a folder with all that is in it, or one file."""
        path = self._path(prefix)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def local(self, keys: Iterable[str]) -> Mapping[str, Path]:
        """Return the files themselves."""
        return {key: self._path(key) for key in keys}

    def forget(self, keys: Iterable[str]) -> None:
        """Do nothing: nothing was copied."""

    def apart(self, name: str) -> LocalStore:
        """Return the same store: nothing is copied."""
        return self

    def folder(self, prefix: str) -> Path:
        """Return the folder itself."""
        return self._path(prefix)

    def keep(self, prefix: str) -> None:
        """Flush all files of the folder to the disk."""
        make_durable(self._path(prefix))


def local_store(root: Path) -> LocalStore:
    """Return the store of a folder for a process that receives nothing."""
    return LocalStore(root, root / "spool" / "incoming")
