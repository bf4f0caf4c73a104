"""Associations that the node opens: PS3.8's requestor without threads.

pynetdicom's own requestor serves an association in two threads beside the caller's. Its pause flag
can be set while its reactor is already past the pause: the reactor then takes the response that the
caller waits for, and the call ends with an empty status at `dimse_timeout`. Here the caller's thread
writes requests and reads responses itself, one after the other, so there is nobody to take them.
PDUs of negotiation and command sets are encoded and decoded by pynetdicom's public classes; data
sets pass through as bytes.
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID
from pynetdicom.dsutils import decode, encode
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import build_context

from dicom_node.errors import ConfigurationError, PeerRejected, StatusUnknown, TransientError
from dicom_node.network.guards import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    LONGEST_ASSOCIATE,
    LONGEST_COMMAND_SET,
    LONGEST_SHORT_PDU,
    P_DATA_TF,
    RELEASE_RP,
    RELEASE_RQ,
    ProtocolViolation,
    longest_pdus,
    read_pdu,
)
from dicom_node.network.stores import NO_DATA_SET, WITH_DATA_SET, with_group_length
from dicom_node.network.tls import secured, why
from dicom_node.settings import PeerSettings

_log = logging.getLogger(__name__)

MAXIMUM_PDU_BYTES = 131072
MAXIMUM_CONTEXTS = 128
"""Presentation context IDs are the odd numbers from 1 to 255 (PS3.8 table 9-13)."""
RELEASE_WITHIN_S = 5.0
RESPONSE = 0x8000
"""Bit of Command Field (0000,0100) that makes a response of a request (PS3.7 table E.1-1)."""

_RELEASE_RQ = struct.pack(">BBLL", RELEASE_RQ, 0, 4, 0)
_RELEASE_RP = struct.pack(">BBLL", RELEASE_RP, 0, 4, 0)
_ABORT = struct.pack(">BBLBBBB", ABORT, 0, 4, 0, 0, 0, 0)

_PERMANENT = 1
_REJECTIONS: dict[tuple[int, int], str] = {
    (1, 1): "it gave no reason",
    (1, 2): "it does not support the application context",
    (1, 3): "it does not know our AE title; register it there",
    (1, 7): "it does not answer to the AE title we call; correct the peer's ae_title",
    (2, 1): "it gave no reason",
    (2, 2): "it does not support our protocol version",
    (3, 1): "it is congested",
    (3, 2): "it has too many associations open",
}
"""(source, diagnostic) of A-ASSOCIATE-RJ (PS3.8 table 9-21) in words."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """One presentation context to propose; `scp_role` asks to be the SCP of it too."""

    sop_class_uid: str
    transfer_syntaxes: tuple[str, ...]
    scp_role: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context."""

    id: int
    sop_class_uid: str
    transfer_syntax_uid: str


@dataclass(frozen=True, slots=True)
class Message:
    """A DIMSE message as it came: command set, and the data set still encoded."""

    context: Context
    command: Dataset
    data_set: bytearray


