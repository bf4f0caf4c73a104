"""Retention: removes what has been kept long enough, and says so in the audit trail.

Inputs go when every revision of their study has ended and the study has been quiet for the time of its last
state. A study that is not ended, that waits for a person or that has failed is never removed. The copy of
the PACS is not touched: a study that is sent again is received again.

About overwriting. `removal: overwrite` writes zeros over a file, flushes them, and then removes it. On a
magnetic disk with a file system that writes in place that is enough. It is not on flash memory (SSD, NVMe:
the controller writes elsewhere and keeps the old blocks for a while), on file systems that copy on write
(btrfs, ZFS, snapshots of any kind), on object storage, and for what a backup has. There the only way is a
volume that is encrypted as a whole, whose key is destroyed in the end.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dicom_node.audit.events import AuditEvent, AuditEvents, EventKind, add_event
from dicom_node.audit.tables import expired_file, removal
from dicom_node.clock import Clock
from dicom_node.database import (
    instance,
    is_postgresql,
    reading,
    repeat,
    result_object,
    revision,
    study,
    writing,
)
from dicom_node.errors import TransientError
from dicom_node.jobs.states import ResultObject, Revision
from dicom_node.operation_settings import Removal, RetentionSettings
from dicom_node.storage.store import Store
from dicom_node.worker import results_prefix

_log = logging.getLogger(__name__)

SECONDS_PER_DAY = 86400.0
CHUNK_BYTES = 1024**2
INPUTS, RESULTS = "inputs", "results"
ASIDE_S = 60.0
"""From a file's putting aside to its end: longer than a listener may wait between a file and its row."""
FINISHED_AT_ONCE = 5000

_R = Revision
ENDED = frozenset({_R.DELIVERED, _R.IGNORED, _R.REFUSED, _R.CANCELLED, _R.SUPERSEDED})
"""States of revisions that nobody waits for."""
WITHOUT_DELIVERY = frozenset({_R.REFUSED, _R.CANCELLED, _R.SUPERSEDED})
"""States in which results are of no further use; those of a delivery are removed by the outbox."""


def days_by_state(settings: RetentionSettings) -> Mapping[Revision, float | None]:
    """Return how long inputs are kept after their study's last revision came into a state."""
    return {
        _R.DELIVERED: settings.delivered_inputs_days,
        _R.IGNORED: settings.ignored_inputs_days,
        _R.REFUSED: settings.refused_inputs_days,
        _R.CANCELLED: settings.cancelled_inputs_days,
    }


@dataclass(frozen=True, slots=True)
class Expired:
    """A study whose inputs may go."""

    study_instance_uid: str
    last_revision: int


