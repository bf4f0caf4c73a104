"""Audit messages: the schema of PS3.15 A.5.1, the codes of PS3.16, and no patient where none belongs."""

from __future__ import annotations

import base64
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from pydicom.sr.codedict import codes

from dicom_node.audit import messages as m
from dicom_node.audit.chain import AuditFiles
from dicom_node.audit.decisions import Choice, Decisions, Verdict
from dicom_node.audit.events import AuditEvent, AuditEvents, EventKind
from dicom_node.audit.patients import keyed_hash
from dicom_node.audit.telling import EVENTS
from dicom_node.audit.trail import AuditTrail
from dicom_node.jobs.states import RevisionEvent
from dicom_node.operation_settings import AuditSettings, PatientIdentity
from dicom_node.storage.local import local_store
from tests.builders.nodes import Node
from tests.builders.operated import OperatedNode
from tests.builders.pages import page_settings

CODES = [value for value in vars(m).values() if isinstance(value, m.Code) and value.scheme == "DCM"]
SCHEMA = Path(__file__).with_name("audit_message.rng")


@pytest.fixture
def operated(tmp_path, clock) -> OperatedNode:
    return OperatedNode(Node(tmp_path / "data", clock), clock)


def _trail(operated: OperatedNode, **audit) -> AuditTrail:
    settings = page_settings(operated.node.data_dir)
    settings = settings.model_copy(update={"audit": AuditSettings(**audit)})
    return AuditTrail(settings, operated.node.database, operated.clock, local_store(operated.node.data_dir))


def _messages(trail: AuditTrail) -> list[ET.Element]:
    trail.step()
    return [ET.fromstring(record.message) for record in trail.files.records()]


def _id(message: ET.Element) -> str:
    return message.find("EventIdentification/EventID").get("csd-code")


def _of(messages: list[ET.Element], code: m.Code) -> list[ET.Element]:
    return [message for message in messages if _id(message) == code.value]


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.value)
def test_codes_are_those_of_the_standards_dictionary(code):
    known = {c.value: c.meaning for c in (getattr(codes.DCM, name) for name in codes.DCM.dir())}
    assert known[code.value] == code.meaning


def test_every_kind_of_event_has_a_message():
    assert set(EVENTS) == set(EventKind)


def _everything(operated: OperatedNode) -> None:
    """Let every kind of message occur."""
    revision = operated.delivered("a")
    rejected = operated.forecast("b")
    operated.node.ledger.change(rejected, RevisionEvent.DELIVERY_STARTED)
    operated.node.ledger.change(rejected, RevisionEvent.DELIVERY_REJECTED, "5 objects were rejected")
    choice = Choice("dr.lee", Verdict.OVERRIDE, "sorafenib", "thrombosis <&> \x01 ü")
    Decisions(operated.node.database, operated.clock).add(revision, choice)
    study = operated.node.ledger.revision(revision).study_instance_uid
    events = AuditEvents(operated.node.database, operated.clock)
    for kind in EventKind:
        if kind not in (EventKind.DECISION, EventKind.FORECAST_LOCKED):
            detail = {"action": "retry", "reason": 'he said "no"'}
            events.record(AuditEvent(kind, "anna", "PACS at 10.0.0.1", study, detail=detail))
            events.record(AuditEvent(kind, "anna", "\x00\x07 at 10.0.0.1", failed="why it failed"))


def test_every_message_is_valid_by_the_schema(operated):
    etree = pytest.importorskip("lxml.etree")
    schema = etree.RelaxNG(etree.parse(str(SCHEMA)))
    _everything(operated)
    trail = _trail(operated, enterprise_site_id="hospital")
    trail.step()
    records = list(trail.files.records())
    kinds = set()
    for record in records:
        document = etree.fromstring(record.message)
        assert schema.validate(document), (schema.error_log, record.message)
        kinds.add(document.find("EventIdentification/EventID").get("csd-code"))
    assert kinds == {event_id.value for event_id, *_ in EVENTS.values()} | {
        m.BEGIN_TRANSFERRING.value,
        m.INSTANCES_ACCESSED.value,
        m.INSTANCES_TRANSFERRED.value,
    }


def test_schema_refuses_what_the_standard_does_not_have(operated):
    etree = pytest.importorskip("lxml.etree")
    schema = etree.RelaxNG(etree.parse(str(SCHEMA)))
    _everything(operated)
    trail = _trail(operated)
    trail.step()
    document = etree.fromstring(next(trail.files.records()).message)
    document.find("EventIdentification").set("EventOutcomeIndicator", "1")
    assert not schema.validate(document)


