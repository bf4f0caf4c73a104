"""Event handlers of the listener: each maps an event to a status, and nothing else.

Statuses are those of PS3.4 table B.2-1 and PS3.7 annex C. A refusal carries its reason as Error
Comment (0000,0902), and the same reason goes to the log; neither has patient data.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import evt
from sqlalchemy import Connection, Engine, insert, select
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.clock import Clock
from dicom_node.database import commitment_result, inbound_commitment, writing
from dicom_node.errors import (
    InvalidUid,
    MismatchedObject,
    NodeError,
    OutOfRoom,
    PermanentError,
    UnreadableObject,
)
from dicom_node.intake.header import check_command, checked_uid, read_header
from dicom_node.intake.index import Index, Outcome, Received
from dicom_node.logs import frames
from dicom_node.network.contexts import STORAGE_COMMITMENT_INSTANCE
from dicom_node.network.guards import dropped_reason
from dicom_node.network.stores import Answer, Store

_log = logging.getLogger(__name__)

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
NO_SUCH_INSTANCE = 0x0112
NO_SUCH_EVENT_TYPE = 0x0113
INVALID_ARGUMENT = 0x0115
INVALID_INSTANCE = 0x0117
NO_SUCH_ACTION = 0x0123
NOT_AUTHORISED = 0x0124
OUT_OF_RESOURCES = 0xA700
DATA_SET_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

REFUSALS: dict[type[NodeError], int] = {
    OutOfRoom: OUT_OF_RESOURCES,
    InvalidUid: INVALID_INSTANCE,
    MismatchedObject: DATA_SET_MISMATCH,
    UnreadableObject: CANNOT_UNDERSTAND,
}

REQUEST_COMMITMENT = 1
COMMITTED, SOME_FAILED = 1, 2

Status = int | Dataset


class _Refusal(PermanentError):
    """A request that is answered with a status of its own."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def _status(answer: Answer) -> Status:
    if not answer.comment:
        return answer.status
    refused = Dataset()
    refused.Status = answer.status
    refused.ErrorComment = answer.comment[:64]
    return refused


def _answered(what: str, caller: str, work: Callable[[], int]) -> Answer:
    """Run `work` and turn what it raises into a status and a reason."""
    try:
        return Answer(work())
    except _Refusal as error:
        status, reason = error.status, str(error)
    except tuple(REFUSALS) as error:
        status, reason = REFUSALS[type(error)], str(error)
    except SQLAlchemyError as error:
        _log.error("the database refused a row: %s", frames(error))
        status, reason = PROCESSING_FAILURE, "the index cannot be written"
    except Exception as error:  # noqa: BLE001 - boundary: an event handler always answers with a status
        _log.error("%s from %s failed: %s", what, caller, frames(error))
        status, reason = PROCESSING_FAILURE, "internal error, see the node's log"
    _log.warning("%s from %s is refused with 0x%04X: %s", what, caller, status, reason)
    return Answer(status, reason)


def _answered_event(event: evt.Event, work: Callable[[evt.Event], int]) -> Status:
    caller = str(event.assoc.requestor.ae_title).strip()
    return _status(_answered(event.event.name, caller, lambda: work(event)))


def _encoded(data_set: BytesIO) -> BytesIO:
    if not data_set.getbuffer().nbytes:
        raise UnreadableObject("the request has no data set")
    data_set.seek(0)
    return data_set