@dataclass
class Association:
    """An open association; not for use by two threads.

    Attributes
    ----------
    contexts : dict
        Accepted presentation contexts by ID.
    """

    connection: socket.socket
    peer: PeerSettings
    contexts: Mapping[int, Context]
    maximum_pdu_bytes: int
    _message_id: int = 0
    _fragments: list[tuple[int, int, memoryview]] = field(default_factory=list)

    def find(self, sop_class_uid: str, transfer_syntax_uid: str | None = None) -> Context | None:
        """Return the accepted context of a SOP class, with this transfer syntax if one is given."""
        for context in self.contexts.values():
            if context.sop_class_uid == sop_class_uid and transfer_syntax_uid in (
                None,
                context.transfer_syntax_uid,
            ):
                return context
        return None

    def need(self, sop_class_uid: str) -> Context:
        """Return the accepted context of a SOP class; raise `PeerRejected` where there is none."""
        found = self.find(sop_class_uid)
        if found is None:
            raise PeerRejected(f"{self.peer.name} does not accept {UID(sop_class_uid).name}")
        return found

    def next_message_id(self) -> int:
        """Return a Message ID that is not in use."""
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id

    # -------------------------------------------------------------- sending

    def send(self, context: Context, command: Dataset, data_set: bytes | memoryview | None = None) -> None:
        """Send one message; `data_set` is encoded in the context's transfer syntax.

        Raises
        ------
        StatusUnknown
            The connection broke or did not take the bytes in time.
        """
        command.CommandDataSetType = NO_DATA_SET if data_set is None else WITH_DATA_SET
        self.send_encoded(context, _encoded_command(command), data_set)

    def send_encoded(
        self, context: Context, command: bytes, data_set: bytes | memoryview | None = None
    ) -> None:
        """Send one message whose command set is encoded and says whether a data set follows; see `send`."""
        try:
            self.connection.settimeout(self.peer.dimse_timeout_s)
            self._send_fragments(context, 1, memoryview(command))
            if data_set is not None:
                self._send_fragments(context, 0, memoryview(data_set))
        except OSError as error:
            raise StatusUnknown(f"the connection to {self.peer.name} broke while sending") from error

    def _send_fragments(self, context: Context, control: int, data: memoryview) -> None:
        """Send P-DATA-TF PDUs of one fragment each (PS3.8 section 9.3.5)."""
        room = self.maximum_pdu_bytes - 6
        start, end = 0, len(data)
        while True:
            part = data[start : start + room]
            start += room
            last = 2 if start >= end else 0
            header = struct.pack(
                ">BBLLBB", P_DATA_TF, 0, len(part) + 6, len(part) + 2, context.id, control | last
            )
            # One system call for each PDU, without copying the data.
            self._write(header, part)
            if last:
                return

    def _write(self, header: bytes, part: memoryview) -> None:
        if isinstance(self.connection, ssl.SSLSocket):  # it cannot gather
            self.connection.sendall(header + bytes(part))
            return
        sent = self.connection.sendmsg([header, part])
        if sent < len(header) + len(part):
            self.connection.sendall((header + bytes(part))[sent:])

    # -------------------------------------------------------------- receiving

    def wait(self, timeout_s: float) -> bool:
        """Wait until the peer sends something; returns whether it did."""
        if self._fragments or (isinstance(self.connection, ssl.SSLSocket) and self.connection.pending()):
            return True
        return bool(select.select([self.connection], [], [], timeout_s)[0])

    def receive(self, timeout_s: float | None = None) -> Message:
        """Wait for one whole message.

        Raises
        ------
        StatusUnknown
            None came in time, or the connection ended.
        """
        deadline = time.monotonic() + (self.peer.dimse_timeout_s if timeout_s is None else timeout_s)
        command = bytearray()
        data = bytearray()
        while True:
            context_id, control, fragment = self._fragment(deadline)
            (command if control & 1 else data).extend(fragment)
            if len(command) > LONGEST_COMMAND_SET:
                self.abort()
                raise StatusUnknown(f"{self.peer.name} sent a command set without end")
            if control & 2 and (not control & 1 or _has_no_data_set(command)):
                return self._message(context_id, command, data)

    def _message(self, context_id: int, command: bytearray, data: bytearray) -> Message:
        context = self.contexts.get(context_id)
        if context is None or not command:
            self.abort()
            raise StatusUnknown(f"{self.peer.name} sent a message outside the accepted contexts")
        return Message(context, decode(BytesIO(command), True, True), data)

    def _fragment(self, deadline: float) -> tuple[int, int, memoryview]:
        if not self._fragments:
            pdu = self._pdu(deadline)
            self._fragments.extend(reversed(list(_split(pdu))))
            if not self._fragments:
                self.abort()
                raise StatusUnknown(f"{self.peer.name} sent an empty P-DATA-TF")
        return self._fragments.pop()

    def _pdu(self, deadline: float) -> bytearray:
        try:
            pdu = read_pdu(self.connection, longest_pdus(MAXIMUM_PDU_BYTES), deadline)
        except (OSError, ProtocolViolation) as error:
            self.abort()
            raise StatusUnknown(f"no answer from {self.peer.name}: {error}") from error
        if pdu[0] == P_DATA_TF:
            return pdu
        if pdu[0] == RELEASE_RQ:
            self._goodbye(_RELEASE_RP)
            raise StatusUnknown(f"{self.peer.name} released the association")
        self._goodbye(b"")
        raise StatusUnknown(f"{self.peer.name} aborted the association")

    # -------------------------------------------------------------- ending

    def release(self) -> None:
        """End the association; a peer that does not answer is not waited for long."""
        deadline = time.monotonic() + RELEASE_WITHIN_S
        longest = {**longest_pdus(MAXIMUM_PDU_BYTES), RELEASE_RP: LONGEST_SHORT_PDU}
        try:
            self.connection.settimeout(RELEASE_WITHIN_S)
            self.connection.sendall(_RELEASE_RQ)
            while read_pdu(self.connection, longest, deadline)[0] not in (RELEASE_RP, ABORT):
                _log.debug("%s still sends while released", self.peer.name)
        except (OSError, ProtocolViolation):
            _log.debug("%s did not answer the release", self.peer.name)
        self.connection.close()

    def abort(self) -> None:
        """End the association at once."""
        self._goodbye(_ABORT)

    def _goodbye(self, pdu: bytes) -> None:
        try:
            self.connection.settimeout(1.0)
            self.connection.sendall(pdu)
        except OSError:
            _log.debug("%s was gone before the association ended", self.peer.name)
        self.connection.close()

    @property
    def is_open(self) -> bool:
        """Whether messages may still be sent."""
        return self.connection.fileno() >= 0


