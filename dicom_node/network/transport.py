"""The transport under pynetdicom's acceptor: deadlines, caps, and wake-ups without polling.

This is the only module that touches private parts of pynetdicom, which is why the version is
bounded here and in pyproject.toml. What it adds to the library's server:

- a connection becomes an association only when its whole A-ASSOCIATE-RQ has come within
  `association_deadline_s`; until then it holds no place among the associations, and the oldest
  waiting one makes room for a new one. A TLS handshake happens there too, off the accept thread.
- every PDU has a length cap, checked before anything is read, and `pdu_deadline_s` from its first
  byte to its last; sending has the same deadline.
- a data set beyond `maximum_object_bytes`, or beyond what all associations may hold in memory,
  is dropped as it comes, and its sender gets a status.
- threads wait for sockets and queues to be ready; nothing polls every millisecond.
"""

from __future__ import annotations

import logging
import queue
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pynetdicom
from pynetdicom import AE, evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import A_ASSOCIATE, P_DATA
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, AssociationServer, AssociationSocket

from dicom_node.network.guards import (
    ABORT,
    ASSOCIATE_RQ,
    LONGEST_ASSOCIATE,
    LONGEST_COMMAND_SET,
    READ_BYTES,
    Bell,
    Budget,
    Connection,
    Connections,
    DroppedDataSet,
    ProtocolViolation,
    RingingQueue,
    longest_pdus,
    read_pdu,
)
from dicom_node.settings import ListenerSettings

if not pynetdicom.__version__.startswith("3.0."):
    raise ImportError(
        f"pynetdicom {pynetdicom.__version__} is installed; this module works on private parts of 3.0 only"
    )

_log = logging.getLogger(__name__)

MAXIMUM_QUEUED_MESSAGES = 8
"""Requests that a peer may send ahead of their answers before its socket is left unread."""
WAKE_S = 0.25
"""How often a waiting thread looks at its timers."""

_ABORT_PDU = struct.pack(">BBLBBBB", ABORT, 0, 4, 0, 0, 2, 0)
_DECODER_ERRORS = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError,
    EOFError, OSError, struct.error, UserWarning,
)  # fmt: skip
# UserWarning: pydicom warns of some damage, and Python may be told to raise warnings.

# State and event names of PS3.8 section 9.2, as pynetdicom writes them.
_IDLE, _CLOSING = "Sta1", "Sta13"
_CONNECTION_CLOSED, _INVALID_PDU = "Evt17", "Evt19"


@dataclass(frozen=True, slots=True)
class Rejection:
    """An A-ASSOCIATE-RJ (PS3.8 table 9-21) and its reason in words."""

    result: int
    source: int
    diagnostic: int
    reason: str


CALLING_AE_UNKNOWN = Rejection(1, 1, 3, "its AE title is not among allowed_calling_ae_titles or peers")
CALLED_AE_UNKNOWN = Rejection(1, 1, 7, "it called another AE title than ours")
CONGESTED = Rejection(2, 3, 1, "the disk is below minimum_free_bytes")
TOO_MANY = Rejection(2, 3, 2, "maximum_associations are open")

Admission = Callable[[str, str], Rejection | None]
"""Decides on (calling AE title, called AE title)."""


# --- pynetdicom's layers, guarded ---------------------------------------------------------------


class _Socket(AssociationSocket):
    """An accepted connection; sending has a deadline."""

    send_deadline_s = 30.0

    def send(self, bytestream: bytes) -> None:
        connection = self.socket
        if connection is None:
            return
        try:
            connection.settimeout(self.send_deadline_s)
            connection.sendall(bytestream)
        except OSError:
            self.event_queue.put(_CONNECTION_CLOSED)