@dataclass(frozen=True)
class Retention:
    """Removes what has expired; one runs for each node."""

    database: sa.Engine
    settings: RetentionSettings
    store: Store
    clock: Clock

    def __post_init__(self) -> None:
        """Create the tables where they are absent."""
        AuditEvents(self.database, self.clock)

    def step(self) -> tuple[int, int]:
        """Remove everything that has expired; returns the number of studies, and of result folders."""
        studies = sum(self._remove_inputs(expired) for expired in self.expired())
        results = sum(self.remove_results(row_id, uid) for row_id, uid in self.expired_results())
        return studies, results

    # -------------------------------------------------------------- inputs

    def expired(self) -> tuple[Expired, ...]:
        """Return the studies whose inputs may go now."""
        open_states = [str(s) for s in Revision if s not in ENDED]
        not_ended = sa.select(revision.c.study_instance_uid).where(revision.c.state.in_(open_states))
        last = (
            sa.select(revision.c.study_instance_uid, sa.func.max(revision.c.id).label("id"))
            .group_by(revision.c.study_instance_uid)
            .subquery()
        )
        query = (
            sa.select(revision.c.id, revision.c.study_instance_uid, revision.c.state, revision.c.changed_at)
            .join(last, last.c.id == revision.c.id)
            .where(
                revision.c.study_instance_uid.not_in(not_ended),
                revision.c.study_instance_uid.in_(sa.select(instance.c.study_instance_uid)),
            )
            .order_by(revision.c.id)
        )
        days = days_by_state(self.settings)
        with reading(self.database) as connection:
            rows = connection.execute(query).all()
        return tuple(
            Expired(row.study_instance_uid, int(row.id))
            for row in rows
            if (kept := days.get(Revision(row.state))) is not None
            and self.clock() - row.changed_at > SECONDS_PER_DAY * kept
        )

    def _remove_inputs(self, expired: Expired) -> bool:
        """Remove the inputs of a study: its rows at once, its files a little later by `finish`.

        A listener writes a file before its row. Where the same object comes again at this very moment, its
        file may be the one that goes: so files are put aside first, and `finish` gives back what has got a
        row again. A kill in between leaves it all to the next `finish`.
        """
        with writing(self.database) as connection:
            paths = self._release(connection, expired)
            if not paths:
                return False
            at = self.clock()
            rows = [{"key": key, "aside": aside_key(key), "at": at} for key in paths]
            connection.execute(sa.insert(expired_file), rows)
            size = sum(self.store.size(key) or 0 for key in paths)
            self._note(connection, expired.study_instance_uid, INPUTS, None, len(paths), size)
        for row in rows:
            self._put_aside(str(row["key"]), str(row["aside"]))
        _log.info("the inputs of a study have expired: %d files", len(paths))
        return True

    def _put_aside(self, key: str, aside: str) -> None:
        try:
            if self.store.size(key) is not None:
                self.store.move(key, aside)
        except (OSError, TransientError) as error:
            _log.warning("an expired file cannot be put aside now (%s)", type(error).__name__)

    def finish(self) -> int:
        """Remove the files that were put aside a while ago; returns how many were.

        One whose row is there again is given back. One that still lies where it was is put aside first.
        """
        before = self.clock() - ASIDE_S
        query = sa.select(expired_file).where(expired_file.c.at <= before).limit(FINISHED_AT_ONCE)
        with reading(self.database) as connection:
            waiting = connection.execute(query).all()
        return sum(self._finish(row) for row in waiting)

    def _finish(self, row: sa.Row[Any]) -> bool:
        key, aside, mine = row.key, row.aside, expired_file.c.id == row.id
        with reading(self.database) as connection:
            is_back = connection.execute(sa.select(instance.c.id).where(instance.c.path == key)).first()
        try:
            here, there = self.store.size(key) is not None, self.store.size(aside) is not None
            if is_back is None and here:
                if not there:
                    self.store.move(key, aside)
                with writing(self.database) as connection:
                    connection.execute(sa.update(expired_file).where(mine).values(at=self.clock()))
                return False
            if is_back is not None and there and not here:
                self.store.move(aside, key)
            elif there:
                self._erase_one(aside)
        except (OSError, TransientError) as error:
            _log.warning("an expired file cannot be removed now (%s)", type(error).__name__)
            return False
        with writing(self.database) as connection:
            connection.execute(sa.delete(expired_file).where(mine))
        return is_back is None

    def _release(self, connection: sa.Connection, expired: Expired) -> Sequence[str]:
        """Delete the rows of a study's inputs, unless something of it came meanwhile; return their paths."""
        uid = expired.study_instance_uid
        mine = instance.c.study_instance_uid == uid
        newest = sa.select(sa.func.max(revision.c.id)).where(revision.c.study_instance_uid == uid)
        came_again = sa.select(repeat.c.id).where(repeat.c.study_instance_uid == uid)
        seen = sa.select(study.c.last_instance_id).where(study.c.study_instance_uid == uid)
        newer = sa.select(instance.c.id).where(
            mine, instance.c.made_here.is_(False), instance.c.id > seen.scalar_subquery()
        )
        if connection.execute(newest).scalar() != expired.last_revision:
            return ()
        if connection.execute(newer).first() is not None:
            return ()
        if connection.execute(came_again).first() is not None:
            return ()
        rows = connection.execute(sa.select(instance.c.id, instance.c.path).where(mine)).all()
        highest = connection.execute(sa.select(sa.func.max(instance.c.id))).scalar()
        if not is_postgresql(self.database) and any(row.id == highest for row in rows):
            # SQLite gives the highest number again once its row is gone, and the assembler goes by numbers.
            return ()
        connection.execute(sa.delete(instance).where(instance.c.id.in_([row.id for row in rows])))
        return [str(row.path) for row in rows]

    # -------------------------------------------------------------- results

    def expired_results(self) -> tuple[tuple[int, str], ...]:
        """Return revision and study of results that were not delivered and have expired."""
        days = self.settings.undelivered_results_days
        if days is None:
            return ()
        unfinished = sa.select(result_object.c.revision_id).where(
            result_object.c.state.in_(
                [str(ResultObject.READY), str(ResultObject.SENT), str(ResultObject.COMMITTED)]
            )
        )
        removed = sa.select(removal.c.revision_id).where(
            removal.c.what == RESULTS, removal.c.revision_id.is_not(None)
        )
        query = (
            sa.select(revision.c.id, revision.c.study_instance_uid)
            .where(
                revision.c.state.in_([str(s) for s in WITHOUT_DELIVERY]),
                revision.c.changed_at < self.clock() - SECONDS_PER_DAY * days,
                revision.c.fence > 0,
                revision.c.id.not_in(unfinished),
                revision.c.id.not_in(removed),
            )
            .order_by(revision.c.id)
        )
        with reading(self.database) as connection:
            return tuple((int(row.id), row.study_instance_uid) for row in connection.execute(query))

    def remove_results(self, revision_id: int, study_instance_uid: str) -> bool:
        """Remove the results of a revision; returns whether there were any."""
        keys = list(_all_keys(self.store, results_prefix(revision_id)))
        size = self._erase(keys)
        try:
            self.store.remove(results_prefix(revision_id))
        except (OSError, TransientError) as error:
            _log.warning("expired results cannot be removed now (%s)", type(error).__name__)
            return False
        with writing(self.database) as connection:
            self._note(connection, study_instance_uid, RESULTS, revision_id, len(keys), size)
        return bool(keys)

    # -------------------------------------------------------------- files and records

    def _erase(self, keys: Sequence[str]) -> int:
        """Remove files; returns their bytes. One that cannot be removed is logged and stays."""
        size = 0
        for key in keys:
            try:
                size += self.store.size(key) or 0
                self._erase_one(key)
            except (OSError, TransientError) as error:
                _log.error("an expired file cannot be removed (%s): %s", type(error).__name__, key)
        return size

    def _erase_one(self, key: str) -> None:
        if self.settings.removal is Removal.OVERWRITE:
            overwrite(self.store.folder(key))
        self.store.remove(key)

    def _note(
        self,
        connection: sa.Connection,
        study_instance_uid: str,
        what: str,
        revision_id: int | None,
        files: int,
        size: int,
    ) -> None:
        connection.execute(
            sa.insert(removal).values(
                at=self.clock(),
                study_instance_uid=study_instance_uid,
                what=what,
                revision_id=revision_id,
                files=files,
                bytes=size,
                how=str(self.settings.removal),
            )
        )
        if not files:
            return  # nothing was there; the row says that it was looked at
        detail = {"what": what, "files": files, "bytes": size, "how": str(self.settings.removal)}
        event = AuditEvent(
            EventKind.DATA_REMOVED, "retention", study_instance_uid=study_instance_uid, detail=detail
        )
        add_event(connection, self.clock, event)


def aside_key(key: str) -> str:
    """Return where an expired file waits: below the spool, where nobody looks for a study."""
    return f"spool/expired/{hashlib.sha256(key.encode()).hexdigest()}"


def overwrite(path: Path) -> None:
    """Write zeros over a file of this machine and flush them; one that is not here is left to its store."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        left = os.fstat(descriptor).st_size
        zeros = bytes(CHUNK_BYTES)
        while left > 0:
            left -= os.write(descriptor, zeros[: min(left, CHUNK_BYTES)])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _all_keys(store: Store, prefix: str) -> Sequence[str]:
    listing = store.listing(prefix)
    inner = [key for name in listing.folders for key in _all_keys(store, f"{prefix}/{name}")]
    return [*inner, *(f"{prefix}/{name}" for name in listing.files)]
