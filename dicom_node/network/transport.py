"""The transport under pynetdicom's acceptor: connections, TLS, and what becomes an association.

With `upper_layer`, `messages` and `association` this is all that touches private parts of
pynetdicom, which is why the version is bounded in pyproject.toml. What they add to the library's
server:

- a connection becomes an association only when its whole A-ASSOCIATE-RQ has come within
  `association_deadline_s`; until then it holds no place among the associations, and the oldest
  waiting one makes room for a new one. A TLS handshake happens there too, off the accept thread.
- every PDU has a length cap, checked before anything is read, and `pdu_deadline_s` from its first
  byte to its last; sending has the same deadline.
- a data set beyond `maximum_object_bytes`, or beyond what all associations may hold in memory,
  is dropped as it comes, and its sender gets a status.
- C-STORE goes a shorter way than all other messages (`stores`).
- threads wait for sockets and queues to be ready; nothing polls every millisecond.
"""

from __future__ import annotations

import logging
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, AssociationServer

from dicom_node.network.admission import (
    NO_ASSOCIATION,
    OUTSIDE_NETWORK,
    TLS_FAILED,
    TOO_MANY_CONNECTIONS,
    Admission,
    Refusals,
    is_within,
)
from dicom_node.network.association import GuardedAssociation
from dicom_node.network.guards import (
    ABORT,
    ASSOCIATE_RQ,
    LONGEST_ASSOCIATE,
    Budget,
    Connection,
    Connections,
    ProtocolViolation,
    read_pdu,
)
from dicom_node.network.stores import Keep
from dicom_node.network.tls import why
from dicom_node.settings import ListenerSettings

_log = logging.getLogger(__name__)

_ABORT_PDU = struct.pack(">BBLBBBB", ABORT, 0, 4, 0, 0, 2, 0)


@dataclass
class Shared:
    """What the ports of one listener have together: places, memory, and counts.

    Attributes
    ----------
    ae : AE
        Its associations are counted, whichever port they came in at.
    """

    ae: AE
    budget: Budget
    connections: Connections
    refusals: Refusals = field(default_factory=Refusals)


def shared(limits: ListenerSettings) -> Shared:
    """Return what the ports of a listener share, empty."""
    ae = AE(ae_title=limits.ae_title)
    ae.maximum_pdu_size = limits.maximum_pdu_bytes
    ae.maximum_associations = limits.maximum_associations
    ae.require_called_aet = True
    return Shared(
        ae, Budget(limits.maximum_buffered_bytes), Connections(limits.maximum_connections_per_address)
    )


@dataclass(frozen=True)
class Port:
    """One port to listen on; with `tls` it takes nothing without TLS."""

    number: int
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True)
class Service:
    """What is served: presentation contexts, what keeps objects, and handlers of all other messages."""

    contexts: list[PresentationContext]
    keep: Keep
    handlers: list[evt.EventHandlerType]


