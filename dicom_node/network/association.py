"""An accepted association: the node's admission first, then one message after another."""

from __future__ import annotations

import logging
import queue
import threading
from io import BytesIO
from typing import TYPE_CHECKING, Any

from pynetdicom import evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.transport import AddressInformation

from dicom_node.network.admission import NO_ASSOCIATION, TOO_MANY, Caller, Rejection
from dicom_node.network.guards import Connection
from dicom_node.network.messages import Messages
from dicom_node.network.stores import Line, Stores
from dicom_node.network.upper_layer import MAXIMUM_QUEUED_MESSAGES, WAKE_S, DeadlineSocket, UpperLayer

if TYPE_CHECKING:
    from dicom_node.network.transport import GuardedServer

_log = logging.getLogger(__name__)

ABORTED_BY_PROVIDER = 2
"""Source of an A-ABORT (PS3.8 section 9.3.8)."""


class _Control(ACSE):
    """Negotiation, with the node's own admission first."""

    def _negotiate_as_acceptor(self) -> None:
        association, request = self.assoc, self.requestor.primitive
        assert isinstance(association, GuardedAssociation)
        if not isinstance(request, A_ASSOCIATE):  # the connection ended before there was a request
            association.kill()
            return
        self.requestor.ae_title = request.calling_ae_title
        rejection = association.rejection(str(request.calling_ae_title), str(request.called_ae_title))
        if rejection is not None:
            association.complain(f"association rejected: {rejection.reason}")
            association.server.refusals.add(rejection.name)
            self.send_reject(rejection.result, rejection.source, rejection.diagnostic)
            evt.trigger(association, evt.EVT_REJECTED, {})
            association.kill()
            return
        proposed = request.presentation_context_definition_list
        if not all(context.abstract_syntax and context.transfer_syntax for context in proposed):
            association.complain("it proposed a context without an abstract or a transfer syntax")
            association.server.refusals.add(NO_ASSOCIATION)
            self.send_abort(ABORTED_BY_PROVIDER)
            association.kill()
            return
        self.acceptor.supported_contexts = association.server.contexts_for(proposed)
        super()._negotiate_as_acceptor()


class GuardedAssociation(Association):
    """An accepted association. Its thread serves one message after another, and then ends it."""

    def __init__(self, server: GuardedServer, waiting: Connection, first_pdu: bytes) -> None:
        self.wake = threading.Event()
        super().__init__(server.ae, MODE_ACCEPTOR)
        limits = server.limits
        self.server = server
        self._server = server
        self._connection = waiting
        self._closing = False
        stores = Stores(self._line(), limits.maximum_object_bytes, server.budget)
        self.dul: UpperLayer = UpperLayer(self, limits, first_pdu, stores)
        self.dimse: Messages = Messages(self, limits, server.budget)
        self.acse = _Control(self)
        self.acse_timeout = limits.association_deadline_s
        self.network_timeout = limits.idle_deadline_s
        self.name = f"AcceptorThread@{waiting.address}:{waiting.port}"
        self.set_socket(DeadlineSocket(self, client_socket=waiting.socket))
        self.requestor.address_info = AddressInformation(waiting.address, waiting.port)

    def _line(self) -> Line:
        return Line(
            keep=self.server.service.keep,
            contexts=lambda: self._accepted_cx,
            calling_ae_title=lambda: str(self.requestor.ae_title).strip(),
            maximum_pdu_bytes=lambda: int(self.requestor.maximum_length or 0),
            pass_on=lambda context_id, fragment: self.dimse.take_fragment(context_id, fragment),
            send=self._send,
        )

    def _send(self, content: bytes) -> None:
        if self.dul.socket is not None:
            self.dul.socket.send(content)

    def rejection(self, calling: str, called: str) -> Rejection | None:
        """Return why the association may not be, or None."""
        rejection = self.server.admission(Caller(calling.strip(), called.strip(), self._connection.address))
        if rejection is None and self.server.is_full():
            return TOO_MANY
        return rejection

    def complain(self, what: str) -> None:
        """Log what this peer did wrong."""
        title = str(self.requestor.ae_title or "unknown AE").strip()
        name = "".join(letter if letter.isprintable() else "?" for letter in title)
        _log.warning("%s at %s: %s", name, self._connection.address, what)

    def finish(self) -> None:
        """End the association after the message that is being served."""
        self._closing = True
        self.wake.set()

    def _bind_defaults(self) -> None:
        for event in evt._INTERVENTION_EVENTS:
            self.bind(event, evt.get_default_handler(event))

    def run_reactor(self) -> None:
        """Serve the association; whatever ends it, its memory and its place are given back."""
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
