"""Audit messages: XML by the schema of PS3.15 section A.5.1, with the codes of PS3.16 CID 400 to 405."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from xml.etree import ElementTree as ET


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value; by default of DCM."""

    value: str
    meaning: str
    scheme: str = "DCM"


APPLICATION_ACTIVITY = Code("110100", "Application Activity")
AUDIT_LOG_USED = Code("110101", "Audit Log Used")
BEGIN_TRANSFERRING = Code("110102", "Begin Transferring DICOM Instances")
INSTANCES_ACCESSED = Code("110103", "DICOM Instances Accessed")
INSTANCES_TRANSFERRED = Code("110104", "DICOM Instances Transferred")
STUDY_DELETED = Code("110105", "DICOM Study Deleted")
ORDER_RECORD = Code("110109", "Order Record")
PROCEDURE_RECORD = Code("110111", "Procedure Record")
QUERY = Code("110112", "Query")
SECURITY_ALERT = Code("110113", "Security Alert")
USER_AUTHENTICATION = Code("110114", "User Authentication")

APPLICATION_START = Code("110120", "Application Start")
APPLICATION_STOP = Code("110121", "Application Stop")
LOGIN = Code("110122", "Login")
LOGOUT = Code("110123", "Logout")
NODE_AUTHENTICATION = Code("110126", "Node Authentication")
RESTRICTED_FUNCTION = Code("110132", "Use of Restricted Function")
OBJECT_SECURITY = Code("110135", "Object Security Attributes Changed")
USER_SECURITY = Code("110137", "User Security Attributes Changed")

APPLICATION = Code("110150", "Application")
LAUNCHER = Code("110151", "Application Launcher")
DESTINATION = Code("110152", "Destination Role ID")
SOURCE = Code("110153", "Source Role ID")

STUDY_UID = Code("110180", "Study Instance UID")
SOP_CLASS_UID = Code("110181", "SOP Class UID")
PATIENT_NUMBER = Code("2", "Patient Number", "RFC-3881")
URI = Code("12", "URI", "RFC-3881")
APPLICATION_SERVER = Code("4", "Application Server Process", "RFC-3881")


class ActionCode(StrEnum):
    """EventActionCode."""

    CREATE = "C"
    READ = "R"
    UPDATE = "U"
    DELETE = "D"
    EXECUTE = "E"


class Outcome(StrEnum):
    """EventOutcomeIndicator."""

    SUCCESS = "0"
    MINOR_FAILURE = "4"
    SERIOUS_FAILURE = "8"
    MAJOR_FAILURE = "12"


class AccessPoint(StrEnum):
    """NetworkAccessPointTypeCode."""

    NAME = "1"
    ADDRESS = "2"


@dataclass(frozen=True, slots=True)
class Participant:
    """An active participant: a person, this node, or another one."""

    user_id: str
    is_requestor: bool
    roles: tuple[Code, ...] = ()
    alternative_user_id: str = ""
    network: str = ""
    network_type: AccessPoint = AccessPoint.ADDRESS


@dataclass(frozen=True, slots=True)
class ParticipantObject:
    """What an event is about.

    Attributes
    ----------
    type_code, role : str
        ParticipantObjectTypeCode and ParticipantObjectTypeCodeRole.
    name : str
        ParticipantObjectName; the schema asks for it where there is no query.
    query : bytes
        ParticipantObjectQuery, instead of a name.
    detail : tuple of (type, value)
        ParticipantObjectDetail.
    sop_classes : tuple of (SOP Class UID, number of instances)
        ParticipantObjectDescription.
    """

    id: str
    id_type: Code
    type_code: str
    role: str
    name: str = ""
    query: bytes = b""
    detail: tuple[tuple[str, str], ...] = ()
    sop_classes: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class AuditMessage:
    """One message, before it is XML; `at` in seconds since the epoch."""

    event_id: Code
    action: ActionCode
    at: float
    outcome: Outcome
    participants: tuple[Participant, ...]
    event_type: Code | None = None
    outcome_description: str = ""
    objects: tuple[ParticipantObject, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditSource:
    """Who reports."""

    source_id: str
    enterprise_site_id: str | None = None


_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")
"""Characters that XML 1.0 has no way to write; peers may send them in an AE title."""


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)


