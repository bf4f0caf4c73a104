"""The outbox: delivers result objects, and calls them delivered only after they were read back.

    READY --C-STORE--> SENT --commitment--> COMMITTED --read-back--> VERIFIED

Every object is a row of ``result_object``, one for each peer that it goes to. One `Courier` serves one
peer, so that a peer that is away holds up nobody else.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import sqlalchemy as sa

from dicom_node.clock import Clock
from dicom_node.courier import IDLE_S, PROVED, Courier
from dicom_node.database import reading, result_object
from dicom_node.errors import IllegalTransition
from dicom_node.jobs.ledger import PROPOSAL, Ledger
from dicom_node.jobs.states import ResultObject, Revision, RevisionEvent
from dicom_node.settings import NodeSettings
from dicom_node.storage.local import local_store
from dicom_node.storage.store import Store
from dicom_node.worker import results_prefix

_log = logging.getLogger(__name__)

SECONDS_PER_DAY = 86400.0
ENDED = frozenset({ResultObject.VERIFIED, ResultObject.REJECTED, ResultObject.WITHDRAWN})


RemoveResults = Callable[[int, str], object]
"""Removes the results of a revision of a study, and says so where it has to be said."""


@dataclass
class Outbox:
    """All couriers, and the states of revisions that follow from their work."""

    settings: NodeSettings
    database: sa.Engine
    clock: Clock
    elsewhere: Store | None = None
    remove_results: RemoveResults | None = None
    ledger: Ledger = field(init=False)
    couriers: tuple[Courier, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Make a courier for each configured peer."""
        self.ledger = Ledger(self.database, self.clock)
        self.couriers = tuple(
            Courier(peer, self.settings, self.database, self.ledger, self.clock, self._store_of(peer.name))
            for peer in self.settings.peers
        )

    def _store_of(self, peer: str) -> Store | None:
        return None if self.elsewhere is None else self.elsewhere.apart(f"to-{peer}")

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set, each courier in a thread of its own.

        Raises
        ------
        Exception
            What ended one of the threads, after the others have stopped: nothing goes on by halves.
        """
        over = threading.Event()
        with ThreadPoolExecutor(len(self.couriers) + 1, "outbox") as pool:
            threads = [pool.submit(courier.run, over) for courier in self.couriers]
            threads.append(pool.submit(self._follow, over))
            try:
                while not stop.wait(IDLE_S) and not any(thread.done() for thread in threads):
                    continue
            finally:
                over.set()
        for thread in threads:
            thread.result()

    def _follow(self, stop: threading.Event) -> None:
        while not stop.is_set():
            if not self.step():
                stop.wait(IDLE_S)

    def step(self) -> bool:
        """Move revisions on; returns whether anything was done."""
        began = [self._begin(row.id) for row in self.ledger.revisions([Revision.DONE])]
        ended = [self._end(row.id) for row in self.ledger.revisions([Revision.DELIVERING])]
        return any([*began, *ended])

    def deliver_once(self) -> bool:
        """Do one step of everything in this thread (couriers too); returns whether anything was done."""
        return any([*[courier.step() for courier in self.couriers], self.step()])

    def _move(self, revision_id: int, event: RevisionEvent, reason: str = "") -> bool:
        try:
            self.ledger.change(revision_id, event, reason)
        except IllegalTransition as error:
            _log.info("revision %d moved on meanwhile: %s", revision_id, error)  # superseded
            return False
        return True

    def _begin(self, revision_id: int) -> bool:
        return self._move(revision_id, RevisionEvent.DELIVERY_STARTED)

    def _end(self, revision_id: int) -> bool:
        counts = self.ledger.object_counts(revision_id)
        states = {ResultObject(state) for _, state in counts}
        if states <= {ResultObject.VERIFIED}:
            return self._move(revision_id, RevisionEvent.ALL_VERIFIED)
        if states <= ENDED:
            count = sum(n for (_, state), n in counts.items() if state == ResultObject.REJECTED)
            reason = f"{count} objects were rejected: {self._why_rejected(revision_id)}"
            return self._move(revision_id, RevisionEvent.DELIVERY_REJECTED, reason)
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

    # -------------------------------------------------------------- removal

    def remove_delivered(self) -> int:
        """Remove the result files of revisions delivered long enough ago; returns how many revisions.

        Only files go of which every object was committed and read back: those of a peer without
        storage commitment, or delivered while the read-back was off, stay until a person removes them.
        """
        before = self.clock() - SECONDS_PER_DAY * self.settings.outbox.keep_delivered_days
        store = self.elsewhere or local_store(self.settings.data_dir)
        removed = 0
        for row in self.ledger.revisions([Revision.DELIVERED]):
            prefix = results_prefix(row.id)
            if row.changed_at < before and store.listing(prefix).folders and self._is_proved(row.id):
                if self.remove_results is None:
                    store.remove(prefix)
                else:
                    self.remove_results(row.id, row.study_instance_uid)
                removed += 1
        return removed

    def _is_proved(self, revision_id: int) -> bool:
        query = sa.select(result_object.c.state, result_object.c.detail).where(
            result_object.c.revision_id == revision_id, result_object.c.kind != PROPOSAL
        )
        with reading(self.database) as connection:
            found = {(row.state, row.detail) for row in connection.execute(query)}
        return found == {(str(ResultObject.VERIFIED), PROVED)}