@dataclass(frozen=True)
class Handlers:
    """The handlers, and what they hand over to.

    Attributes
    ----------
    answerable : frozenset of str
        AE titles of the configured peers: only they can be sent the answer to a commitment
        request, because only their address is known.
    """

    index: Index
    engine: Engine
    clock: Clock
    answerable: frozenset[str] = field(default_factory=frozenset)

    def table(self) -> list[tuple[evt.EventType, Callable[[evt.Event], Any]]]:
        """Return event and handler of everything that the listener answers."""
        return [
            (evt.EVT_C_ECHO, self.echo),
            (evt.EVT_C_STORE, self.unusual_store),
            (evt.EVT_N_ACTION, self.commitment_requested),
            (evt.EVT_N_EVENT_REPORT, self.commitment_reported),
            (evt.EVT_ACCEPTED, self.negotiated),
        ]

    def echo(self, _event: evt.Event) -> int:
        """Answer C-ECHO (PS3.7 section 9.3.5)."""
        return SUCCESS

    def keep(self, store: Store) -> Answer:
        """Answer C-STORE (PS3.7 section 9.3.1): 0x0000 only when file and row are durable."""
        return _answered("C-STORE", store.calling_ae_title, lambda: self._keep(store))

    def unusual_store(self, event: evt.Event) -> Status:
        """Answer a C-STORE that came as a message of pynetdicom, as `keep` does."""
        request: Any = event.request
        data_set = request.DataSet if request.DataSet is not None else BytesIO()
        store = Store(
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
            str(event.context.transfer_syntax),
            str(event.assoc.requestor.ae_title).strip(),
            data_set,
            hashlib.sha256(data_set.getbuffer()).hexdigest(),
            dropped_reason(data_set),
        )
        return _status(self.keep(store))

    def _keep(self, store: Store) -> int:
        if store.dropped:
            raise OutOfRoom(store.dropped)
        uid = checked_uid(store.sop_instance_uid, "AffectedSOPInstanceUID")
        data_set = _encoded(store.data_set)
        header = read_header(data_set, store.transfer_syntax_uid)
        check_command(header, store.sop_class_uid, uid)
        sender = store.calling_ae_title
        received = Received(header, store.transfer_syntax_uid, sender, data_set.getbuffer(), store.sha256)
        if self.index.accept(received) is Outcome.CONFLICT:
            _log.warning("%s came again from %s with other bytes; both are kept", uid, sender)
        return SUCCESS

    def commitment_requested(self, event: evt.Event) -> tuple[Status, None]:
        """Answer N-ACTION of storage commitment (PS3.4 section J.3.2): the request is durable."""
        return _answered_event(event, self._commitment_requested), None

    def _commitment_requested(self, event: evt.Event) -> int:
        if event.action_type != REQUEST_COMMITMENT:
            raise _Refusal(NO_SUCH_ACTION, "the only action is 1, request storage commitment")
        request: Any = event.request
        if request.RequestedSOPInstanceUID != STORAGE_COMMITMENT_INSTANCE:
            raise _Refusal(NO_SUCH_INSTANCE, "not the well-known instance of storage commitment")
        sender = str(event.assoc.requestor.ae_title).strip()
        if sender not in self.answerable:
            raise _Refusal(NOT_AUTHORISED, "no peer of that AE title is configured to answer to")
        transaction, references, _ = _references(event.action_information)
        row = {"calling_ae_title": sender, "references_json": json.dumps(references)}
        with writing(self.engine) as connection:
            if not _requested_before(connection, transaction, row):
                connection.execute(
                    insert(inbound_commitment).values(
                        transaction_uid=transaction, requested_at=self.clock(), **row
                    )
                )
        return SUCCESS

    def commitment_reported(self, event: evt.Event) -> tuple[Status, None]:
        """Answer N-EVENT-REPORT of storage commitment (PS3.4 section J.3.3): the answer is durable."""
        return _answered_event(event, self._commitment_reported), None

    def _commitment_reported(self, event: evt.Event) -> int:
        if event.event_type not in (COMMITTED, SOME_FAILED):
            raise _Refusal(NO_SUCH_EVENT_TYPE, "the event types are 1 and 2")
        transaction, references, failed = _references(event.event_information)
        with writing(self.engine) as connection:
            connection.execute(
                insert(commitment_result).values(
                    transaction_uid=transaction,
                    received_at=self.clock(),
                    committed=json.dumps([uid for _, uid in references]),
                    failed=json.dumps(failed),
                )
            )
        return SUCCESS

    def negotiated(self, event: evt.Event) -> None:
        """Log in one line why presentation contexts were not accepted (PS3.8 table 9-18)."""
        refused: dict[str, list[str]] = {}
        for context in event.assoc.rejected_contexts:
            name = context.abstract_syntax.name if context.abstract_syntax else "nothing"
            if context.result == SYNTAXES_NOT_SUPPORTED:
                name += " with " + ", ".join(uid.name for uid in context.transfer_syntax)
            names = refused.setdefault(REJECTED_CONTEXTS.get(context.result or 0, "other reason"), [])
            if name not in names:
                names.append(name)
        if refused:
            reasons = "; ".join(f"{reason}: {', '.join(names)}" for reason, names in refused.items())
            _log.info("%s proposed what is not accepted; %s", event.assoc.requestor.ae_title, reasons)


SYNTAXES_NOT_SUPPORTED = 4
REJECTED_CONTEXTS = {
    1: "rejected by the user",
    2: "no reason",
    3: "SOP class not supported",
    SYNTAXES_NOT_SUPPORTED: "no decoder for the transfer syntax",
}


def _references(information: Dataset | None) -> tuple[str, list[tuple[str, str]], dict[str, int]]:
    """Return transaction UID, (class, instance) references, and failure reason by instance UID."""
    if information is None or "TransactionUID" not in information:
        raise _Refusal(INVALID_ARGUMENT, "no Transaction UID")
    transaction = checked_uid(information.TransactionUID, "TransactionUID")
    references = [_reference(item) for item in information.get("ReferencedSOPSequence") or ()]
    failed = {
        _reference(item)[1]: int(item.get("FailureReason", PROCESSING_FAILURE))
        for item in information.get("FailedSOPSequence") or ()
    }
    return transaction, references, failed


def _reference(item: Dataset) -> tuple[str, str]:
    return (
        checked_uid(item.get("ReferencedSOPClassUID"), "ReferencedSOPClassUID"),
        checked_uid(item.get("ReferencedSOPInstanceUID"), "ReferencedSOPInstanceUID"),
    )


def _requested_before(connection: Connection, transaction: str, row: dict[str, str]) -> bool:
    """Return whether the same request was made before; refuse another one under its UID."""
    known = (
        connection.execute(
            select(inbound_commitment.c.calling_ae_title, inbound_commitment.c.references_json).where(
                inbound_commitment.c.transaction_uid == transaction
            )
        )
        .mappings()
        .first()
    )
    if known is not None and dict(known) != row:
        raise _Refusal(PROCESSING_FAILURE, "this Transaction UID was used for another request")
    return known is not None