class _UpperLayer(DULServiceProvider):
    """The upper layer's thread: reads PDUs under caps and deadlines, waits instead of polling."""

    def __init__(self, association: _GuardedAssociation, limits: ListenerSettings, first_pdu: bytes) -> None:
        super().__init__(association)
        self.daemon = True
        self._run_loop_delay = 0
        self._association = association
        self._longest = longest_pdus(limits.maximum_pdu_bytes)
        self._pdu_deadline_s = limits.pdu_deadline_s
        self._first_pdu: bytes | None = first_pdu
        self._drained_bytes = 0
        self.bell = Bell()
        self.to_provider_queue = RingingQueue(self.bell.ring)
        self.to_user_queue = RingingQueue(association.wake.set)

    def run_reactor(self) -> None:
        try:
            super().run_reactor()
        finally:
            self.bell.close()
            self._association.wake.set()

    def kill_dul(self) -> None:
        super().kill_dul()
        self.bell.ring()

    def stop_dul(self) -> bool:
        if self.state_machine.current_state != _IDLE:
            return False
        self.kill_dul()
        if threading.current_thread() is not self:
            self.join()
        return True

    def _connection(self) -> socket.socket | None:
        wrapper = self.socket
        if wrapper is None or wrapper.socket is None or wrapper.socket.fileno() < 0:
            return None
        return wrapper.socket

    def _is_transport_event(self) -> bool:
        if not self.event_queue.empty():
            return False
        connection = self._connection()
        if self.state_machine.current_state == _CLOSING:
            return self._drain(connection)
        if self._first_pdu is not None:
            self._read_pdu_data()
            return True
        if self.state_machine.current_state == _IDLE:
            connection = None
        elif connection is None:
            self.event_queue.put(_CONNECTION_CLOSED)
            return False
        unread = self._association.dimse.msg_queue.qsize() >= MAXIMUM_QUEUED_MESSAGES
        if not self.bell.wait(None if unread else connection, WAKE_S):
            return False
        self._read_pdu_data()
        return True

    def _drain(self, connection: socket.socket | None) -> bool:
        """Throw away a little of what still comes, so that our last PDU is read, and close."""
        if connection is not None and self._drained_bytes < READ_BYTES and self.bell.wait(connection, 0):
            try:
                connection.settimeout(WAKE_S)
                count = len(connection.recv(READ_BYTES))
                self._drained_bytes += count
                if count:
                    return True
            except OSError:
                _log.debug("connection lost while closing")
        if self.socket is not None:
            self.socket.close()
        if self.event_queue.empty():
            self.event_queue.put(_CONNECTION_CLOSED)
        return True

    def _read_pdu_data(self) -> None:
        try:
            data = self._next_pdu()
            pdu, event = self._decode_pdu(bytearray(data))
        except ProtocolViolation as violation:
            self._association.complain(str(violation))
            self.event_queue.put(_INVALID_PDU)
        except OSError:
            self.event_queue.put(_CONNECTION_CLOSED)
        except _DECODER_ERRORS as error:
            self._association.complain(f"it sent a PDU that cannot be decoded ({type(error).__name__})")
            self.event_queue.put(_INVALID_PDU)
        else:
            self.event_queue.put(event)
            self._recv_pdu.put(pdu)

    def _next_pdu(self) -> bytes | bytearray:
        if self._first_pdu is not None:
            first, self._first_pdu = self._first_pdu, None
            return first
        connection = self._connection()
        if connection is None:
            raise ConnectionResetError("closed")
        return read_pdu(connection, self._longest, time.monotonic() + self._pdu_deadline_s)


class _Messages(DIMSEServiceProvider):
    """Puts messages together from fragments; drops data sets that are too large."""

    def __init__(self, association: _GuardedAssociation, limits: ListenerSettings, budget: Budget) -> None:
        super().__init__(association)
        self._association = association
        self._maximum_object_bytes = limits.maximum_object_bytes
        self._budget = budget
        self._command_bytes = 0
        self._data_set_bytes = 0
        self._held_bytes = 0
        self._lock = threading.Lock()
        self.msg_queue = RingingQueue(association.wake.set)

    def receive_primitive(self, primitive: P_DATA) -> None:
        try:
            fragments = primitive.presentation_data_value_list
            if not fragments:
                raise ProtocolViolation("it sent a P-DATA-TF without fragments")
            fragments[:] = [(context_id, self._fragment(data)) for context_id, data in fragments]
            super().receive_primitive(primitive)
        except ProtocolViolation as violation:
            self._association.complain(str(violation))
            self.dul.event_queue.put(_INVALID_PDU)
        except _DECODER_ERRORS as error:
            self._association.complain(f"it sent a message that cannot be decoded ({type(error).__name__})")
            self.dul.event_queue.put(_INVALID_PDU)
        if self.message is None:
            self._command_bytes = self._data_set_bytes = 0

    def _fragment(self, data: bytes) -> bytes:
        """Count a fragment; return it, or only its control header where its data set is dropped."""
        if not data:
            raise ProtocolViolation("it sent an empty fragment")
        if data[0] & 1:
            self._command_bytes += len(data)
            if self._command_bytes > LONGEST_COMMAND_SET:
                raise ProtocolViolation("it sent a command set without end")
            return data
        size = len(data) - 1
        self._data_set_bytes += size
        return data if self._keep(size) else data[:1]

    def _keep(self, size_bytes: int) -> bool:
        message = self.message
        if message is None or isinstance(message.data_set, DroppedDataSet):
            return message is None  # without a command set the message is refused as a whole
        reason = ""
        if self._data_set_bytes > self._maximum_object_bytes:
            reason = "the data set is longer than maximum_object_bytes"
        elif not self._budget.take(size_bytes):
            reason = "too many data sets in memory, send it again later"
        if not reason:
            with self._lock:
                self._held_bytes += size_bytes
            return True
        self.give_back(self._data_set_bytes - size_bytes)
        message.data_set = DroppedDataSet(reason)
        return False

    def give_back(self, size_bytes: int | None = None) -> None:
        """Give back the memory of one data set, or all of it when the association ends."""
        with self._lock:
            size_bytes = self._held_bytes if size_bytes is None else min(size_bytes, self._held_bytes)
            self._held_bytes -= size_bytes
        self._budget.give_back(size_bytes)


