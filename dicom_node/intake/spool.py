"""The spool: received objects as DICOM files, durable before their sender is told of success.

    data_dir/spool/.lock                              held by the one listener of the folder
    data_dir/spool/incoming/<pid>-<n>.part              being written; swept at start
    data_dir/spool/aside/...                          found damaged at start; for a person to look at
    data_dir/spool/<2 hex digits>/<study>/<object>-<digest>.dcm

The digest is of the data set, so an object that comes again with other bytes lies beside the first
one. A write is: temporary file in the same file system, fsync, rename, fsync of the folder.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import logging
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

from dicom_node.errors import ConfigurationError, OutOfRoom, UnreadableObject
from dicom_node.intake.header import UID_GRAMMAR, checked_uid

_log = logging.getLogger(__name__)

DIGEST_DIGITS = 32
"""Hex digits of the SHA-256 in a file name: 128 bits, so that nobody can make two that meet."""

FreeBytes = Callable[[Path], int]

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO}
_LONGEST_META = 4096
_PREAMBLE = b"\x00" * 128 + b"DICM"


def free_bytes(folder: Path) -> int:
    """Return the bytes that an unprivileged process may still write to the file system."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _element(element: int, vr: bytes, value: bytes) -> bytes:
    """Encode one element of group 0002, Explicit VR Little Endian (PS3.5 section 7.1.2)."""
    if len(value) % 2:
        value += b"\x00" if vr in (b"UI", b"OB") else b" "
    if vr == b"OB":
        return struct.pack("<HH2sHL", 2, element, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value


def file_meta(
    sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, calling_ae_title: str
) -> bytes:
    """Return preamble, prefix and file meta information of a file (PS3.10 section 7.1).

    The calling AE title is kept as Source Application Entity Title: a file that lost its row
    still says who sent it.
    """
    group = b"".join(
        (
            _element(0x0001, b"OB", b"\x00\x01"),
            _element(0x0002, b"UI", sop_class_uid.encode("ascii")),
            _element(0x0003, b"UI", sop_instance_uid.encode("ascii")),
            _element(0x0010, b"UI", transfer_syntax_uid.encode("ascii")),
            _element(0x0012, b"UI", PYNETDICOM_IMPLEMENTATION_UID.encode("ascii")),
            _element(0x0013, b"SH", PYNETDICOM_IMPLEMENTATION_VERSION.encode("ascii")),
            _element(0x0016, b"AE", calling_ae_title.encode("ascii", "replace")[:16]),
        )
    )
    return _PREAMBLE + _element(0x0000, b"UL", struct.pack("<L", len(group))) + group


def relative_path(study_instance_uid: str, sop_instance_uid: str, sha256: str) -> str:
    """Return where an object lies below the data folder.

    Raises
    ------
    InvalidUid
        One of the UIDs breaks the grammar, and could lead out of the folder.
    """
    study = checked_uid(study_instance_uid, "StudyInstanceUID")
    sop_instance = checked_uid(sop_instance_uid, "SOPInstanceUID")
    shelf = hashlib.sha256(study.encode("ascii")).hexdigest()[:2]
    return f"spool/{shelf}/{study}/{sop_instance}-{sha256[:DIGEST_DIGITS]}.dcm"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the spool, as its own meta information describes it."""

    path: str
    sha256: str
    size_bytes: int
    transfer_syntax_uid: str
    calling_ae_title: str


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Spool:
    """Files of received objects below one data folder.

    Attributes
    ----------
    minimum_free_bytes : int
        What a write must leave free.
    free : callable
        Gives the free bytes of a folder's file system.
    """

    data_dir: Path
    minimum_free_bytes: int
    free: FreeBytes = free_bytes
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    @property
    def root(self) -> Path:
        """Folder of all received objects."""
        return self.data_dir / "spool"

    @property
    def incoming(self) -> Path:
        """Folder of temporary files."""
        return self.root / "incoming"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folders and hold them as the only listener.

        Raises
        ------
        ConfigurationError
            Another listener runs on this data folder.
        """
        self.incoming.mkdir(parents=True, exist_ok=True)
        for folder in (self.root, self.data_dir, self.data_dir.absolute().parent):
            _fsync_folder(folder)
        with (self.root / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigurationError(
                    f"another listener runs on data_dir {self.data_dir}; give this one another folder"
                ) from error
            yield

    def has_room(self, size_bytes: int = 0) -> bool:
        """Return whether an object of that size leaves the minimum free."""
        return self.free(self.data_dir) - size_bytes >= self.minimum_free_bytes

    def exists(self, path: str) -> bool:
        """Return whether a path of the index is a file."""
        return (self.data_dir / path).is_file()

    def write(self, path: str, meta: bytes, data_set: memoryview) -> None:
        """Write one file so that it survives a power cut once this returns.

        Parameters
        ----------
        path : str
            From `relative_path`.
        meta : bytes
            From `file_meta`.

        Raises
        ------
        OutOfRoom
            The file system cannot take it; nothing is left behind.
        """
        temporary = self.incoming / f"{os.getpid()}-{next(self._numbers)}.part"
        try:
            if not self.has_room(len(data_set)):
                raise OutOfRoom("the disk is below minimum_free_bytes")
            self._write(temporary, self.data_dir / path, meta, data_set)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno not in _NO_ROOM:
                raise
            raise OutOfRoom(f"the disk refused the file: {os.strerror(error.errno or 0)}") from error

    def _write(self, temporary: Path, target: Path, meta: bytes, data_set: memoryview) -> None:
        with temporary.open("xb", buffering=0) as file:
            for part in (memoryview(meta), data_set):
                while part:
                    part = part[file.write(part) :]
            os.fsync(file.fileno())
        try:
            temporary.rename(target)
        except FileNotFoundError:
            self._make_folder(target.parent)
            temporary.rename(target)
        _fsync_folder(target.parent)

    def _make_folder(self, folder: Path) -> None:
        """Make a study's folder; the entries of new folders are made durable too."""
        for level in (folder.parent, folder):
            level.mkdir(exist_ok=True)
            _fsync_folder(level.parent)

    def sweep(self) -> int:
        """Remove the temporary files of a listener that was killed; return how many there were."""
        left = list(self.incoming.iterdir())
        for path in left:
            path.unlink()
        return len(left)

    def studies(self) -> Iterator[str]:
        """Yield the UIDs of the studies that have a folder."""
        for shelf in sorted(self.root.iterdir()):
            if len(shelf.name) == 2 and shelf.is_dir():
                for folder in sorted(shelf.iterdir()):
                    if UID_GRAMMAR.fullmatch(folder.name):
                        yield folder.name
                    else:
                        _log.error("%s is no folder of a study and is left alone", folder)

    def files(self, study_instance_uid: str) -> set[str]:
        """Return the paths of a study's files, relative to the data folder."""
        folder = (self.data_dir / relative_path(study_instance_uid, "0.0", "")).parent
        if not folder.is_dir():
            return set()
        return {str(p.relative_to(self.data_dir)) for p in folder.iterdir() if p.suffix == ".dcm"}

    def put_aside(self, path: str) -> None:
        """Move a damaged file out of the way, keeping it."""
        source = self.data_dir / path
        target = self.root / "aside" / source.parent.name / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        _fsync_folder(target.parent)
        _fsync_folder(source.parent)

    @contextmanager
    def opened(self, path: str) -> Iterator[tuple[StoredFile, BinaryIO]]:
        """Open a file at the start of its data set, after checking the digest in its name.

        Raises
        ------
        UnreadableObject
            It is not a file of this spool, or its bytes have changed.
        """
        with (self.data_dir / path).open("rb") as file:
            group = _read_meta(file)
            start = file.tell()
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell() - start
            if Path(path).stem.rpartition("-")[2] != digest[:DIGEST_DIGITS]:
                raise UnreadableObject("the bytes of the file do not match its name")
            file.seek(start)
            yield (
                StoredFile(path, digest, size, _value(group, 0x0010, b"UI"), _value(group, 0x0016, b"AE")),
                file,
            )


def _read_meta(file: BinaryIO) -> bytes:
    """Read over preamble and file meta information as `file_meta` wrote them; return group 0002."""
    head = file.read(len(_PREAMBLE) + 12)
    if len(head) < len(_PREAMBLE) + 12 or not head.startswith(_PREAMBLE):
        raise UnreadableObject("the file has no DICOM prefix")
    (length,) = struct.unpack("<L", head[-4:])
    group = file.read(min(length, _LONGEST_META))
    if len(group) != length:
        raise UnreadableObject("the file meta information is damaged")
    return group


def _value(group: bytes, element: int, vr: bytes) -> str:
    """Return a text value of group 0002; its tag and VR cannot occur inside another text."""
    at = group.find(struct.pack("<HH2s", 2, element, vr))
    if at < 0:
        raise UnreadableObject("the file meta information is damaged")
    (size,) = struct.unpack_from("<H", group, at + 6)
    return group[at + 8 : at + 8 + size].decode("ascii", "replace").rstrip("\x00 ")
