"""The outbox: delivers result objects, and calls them delivered only after they were read back.

    READY --C-STORE--> SENT --commitment--> COMMITTED --read-back--> VERIFIED

Every object is a row; a row changes in the same transaction as its audit entry, after the peer did
what the change says. A kill between the two repeats the step, which is harmless: UIDs are
deterministic, and a peer that has an object says so. One `Courier` serves one peer, so that a peer
that is away holds up nobody else.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dicom_node.clock import Clock
from dicom_node.database import (
    commitment,
    commitment_result,
    inbound_commitment,
    instance,
    reading,
    result_object,
    writing,
)
from dicom_node.errors import NodeError, PeerRejected, PermanentError, ProcessingFailed, TransientError
from dicom_node.jobs.ledger import Ledger
from dicom_node.jobs.states import ObjectEvent, ResultObject, Revision, RevisionEvent
from dicom_node.network.commitment import report_commitment, request_commitment, result_values
from dicom_node.network.scu import StoreSession, read_part10, store_session
from dicom_node.read_back import Verdict, read_back
from dicom_node.settings import NodeSettings, PeerSettings
from dicom_node.worker import results_folder
from reporting.uids import uid_of

_log = logging.getLogger(__name__)

IDLE_S = 0.25
"""Between two looks when there was nothing to do."""
BATCH = 400
"""Objects of one association, and of one commitment request."""
RECORD_EVERY = 50
"""Objects that are sent between two transactions."""
PROCESSING_ATTEMPTS = 5
"""Tries of one object that a peer fails to process, before it counts as rejected."""
SECONDS_PER_DAY = 86400.0

Row = sa.Row[Any]


@dataclass
class Courier:
    """Delivers to one peer."""

    peer: PeerSettings
    settings: NodeSettings
    database: sa.Engine
    ledger: Ledger
    clock: Clock
    _not_before: float = 0.0
    _failures: int = 0

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set."""
        while not stop.is_set():
            if not self.step():
                stop.wait(IDLE_S)

    def step(self) -> bool:
        """Do what is due now; returns whether anything was done."""
        if self.clock() < self._not_before:
            return False
        try:
            done = [self._send(), self._commit(), self._apply_answers(), self._read_back()]
        except TransientError as error:
            self._failures += 1
            self._not_before = self.clock() + self._backoff(self._failures)
            _log.warning("%s; trying again in %.0f s", error, self._not_before - self.clock())
            return False
        if any(done):
            self._failures = 0
        return any(done)

    def _backoff(self, failures: int) -> float:
        waits = self.settings.outbox.backoff_s
        return waits[min(failures, len(waits)) - 1]

    def _rows(self, state: ResultObject) -> Sequence[Row]:
        query = (
            sa.select(result_object)
            .where(
                result_object.c.peer == self.peer.name,
                result_object.c.state == state,
                result_object.c.next_attempt_at <= self.clock(),
            )
            .order_by(result_object.c.id)
            .limit(BATCH)
        )
        with reading(self.database) as connection:
            return connection.execute(query).all()

    def _change(self, rows: Iterable[Row], event: ObjectEvent, detail: str = "") -> None:
        self.ledger.change_objects([row.id for row in rows], event, detail)

    def _path(self, row: Row) -> Path:
        return self.settings.data_dir / str(row.path)

    # -------------------------------------------------------------- sending

    def _send(self) -> bool:
        rows = self._rows(ResultObject.READY)
        if not rows:
            return False
        first = {str(row.sop_class_uid): row for row in reversed(rows)}
        kinds = [(c, read_part10(self._path(row)).transfer_syntax_uid) for c, row in first.items()]
        try:
            with store_session(self.peer, self.settings.listener.ae_title, kinds) as session:
                for start in range(0, len(rows), RECORD_EVERY):
                    self._send_some(session, rows[start : start + RECORD_EVERY])
        except PeerRejected as error:
            self._reject(self._rows(ResultObject.READY), str(error))
        return True

    def _send_some(self, session: StoreSession, rows: Sequence[Row]) -> None:
        sent: list[Row] = []
        try:
            for row in rows:
                sent += [row] if self._send_one(session, row) else []
        finally:
            self._change(sent, ObjectEvent.STORED_BY_PEER)

    def _send_one(self, session: StoreSession, row: Row) -> bool:
        try:
            session.store(read_part10(self._path(row)))
        except ProcessingFailed as error:
            if row.attempts + 1 >= PROCESSING_ATTEMPTS:
                self._reject([row], str(error))
            else:
                self._postpone([row], str(error))
            return False
        except PermanentError as error:
            self._reject([row], str(error))
            return False
        return True

    def _reject(self, rows: Sequence[Row], reason: str) -> None:
        _log.error("%d objects are rejected for good: %s", len(rows), reason)
        self._change(rows, ObjectEvent.REJECTED_BY_PEER, reason)

    def _postpone(self, rows: Iterable[Row], reason: str) -> None:
        now = self.clock()
        with writing(self.database) as connection:
            for row in rows:
                connection.execute(
                    sa.update(result_object)
                    .where(result_object.c.id == row.id)
                    .values(
                        attempts=row.attempts + 1,
                        next_attempt_at=now + self._backoff(row.attempts + 1),
                        detail=reason,
                    )
                )

    # -------------------------------------------------------------- storage commitment

    def _commit(self) -> bool:
        rows = self._rows(ResultObject.SENT)
        if not self.peer.storage_commitment:
            detail = "the peer offers no storage commitment; the read-back decides"
            self._change(rows, ObjectEvent.COMMITTED_BY_PEER, detail)
            return bool(rows)
        asked = self._asked()
        rows = [row for row in rows if row.sop_instance_uid not in asked]
        if not rows:
            return False
        now = self.clock()
        uids = [str(row.sop_instance_uid) for row in rows]
        transaction_uid = str(uid_of("commitment", self.peer.name, repr(now), len(uids), uids[0]))
        with writing(self.database) as connection:
            connection.execute(
                sa.insert(commitment).values(
                    transaction_uid=transaction_uid,
                    peer=self.peer.name,
                    requested_at=now,
                    sop_instance_uids=json.dumps(uids),
                )
            )
        objects = [(str(row.sop_class_uid), str(row.sop_instance_uid)) for row in rows]
        try:
            answer = request_commitment(self.peer, self.settings.listener.ae_title, transaction_uid, objects)
        except PeerRejected as error:
            self._close(transaction_uid)
            self._reject(rows, str(error))
            return True
        except TransientError:
            self._close(transaction_uid)
            raise
        if answer is not None:
            with writing(self.database) as connection:
                connection.execute(sa.insert(commitment_result).values(**result_values(answer, now)))
        return True

    def _asked(self) -> frozenset[str]:
        """Return the UIDs of requests that are open and may still be answered."""
        since = self.clock() - self.settings.outbox.commitment_timeout_s
        query = sa.select(commitment.c.sop_instance_uids).where(
            commitment.c.peer == self.peer.name,
            commitment.c.answered.is_(False),
            commitment.c.requested_at > since,
        )
        with reading(self.database) as connection:
            return frozenset(uid for text in connection.execute(query).scalars() for uid in json.loads(text))

    def _close(self, transaction_uid: str) -> None:
        with writing(self.database) as connection:
            connection.execute(
                sa.update(commitment)
                .where(commitment.c.transaction_uid == transaction_uid)
                .values(answered=True)
            )

    def _apply_answers(self) -> bool:
        query = (
            sa.select(commitment_result)
            .join(commitment, commitment.c.transaction_uid == commitment_result.c.transaction_uid)
            .where(commitment.c.peer == self.peer.name, commitment_result.c.applied.is_(False))
        )
        with reading(self.database) as connection:
            answers = connection.execute(query).all()
        for answer in answers:
            committed, failed = json.loads(answer.committed), json.loads(answer.failed)
            self._change(self._of(committed, ResultObject.SENT), ObjectEvent.COMMITTED_BY_PEER)
            lost = self._of(list(failed), ResultObject.SENT)
            if lost:
                self._change(lost, ObjectEvent.NOT_COMMITTED, "not committed by the peer")
                self._postpone(lost, "not committed by the peer")
            self._close(answer.transaction_uid)
            with writing(self.database) as connection:
                connection.execute(
                    sa.update(commitment_result)
                    .where(commitment_result.c.id == answer.id)
                    .values(applied=True)
                )
        return bool(answers)

    def _of(self, uids: Sequence[str], state: ResultObject) -> list[Row]:
        """Return our objects with these UIDs that are in a state."""
        query = sa.select(result_object).where(
            result_object.c.peer == self.peer.name, result_object.c.state == state
        )
        wanted = frozenset(uids)
        with reading(self.database) as connection:
            return [row for row in connection.execute(query) if row.sop_instance_uid in wanted]

    # -------------------------------------------------------------- read-back

    def _read_back(self) -> bool:
        rows = self._rows(ResultObject.COMMITTED)
        if not self.settings.outbox.read_back:
            self._change(rows, ObjectEvent.READ_BACK_EQUAL, "read-back is switched off")
            return bool(rows)
        by_series: Mapping[tuple[str, str], list[Row]] = defaultdict(list)
        for row in rows:
            by_series[row.study_instance_uid, row.series_instance_uid].append(row)
        for (study, series), members in by_series.items():
            self._read_back_series(study, series, members)
        return bool(rows)

    def _read_back_series(self, study: str, series: str, rows: Sequence[Row]) -> None:
        by_uid = {str(row.sop_instance_uid): row for row in rows}
        files = {uid: self._path(row) for uid, row in by_uid.items()}
        equal: list[Row] = []
        for uid, finding in read_back(self.peer, self.settings.listener.ae_title, study, series, files):
            row = by_uid.pop(uid)
            if finding.verdict is Verdict.EQUAL:
                equal.append(row)
            else:
                self._reject([row], finding.detail)
        self._change(equal, ObjectEvent.READ_BACK_EQUAL)
        absent = list(by_uid.values())
        if absent:
            _log.warning("%d committed objects are absent at read-back and are sent again", len(absent))
            self._change(absent, ObjectEvent.READ_BACK_ABSENT, "absent at read-back")
            self._postpone(absent, "absent at read-back")