class _Control(ACSE):
    """Negotiation, with the node's own admission first."""

    def _negotiate_as_acceptor(self) -> None:
        request = self.requestor.primitive
        if isinstance(request, A_ASSOCIATE):
            self.requestor.ae_title = request.calling_ae_title
            rejection = self._rejection(str(request.calling_ae_title), str(request.called_ae_title))
            if rejection is not None:
                association = self.assoc
                assert isinstance(association, _GuardedAssociation)
                association.complain(f"association rejected: {rejection.reason}")
                self.send_reject(rejection.result, rejection.source, rejection.diagnostic)
                evt.trigger(association, evt.EVT_REJECTED, {})
                association.kill()
                return
        super()._negotiate_as_acceptor()

    def _rejection(self, calling: str, called: str) -> Rejection | None:
        association = self.assoc
        assert isinstance(association, _GuardedAssociation)
        rejection = association.server.admission(calling.strip(), called.strip())
        if rejection is None and association.server.is_full():
            return TOO_MANY
        return rejection


class _GuardedAssociation(Association):
    """An accepted association. Its thread serves one message after another, and then ends it."""

    def __init__(self, server: GuardedServer, waiting: Connection, first_pdu: bytes) -> None:
        self.wake = threading.Event()
        super().__init__(server.ae, MODE_ACCEPTOR)
        limits = server.limits
        self.server = server
        self._server = server
        self._connection = waiting
        self._closing = False
        self.dul: _UpperLayer = _UpperLayer(self, limits, first_pdu)
        self.dimse: _Messages = _Messages(self, limits, server.budget)
        self.acse = _Control(self)
        self.acse_timeout = limits.association_deadline_s
        self.network_timeout = limits.idle_deadline_s
        self.name = f"AcceptorThread@{waiting.address}:{waiting.port}"
        self.set_socket(_Socket(self, client_socket=waiting.socket))
        self.requestor.address_info = AddressInformation(waiting.address, waiting.port)

    def complain(self, what: str) -> None:
        """Log what this peer did wrong."""
        name = self.requestor.ae_title or "unknown AE"
        _log.warning("%s at %s: %s", name, self._connection.address, what)

    def finish(self) -> None:
        """End the association after the message that is being served."""
        self._closing = True
        self.wake.set()

    def _bind_defaults(self) -> None:
        for event in evt._INTERVENTION_EVENTS:
            self.bind(event, evt.get_default_handler(event))

    def run_reactor(self) -> None:
        try:
            super().run_reactor()
        finally:
            self.dul.kill_dul()
            self.dimse.give_back()
            self.server.connections.remove(self._connection)

    def _run_reactor(self) -> None:
        while not self._kill:
            self.wake.wait(WAKE_S)
            self.wake.clear()
            self._serve_messages()
            if self._has_ended():
                return

    def _serve_messages(self) -> None:
        while not self._kill and not self._closing:
            try:
                context_id, message = self.dimse.msg_queue.get_nowait()
            except queue.Empty:
                return
            if message is None or context_id is None:
                continue
            self._serve_request(message, context_id)
            self.dul._idle_timer.restart()
            if self.dimse.msg_queue.qsize() == MAXIMUM_QUEUED_MESSAGES - 1:
                self.dul.bell.ring()  # the socket was left unread until now

    def _serve_request(self, msg: Any, context_id: int) -> None:
        if threading.current_thread() is not self:
            # pynetdicom starts a thread for each N-EVENT-REPORT; here they wait for their turn.
            self.dimse.msg_queue.put((context_id, msg))
            return
        if not msg.is_valid_request:
            self.complain(f"it sent a {msg.msg_type} message that is no valid request")
            self.abort()
            return
        data_set = getattr(msg, "DataSet", None)
        size = data_set.getbuffer().nbytes if isinstance(data_set, BytesIO) else 0
        try:
            super()._serve_request(msg, context_id)
        finally:
            self.dimse.give_back(size)

    def _has_ended(self) -> bool:
        if self.acse.is_release_requested():
            self.acse.send_release(is_response=True)
            self.is_released = True
            evt.trigger(self, evt.EVT_RELEASED, {})
        elif self.acse.is_aborted():
            self.dul.receive_pdu(wait=False)
            self.is_aborted = True
            evt.trigger(self, evt.EVT_ABORTED, {})
        elif self._closing or self.dul.idle_timer_expired():
            self.complain("association ended: " + ("the node stops" if self._closing else "idle too long"))
            self.abort()
        elif self.dul.is_alive():
            return self._kill
        self.is_established = False
        self.kill()
        return True