def _encoded_command(command: Dataset) -> bytes:
    """Return a command set with its group length (PS3.7 section 6.3.1)."""
    if "CommandGroupLength" in command:
        del command.CommandGroupLength
    body = encode(command, True, True)
    if body is None:
        raise ValueError("the command set cannot be encoded")
    return with_group_length(body)


def _has_no_data_set(command: bytearray) -> bool:
    return bool(decode(BytesIO(command), True, True).get("CommandDataSetType") == NO_DATA_SET)


def _split(pdu: bytearray) -> Iterator[tuple[int, int, memoryview]]:
    """Yield context ID, control header and bytes of each fragment of a P-DATA-TF."""
    view = memoryview(pdu)
    at = 6
    while at + 6 <= len(view):
        (length,) = struct.unpack_from(">L", view, at)
        if length < 2 or at + 4 + length > len(view):
            return
        yield view[at + 4], view[at + 5], view[at + 6 : at + 4 + length]
        at += 4 + length


# --- negotiation --------------------------------------------------------------------------------


@contextmanager
def associate(
    peer: PeerSettings, calling_ae_title: str, proposals: Sequence[Proposal]
) -> Iterator[Association]:
    """Open an association for a block; released at its end, aborted when the block fails.

    Raises
    ------
    TransientError
        No connection, no answer, or rejected for now.
    PeerRejected
        Rejected for good; the message says what to change.
    """
    association = open_association(peer, calling_ae_title, proposals)
    try:
        yield association
    except BaseException:
        if association.is_open:
            association.abort()
        raise
    if association.is_open:
        association.release()


def open_association(peer: PeerSettings, calling_ae_title: str, proposals: Sequence[Proposal]) -> Association:
    """Open an association that the caller ends; raises as `associate` does."""
    if not 0 < len(proposals) <= MAXIMUM_CONTEXTS:
        raise ValueError(f"an association has 1 to {MAXIMUM_CONTEXTS} presentation contexts")
    deadline = time.monotonic() + peer.association_timeout_s
    connection = _connected(peer)
    try:
        connection.sendall(_request(peer, calling_ae_title, proposals))
        longest = {
            ASSOCIATE_AC: LONGEST_ASSOCIATE,
            ASSOCIATE_RJ: LONGEST_SHORT_PDU,
            ABORT: LONGEST_SHORT_PDU,
        }
        answer = read_pdu(connection, longest, deadline)
        return _accepted(connection, peer, proposals, bytes(answer))
    except (OSError, ProtocolViolation) as error:
        connection.close()
        reason = why(error) if isinstance(error, ssl.SSLError) else error
        raise TransientError(f"{peer.name} does not answer an association request: {reason}") from error
    except BaseException:
        connection.close()
        raise


