"""Audit messages reach a syslog server by UDP, TCP and TLS, as the RFCs say, and wait while it is away."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

import pytest

from dicom_node.audit.trail import AuditTrail, read_position
from dicom_node.operation_settings import AuditSettings, SyslogSettings, SyslogTransport
from dicom_node.storage.local import local_store
from tests.builders.nodes import Node
from tests.builders.operated import OperatedNode
from tests.builders.pages import page_settings
from tests.builders.tls import Authority
from tests.builders.waiting import until

HEADER = re.compile(
    rb"<85>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \S+ hepatocast \d+ DICOM\+RFC3881 "
    rb'\[hepatocast@32473 n="(\d+)" digest="([0-9a-f]{64})"\] \xef\xbb\xbf'
)


@dataclass
class Server:
    """A syslog server that keeps what it gets."""

    port: int
    got: list[bytes] = field(default_factory=list)


def _frames(stream) -> Iterator[bytes]:
    """Read octet-counted messages (RFC 5425 section 4.3)."""
    while True:
        digits = b""
        while (byte := stream.read(1)) not in (b" ", b""):
            digits += byte
        if not digits:
            return
        yield stream.read(int(digits))


@contextmanager
def _stream_server(context: ssl.SSLContext | None = None, port: int = 0) -> Iterator[Server]:
    listening = socket.create_server(("127.0.0.1", port))
    server = Server(listening.getsockname()[1])

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            try:
                if context is not None:
                    connection = context.wrap_socket(connection, server_side=True)
                with connection, connection.makefile("rb") as stream:
                    for frame in _frames(stream):
                        server.got.append(frame)
            except OSError:
                continue

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield server
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


@contextmanager
def _datagram_server() -> Iterator[Server]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(0.1)
        server, over = Server(listening.getsockname()[1]), threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    server.got.append(listening.recv(65536))
                except TimeoutError:
                    continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server
        finally:
            over.set()
            thread.join()


@pytest.fixture
def operated(tmp_path, clock) -> OperatedNode:
    return OperatedNode(Node(tmp_path / "data", clock), clock)


def _trail(operated: OperatedNode, port: int, transport: SyslogTransport, **values) -> AuditTrail:
    syslog = SyslogSettings(host="127.0.0.1", port=port, transport=transport, timeout_s=5, **values)
    settings = page_settings(operated.node.data_dir)
    settings = settings.model_copy(update={"audit": AuditSettings(syslog=syslog)})
    return AuditTrail(settings, operated.node.database, operated.clock, local_store(operated.node.data_dir))


def _check(server: Server, trail: AuditTrail) -> None:
    records = list(trail.files.records())
    until(lambda: len(server.got) >= len(records))
    assert len(server.got) == len(records)
    for message, record in zip(server.got, records, strict=True):
        found = HEADER.match(message)
        assert found, message[:200]
        assert found.groups() == (str(record.number).encode(), record.digest.encode())
        assert ET.fromstring(message[found.end() :].decode()).tag == "AuditMessage"


def test_udp(operated):
    operated.delivered("a")
    with _datagram_server() as server:
        trail = _trail(operated, server.port, SyslogTransport.UDP)
        trail.step()
        _check(server, trail)
        trail.close()


def test_tcp_is_counted_in_octets_and_goes_on_where_it_stopped(operated):
    operated.delivered("a")
    with _stream_server() as server:
        trail = _trail(operated, server.port, SyslogTransport.TCP)
        trail.step()
        _check(server, trail)
        operated.refused("b")
        trail.step()
        _check(server, trail)
        trail.close()


def test_tls_with_a_certificate_of_the_named_authority(operated, tmp_path):
    operated.delivered("a")
    authority = Authority("openssl", tmp_path / "ca").create()
    own = authority.issue("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    with _stream_server(context) as server:
        trail = _trail(operated, server.port, SyslogTransport.TLS, ca_file=authority.certificate)
        trail.step()
        _check(server, trail)
        trail.close()


def test_tls_of_an_unknown_authority_gets_nothing(operated, tmp_path):
    operated.delivered("a")
    own = Authority("openssl", tmp_path / "ca").create().issue("127.0.0.1")
    other = Authority("openssl", tmp_path / "other").create()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    with _stream_server(context) as server:
        trail = _trail(operated, server.port, SyslogTransport.TLS, ca_file=other.certificate)
        trail.step()
        assert server.got == []
        assert read_position(operated.node.database).sent == 0


def test_what_waits_while_the_server_is_away_is_sent_later_once(operated):
    operated.delivered("a")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    trail = _trail(operated, port, SyslogTransport.TCP)
    assert trail.step() == 5  # the file does not wait
    again = _trail(operated, port, SyslogTransport.TCP)  # nor does a restart forget
    with _stream_server(port=port) as server:
        again.step()
        _check(server, again)
        again.close()