# --- the server ---------------------------------------------------------------------------------


class GuardedServer(AssociationServer):
    """Accepts connections and turns those that associate into associations."""

    request_queue_size = 128

    def __init__(
        self,
        limits: ListenerSettings,
        contexts: list[PresentationContext],
        handlers: list[evt.EventHandlerType],
        admission: Admission,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.limits = limits
        self.admission = admission
        self.budget = Budget(limits.maximum_buffered_bytes)
        self.connections = Connections(limits.maximum_connections_per_address)
        ae = AE(ae_title=limits.ae_title)
        ae.maximum_pdu_size = limits.maximum_pdu_bytes
        ae.maximum_associations = limits.maximum_associations
        ae.require_called_aet = True
        super().__init__(
            ae,
            (limits.host, limits.port),
            limits.ae_title,
            contexts,
            ssl_context,
            evt_handlers=handlers,
        )

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self.server_address[1])

    def is_full(self) -> bool:
        """Return whether there are more associations than allowed, the asking one included."""
        return len(self.ae.active_associations) > self.limits.maximum_associations

    def _bind_defaults(self) -> None:
        for event in evt._INTERVENTION_EVENTS:
            self.bind(event, evt.get_default_handler(event))

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept one connection; a TLS handshake comes later, in a thread of its own."""
        assert self.socket is not None
        connection, address = self.socket.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take the connection in and wait for its A-ASSOCIATE-RQ in a thread of its own."""
        connection = Connection(request, str(client_address[0]), int(client_address[1]))
        if not self.connections.admit(connection):
            _log.warning("%s: refused, it has maximum_connections_per_address open", connection.address)
            request.close()
            return
        threading.Thread(target=self._open, args=(connection,), daemon=True).start()

    def _open(self, connection: Connection) -> None:
        """Wait for a whole A-ASSOCIATE-RQ, and only then make an association of the connection."""
        deadline = time.monotonic() + self.limits.association_deadline_s
        try:
            if self.ssl_context is not None:
                connection.socket.settimeout(self.limits.association_deadline_s)
                connection.socket = self.ssl_context.wrap_socket(
                    connection.socket, server_side=True, do_handshake_on_connect=False
                )
                connection.socket.do_handshake()
            first_pdu = read_pdu(connection.socket, {ASSOCIATE_RQ: LONGEST_ASSOCIATE}, deadline)
        except ProtocolViolation as violation:
            _log.warning("%s: no association, %s", connection.address, violation)
            self._say_goodbye(connection)
        except OSError as error:
            _log.info("%s: no association, %s", connection.address, error)
            self.connections.remove(connection)
        else:
            connection.waiting = False
            self._association(connection, bytes(first_pdu)).start()

    def _say_goodbye(self, connection: Connection) -> None:
        try:
            connection.socket.settimeout(1.0)
            connection.socket.sendall(_ABORT_PDU)
        except OSError:
            _log.debug("%s: closed before it could be told", connection.address)
        self.connections.remove(connection)

    def _association(self, connection: Connection, first_pdu: bytes) -> _GuardedAssociation:
        association = _GuardedAssociation(self, connection, first_pdu)
        local = association.acceptor
        local.maximum_length = self.ae.maximum_pdu_size
        local.ae_title = self.ae_title
        local.address_info = AddressInformation.from_tuple(self.server_address)
        local.implementation_class_uid = self.ae.implementation_class_uid
        local.implementation_version_name = self.ae.implementation_version_name
        local.supported_contexts = [_copied(context) for context in self.contexts]
        for event, handler in self._handlers.items():
            if isinstance(handler, tuple):
                association.bind(event, *handler)
            else:
                for function, arguments in handler:
                    association.bind(event, function, arguments)
        return association

    def stop(self, within_s: float) -> None:
        """Stop listening, let running messages finish, and end all associations."""
        super(AssociationServer, self).shutdown()
        self.server_close()
        self.connections.close_waiting()
        associations = [a for a in self.ae.active_associations if isinstance(a, _GuardedAssociation)]
        for association in associations:
            association.finish()
        deadline = time.monotonic() + within_s
        for association in associations:
            association.join(max(0.0, deadline - time.monotonic()))


def _copied(context: PresentationContext) -> PresentationContext:
    """Return a context that a negotiation may write on."""
    copy = PresentationContext()
    copy.abstract_syntax = context.abstract_syntax
    copy.transfer_syntax = list(context.transfer_syntax)
    copy.scu_role = context.scu_role
    copy.scp_role = context.scp_role
    return copy
