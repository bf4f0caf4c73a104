"""Storage commitment, asked and answered (PS3.4 annex J, Push Model).

As SCU the node asks a peer to commit what it was sent. The peer answers by N-EVENT-REPORT, on the same
association or on a new one to the listener; both end as a row of ``commitment_result``. As SCP the node
answers what others asked (rows of ``inbound_commitment``, written by the listener) over an association
of its own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import decode

from dicom_node.errors import PeerRejected, StatusUnknown, TransientError
from dicom_node.network.contexts import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from dicom_node.network.query import encoded
from dicom_node.network.requestor import RESPONSE, Association, Message, Proposal, associate
from dicom_node.settings import PeerSettings

_log = logging.getLogger(__name__)

N_EVENT_REPORT_RQ, N_ACTION_RQ = 0x0100, 0x0130
REQUEST_COMMITMENT = 1
"""Action Type ID (PS3.4 section J.3.2)."""
ALL_COMMITTED, SOME_FAILED = 1, 2
"""Event Type ID (PS3.4 section J.3.3)."""
NO_SUCH_OBJECT = 0x0112
SUCCESS = 0x0000
SAME_ASSOCIATION_S = 5.0
"""How long the answer is waited for on the association of the request."""
LOOK_EVERY_S = 0.05
FOR_NOW = frozenset({0x0110, 0x0213})
"""Processing failure and resource limitation (PS3.7 annex C)."""

_PROPOSAL = Proposal(
    str(STORAGE_COMMITMENT), (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)), scp_role=True
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A peer's answer: committed instances, and failed ones with their Failure Reason (0008,1197)."""

    transaction_uid: str
    committed: tuple[str, ...]
    failed: Mapping[str, int]


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item


def request_commitment(
    peer: PeerSettings,
    our_ae_title: str,
    transaction_uid: str,
    objects: Sequence[tuple[str, str]],
    is_answered: Callable[[], bool] = lambda: False,
) -> Answer | None:
    """Ask a peer to commit objects, given as (SOP Class UID, SOP Instance UID).

    Returns the answer if it came on this association; otherwise it will come to the listener.
    `is_answered` says whether it has, so that it is not waited for any longer.

    Raises
    ------
    TransientError
        The peer cannot be reached, or its answer was lost.
    PeerRejected
        It offers no storage commitment, or refuses the request.
    """
    with associate(peer, our_ae_title, [_PROPOSAL]) as association:
        context = association.need(str(STORAGE_COMMITMENT))
        command = Dataset()
        command.RequestedSOPClassUID = STORAGE_COMMITMENT
        command.CommandField = N_ACTION_RQ
        command.MessageID = association.next_message_id()
        command.RequestedSOPInstanceUID = STORAGE_COMMITMENT_INSTANCE
        command.ActionTypeID = REQUEST_COMMITMENT
        information = Dataset()
        information.TransactionUID = transaction_uid
        information.ReferencedSOPSequence = [_reference(*o) for o in objects]
        association.send(context, command, encoded(information, context))
        early = _until_accepted(association)
        return early if early is not None else _answer_on(association, is_answered)


def _until_accepted(association: Association) -> Answer | None:
    """Wait for the response to N-ACTION; returns an event report that came before it."""
    early: Answer | None = None
    while True:
        message = association.receive()
        field = int(message.command.get("CommandField", 0))
        if field == N_EVENT_REPORT_RQ:
            early = _accept_report(association, message)
        elif field == N_ACTION_RQ | RESPONSE:
            status = int(message.command.get("Status", 0x0110))
            if status in FOR_NOW:
                raise TransientError(f"{association.peer.name} cannot commit now (status 0x{status:04X})")
            if status != SUCCESS:
                raise PeerRejected(
                    f"{association.peer.name} refuses storage commitment (status 0x{status:04X}); "
                    "register our AE title there, or set storage_commitment: false"
                )
            return early
        else:
            raise StatusUnknown(f"{association.peer.name} answered something else than N-ACTION")


def _answer_on(association: Association, is_answered: Callable[[], bool]) -> Answer | None:
    hold_s = min(SAME_ASSOCIATION_S, association.peer.dimse_timeout_s)
    for _ in range(round(hold_s / LOOK_EVERY_S)):
        if is_answered():
            return None
        if association.wait(LOOK_EVERY_S):
            break
    else:
        return None
    try:
        message = association.receive()
    except StatusUnknown:
        return None  # the peer ended the association; it will open one
    if int(message.command.get("CommandField", 0)) != N_EVENT_REPORT_RQ:
        return None
    return _accept_report(association, message)


def _accept_report(association: Association, message: Message) -> Answer:
    implicit = message.context.transfer_syntax_uid == str(ImplicitVRLittleEndian)
    report = decode(BytesIO(bytes(message.data_set)), implicit, True)
    response = Dataset()
    response.AffectedSOPClassUID = STORAGE_COMMITMENT
    response.CommandField = N_EVENT_REPORT_RQ | RESPONSE
    response.MessageIDBeingRespondedTo = message.command.MessageID
    response.Status = SUCCESS
    association.send(message.context, response)
    return Answer(
        transaction_uid=str(report.TransactionUID),
        committed=tuple(str(i.ReferencedSOPInstanceUID) for i in report.get("ReferencedSOPSequence", [])),
        failed={
            str(i.ReferencedSOPInstanceUID): int(i.get("FailureReason", NO_SUCH_OBJECT))
            for i in report.get("FailedSOPSequence", [])
        },
    )


def report_commitment(
    peer: PeerSettings,
    our_ae_title: str,
    transaction_uid: str,
    committed: Sequence[tuple[str, str]],
    failed: Sequence[tuple[str, str]],
) -> None:
    """Answer another's request over a new association (N-EVENT-REPORT).

    Raises
    ------
    TransientError, PeerRejected
        The peer cannot be reached, or does not take the answer.
    """
    with associate(peer, our_ae_title, [_PROPOSAL]) as association:
        context = association.need(str(STORAGE_COMMITMENT))
        command = Dataset()
        command.AffectedSOPClassUID = STORAGE_COMMITMENT
        command.CommandField = N_EVENT_REPORT_RQ
        command.MessageID = association.next_message_id()
        command.AffectedSOPInstanceUID = STORAGE_COMMITMENT_INSTANCE
        command.EventTypeID = SOME_FAILED if failed else ALL_COMMITTED
        report = Dataset()
        report.TransactionUID = transaction_uid
        report.ReferencedSOPSequence = [_reference(*o) for o in committed]
        if failed:
            report.FailedSOPSequence = [_reference(*o) for o in failed]
            for item in report.FailedSOPSequence:
                item.FailureReason = NO_SUCH_OBJECT
        association.send(context, command, encoded(report, context))
        status = int(association.receive().command.get("Status", 0x0110))
        if status != SUCCESS:
            raise PeerRejected(f"{peer.name} refuses our commitment report (status 0x{status:04X})")


def result_values(answer: Answer, received_at: float) -> dict[str, object]:
    """Return an answer as a row of ``commitment_result``."""
    return {
        "transaction_uid": answer.transaction_uid,
        "received_at": received_at,
        "committed": json.dumps(sorted(answer.committed)),
        "failed": json.dumps(dict(answer.failed), sort_keys=True),
    }
