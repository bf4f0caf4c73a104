"""What is recorded for the audit trail besides the state changes of the ledger."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from dicom_node.audit.tables import audit_event, prepare_audit
from dicom_node.clock import Clock
from dicom_node.database import reading, writing


class EventKind(StrEnum):
    """What happened."""

    APPLICATION_START = "application start"
    APPLICATION_STOP = "application stop"
    LOGIN = "login"
    LOGOUT = "logout"
    PASSWORDS_GUESSED = "passwords guessed"
    ASSOCIATION_REFUSED = "association refused"
    QUERY = "query"
    ACTION = "action by a person"
    DECISION = "decision by a person"
    FORECAST_LOCKED = "forecast locked"
    DATA_REMOVED = "data removed"
    USERS_CHANGED = "users changed"
    TRAIL_USED = "audit trail used"
    TRAIL_DAMAGED = "audit trail damaged"


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One thing that happened; nothing here names a patient.

    Attributes
    ----------
    failed : str
        Why it did not succeed; empty where it did.
    user : str
        The person or the role of the node that did it.
    address : str
        Network address, or AE title, of the other side.
    """

    kind: EventKind
    user: str = ""
    address: str = ""
    study_instance_uid: str = ""
    failed: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class PersonAction:
    """What a person did with a revision: retry, cancel, release, reject; `reason` names no patient."""

    user: str
    action: str
    revision_id: int
    study_instance_uid: str
    reason: str = ""

    def event(self) -> AuditEvent:
        """Return it as an event."""
        detail = {"action": self.action, "revision": self.revision_id, "reason": self.reason}
        return AuditEvent(
            EventKind.ACTION, self.user, study_instance_uid=self.study_instance_uid, detail=detail
        )


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """One row of ``audit_event``."""

    id: int
    at: float
    event: AuditEvent


@dataclass(frozen=True)
class AuditEvents:
    """Table ``audit_event``: rows are added, and never changed or removed by the node."""

    database: sa.Engine
    clock: Clock

    def __post_init__(self) -> None:
        """Create the tables where they are absent."""
        prepare_audit(self.database)

    def record(self, event: AuditEvent) -> None:
        """Record an event in a transaction of its own."""
        with writing(self.database) as connection:
            add_event(connection, self.clock, event)

    def of_study(self, study_instance_uid: str) -> tuple[RecordedEvent, ...]:
        """Return the events of one study, oldest first."""
        query = sa.select(audit_event).where(audit_event.c.study_instance_uid == study_instance_uid)
        with reading(self.database) as connection:
            return tuple(_recorded(row) for row in connection.execute(query.order_by(audit_event.c.id)))

    def after(self, row_id: int, limit: int) -> tuple[RecordedEvent, ...]:
        """Return the next events after a row."""
        query = sa.select(audit_event).where(audit_event.c.id > row_id).order_by(audit_event.c.id)
        with reading(self.database) as connection:
            return tuple(_recorded(row) for row in connection.execute(query.limit(limit)))


def add_event(connection: sa.Connection, clock: Clock, event: AuditEvent) -> None:
    """Record an event in the transaction of what it tells of."""
    connection.execute(
        sa.insert(audit_event).values(
            at=clock(),
            kind=str(event.kind),
            failed=event.failed[:256],
            user=event.user[:64],
            address=event.address[:64],
            study_instance_uid=event.study_instance_uid,
            detail=json.dumps(dict(event.detail), sort_keys=True),
        )
    )


def _recorded(row: sa.Row[Any]) -> RecordedEvent:
    event = AuditEvent(
        kind=EventKind(row.kind),
        user=row.user,
        address=row.address,
        study_instance_uid=row.study_instance_uid,
        failed=row.failed,
        detail=json.loads(row.detail),
    )
    return RecordedEvent(int(row.id), float(row.at), event)


REPEATED_WITHIN_S = 60.0
"""What a peer does over and over is one event with its count in this time."""
MAXIMUM_KINDS = 256
"""Different refusals that are told apart in that time; further ones are counted together."""


@dataclass
class Repeated:
    """Puts together what the outside world can cause as often as it likes, so that the trail stays bounded.

    The first of its kind is recorded at once; what follows within `REPEATED_WITHIN_S` is counted and
    recorded with its number by the next `flush` after that time.
    """

    events: AuditEvents
    _counts: dict[AuditEvent, int] = field(default_factory=dict)
    _since: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, kind: EventKind, address: str, failed: str) -> None:
        """Note one; `failed` is of a fixed list."""
        event = AuditEvent(kind, address=address, failed=failed)
        with self._lock:
            if not self._counts:
                self._since = self.events.clock()
            if event not in self._counts and len(self._counts) >= MAXIMUM_KINDS:
                event = AuditEvent(kind, address="several", failed=failed)
            first = event not in self._counts
            self._counts[event] = self._counts.get(event, 0) + 1
        if first:
            self.events.record(event)

    def flush(self) -> None:
        """Record the counts, once their time is over."""
        with self._lock:
            if not self._counts or self.events.clock() - self._since < REPEATED_WITHIN_S:
                return
            counts, self._counts = self._counts, {}
        for event, count in counts.items():
            if count > 1:
                self.events.record(
                    AuditEvent(
                        event.kind,
                        address=event.address,
                        failed=event.failed,
                        detail={"repeated": count - 1},
                    )
                )


@contextmanager
def activity(database: sa.Engine, clock: Clock, role: str) -> Iterator[None]:
    """Record that a process of the node starts, and that it stops in order."""
    events = AuditEvents(database, clock)
    events.record(AuditEvent(EventKind.APPLICATION_START, role))
    try:
        yield
    finally:
        events.record(AuditEvent(EventKind.APPLICATION_STOP, role))
