"""Which message tells of what: the table of events of PS3.15 A.5.3 that this node has."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from dicom_node.audit import messages as m
from dicom_node.audit.events import AuditEvent, EventKind, RecordedEvent
from dicom_node.audit.messages import AccessPoint, ActionCode, AuditMessage, Outcome, Participant
from dicom_node.audit.patients import Patients
from dicom_node.database import instance, reading, result_object, revision, study
from dicom_node.jobs.states import Revision, RevisionEvent
from dicom_node.settings import NodeSettings


@dataclass(frozen=True, slots=True)
class LedgerChange:
    """One row of the ledger's table ``audit``."""

    id: int
    at: float
    entity: str
    key: str
    before: str
    event: str
    detail: str


RECEPTION_ENDS = frozenset(
    {
        RevisionEvent.STUDY_COMPLETE,
        RevisionEvent.CONFLICT_FOUND,
        RevisionEvent.STUDY_INCOMPLETE,
        RevisionEvent.RULE_IGNORES,
    }
)

EVENTS: Mapping[EventKind, tuple[m.Code, m.Code | None, ActionCode, Outcome]] = {
    EventKind.APPLICATION_START: (
        m.APPLICATION_ACTIVITY,
        m.APPLICATION_START,
        ActionCode.EXECUTE,
        Outcome.SUCCESS,
    ),
    EventKind.APPLICATION_STOP: (
        m.APPLICATION_ACTIVITY,
        m.APPLICATION_STOP,
        ActionCode.EXECUTE,
        Outcome.SUCCESS,
    ),
    EventKind.LOGIN: (m.USER_AUTHENTICATION, m.LOGIN, ActionCode.EXECUTE, Outcome.MINOR_FAILURE),
    EventKind.LOGOUT: (m.USER_AUTHENTICATION, m.LOGOUT, ActionCode.EXECUTE, Outcome.SUCCESS),
    EventKind.PASSWORDS_GUESSED: (
        m.SECURITY_ALERT,
        m.RESTRICTED_FUNCTION,
        ActionCode.EXECUTE,
        Outcome.SERIOUS_FAILURE,
    ),
    EventKind.ASSOCIATION_REFUSED: (
        m.SECURITY_ALERT,
        m.NODE_AUTHENTICATION,
        ActionCode.EXECUTE,
        Outcome.MINOR_FAILURE,
    ),
    EventKind.QUERY: (m.QUERY, None, ActionCode.EXECUTE, Outcome.MINOR_FAILURE),
    EventKind.ACTION: (m.PROCEDURE_RECORD, None, ActionCode.UPDATE, Outcome.MINOR_FAILURE),
    EventKind.DECISION: (m.ORDER_RECORD, None, ActionCode.CREATE, Outcome.MINOR_FAILURE),
    EventKind.FORECAST_LOCKED: (m.PROCEDURE_RECORD, None, ActionCode.CREATE, Outcome.MINOR_FAILURE),
    EventKind.DATA_REMOVED: (m.STUDY_DELETED, None, ActionCode.DELETE, Outcome.SERIOUS_FAILURE),
    EventKind.USERS_CHANGED: (
        m.SECURITY_ALERT,
        m.USER_SECURITY,
        ActionCode.EXECUTE,
        Outcome.MINOR_FAILURE,
    ),
    EventKind.TRAIL_USED: (m.AUDIT_LOG_USED, None, ActionCode.READ, Outcome.MINOR_FAILURE),
    EventKind.TRAIL_DAMAGED: (
        m.SECURITY_ALERT,
        m.OBJECT_SECURITY,
        ActionCode.EXECUTE,
        Outcome.MAJOR_FAILURE,
    ),
}
"""Event ID, event type, action, and the outcome where it failed; where it did not it is success."""

FIND_SOP_CLASS = "1.2.840.10008.5.1.4.1.2.2.1"
"""Study Root Query/Retrieve Information Model - FIND (PS3.4 annex C)."""


