"""Delivery to one peer: sends result objects, has them committed, and reads them back.

A row changes in the same transaction as its audit entry, after the peer did what the change says. A
kill between the two repeats the step, which is harmless: UIDs are deterministic, and a peer that has
an object says so.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dicom_node.clock import Clock, still_waits
from dicom_node.commitment_answers import answer_requests
from dicom_node.commitment_requests import CommitmentRequests
from dicom_node.database import reading, result_object, revision, writing
from dicom_node.errors import (
    DamagedFile,
    NodeError,
    PeerRejected,
    PermanentError,
    ProcessingFailed,
    StatusUnknown,
    TransientError,
)
from dicom_node.jobs.ledger import Ledger
from dicom_node.jobs.states import ObjectEvent, ResultObject, Revision
from dicom_node.network.commitment import request_commitment
from dicom_node.network.scu import Part10, StoreSession, read_kind, read_part10, store_session
from dicom_node.read_back import Verdict, read_back
from dicom_node.settings import NodeSettings, PeerSettings
from dicom_node.storage.local import local_store
from dicom_node.storage.store import Store

_log = logging.getLogger(__name__)

IDLE_S = 0.1
"""Between two looks when there was nothing to do."""
BATCH = 400
"""Objects of one association, and of one commitment request."""
RECORD_EVERY = 50
"""Objects that are sent between two transactions."""
MAXIMUM_TRIES = 5
"""Tries of one object that a peer takes and fails to process, commit or return, before it counts as
rejected. What fails because the peer is away is tried for ever."""

PROVED = "committed, and read back equal"
"""Detail of a verified object whose file may be removed."""
NOT_READ_BACK = "committed; not read back, because outbox.read_back is off"
NOT_COMMITTED_BUT_READ_BACK = "read back equal; the peer offers no storage commitment"

Row = sa.Row[Any]


@dataclass
class Pause:
    """When one activity may go on after failures in a row."""

    failures: int = 0
    length_s: float = 0.0
    until: float = 0.0


@dataclass
class Courier:
    """Delivers to one peer; its activities wait for each other's work, not for each other's troubles."""

    peer: PeerSettings
    settings: NodeSettings
    database: sa.Engine
    ledger: Ledger
    clock: Clock
    elsewhere: Store | None = None
    _pauses: dict[str, Pause] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        """Where results and received objects are."""
        return self.elsewhere or local_store(self.settings.data_dir)

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set."""
        while not stop.is_set():
            if not self.step():
                stop.wait(IDLE_S)

    def step(self) -> bool:
        """Do what is due now, without waiting for anything else; returns whether anything was done."""
        activities: tuple[Callable[[], bool], ...] = (
            self._withdraw,
            self._send,
            self._commit,
            self._apply_answers,
            self._read_back,
            self._answer_requests,
        )
        done = [self._try(activity) for activity in activities]
        return any(done)

    def _try(self, activity: Callable[[], bool]) -> bool:
        pause = self._pauses.setdefault(activity.__name__, Pause())
        if still_waits(pause.until, self.clock(), pause.length_s):
            return False
        try:
            done = activity()
        except TransientError as error:
            pause.failures += 1
            wait = pause.length_s = self._backoff(pause.failures)
            pause.until = self.clock() + wait
            _log.warning("%s; trying again in %.0f s", error, wait)
            return False
        if done:
            pause.failures = 0
        return done

    def _backoff(self, failures: int) -> float:
        waits = self.settings.outbox.backoff_s
        return waits[min(failures, len(waits)) - 1]

    # -------------------------------------------------------------- rows

    def _rows(self, state: ResultObject, limit: int | None = BATCH) -> Sequence[Row]:
        """Return what is due in a state: what was not tried yet first, so that nothing is held up."""
        query = (
            sa.select(result_object)
            .where(
                result_object.c.peer == self.peer.name,
                result_object.c.state == state,
                result_object.c.next_attempt_at <= self.clock(),
            )
            .order_by(result_object.c.next_attempt_at, result_object.c.id)
            .limit(limit)
        )
        with reading(self.database) as connection:
            return connection.execute(query).all()

    def _of(self, uids: Iterable[str], state: ResultObject) -> list[Row]:
        """Return the peer's objects with these UIDs that are in a state."""
        query = sa.select(result_object).where(
            result_object.c.peer == self.peer.name, result_object.c.state == state
        )
        wanted = frozenset(uids)
        with reading(self.database) as connection:
            return [row for row in connection.execute(query) if row.sop_instance_uid in wanted]

    def _change(self, rows: Iterable[Row], event: ObjectEvent, detail: str = "") -> None:
        self.ledger.change_objects([row.id for row in rows], event, detail)

    def _note(self, rows: Iterable[Row], detail: str, **values: float) -> None:
        """Note why rows did not get on."""
        ids = [row.id for row in rows]
        with writing(self.database) as connection:
            connection.execute(
                sa.update(result_object).where(result_object.c.id.in_(ids)).values(detail=detail, **values)
            )

    def _path(self, row: Row) -> Path:
        return self.store.local([str(row.path)])[str(row.path)]

    def _reject(self, rows: Sequence[Row], reason: str) -> None:
        if rows:
            _log.error("%d objects are rejected for good: %s", len(rows), reason)
            self._change(rows, ObjectEvent.REJECTED_BY_PEER, reason)

    def _try_again(self, rows: Iterable[Row], reason: str) -> None:
        """Send READY rows again later; those that were tried often enough are rejected."""
        by_tries: Mapping[int, list[Row]] = defaultdict(list)
        for row in rows:
            by_tries[row.attempts + 1].append(row)
        for tries, some in by_tries.items():
            if tries >= MAXIMUM_TRIES:
                self._reject(some, f"{reason}, {tries} times")
            else:
                at = self.clock() + self._backoff(tries)
                self._note(some, reason, attempts=tries, next_attempt_at=at)

    # -------------------------------------------------------------- sending

    def _withdraw(self) -> bool:
        """Withdraw what waits to be sent again while its revision was superseded."""
        query = (
            sa.select(result_object.c.id)
            .join(revision, revision.c.id == result_object.c.revision_id)
            .where(
                result_object.c.peer == self.peer.name,
                result_object.c.state == ResultObject.READY,
                revision.c.state == Revision.SUPERSEDED,
            )
        )
        with reading(self.database) as connection:
            ids = connection.execute(query).scalars().all()
        return self.ledger.change_objects(ids, ObjectEvent.REVISION_SUPERSEDED) > 0

    def _send(self) -> bool:
        due = self._rows(ResultObject.READY)
        kinds = {row.id: kind for row in due if (kind := self._kind(row)) is not None}
        rows = [row for row in due if row.id in kinds]
        if not rows:
            return bool(due)
        try:
            with store_session(self.peer, self.settings.listener.ae_title, kinds.values()) as session:
                for start in range(0, len(rows), RECORD_EVERY):
                    self._send_some(session, rows[start : start + RECORD_EVERY])
        except PeerRejected as error:
            self._reject(self._rows(ResultObject.READY, None), str(error))
        except TransientError as error:
            self._note(self._rows(ResultObject.READY, None), str(error))
            raise
        return True

    def _kind(self, row: Row) -> tuple[str, str] | None:
        """Return SOP class and transfer syntax; an object whose file is lost is rejected."""
        try:
            return read_kind(self._path(row))
        except PermanentError as error:
            self._reject([row], str(error))
            return None

    def _send_some(self, session: StoreSession, rows: Sequence[Row]) -> None:
        sent: list[Row] = []
        try:
            for row in rows:
                self._send_one(session, row, sent)
        finally:
            self._change(sent, ObjectEvent.STORED_BY_PEER)
            self.store.forget([str(row.path) for row in sent])

    def _send_one(self, session: StoreSession, row: Row, sent: list[Row]) -> None:
        try:
            session.store(self._unchanged(row))
        except ProcessingFailed as error:
            self._try_again([row], str(error))
        except StatusUnknown as error:
            # It goes to the end of the queue: one object that a peer dies of holds up no other.
            self._note([row], str(error), next_attempt_at=self.clock())
            raise
        except PermanentError as error:
            self._reject([row], str(error))
        else:
            sent.append(row)

    def _unchanged(self, row: Row) -> Part10:
        """Read the file of an object; raise `DamagedFile` where it is not what was made."""
        file = read_part10(self._path(row))
        if file.sha256 != row.sha256:
            raise DamagedFile("its file was damaged on the disk of this node; have the study made again")
        return file

    # -------------------------------------------------------------- storage commitment

    @property
    def _requests(self) -> CommitmentRequests:
        return CommitmentRequests(self.database, self.clock, self.peer.name)

    def _commit(self) -> bool:
        rows = self._rows(ResultObject.SENT, None)
        if not self.peer.storage_commitment:
            self._change(rows, ObjectEvent.COMMITTED_BY_PEER, "no commitment asked; the read-back decides")
            return bool(rows)
        self._expire_requests()
        pending = [r.sop_instance_uids for r in self._requests.pending()]
        asked: frozenset[str] = frozenset().union(*pending)
        rows = [row for row in rows if row.sop_instance_uid not in asked][:BATCH]
        if rows:
            self._ask(rows)
        return bool(rows)

    def _ask(self, rows: Sequence[Row]) -> None:
        ours, requests = self.settings.listener.ae_title, self._requests
        uid = requests.open(ours, [str(row.sop_instance_uid) for row in rows])
        objects = [(str(row.sop_class_uid), str(row.sop_instance_uid)) for row in rows]
        try:
            answer = request_commitment(self.peer, ours, uid, objects, lambda: requests.is_answered(uid))
        except PeerRejected as error:
            requests.close(uid)
            self._reject(rows, str(error))
            return
        except TransientError as error:
            requests.close(uid)
            self._note(rows, str(error))
            raise
        if answer is not None:
            requests.keep(answer)

    def _expire_requests(self) -> None:
        for request in self._requests.pending(self.clock() - self.settings.outbox.commitment_timeout_s):
            _log.warning("%s has not answered a commitment request; asking again", self.peer.name)
            rows = self._of(request.sop_instance_uids, ResultObject.SENT)
            self._note(rows, "the peer has not answered a commitment request")
            self._requests.close(request.transaction_uid)

    def _apply_answers(self) -> bool:
        answers = self._requests.answers()
        for answer in answers:
            self._change(self._of(answer.committed, ResultObject.SENT), ObjectEvent.COMMITTED_BY_PEER)
            if lost := self._of(answer.failed, ResultObject.SENT):
                why = ", ".join(sorted({f"0x{answer.failed[r.sop_instance_uid]:04X}" for r in lost}))
                self._send_again(lost, ObjectEvent.NOT_COMMITTED, f"not committed by the peer (reason {why})")
            self._requests.applied(answer)
        return bool(answers)

    def _send_again(self, rows: Sequence[Row], event: ObjectEvent, reason: str) -> None:
        _log.warning("%d objects are sent again: %s", len(rows), reason)
        self._change(rows, event, reason)
        self._try_again(rows, reason)

    # -------------------------------------------------------------- read-back

    def _read_back(self) -> bool:
        rows = self._rows(ResultObject.COMMITTED, None)
        if not self.settings.outbox.read_back:
            self._change(rows, ObjectEvent.READ_BACK_EQUAL, NOT_READ_BACK)
            return bool(rows)
        by_series: Mapping[tuple[str, str], list[Row]] = defaultdict(list)
        for row in rows:
            by_series[row.study_instance_uid, row.series_instance_uid].append(row)
        on_the_way = self._series_on_the_way() if rows else frozenset()
        ready = [key for key in by_series if key[1] not in on_the_way]
        for key in ready:
            self._read_back_series(*key, by_series[key])
        return bool(ready)

    def _series_on_the_way(self) -> frozenset[str]:
        """Return series of which objects are being sent or committed without trouble.

        They are read back when all of them is there: once, and not once for each batch.
        """
        query = (
            sa.select(result_object.c.series_instance_uid)
            .distinct()
            .where(
                result_object.c.peer == self.peer.name,
                result_object.c.state.in_([ResultObject.READY, ResultObject.SENT]),
                result_object.c.detail == "",
            )
        )
        with reading(self.database) as connection:
            return frozenset(connection.execute(query).scalars())

    def _read_back_series(self, study: str, series: str, rows: Sequence[Row]) -> None:
        by_uid = {str(row.sop_instance_uid): row for row in rows}
        files = {uid: self._path(row) for uid, row in by_uid.items()}
        equal: list[Row] = []
        try:
            for uid, finding in read_back(self.peer, self.settings.listener.ae_title, study, series, files):
                row = by_uid.pop(uid)
                if finding.verdict is Verdict.EQUAL:
                    equal.append(row)
                else:
                    self._reject([row], finding.detail)
        except PermanentError as error:
            self._reject(rows, f"cannot be read back: {error}")
            return
        except NodeError as error:
            self._note(rows, str(error))
            raise
        self.store.forget([str(row.path) for row in rows])
        proof = PROVED if self.peer.storage_commitment else NOT_COMMITTED_BUT_READ_BACK
        self._change(equal, ObjectEvent.READ_BACK_EQUAL, proof)
        if by_uid:
            self._send_again(
                list(by_uid.values()), ObjectEvent.READ_BACK_ABSENT, "the peer does not return it"
            )

    # -------------------------------------------------------------- answers to the peer

    def _answer_requests(self) -> bool:
        return answer_requests(self.peer, self.settings, self.database, self.clock, self.store)
