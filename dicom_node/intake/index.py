"""The index of received objects: one row each, committed before the sender is told of success."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property
from io import BytesIO
from typing import Any, BinaryIO, cast

from sqlalchemy import Engine, Executable, bindparam, insert, select, true, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from dicom_node.clock import Clock
from dicom_node.database import adding, instance, is_postgresql, reading, repeat, writing
from dicom_node.errors import OutOfRoom, RefusedObject
from dicom_node.intake.additions import Additions
from dicom_node.intake.header import ObjectHeader, read_header
from dicom_node.intake.spool import Spool, StoredFile, file_meta, relative_path

_log = logging.getLogger(__name__)

NOTE_REPEATS_EVERY_S = 10.0
"""Between two notes that one study is sent again."""


_SAME_UID = instance.c.sop_instance_uid == bindparam("uid")
_DIGESTS = select(instance.c.sha256).where(_SAME_UID)
_CONFLICT = update(instance).where(_SAME_UID).values(conflicts=true())
_ADD = insert(instance).values(
    {column.name: bindparam(column.name) for column in instance.c if not column.primary_key}
)
_SQLITE: dict[Executable, str] = {
    statement: str(statement.compile(dialect=sqlite.dialect(paramstyle="named")))
    for statement in (_DIGESTS, _CONFLICT, _ADD)
}
_Run = Callable[[Executable, Mapping[str, Any]], Iterable[Any]]
_Addition = tuple[ObjectHeader, StoredFile]


class Outcome(Enum):
    """What became of a received object."""

    STORED = auto()
    DUPLICATE = auto()
    CONFLICT = auto()


@dataclass(frozen=True, slots=True)
class Received:
    """One received data set.

    Attributes
    ----------
    data_set : memoryview
        As encoded by the sender, without file meta information.
    sha256 : str
        Of the data set, in hex digits.
    """

    header: ObjectHeader
    transfer_syntax_uid: str
    calling_ae_title: str
    data_set: memoryview
    sha256: str


def received_whole(data_set: bytes | bytearray, transfer_syntax_uid: str, calling_ae_title: str) -> Received:
    """Return a data set that is in memory as one piece, its header read and its digest taken.

    Raises
    ------
    UnreadableObject
        As `read_header` does.
    """
    header = read_header(BytesIO(data_set), transfer_syntax_uid)
    digest = hashlib.sha256(data_set).hexdigest()
    return Received(header, transfer_syntax_uid, calling_ae_title, memoryview(data_set), digest)


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What a start found: counts of files and rows."""

    swept: int = 0
    indexed: int = 0
    put_aside: int = 0
    rows_without_file: int = 0