class GuardedServer(AssociationServer):
    """Accepts connections at one port and turns those that associate into associations."""

    request_queue_size = 128

    def __init__(
        self,
        limits: ListenerSettings,
        service: Service,
        admission: Admission,
        port: Port | None = None,
        together: Shared | None = None,
    ) -> None:
        port = port or Port(limits.port)
        together = together or shared(limits)
        self.limits = limits
        self.service = service
        self.admission = admission
        self.budget = together.budget
        self.connections = together.connections
        self.refusals = together.refusals
        super().__init__(
            together.ae,
            (limits.host, port.number),
            limits.ae_title,
            service.contexts,
            port.tls,
            evt_handlers=service.handlers,
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
        if not is_within(connection.address, self.limits.allowed_addresses):
            self._turn_away(connection, OUTSIDE_NETWORK, "it is not in listener.allowed_addresses")
        elif not self.connections.admit(connection):
            self._turn_away(connection, TOO_MANY_CONNECTIONS, "maximum_connections_per_address are open")
        else:
            threading.Thread(target=self._open, args=(connection,), daemon=True).start()

    def _turn_away(self, connection: Connection, name: str, reason: str) -> None:
        _log.warning("%s: connection closed, %s", connection.address, reason)
        self.refusals.add(name)
        connection.socket.close()

    def _open(self, connection: Connection) -> None:
        """Wait for a whole A-ASSOCIATE-RQ, and only then make an association of the connection."""
        deadline = time.monotonic() + self.limits.association_deadline_s
        if not self._secure(connection, deadline):
            return
        try:
            first_pdu = read_pdu(connection.socket, {ASSOCIATE_RQ: LONGEST_ASSOCIATE}, deadline)
        except ProtocolViolation as violation:
            _log.warning("%s: no association, %s", connection.address, violation)
            self.refusals.add(NO_ASSOCIATION)
            self._say_goodbye(connection)
        except OSError as error:
            _log.info("%s: no association, %s", connection.address, error)
            self.refusals.add(NO_ASSOCIATION)
            self.connections.remove(connection)
        else:
            connection.waiting = False
            self._association(connection, bytes(first_pdu)).start()

    def _secure(self, connection: Connection, deadline: float) -> bool:
        """Do the TLS handshake where the port has TLS; return whether the connection may go on."""
        if self.ssl_context is None:
            return True
        try:
            connection.socket.settimeout(max(0.001, deadline - time.monotonic()))
            connection.socket = self.ssl_context.wrap_socket(
                connection.socket, server_side=True, do_handshake_on_connect=False
            )
            connection.socket.do_handshake()
        except OSError as error:
            _log.warning("%s: no TLS, %s", connection.address, why(error))
            self.refusals.add(TLS_FAILED)
            self.connections.remove(connection)
            return False
        return True

    def _say_goodbye(self, connection: Connection) -> None:
        try:
            connection.socket.settimeout(1.0)
            connection.socket.sendall(_ABORT_PDU)
        except OSError:
            _log.debug("%s: closed before it could be told", connection.address)
        self.connections.remove(connection)

    def _association(self, connection: Connection, first_pdu: bytes) -> GuardedAssociation:
        association = GuardedAssociation(self, connection, first_pdu)
        local = association.acceptor
        local.maximum_length = self.ae.maximum_pdu_size
        local.ae_title = self.ae_title
        local.address_info = AddressInformation.from_tuple(self.server_address)
        local.implementation_class_uid = self.ae.implementation_class_uid
        local.implementation_version_name = self.ae.implementation_version_name
        for event, handler in self._handlers.items():
            if isinstance(handler, tuple):
                association.bind(event, *handler)
            else:
                for function, arguments in handler:
                    association.bind(event, function, arguments)
        return association

    def contexts_for(self, proposed: Iterable[PresentationContext]) -> list[PresentationContext]:
        """Return the supported contexts that could be accepted, for a negotiation to write on.

        There are some hundred, of which an association proposes a few; copying all took most of its time.
        """
        names = {context.abstract_syntax for context in proposed}
        return [_copied(context) for context in self.contexts if context.abstract_syntax in names]

    def stop_accepting(self) -> None:
        """Stop listening; associations go on."""
        super(AssociationServer, self).shutdown()
        self.server_close()

    def stop(self, within_s: float) -> None:
        """Stop listening, let running messages finish, and end all associations."""
        self.stop_accepting()
        self.connections.close_waiting()
        associations = [a for a in self.ae.active_associations if isinstance(a, GuardedAssociation)]
        for association in associations:
            association.finish()
        deadline = time.monotonic() + within_s
        for association in associations:
            association.join(max(0.0, deadline - time.monotonic()))


def _copied(context: PresentationContext) -> PresentationContext:
    """Return a context that a negotiation may write on."""
    copy = PresentationContext()
    copy.abstract_syntax = context.abstract_syntax
    copy._transfer_syntax = list(context.transfer_syntax)
    copy.scu_role = context.scu_role
    copy.scp_role = context.scp_role
    return copy