@dataclass(frozen=True)
class Teller:
    """Makes messages of what was recorded."""

    settings: NodeSettings
    database: sa.Engine
    patients: Patients
    host: str = field(default_factory=socket.gethostname)

    # -------------------------------------------------------------- who

    def _node(self, is_requestor: bool, *roles: m.Code) -> Participant:
        title = self.settings.listener.ae_title
        return Participant(title, is_requestor, roles, f"AETITLES={title}", self.host, AccessPoint.NAME)

    def _peer(self, name: str, is_requestor: bool, *roles: m.Code) -> Participant:
        for peer in self.settings.peers:
            if name in (peer.name, peer.ae_title):
                title = peer.ae_title
                return Participant(
                    title, is_requestor, roles, f"AETITLES={title}", peer.host, AccessPoint.NAME
                )
        return Participant(name, is_requestor, roles, f"AETITLES={name}")

    # -------------------------------------------------------------- what

    def _about(
        self,
        study_uid: str,
        sop_classes: tuple[tuple[str, int], ...] = (),
        detail: tuple[tuple[str, str], ...] = (),
    ) -> tuple[m.ParticipantObject, ...]:
        if not study_uid:
            return ()
        patient = self.patients.of_study(study_uid)
        return (
            m.study_object(study_uid, sop_classes, detail),
            m.patient_object(patient, self.patients.kind),
        )

    def _received(self, study_uid: str) -> tuple[tuple[str, int], ...]:
        query = (
            sa.select(instance.c.sop_class_uid, sa.func.count())
            .where(instance.c.study_instance_uid == study_uid, instance.c.made_here.is_(False))
            .group_by(instance.c.sop_class_uid)
            .order_by(instance.c.sop_class_uid)
        )
        with reading(self.database) as connection:
            return tuple((str(uid), int(count)) for uid, count in connection.execute(query))

    def _made(self, revision_id: int) -> dict[str, tuple[tuple[str, int], ...]]:
        """Return for each peer the SOP classes of a revision's results, with their number."""
        columns = (result_object.c.peer, result_object.c.sop_class_uid)
        query = (
            sa.select(*columns, sa.func.count())
            .where(result_object.c.revision_id == revision_id)
            .group_by(*columns)
            .order_by(*columns)
        )
        found: dict[str, list[tuple[str, int]]] = {}
        with reading(self.database) as connection:
            for peer, uid, count in connection.execute(query):
                found.setdefault(str(peer), []).append((str(uid), int(count)))
        return {peer: tuple(rows) for peer, rows in found.items()}

    # -------------------------------------------------------------- changes of the ledger

    def of_change(self, change: LedgerChange) -> Iterator[AuditMessage]:
        """Yield the messages of a state change; most changes are no event of PS3.15."""
        if change.entity != "revision":
            return
        event = change.event
        if event in RECEPTION_ENDS and change.before == Revision.RECEIVING:
            yield self._reception(change)
        elif event == RevisionEvent.JOB_STARTED:
            yield self._access(change)
        elif event == RevisionEvent.DELIVERY_STARTED:
            yield from self._transfers(change, m.BEGIN_TRANSFERRING, ActionCode.EXECUTE, Outcome.SUCCESS)
        elif event == RevisionEvent.ALL_VERIFIED:
            yield from self._transfers(change, m.INSTANCES_TRANSFERRED, ActionCode.READ, Outcome.SUCCESS)
        elif event == RevisionEvent.DELIVERY_REJECTED:
            yield from self._transfers(
                change, m.INSTANCES_TRANSFERRED, ActionCode.READ, Outcome.SERIOUS_FAILURE
            )

    def _study_of(self, change: LedgerChange) -> str:
        query = sa.select(revision.c.study_instance_uid).where(revision.c.id == int(change.key))
        with reading(self.database) as connection:
            return str(connection.execute(query).scalar() or "")

    def _reception(self, change: LedgerChange) -> AuditMessage:
        uid = self._study_of(change)
        query = sa.select(study.c.calling_ae_title).where(study.c.study_instance_uid == uid)
        with reading(self.database) as connection:
            sender = str(connection.execute(query).scalar() or "unknown")
        return AuditMessage(
            m.INSTANCES_TRANSFERRED,
            ActionCode.CREATE,
            change.at,
            Outcome.SUCCESS,
            (self._peer(sender, True, m.SOURCE), self._node(False, m.DESTINATION)),
            objects=self._about(uid, self._received(uid)),
        )

    def _access(self, change: LedgerChange) -> AuditMessage:
        uid = self._study_of(change)
        return AuditMessage(
            m.INSTANCES_ACCESSED,
            ActionCode.READ,
            change.at,
            Outcome.SUCCESS,
            (self._node(True, m.APPLICATION),),
            objects=self._about(uid, self._received(uid)),
        )

    def _transfers(
        self, change: LedgerChange, event_id: m.Code, action: ActionCode, outcome: Outcome
    ) -> Iterator[AuditMessage]:
        """Yield one message for each peer; without objects there is none."""
        uid = self._study_of(change)
        for peer, sop_classes in self._made(int(change.key)).items():
            yield AuditMessage(
                event_id,
                action,
                change.at,
                outcome,
                (self._node(True, m.SOURCE), self._peer(peer, False, m.DESTINATION)),
                outcome_description="" if outcome is Outcome.SUCCESS else change.detail,
                objects=self._about(uid, sop_classes),
            )

    # -------------------------------------------------------------- events

    def of_event(self, recorded: RecordedEvent) -> AuditMessage:
        """Return the message of an event."""
        event = recorded.event
        event_id, event_type, action, failure = EVENTS[event.kind]
        return AuditMessage(
            event_id,
            action,
            recorded.at,
            failure if event.failed else Outcome.SUCCESS,
            self._participants(event),
            event_type,
            _description(event),
            self._objects(event),
        )

    def _participants(self, event: AuditEvent) -> tuple[Participant, ...]:
        if event.kind in (EventKind.APPLICATION_START, EventKind.APPLICATION_STOP):
            name = f"hepatocast {event.user}"
            return (
                Participant(name, False, (m.APPLICATION,), "", self.host, AccessPoint.NAME),
                Participant("hepatocast", True, (m.LAUNCHER,), "", self.host, AccessPoint.NAME),
            )
        if event.kind is EventKind.ASSOCIATION_REFUSED:
            caller, _, address = event.address.partition(" at ")
            return (Participant(caller, True, (m.SOURCE,), "", address), self._node(False, m.DESTINATION))
        if event.kind is EventKind.QUERY:
            return (self._node(True, m.SOURCE), self._peer(event.address, False, m.DESTINATION))
        person = Participant(event.user or "unknown", True, (), "", event.address)
        return (person, self._node(False, m.APPLICATION))

    def _objects(self, event: AuditEvent) -> tuple[m.ParticipantObject, ...]:
        makers: Mapping[EventKind, Callable[[AuditEvent], tuple[m.ParticipantObject, ...]]] = {
            EventKind.QUERY: _query_object,
            EventKind.TRAIL_USED: self._trail_object,
            EventKind.TRAIL_DAMAGED: self._trail_object,
        }
        maker = makers.get(event.kind)
        if maker is not None:
            return maker(event)
        return self._about(event.study_instance_uid, detail=_details(event))

    def _trail_object(self, _event: AuditEvent) -> tuple[m.ParticipantObject, ...]:
        uri = self.settings.audit.files(self.settings.data_dir).absolute().as_uri()
        return (m.ParticipantObject(uri, m.URI, "2", "13", name="Security Audit Log"),)


def _query_object(event: AuditEvent) -> tuple[m.ParticipantObject, ...]:
    query = json.dumps({"StudyInstanceUID": event.study_instance_uid}).encode()
    return (m.ParticipantObject(FIND_SOP_CLASS, m.SOP_CLASS_UID, "2", "3", query=query),)


def _details(event: AuditEvent) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, str(value)) for name, value in sorted(event.detail.items()) if value not in ("", None)
    )


def _description(event: AuditEvent) -> str:
    """Return why it failed; where there is no study to put details at, they come here too."""
    parts = [event.failed] if event.failed else []
    if not event.study_instance_uid:
        parts += [f"{name}: {value}" for name, value in _details(event)]
    return "; ".join(parts)
