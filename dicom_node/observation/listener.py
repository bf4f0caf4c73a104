"""What the listener tells of itself: counts of everything, and refusals to the audit trail.

It sits beside the handlers and changes no answer: whatever fails here is logged and goes no further.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import sqlalchemy as sa
from pynetdicom import evt
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.audit.events import AuditEvents, EventKind, Repeated, activity
from dicom_node.clock import Clock
from dicom_node.network.stores import Answer, Keep, Store
from dicom_node.network.transport import Service
from dicom_node.observation.counters import Tally, flushing
from dicom_node.observation.heartbeats import signs_of_life

_log = logging.getLogger(__name__)

INSTANCES = "instances_received"
BYTES = "bytes_received"
OPENED = "associations_opened"
REFUSED = "associations_refused"
STORE_REFUSED = "instances_refused"

REFUSAL_REASONS: dict[tuple[int | None, int | None, int | None], str] = {
    (1, 1, 3): "calling AE title not recognised",
    (1, 1, 7): "called AE title not recognised",
    (1, 1, 2): "application context name not supported",
    (1, 2, 2): "protocol version not supported",
    (2, 3, 1): "temporary congestion",
    (2, 3, 2): "local limit exceeded",
}
"""Result, source and diagnostic of an A-ASSOCIATE-RJ in the words of PS3.8 table 9-21."""
OTHER_REASON = "other reason"

STORE_REASONS: tuple[tuple[range, str], ...] = (
    (range(0xA700, 0xA800), "out of resources"),
    (range(0xA900, 0xAA00), "data set does not match SOP class"),
    (range(0xC000, 0xD000), "cannot understand"),
    (range(0x0117, 0x0118), "invalid SOP instance"),
    (range(0x0124, 0x0125), "not authorised"),
)
"""Statuses of a C-STORE response (PS3.4 table B.2-1, PS3.7 annex C), by class."""


def store_refusal(status: int) -> str:
    """Return the class of a status other than success."""
    return next((reason for codes, reason in STORE_REASONS if status in codes), OTHER_REASON)


@dataclass(frozen=True)
class ListenerObserver:
    """Counts what the listener does, and notes refused associations for the audit trail."""

    tally: Tally
    refusals: Repeated

    def observed(self, service: Service) -> Service:
        """Return a service that is counted: each C-STORE, and each association that opens or is refused."""
        handlers = [
            *service.handlers,
            (evt.EVT_ESTABLISHED, self.established),
            (evt.EVT_REJECTED, self.rejected),
        ]
        return replace(service, keep=self._counted(service.keep), handlers=handlers)

    def _counted(self, keep: Keep) -> Keep:
        def kept(store: Store) -> Answer:
            size = store.data_set.getbuffer().nbytes
            answer = keep(store)
            if answer.status == 0:
                self.tally.add(INSTANCES)
                self.tally.add(BYTES, amount=size)
            else:
                self.tally.add(STORE_REFUSED, store_refusal(answer.status))
            return answer

        return kept

    def established(self, _event: evt.Event) -> None:
        """Count an association."""
        self.tally.add(OPENED)

    def rejected(self, event: evt.Event) -> None:
        """Count a refused association, and note it for the audit trail."""
        answer = event.assoc.acceptor.primitive
        key = (answer.result, answer.result_source, answer.diagnostic) if answer else (0, 0, 0)
        reason = REFUSAL_REASONS.get(key, OTHER_REASON)
        self.tally.add(REFUSED, reason)
        caller = str(event.assoc.requestor.ae_title).strip()
        address = str(event.assoc.requestor.address or "")
        try:
            self.refusals.note(EventKind.ASSOCIATION_REFUSED, f"{caller} at {address}", reason)
        except SQLAlchemyError:
            _log.warning("a refusal could not be written into the audit trail")

    def flush(self) -> None:
        """Write what was put together of refusals."""
        try:
            self.refusals.flush()
        except SQLAlchemyError:
            _log.warning("refusals could not be written into the audit trail")


@contextmanager
def observing(database: sa.Engine, clock: Clock) -> Iterator[ListenerObserver]:
    """Observe a listener until the block ends: counts, refusals, signs of life, start and stop."""
    observer = ListenerObserver(Tally(), Repeated(AuditEvents(database, clock)))
    with (
        activity(database, clock, "listener"),
        signs_of_life(database, clock, "listener"),
        flushing(observer.tally, database, socket.gethostname(), observer.flush),
    ):
        yield observer
