"""The audit trail: turns what the database recorded into messages, a chained file and syslog.

Every process records what it does in the database, in the transaction of what it does. One writer, in the
steward, goes through what is new: it makes messages of PS3.15 A.5, appends them to the file, notes how far
it came, and sends them to syslog. A kill between file and note is seen at the next start by the rows that
the file's last records name; no record is lost or written twice.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from dicom_node.audit.chain import AuditFiles, Entry, Head
from dicom_node.audit.events import AuditEvent, AuditEvents, EventKind, RecordedEvent
from dicom_node.audit.messages import AuditMessage, AuditSource, to_xml
from dicom_node.audit.patients import Patients
from dicom_node.audit.syslog import Syslog
from dicom_node.audit.tables import audit_position, prepare_audit
from dicom_node.audit.telling import LedgerChange, Teller
from dicom_node.clock import Clock
from dicom_node.database import audit, reading, writing
from dicom_node.errors import TransientError
from dicom_node.settings import NodeSettings
from dicom_node.storage.store import Store

_log = logging.getLogger(__name__)

BATCH = 500
LEDGER, EVENT, CHAIN, SYSLOG = "ledger", "event", "chain", "syslog"
MORE = "+"
"""Behind the source of a record whose row has a further record: only the last one says that it is done."""


def audit_files(settings: NodeSettings) -> AuditFiles:
    """Return the files of a node's audit trail."""
    return AuditFiles(settings.audit.files(settings.data_dir), settings.audit.maximum_file_bytes)


@dataclass(frozen=True, slots=True)
class Position:
    """How far the trail has come; `sent` is the number of the last record that syslog got."""

    ledger: int = 0
    event: int = 0
    head: Head = field(default_factory=Head)
    sent: int = 0


def read_position(database: sa.Engine) -> Position:
    """Return how far the trail has come."""
    with reading(database) as connection:
        rows = {r.source: r for r in connection.execute(sa.select(audit_position))}

    def at(source: str) -> int:
        return int(rows[source].row_id) if source in rows else 0

    head = Head(at(CHAIN), rows[CHAIN].digest) if CHAIN in rows else Head()
    return Position(at(LEDGER), at(EVENT), head, at(SYSLOG))


def _write_position(database: sa.Engine, values: dict[str, tuple[int, str]]) -> None:
    with writing(database) as connection:
        for source, (row_id, digest) in values.items():
            mine = audit_position.c.source == source
            new = {"row_id": row_id, "digest": digest}
            if connection.execute(sa.update(audit_position).where(mine).values(**new)).rowcount == 0:
                connection.execute(sa.insert(audit_position).values(source=source, **new))


@dataclass
class AuditTrail:
    """The one writer of a node's audit trail."""

    settings: NodeSettings
    database: sa.Engine
    clock: Clock
    store: Store
    _syslog: Syslog | None = None

    def __post_init__(self) -> None:
        """Take up where the file and the database say that the last writer stopped."""
        prepare_audit(self.database)
        self.files = audit_files(self.settings)
        self.source = AuditSource(self.settings.audit.source_id, self.settings.audit.enterprise_site_id)
        self.teller = Teller(self.settings, self.database, Patients(self.settings, self.database, self.store))
        if self.settings.audit.syslog is not None:
            self._syslog = Syslog(self.settings.audit.syslog, self.clock)
        self._position = self._recovered(read_position(self.database))

    def _recovered(self, noted: Position) -> Position:
        """Return the position after a kill: what the file has and the database does not know is done."""
        tail = self.files.tail()
        head = Head(tail[-1].number, tail[-1].digest) if tail else Head()
        known = next((r for r in tail if r.number == noted.head.number), None)
        if noted.head.number and (known is None or known.digest != noted.head.digest):
            # Records that were written are gone or changed: say so, and go on after the noted one.
            what = f"record {noted.head.number} of the audit trail is missing or changed"
            _log.error("%s; see `hepatocast audit verify`", what)
            AuditEvents(self.database, self.clock).record(
                AuditEvent(EventKind.TRAIL_DAMAGED, "steward", failed=what)
            )
            return noted
        newer = [r for r in tail if r.number > noted.head.number]
        return Position(
            max([noted.ledger, *(r.row for r in newer if r.source == LEDGER)]),
            max([noted.event, *(r.row for r in newer if r.source == EVENT)]),
            head if newer else noted.head,
            noted.sent,
        )

    def step(self) -> int:
        """Write what is new; returns how many records."""
        written, more = 0, True
        while more:
            records, more = self._write_batch()
            written += records
        self._send()
        return written

    def _write_batch(self) -> tuple[int, bool]:
        """Write the next rows; returns the number of records, and whether there may be further rows."""
        position = self._position
        changes = self._changes(position.ledger)
        events = AuditEvents(self.database, self.clock).after(position.event, BATCH)
        if not changes and not events:
            return 0, False
        records = self.files.append(self._entries(changes, events), position.head)
        head = Head(records[-1].number, records[-1].digest) if records else position.head
        ledger = changes[-1].id if changes else position.ledger
        event = events[-1].id if events else position.event
        _write_position(
            self.database,
            {LEDGER: (ledger, ""), EVENT: (event, ""), CHAIN: (head.number, head.digest)},
        )
        self._position = Position(ledger, event, head, position.sent)
        return len(records), BATCH in (len(changes), len(events))

    def _changes(self, after: int) -> list[LedgerChange]:
        query = (
            sa.select(audit)
            .where(audit.c.id > after, audit.c.entity == "revision")
            .order_by(audit.c.id)
            .limit(BATCH)
        )
        with reading(self.database) as connection:
            return [_change(row) for row in connection.execute(query)]

    def _entries(self, changes: Sequence[LedgerChange], events: Sequence[RecordedEvent]) -> list[Entry]:
        """Return the messages of both, merged by time; some changes are no event of PS3.15.

        Within each of the two the order is that of their rows, whatever the clock did.
        """
        of_changes = (pair for change in changes for pair in self._of_change(change))
        of_events = ((e.at, Entry(EVENT, e.id, self._xml(self.teller.of_event(e)))) for e in events)
        return [entry for _, entry in heapq.merge(of_changes, of_events, key=lambda pair: pair[0])]

    def _of_change(self, change: LedgerChange) -> Iterator[tuple[float, Entry]]:
        told = [self._xml(message) for message in self.teller.of_change(change)]
        for left, text in zip(range(len(told) - 1, -1, -1), told, strict=True):
            yield change.at, Entry(f"{LEDGER}{MORE}" if left else LEDGER, change.id, text)

    def _xml(self, message: AuditMessage) -> str:
        return to_xml(message, self.source)

    def _send(self) -> None:
        """Send to syslog what it has not got; where it is away, later."""
        if self._syslog is None:
            return
        while self._position.sent < self._position.head.number:
            records = self.files.after(self._position.sent, BATCH)
            if not records:
                return
            try:
                self._syslog.send(records)
            except TransientError as error:
                _log.warning("%s; %d records wait", error, self._position.head.number - self._position.sent)
                return
            last = records[-1].number
            _write_position(self.database, {SYSLOG: (last, "")})
            position = self._position
            self._position = Position(position.ledger, position.event, position.head, last)

    def close(self) -> None:
        """Close the connection to syslog."""
        if self._syslog is not None:
            self._syslog.close()


def _change(row: sa.Row[Any]) -> LedgerChange:
    return LedgerChange(
        id=int(row.id),
        at=float(row.at),
        entity=row.entity,
        key=row.key,
        before=row.state_before,
        event=row.event,
        detail=row.detail,
    )
