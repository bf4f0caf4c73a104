"""The upper layer's thread under an accepted association: caps, deadlines, no polling (PS3.8)."""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

import pynetdicom
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError
from pynetdicom.pdu_primitives import A_P_ABORT
from pynetdicom.transport import AssociationSocket

from dicom_node.network.guards import (
    P_DATA_TF,
    READ_BYTES,
    Bell,
    PduReader,
    ProtocolViolation,
    RingingQueue,
    longest_pdus,
)
from dicom_node.network.stores import Stores
from dicom_node.settings import ListenerSettings

if TYPE_CHECKING:
    from dicom_node.network.association import GuardedAssociation

if not pynetdicom.__version__.startswith("3.0."):
    raise ImportError(
        f"pynetdicom {pynetdicom.__version__} is installed; this module works on private parts of 3.0 only"
    )

_log = logging.getLogger(__name__)

MAXIMUM_QUEUED_MESSAGES = 8
"""Requests that a peer may send ahead of their answers before its socket is left unread."""
WAKE_S = 0.25
"""How often a waiting thread looks at its timers."""
DECODER_ERRORS = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, ArithmeticError,
    AssertionError, EOFError, OSError, struct.error, UserWarning,
)  # fmt: skip
# AssertionError: pynetdicom checks the lengths of items by assertions.
# UserWarning: pydicom warns of some damage, and Python may be told to raise warnings.

# State and event names of PS3.8 section 9.2, as pynetdicom writes them.
IDLE, AWAITING_REQUEST, DATA_TRANSFER, CLOSING = "Sta1", "Sta2", "Sta6", "Sta13"
CONNECTION_CLOSED, INVALID_PDU = "Evt17", "Evt19"


class DeadlineSocket(AssociationSocket):
    """An accepted connection; sending has a deadline."""

    send_deadline_s = 30.0

    def send(self, bytestream: bytes) -> None:
        """Send a PDU; a peer that does not take it in time has lost the connection."""
        connection = self.socket
        if connection is None:
            return
        try:
            connection.settimeout(self.send_deadline_s)
            connection.sendall(bytestream)
        except OSError:
            self.event_queue.put(CONNECTION_CLOSED)


class UpperLayer(DULServiceProvider):
    """The upper layer's thread: reads PDUs under caps and deadlines, waits instead of polling."""

    def __init__(
        self, association: GuardedAssociation, limits: ListenerSettings, first_pdu: bytes, stores: Stores
    ) -> None:
        super().__init__(association)
        self._stores = stores
        self.daemon = True
        self._run_loop_delay = 0
        self._association = association
        self._reader = PduReader(longest_pdus(limits.maximum_pdu_bytes))
        self._pdu_deadline_s = limits.pdu_deadline_s
        self._first_pdu: bytes | None = first_pdu
        self._drained_bytes = 0
        self.bell = Bell()
        self.to_provider_queue = RingingQueue(self.bell.ring)
        self.to_user_queue = RingingQueue(association.wake.set)

    def run_reactor(self) -> None:
        """Serve the connection until it is closed."""
        try:
            super().run_reactor()
        except InvalidEventError as error:
            self._association.complain(f"it sent what does not belong there ({error})")
        except DECODER_ERRORS as error:
            self._association.complain(f"it sent what cannot be decoded ({type(error).__name__})")
        finally:
            self._stores.give_back()
            self._let_go()
            self.bell.close()
            self._association.wake.set()

    def _let_go(self) -> None:
        """Tell an association that still waits for its request that none will come."""
        self.to_user_queue.put(A_P_ABORT())

    def kill_dul(self) -> None:
        """End the thread, also while it waits."""
        super().kill_dul()
        self.bell.ring()

    def stop_dul(self) -> bool:
        """End the thread if the connection is closed; return whether it was."""
        if self.state_machine.current_state != IDLE:
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

    def _process_recv_primitive(self) -> bool:
        """Look for something to send, when what happened before was acted on.

        A connection that is closing takes nothing more; its association may not know that yet.
        """
        if not self.event_queue.empty():
            return False
        if self.state_machine.current_state in (IDLE, CLOSING):
            while not self.to_provider_queue.empty():
                self.to_provider_queue.get_nowait()
            return False
        return bool(super()._process_recv_primitive())

    def _is_transport_event(self) -> bool:
        if not self.event_queue.empty():
            return False
        connection = self._connection()
        if self.state_machine.current_state == CLOSING:
            return self._drain(connection)
        if self._first_pdu is not None:
            self._read_pdu_data()
            return True
        if self.state_machine.current_state == IDLE:
            connection = None
        elif connection is None:
            self.event_queue.put(CONNECTION_CLOSED)
            return False
        unread = self._association.dimse.msg_queue.qsize() >= MAXIMUM_QUEUED_MESSAGES
        if not self._is_readable(None if unread else connection, WAKE_S):
            return False
        self._read_pdu_data()
        while self._may_read_on() and self._is_readable(connection, 0):
            self._read_pdu_data()
        return True

    def _is_readable(self, connection: socket.socket | None, timeout_s: float) -> bool:
        if connection is not None and self._reader.is_inside:
            return True
        return self.bell.wait(connection, timeout_s)

    def _may_read_on(self) -> bool:
        """Return whether nothing else is to be done before the next fragment of a data set is read."""
        return (
            self._stores.is_gathering
            and not self._kill_thread
            and self.event_queue.empty()
            and self.to_provider_queue.empty()
        )

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
            self.event_queue.put(CONNECTION_CLOSED)
        return True

    def _read_pdu_data(self) -> None:
        try:
            data = self._next_pdu()
            if data[0] == P_DATA_TF and self.state_machine.current_state == DATA_TRANSFER:
                self._stores.take(data)
                return
            pdu, event = self._decode_pdu(bytearray(data))
        except ProtocolViolation as violation:
            self._refuse_pdu(str(violation))
        except OSError:
            self.event_queue.put(CONNECTION_CLOSED)
        except DECODER_ERRORS as error:
            self._refuse_pdu(f"it sent a PDU that cannot be decoded ({type(error).__name__})")
        else:
            self.event_queue.put(event)
            self._recv_pdu.put(pdu)

    def _refuse_pdu(self, reason: str) -> None:
        self._association.complain(reason)
        self.event_queue.put(INVALID_PDU)
        if self.state_machine.current_state == AWAITING_REQUEST:
            self._let_go()  # PS3.8 has no indication for it here: there is no association yet

    def _next_pdu(self) -> bytes | bytearray:
        if self._first_pdu is not None:
            first, self._first_pdu = self._first_pdu, None
            return first
        connection = self._connection()
        if connection is None:
            raise ConnectionResetError("closed")
        return self._reader.read(connection, time.monotonic() + self._pdu_deadline_s)