@dataclass(frozen=True)
class Index:
    """Rows of table ``instance`` and their files."""

    engine: Engine
    spool: Spool
    clock: Clock
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _repeated_at: dict[str, float] = field(default_factory=dict, repr=False)

    def accept(self, received: Received) -> Outcome:
        """Keep an object: file first, then row; both are durable when this returns.

        The same UID with the same bytes is a duplicate and changes nothing. The same UID with
        other bytes is kept beside the first one, and both rows are marked as conflicting.

        Raises
        ------
        OutOfRoom
            The disk or the database cannot take it now.
        """
        header, digest = received.header, received.sha256
        path = relative_path(header.study_instance_uid, header.sop_instance_uid, digest)
        try:
            if self.spool.exists(path) and self._knows(header.sop_instance_uid, digest):
                self._note_repeat(header)
                return Outcome.DUPLICATE
            sender, syntax = received.calling_ae_title, received.transfer_syntax_uid
            meta = file_meta(header.sop_class_uid, header.sop_instance_uid, syntax, sender)
            self.spool.write(path, meta, received.data_set)
            outcome = self._add(header, StoredFile(path, digest, len(received.data_set), syntax, sender))
            if outcome is Outcome.DUPLICATE:
                self._note_healed(header, digest)
            return outcome
        except SQLAlchemyError as error:
            raise OutOfRoom("the index cannot be written") from error

    def _note_repeat(self, header: ObjectHeader) -> None:
        """Note that a study is sent again, once for all of its objects that come in one go."""
        now, uid = self.clock(), header.study_instance_uid
        with self._lock:
            for old in [u for u, at in self._repeated_at.items() if now - at >= NOTE_REPEATS_EVERY_S]:
                del self._repeated_at[old]
            if header.made_here or uid in self._repeated_at:
                return
            with self._additions.turn, writing(self.engine) as connection:
                connection.execute(insert(repeat).values(study_instance_uid=uid, at=now))
            self._repeated_at[uid] = now

    def _note_healed(self, header: ObjectHeader, sha256: str) -> None:
        """Note that an object came again whose file had been lost: its study waits for quiet once more."""
        if header.made_here:
            return
        now = self.clock()
        with self._additions.turn, writing(self.engine) as connection:
            connection.execute(
                update(instance).where(_SAME_UID, instance.c.sha256 == sha256).values(received_at=now),
                {"uid": header.sop_instance_uid},
            )
            connection.execute(insert(repeat).values(study_instance_uid=header.study_instance_uid, at=now))

    def _knows(self, sop_instance_uid: str, sha256: str) -> bool:
        with reading(self.engine) as connection:
            query = select(instance.c.id).where(
                instance.c.sop_instance_uid == sop_instance_uid, instance.c.sha256 == sha256
            )
            return connection.execute(query).first() is not None

    @cached_property
    def _additions(self) -> Additions[_Addition, Outcome]:
        """SQLite makes a writer that has to wait sleep; threads of this process take turns instead."""
        return Additions(self._add_together, SQLAlchemyError)

    def _add(self, header: ObjectHeader, file: StoredFile) -> Outcome:
        if is_postgresql(self.engine):
            with adding(self.engine, header.sop_instance_uid) as connection:
                return self._add_one(connection.execute, (header, file))
        return self._additions.add((header, file))

    def _add_together(self, additions: Sequence[_Addition]) -> list[Outcome]:
        """Add rows in one transaction, by SQLite's own interface.

        Of the time that an object took, the layers between it and SQLite took a third.
        """
        pooled = self.engine.raw_connection()
        try:
            return self._add_by_sqlite(cast(sqlite3.Connection, pooled.driver_connection), additions)
        except sqlite3.Error as error:
            raise OperationalError("adding received objects", None, error) from error
        finally:
            pooled.close()

    def _add_by_sqlite(self, connection: sqlite3.Connection, additions: Sequence[_Addition]) -> list[Outcome]:
        def run(statement: Executable, values: Mapping[str, Any]) -> sqlite3.Cursor:
            return connection.execute(_SQLITE[statement], values)

        connection.execute("BEGIN IMMEDIATE")
        try:
            outcomes = [self._add_one(run, addition) for addition in additions]
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise
        return outcomes

    def _add_one(self, run: _Run, addition: _Addition) -> Outcome:
        header, file = addition
        uid = {"uid": header.sop_instance_uid}
        digests = {row[0] for row in run(_DIGESTS, uid)}
        if file.sha256 in digests:
            return Outcome.DUPLICATE
        row = {
            "sop_instance_uid": header.sop_instance_uid,
            "sha256": file.sha256,
            "sop_class_uid": header.sop_class_uid,
            "transfer_syntax_uid": file.transfer_syntax_uid,
            "study_instance_uid": header.study_instance_uid,
            "series_instance_uid": header.series_instance_uid,
            "modality": header.modality,
            "path": file.path,
            "size_bytes": file.size_bytes,
            "calling_ae_title": file.calling_ae_title,
            "received_at": self.clock(),
            "made_here": header.made_here,
            "conflicts": bool(digests),
        }
        run(_ADD, row)
        if digests:
            run(_CONFLICT, uid)
        return Outcome.CONFLICT if digests else Outcome.STORED

    def reconcile(self) -> Reconciliation:
        """Bring disk and index together at start; nothing is lost and nothing happens silently.

        A file without a row (killed between rename and commit) gets its row. A file whose bytes
        do not match its name is put aside. A row without its file is reported; its object is
        written again when the sender repeats it.
        """
        swept = self.spool.sweep()
        indexed = put_aside = missing = 0
        for study_instance_uid in self.spool.studies():
            for path in sorted(self.spool.files(study_instance_uid) - self._paths(study_instance_uid)):
                try:
                    with self.spool.opened(path) as (stored, data_set):
                        self._index_found(stored, data_set)
                    indexed += 1
                except RefusedObject as error:
                    _log.error("%s is damaged and put aside: %s", path, error)
                    self.spool.put_aside(path)
                    put_aside += 1
        for study_instance_uid in self._studies():
            for path in sorted(self._paths(study_instance_uid) - self.spool.files(study_instance_uid)):
                _log.error("%s is in the index and not on disk; send it again", path)
                missing += 1
        found = Reconciliation(swept, indexed, put_aside, missing)
        _log.info("spool and index reconciled: %s", found)
        return found

    def _index_found(self, stored: StoredFile, data_set: BinaryIO) -> None:
        header = read_header(data_set, stored.transfer_syntax_uid)
        self._add(header, stored)

    def _paths(self, study_instance_uid: str) -> set[str]:
        with reading(self.engine) as connection:
            query = select(instance.c.path).where(instance.c.study_instance_uid == study_instance_uid)
            return set(connection.execute(query).scalars())

    def _studies(self) -> list[str]:
        with reading(self.engine) as connection:
            return list(connection.execute(select(instance.c.study_instance_uid).distinct()).scalars())