def test_a_study_is_told_of_from_reception_to_delivery(operated):
    operated.delivered("a")
    messages = _messages(_trail(operated))
    assert [_id(x) for x in messages] == [
        code.value
        for code in (
            m.INSTANCES_TRANSFERRED,
            m.INSTANCES_ACCESSED,
            m.BEGIN_TRANSFERRING,
            m.INSTANCES_TRANSFERRED,
            m.PROCEDURE_RECORD,  # the forecast's lock, of the same moment
        )
    ]
    came, went = messages[0], messages[3]
    assert [p.get("UserID") for p in came.findall("ActiveParticipant")] == ["PACS", "HEPATOCAST"]
    assert [p.get("UserID") for p in went.findall("ActiveParticipant")] == ["HEPATOCAST", "PACS"]
    received = came.find(".//SOPClass")
    assert (received.get("UID"), received.get("NumberOfInstances")) == ("1.2.840.10008.5.1.4.1.1.2", "3")
    assert went.find(".//SOPClass").get("NumberOfInstances") == "5"


def test_the_patient_is_a_keyed_hash_by_default(operated):
    operated.delivered("a")
    trail = _trail(operated)
    messages = _messages(trail)
    key = (operated.node.data_dir / "audit" / "patient.key").read_text().strip()
    patients = {
        item.get("ParticipantObjectID")
        for x in messages
        for item in x.iter("ParticipantObjectIdentification")
        if item.get("ParticipantObjectTypeCode") == "1"
    }
    assert patients == {keyed_hash(key, "T1", "")}
    text = "".join(r.message for r in trail.files.records())
    assert "Test^Patient" not in text
    assert ">T1<" not in text
    assert '"T1"' not in text


def test_the_patient_id_itself_is_written_where_a_site_says_so(operated):
    operated.delivered("a")
    messages = _messages(_trail(operated, patient_identity=PatientIdentity.PATIENT_ID))
    patients = {
        item.get("ParticipantObjectID")
        for x in messages
        for item in x.iter("ParticipantObjectIdentification")
        if item.get("ParticipantObjectTypeCode") == "1"
    }
    assert patients == {"T1"}


def test_a_decision_is_an_order_with_its_reason_and_digest(operated):
    revision = operated.delivered("a")
    choice = Choice("dr.lee", Verdict.OVERRIDE, "sorafenib", "portal vein thrombosis")
    made = Decisions(operated.node.database, operated.clock).add(revision, choice)
    (message,) = _of(_messages(_trail(operated)), m.ORDER_RECORD)
    assert message.find("ActiveParticipant").get("UserID") == "dr.lee"
    details = {
        d.get("type"): base64.b64decode(d.get("value")).decode()
        for d in message.iter("ParticipantObjectDetail")
    }
    assert details["reason"] == "portal vein thrombosis"
    assert details["verdict"] == "override"
    assert details["forecast_digest"] == made.forecast_digest


@pytest.mark.parametrize(
    ("event", "code", "event_type", "outcome"),
    [
        (AuditEvent(EventKind.LOGIN, "anna", "10.0.0.1"), m.USER_AUTHENTICATION, m.LOGIN, "0"),
        (
            AuditEvent(EventKind.LOGIN, "", "10.0.0.1", failed="wrong password for anna"),
            m.USER_AUTHENTICATION,
            m.LOGIN,
            "4",
        ),
        (
            AuditEvent(EventKind.ASSOCIATION_REFUSED, "", "EVIL at 10.6.6.6", failed="calling AE title"),
            m.SECURITY_ALERT,
            m.NODE_AUTHENTICATION,
            "4",
        ),
        (AuditEvent(EventKind.APPLICATION_START, "worker"), m.APPLICATION_ACTIVITY, m.APPLICATION_START, "0"),
    ],
    ids=["login", "failed login", "refused association", "start"],
)
def test_events_without_a_study(operated, event, code, event_type, outcome):
    AuditEvents(operated.node.database, operated.clock).record(event)
    (message,) = _messages(_trail(operated))
    head = message.find("EventIdentification")
    assert _id(message) == code.value
    assert head.find("EventTypeCode").get("csd-code") == event_type.value
    assert head.get("EventOutcomeIndicator") == outcome
    assert not list(message.iter("ParticipantObjectIdentification"))


def test_refused_association_names_who_called_and_from_where(operated):
    event = AuditEvent(EventKind.ASSOCIATION_REFUSED, "", "EVIL at 10.6.6.6", failed="called AE title")
    AuditEvents(operated.node.database, operated.clock).record(event)
    (message,) = _messages(_trail(operated))
    caller = message.find("ActiveParticipant")
    assert (caller.get("UserID"), caller.get("NetworkAccessPointID")) == ("EVIL", "10.6.6.6")


def test_messages_are_one_line_each(operated):
    _everything(operated)
    trail = _trail(operated)
    trail.step()
    lines = [line for f in AuditFiles(trail.files.folder).files() for line in f.read_text().splitlines()]
    assert len(lines) == len(list(trail.files.records()))
