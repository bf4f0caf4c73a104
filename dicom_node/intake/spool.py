"""The spool: received objects as DICOM files, durable before their sender is told of success.

    spool/.lock                              held by the one listener of the folder
    spool/incoming/<pid>-<n>.part            being written; swept at start
    spool/aside/...                          found damaged at start; for a person to look at
    spool/<2 hex digits>/<study>/<object>-<digest>.dcm

below the data folder. Where machines share a file system, each listener has a lock and a folder of
incoming files of its own name (``.lock-<name>``, ``incoming/<name>``); in object storage an object is
whole or not there, and needs neither.

The digest is of the data set, so an object that comes again with other bytes lies beside the first
one. A write is: temporary file in the same file system, fsync, rename, fsync of the folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TextIO

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

from dicom_node.durable import flush
from dicom_node.errors import ConfigurationError, OutOfRoom, UnreadableObject
from dicom_node.intake.header import UID_GRAMMAR, checked_uid
from dicom_node.storage.local import LocalStore
from dicom_node.storage.store import Store

_log = logging.getLogger(__name__)

DIGEST_DIGITS = 32
"""Hex digits of the SHA-256 in a file name: 128 bits, so that nobody can make two that meet."""

FreeBytes = Callable[[Path], int]

_LONGEST_META = 4096
_READ_BYTES = 1024**2
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


def aside(path: str) -> str:
    """Return where a damaged file of the spool is put aside, for a person to look at."""
    study, name = path.split("/")[-2:]
    return f"spool/aside/{study}/{name}"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the spool, as its own meta information describes it."""

    path: str
    sha256: str
    size_bytes: int
    transfer_syntax_uid: str
    calling_ae_title: str


@dataclass(frozen=True)
class Spool:
    """Files of received objects, below one folder or in a store.

    Attributes
    ----------
    data_dir : Path
        The folder; with a store that is elsewhere, the folder of this machine for its lock.
    minimum_free_bytes : int
        What a write must leave free.
    free : callable
        Gives the free bytes of a folder's file system.
    listener : str
        Name of this listener where several share the folder; empty where there is one.
    elsewhere : Store, optional
        Where the files are, if not below the folder.
    """

    data_dir: Path
    minimum_free_bytes: int
    free: FreeBytes = free_bytes
    listener: str = ""
    elsewhere: Store | None = None
    files_in: Store = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Choose the store."""
        store = self.elsewhere or LocalStore(self.data_dir, self.incoming)
        object.__setattr__(self, "files_in", store)

    @property
    def root(self) -> Path:
        """Folder of all received objects."""
        return self.data_dir / "spool"

    @property
    def incoming(self) -> Path:
        """Folder of temporary files."""
        return self.root / "incoming" / self.listener

    def _lock_file(self, listener: str) -> Path:
        return self.root / (f".lock-{listener}" if listener else ".lock")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folders and hold them as the only listener of this name.

        Raises
        ------
        ConfigurationError
            Another listener of this name runs on this data folder.
        """
        self.incoming.mkdir(parents=True, exist_ok=True)
        for folder in (self.incoming.parent, self.root, self.data_dir, self.data_dir.absolute().parent):
            flush(folder)
        with self._lock_file(self.listener).open("w") as lock:
            if not _locked(lock):
                hint = "another storage.node_name" if self.listener else "another folder"
                raise ConfigurationError(
                    f"another listener runs on data_dir {self.data_dir}; give this one {hint}"
                )
            yield

    def has_room(self, size_bytes: int = 0) -> bool:
        """Return whether an object of that size leaves the minimum free."""
        return self.free(self.data_dir) - size_bytes >= self.minimum_free_bytes

    def exists(self, path: str) -> bool:
        """Return whether a path of the index is a file."""
        return self.files_in.size(path) is not None

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
        if not self.has_room(len(data_set)):
            raise OutOfRoom("the disk is below minimum_free_bytes")
        self.files_in.put(path, (memoryview(meta), data_set))

    def sweep(self) -> int:
        """Remove the temporary files of listeners that were killed; return how many there were.

        Where several share the folder, those of others go once nobody holds their lock.
        """
        left = [p for p in self.incoming.iterdir() if p.is_file()]
        for folder in self.incoming.parent.iterdir() if self.listener else ():
            if folder.is_dir() and folder.name != self.listener:
                left += self._abandoned(folder)
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def _abandoned(self, folder: Path) -> list[Path]:
        with self._lock_file(folder.name).open("a") as lock:
            return list(folder.iterdir()) if _locked(lock) else []

    def studies(self) -> Iterator[str]:
        """Yield the UIDs of the studies that have a folder."""
        for shelf in self.files_in.listing("spool").folders:
            if len(shelf) == 2:
                for name in self.files_in.listing(f"spool/{shelf}").folders:
                    if UID_GRAMMAR.fullmatch(name):
                        yield name
                    else:
                        _log.error("spool/%s has a folder that is no study's; it is left alone", shelf)

    def files(self, study_instance_uid: str) -> set[str]:
        """Return the paths of a study's files, as in the index."""
        folder = relative_path(study_instance_uid, "0.0", "").rpartition("/")[0]
        return {f"{folder}/{name}" for name in self.files_in.listing(folder).files if name.endswith(".dcm")}

    def put_aside(self, path: str) -> None:
        """Move a damaged file out of the way, keeping it."""
        self.files_in.move(path, aside(path))

    @contextmanager
    def opened(self, path: str) -> Iterator[tuple[StoredFile, BinaryIO]]:
        """Open a file at the start of its data set, after checking the digest in its name.

        Raises
        ------
        UnreadableObject
            It is not a file of this spool, or its bytes have changed.
        """
        with self.files_in.open(path) as file:
            group = _read_meta(file)
            start = file.tell()
            digest = _digest(file)
            size = file.tell() - start
            if Path(path).stem.rpartition("-")[2] != digest[:DIGEST_DIGITS]:
                raise UnreadableObject("the bytes of the file do not match its name")
            file.seek(start)
            yield (
                StoredFile(path, digest, size, _value(group, 0x0010, b"UI"), _value(group, 0x0016, b"AE")),
                file,
            )


def _digest(file: BinaryIO) -> str:
    """Return the SHA-256 of a file from where it is read to its end."""
    digest = hashlib.sha256()
    while part := file.read(_READ_BYTES):
        digest.update(part)
    return digest.hexdigest()


def _locked(file: TextIO) -> bool:
    """Take a lock until the file is closed; False where another process has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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
