"""Object storage as a store, by fsspec: S3 and what speaks like it.

A write of one object is whole or not there, and durable when the service has answered. Programs that read
and write files do so in a folder of this machine: inputs are copied into it, results are made in it and
copied to the store before the database hears of them.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from dicom_node.errors import OutOfRoom, TransientError
from dicom_node.storage.store import Listing

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteStore:
    """Files below one prefix of an fsspec file system.

    Attributes
    ----------
    files : fsspec.AbstractFileSystem
        Without a cache of listings: other machines write too.
    prefix : str
        ``bucket/prefix``, without a slash at its end.
    scratch : Path
        Folder of this process for copies and for what is being made.
    failures : tuple of exception types
        What the file system raises when it cannot be reached, besides `OSError`.
    """

    files: Any
    prefix: str
    scratch: Path
    failures: tuple[type[Exception], ...] = ()

    def _path(self, key: str) -> str:
        return f"{self.prefix}/{key}" if key else self.prefix

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Turn failures of the service into `TransientError`; an absent file stays `FileNotFoundError`."""
        failures: tuple[type[Exception], ...] = (OSError, *self.failures)
        try:
            yield
        except FileNotFoundError:
            raise
        except failures as error:
            raise TransientError(f"the object storage cannot be used now ({type(error).__name__})") from error

    def put(self, key: str, parts: Sequence[memoryview]) -> None:
        """Write one object."""
        try:
            with self._reached():
                self.files.pipe_file(self._path(key), b"".join(parts))
        except (TransientError, FileNotFoundError) as error:
            raise OutOfRoom("the object storage did not take the file") from error

    def open(self, key: str) -> BytesIO:
        """Read one object as a whole."""
        with self._reached():
            return BytesIO(self.files.cat_file(self._path(key)))

    def size(self, key: str) -> int | None:
        """Return the size of an object in bytes."""
        try:
            with self._reached():
                found = self.files.info(self._path(key))
        except FileNotFoundError:
            return None
        return int(found["size"]) if found["type"] == "file" else None

    def listing(self, prefix: str) -> Listing:
        """Return what is directly below a prefix."""
        try:
            with self._reached():
                entries = self.files.ls(self._path(prefix), detail=True)
        except FileNotFoundError:
            return Listing()
        named = sorted((str(e["name"]).rstrip("/").rpartition("/")[2], e["type"]) for e in entries)
        return Listing(
            tuple(n for n, kind in named if kind == "directory"),
            tuple(n for n, kind in named if kind == "file" and n),
        )

    def move(self, key: str, to: str) -> None:
        """Copy an object, then remove the first."""
        with self._reached():
            self.files.cp_file(self._path(key), self._path(to))
            self.files.rm_file(self._path(key))

    def remove(self, prefix: str) -> None:
        """Remove every object below a prefix, here too."""
        shutil.rmtree(self.folder(prefix), ignore_errors=True)
        try:
            with self._reached():
                self.files.rm(self._path(prefix), recursive=True)
        except FileNotFoundError:
            return

    # -------------------------------------------------------------- files of this machine

    def _copy(self, key: str) -> Path:
        return self.scratch / "copies" / key

    def local(self, keys: Iterable[str]) -> Mapping[str, Path]:
        """Copy objects that are not here yet, several at a time where the service can."""
        wanted = {key: self._copy(key) for key in keys}
        missing = [key for key, path in wanted.items() if not path.exists()]
        if missing:
            self._fetch({key: wanted[key] for key in missing})
        return wanted

    def _fetch(self, wanted: Mapping[str, Path]) -> None:
        parts = {key: path.with_name(f"{path.name}.{os.getpid()}.part") for key, path in wanted.items()}
        for path in wanted.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        remote = [self._path(key) for key in wanted]
        try:
            with self._reached():
                self.files.get(remote, [str(p) for p in parts.values()])
        except FileNotFoundError:
            self._fetch_one_by_one(parts)
        for key, part in parts.items():
            if part.exists():
                part.replace(wanted[key])

    def _fetch_one_by_one(self, parts: Mapping[str, Path]) -> None:
        """Copy what is there, where not everything is."""
        for key, part in parts.items():
            try:
                with self._reached():
                    self.files.get_file(self._path(key), str(part))
            except FileNotFoundError:
                part.unlink(missing_ok=True)
                _log.error("%s is not in the object storage", key)

    def forget(self, keys: Iterable[str]) -> None:
        """Remove copies."""
        for key in keys:
            self._copy(key).unlink(missing_ok=True)

    def apart(self, name: str) -> RemoteStore:
        """Return the same store with a folder of its own on this machine."""
        return replace(self, scratch=self.scratch / name)

    def folder(self, prefix: str) -> Path:
        """Return the folder in which results are made."""
        return self.scratch / "made" / prefix

    def keep(self, prefix: str) -> None:
        """Copy everything made below a prefix to the store, and then remove it here."""
        folder = self.folder(prefix)
        made = sorted(p for p in folder.rglob("*") if p.is_file())
        keys = [f"{prefix}/{p.relative_to(folder).as_posix()}" for p in made]
        with self._reached():
            self.files.put([str(p) for p in made], [self._path(key) for key in keys])
        shutil.rmtree(folder)

    def sweep(self) -> None:
        """Remove all copies, and what was made and never kept: at start, when nobody uses them."""
        shutil.rmtree(self.scratch, ignore_errors=True)