def _connected(peer: PeerSettings) -> socket.socket:
    """Return a connection to a peer, with TLS where it is configured."""
    try:
        connection = socket.create_connection((peer.host, peer.port), peer.association_timeout_s)
    except OSError as error:
        reason = error.strerror or "no answer in time"
        raise TransientError(
            f"{peer.name} cannot be reached at {peer.host}:{peer.port} ({reason})"
        ) from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if peer.tls is None:
        return connection
    try:
        return secured(connection, peer.tls, peer.host)
    except OSError as error:
        raise TransientError(f"no TLS with {peer.name}: {why(error)}") from error
    except ConfigurationError as error:
        raise TransientError(
            f"no TLS with {peer.name}: {error}"
        ) from error  # nothing is lost until it is right
    finally:
        # After the handshake the descriptor belongs to the secured socket, and this closes nothing.
        connection.close()


def _context_ids(proposals: Sequence[Proposal]) -> Iterable[tuple[int, Proposal]]:
    return ((2 * number + 1, proposal) for number, proposal in enumerate(proposals))


def _request(peer: PeerSettings, calling_ae_title: str, proposals: Sequence[Proposal]) -> bytes:
    request = A_ASSOCIATE()
    request.application_context_name = UID("1.2.840.10008.3.1.1.1")
    request.calling_ae_title = calling_ae_title
    request.called_ae_title = peer.ae_title
    contexts = []
    for context_id, proposal in _context_ids(proposals):
        context = build_context(proposal.sop_class_uid, list(proposal.transfer_syntaxes))
        context.context_id = context_id
        contexts.append(context)
    request.presentation_context_definition_list = contexts
    maximum_length = MaximumLengthNotification()
    maximum_length.maximum_length_received = MAXIMUM_PDU_BYTES
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = PYNETDICOM_IMPLEMENTATION_UID
    request.user_information = [maximum_length, implementation]
    for sop_class_uid in dict.fromkeys(p.sop_class_uid for p in proposals if p.scp_role):
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid = UID(sop_class_uid)
        role.scu_role = True
        role.scp_role = True
        request.user_information.append(role)
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(request)
    return bytes(pdu.encode())


def _accepted(
    connection: socket.socket, peer: PeerSettings, proposals: Sequence[Proposal], answer: bytes
) -> Association:
    if answer[0] == ASSOCIATE_RJ:
        _raise_rejection(peer, answer)
    if answer[0] != ASSOCIATE_AC:
        raise TransientError(f"{peer.name} aborted the association while it was negotiated")
    pdu = A_ASSOCIATE_AC()
    try:
        pdu.decode(answer)
        primitive = pdu.to_primitive()
        if not primitive.presentation_context_definition_results_list:
            raise ValueError("no result for any presentation context")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, struct.error) as error:
        raise TransientError(f"{peer.name} answered an association request with damaged bytes") from error
    names = dict(_context_ids(proposals))
    contexts = {
        c.context_id: Context(c.context_id, names[c.context_id].sop_class_uid, str(c.transfer_syntax[0]))
        for c in primitive.presentation_context_definition_results_list
        if c.result == 0 and c.context_id in names
    }
    longest = primitive.maximum_length_received or MAXIMUM_PDU_BYTES
    return Association(connection, peer, contexts, max(min(longest, MAXIMUM_PDU_BYTES), 1024))


def _raise_rejection(peer: PeerSettings, answer: bytes) -> None:
    pdu = A_ASSOCIATE_RJ()
    pdu.decode(answer)
    why = _REJECTIONS.get((pdu.source or 0, pdu.reason_diagnostic or 0), "it gave an unknown reason")
    kind = PeerRejected if pdu.result == _PERMANENT else TransientError
    raise kind(f"{peer.name} rejected the association: {why}")