@dataclass
class Outbox:
    """All couriers, the states of revisions that follow from their work, and answers to others."""

    settings: NodeSettings
    database: sa.Engine
    clock: Clock
    ledger: Ledger = field(init=False)
    couriers: tuple[Courier, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Make a courier for each configured peer."""
        self.ledger = Ledger(self.database, self.clock)
        self.couriers = tuple(
            Courier(peer, self.settings, self.database, self.ledger, self.clock)
            for peer in self.settings.peers
        )

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set, each courier in a thread of its own."""
        threads = [
            threading.Thread(target=courier.run, args=(stop,), name=f"to {courier.peer.name}")
            for courier in self.couriers
        ]
        for thread in threads:
            thread.start()
        while not stop.is_set():
            if not self.step():
                stop.wait(IDLE_S)
        for thread in threads:
            thread.join()

    def step(self) -> bool:
        """Move revisions on, and answer commitment requests; returns whether anything was done."""
        began = [self._begin(row.id) for row in self.ledger.revisions([Revision.DONE])]
        ended = [self._end(row.id) for row in self.ledger.revisions([Revision.DELIVERING])]
        return any([*began, *ended, self._answer_others()])

    def deliver_once(self) -> bool:
        """Do one step of everything in this thread (couriers too); returns whether anything was done."""
        return any([*[courier.step() for courier in self.couriers], self.step()])

    def _begin(self, revision_id: int) -> bool:
        self.ledger.change(revision_id, RevisionEvent.DELIVERY_STARTED)
        return True

    def _end(self, revision_id: int) -> bool:
        counts = self.ledger.object_counts(revision_id)
        states = {state for _, state in counts}
        if states <= {ResultObject.VERIFIED}:
            self.ledger.change(revision_id, RevisionEvent.ALL_VERIFIED)
            return True
        if states <= {ResultObject.VERIFIED, ResultObject.REJECTED}:
            count = sum(n for (_, state), n in counts.items() if state == ResultObject.REJECTED)
            reason = f"{count} objects were rejected: {self._why_rejected(revision_id)}"
            self.ledger.change(revision_id, RevisionEvent.DELIVERY_REJECTED, reason)
            return True
        return False

    def _why_rejected(self, revision_id: int) -> str:
        query = (
            sa.select(result_object.c.detail)
            .where(
                result_object.c.revision_id == revision_id,
                result_object.c.state == ResultObject.REJECTED,
            )
            .limit(1)
        )
        with reading(self.database) as connection:
            return str(connection.execute(query).scalar() or "")

    # -------------------------------------------------------------- answers to others

    def _answer_others(self) -> bool:
        """Answer requests for storage commitment, success only for what is indexed and on disk."""
        due = sa.select(inbound_commitment).where(
            inbound_commitment.c.answered.is_(False), inbound_commitment.c.next_attempt_at <= self.clock()
        )
        with reading(self.database) as connection:
            requests = connection.execute(due).all()
        for request in requests:
            self._answer(request)
        return bool(requests)

    def _answer(self, request: Row) -> None:
        peers = [p for p in self.settings.peers if p.ae_title == request.calling_ae_title]
        references = [(str(c), str(i)) for c, i in json.loads(request.references_json)]
        kept = [r for r in references if self._is_kept(r[1])]
        lost = [r for r in references if r not in kept]
        values: dict[str, object] = {"answered": True}
        try:
            if peers:
                report_commitment(
                    peers[0], self.settings.listener.ae_title, request.transaction_uid, kept, lost
                )
        except PermanentError as error:
            _log.error("a commitment report was refused: %s", error)
        except NodeError as error:
            _log.warning("a commitment report could not be delivered: %s", error)
            waits = self.settings.outbox.backoff_s
            wait = waits[min(request.attempts, len(waits) - 1)]
            values = {"attempts": request.attempts + 1, "next_attempt_at": self.clock() + wait}
        with writing(self.database) as connection:
            connection.execute(
                sa.update(inbound_commitment)
                .where(inbound_commitment.c.transaction_uid == request.transaction_uid)
                .values(**values)
            )

    def _is_kept(self, sop_instance_uid: str) -> bool:
        query = sa.select(instance.c.path).where(instance.c.sop_instance_uid == sop_instance_uid)
        with reading(self.database) as connection:
            paths = connection.execute(query).scalars().all()
        return any((self.settings.data_dir / path).is_file() for path in paths)

    # -------------------------------------------------------------- removal

    def remove_delivered(self) -> int:
        """Remove the result files of revisions delivered long enough ago; returns how many.

        Only files of a revision that is DELIVERED go: each was committed and read back.
        """
        before = self.clock() - SECONDS_PER_DAY * self.settings.outbox.keep_delivered_days
        removed = 0
        for row in self.ledger.revisions([Revision.DELIVERED]):
            folder = results_folder(self.settings.data_dir, row.id)
            if row.changed_at < before and folder.is_dir():
                shutil.rmtree(folder)
                removed += 1
        return removed