def _coded(parent: ET.Element, name: str, code: Code) -> None:
    ET.SubElement(
        parent,
        name,
        {"csd-code": code.value, "codeSystemName": code.scheme, "originalText": code.meaning},
    )


def _given(values: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name: _clean(value) for name, value in values if value}


def _event(root: ET.Element, message: AuditMessage) -> None:
    at = datetime.fromtimestamp(message.at, UTC).isoformat(timespec="milliseconds")
    event = ET.SubElement(
        root,
        "EventIdentification",
        {
            "EventActionCode": message.action,
            "EventDateTime": at,
            "EventOutcomeIndicator": message.outcome,
        },
    )
    _coded(event, "EventID", message.event_id)
    if message.event_type is not None:
        _coded(event, "EventTypeCode", message.event_type)
    if message.outcome_description:
        ET.SubElement(event, "EventOutcomeDescription").text = _clean(message.outcome_description)


def _participant(root: ET.Element, participant: Participant) -> None:
    attributes = {
        "UserID": _clean(participant.user_id) or "unknown",
        "UserIsRequestor": str(participant.is_requestor).lower(),
        **_given([("AlternativeUserID", participant.alternative_user_id)]),
    }
    if participant.network:
        attributes["NetworkAccessPointID"] = _clean(participant.network)
        attributes["NetworkAccessPointTypeCode"] = participant.network_type
    element = ET.SubElement(root, "ActiveParticipant", attributes)
    for role in participant.roles:
        _coded(element, "RoleIDCode", role)


def _object(root: ET.Element, item: ParticipantObject) -> None:
    element = ET.SubElement(
        root,
        "ParticipantObjectIdentification",
        {
            "ParticipantObjectID": _clean(item.id) or "unknown",
            "ParticipantObjectTypeCode": item.type_code,
            "ParticipantObjectTypeCodeRole": item.role,
        },
    )
    _coded(element, "ParticipantObjectIDTypeCode", item.id_type)
    if item.query:
        ET.SubElement(element, "ParticipantObjectQuery").text = base64.b64encode(item.query).decode()
    else:
        ET.SubElement(element, "ParticipantObjectName").text = _clean(item.name or item.id)
    for kind, value in item.detail:
        encoded = base64.b64encode(value.encode()).decode()
        ET.SubElement(element, "ParticipantObjectDetail", {"type": _clean(kind), "value": encoded})
    if item.sop_classes:
        description = ET.SubElement(element, "ParticipantObjectDescription")
        for uid, count in item.sop_classes:
            ET.SubElement(description, "SOPClass", {"UID": uid, "NumberOfInstances": str(count)})


def to_xml(message: AuditMessage, source: AuditSource) -> str:
    """Return a message as one line of XML, without declaration."""
    root = ET.Element("AuditMessage")
    _event(root, message)
    for participant in message.participants:
        _participant(root, participant)
    attributes = {
        **_given([("AuditEnterpriseSiteID", source.enterprise_site_id or "")]),
        "AuditSourceID": _clean(source.source_id),
    }
    _coded(
        ET.SubElement(root, "AuditSourceIdentification", attributes),
        "AuditSourceTypeCode",
        APPLICATION_SERVER,
    )
    for item in message.objects:
        _object(root, item)
    return ET.tostring(root, encoding="unicode").replace("\n", "&#10;")


def study_object(
    study_instance_uid: str,
    sop_classes: Iterable[tuple[str, int]] = (),
    detail: Iterable[tuple[str, str]] = (),
) -> ParticipantObject:
    """Return a study as the object of an event (PS3.15 A.5.3)."""
    return ParticipantObject(
        study_instance_uid, STUDY_UID, "2", "3", detail=tuple(detail), sop_classes=tuple(sop_classes)
    )


def patient_object(patient: str, kind: str) -> ParticipantObject:
    """Return a patient as the object of an event; `kind` says what the identity is."""
    return ParticipantObject(
        patient, PATIENT_NUMBER, "1", "1", name="not recorded", detail=(("identity", kind),)
    )
