"""The guards one by one: reading PDUs, memory, connections, the bell."""

from __future__ import annotations

import socket
import threading
import time
from io import BytesIO

import pytest

from dicom_node.network.contexts import (
    STORAGE_CLASSES,
    UNCOMPRESSED,
    readable_transfer_syntaxes,
    supported_contexts,
)
from dicom_node.network.guards import (
    Bell,
    Budget,
    Connection,
    Connections,
    DroppedDataSet,
    PduReader,
    ProtocolViolation,
    dropped_reason,
    longest_pdus,
    read_pdu,
)
from tests.builders.raw_peers import pdu


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


def test_a_pdu_is_read_whole_and_no_further(pair) -> None:
    ours, theirs = pair
    first, second = pdu(4, b"x" * 5000), pdu(5, b"\0" * 4)
    theirs.sendall(first + second)
    longest = longest_pdus(16384)
    assert read_pdu(ours, longest, soon()) == first
    assert read_pdu(ours, longest, soon()) == second


def read_by_a_reader(connection: socket.socket, longest: dict[int, int], deadline: float) -> bytearray:
    return PduReader(longest).read(connection, deadline)


READS = pytest.mark.parametrize("read", [read_pdu, read_by_a_reader])


def test_a_reader_gives_every_pdu_wherever_the_network_cut_them(pair) -> None:
    ours, theirs = pair
    sent = [pdu(4, b"x" * 50), pdu(4, b""), pdu(4, b"y" * 7), pdu(5, b"\0" * 4)]
    stream = b"".join(sent)
    for cut in range(1, len(stream)):
        reader = PduReader(longest_pdus(16384))
        theirs.sendall(stream[:cut])
        rest = threading.Timer(0.001, theirs.sendall, (stream[cut:],))
        rest.start()
        assert [reader.read(ours, soon()) for _ in sent] == sent
        rest.join()
        assert not reader.is_inside


def test_a_reader_says_that_the_next_pdu_has_begun(pair) -> None:
    ours, theirs = pair
    reader = PduReader(longest_pdus(16384))
    theirs.sendall(pdu(4, b"x" * 50) + pdu(5, b"\0" * 4)[:1])
    reader.read(ours, soon())
    assert reader.is_inside
    with pytest.raises(ProtocolViolation, match="too slowly"):
        reader.read(ours, soon(0.05))


@READS
@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (pdu(4, b"", 16385), "length 16385"),
        (pdu(1, b"", 0xFFFFFFFF), "length 4294967295"),
        (pdu(7, b"", 65), "length 65"),
        (pdu(8, b""), "0x08"),
        (b"GET / HTTP/1.1", "0x47"),
        (b"GET", "DICOM"),
    ],
)
def test_what_is_not_allowed_is_not_read(pair, sent: bytes, what: str, read) -> None:
    ours, theirs = pair
    theirs.sendall(sent)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(ProtocolViolation, match=what):
        read(ours, longest_pdus(16384), soon())


@READS
@pytest.mark.parametrize("sent", [b"", b"\x04\0", pdu(4, b"half", 8)])
def test_a_peer_that_closes_early_is_a_lost_connection(pair, sent: bytes, read) -> None:
    ours, theirs = pair
    theirs.sendall(sent)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionError):
        read(ours, longest_pdus(16384), soon())


@READS
def test_a_pdu_that_drips_has_one_deadline_for_all_of_it(pair, read) -> None:
    ours, theirs = pair
    stop = threading.Event()

    def drip() -> None:
        for byte in pdu(4, b"\0" * 4000):
            theirs.sendall(bytes([byte]))
            if stop.wait(0.02):
                return

    dripping = threading.Thread(target=drip)
    dripping.start()
    started = time.monotonic()
    with pytest.raises(ProtocolViolation, match="too slowly"):
        read(ours, longest_pdus(16384), soon(0.5))
    assert time.monotonic() - started < 5
    stop.set()
    dripping.join()


def test_a_budget_is_never_exceeded() -> None:
    budget = Budget(100)
    assert budget.take(60)
    assert not budget.take(41)
    assert budget.held_bytes == 60
    assert budget.take(40)
    budget.give_back(100)
    assert budget.held_bytes == 0


def test_a_dropped_data_set_says_why() -> None:
    assert dropped_reason(DroppedDataSet("too long")) == "too long"
    assert dropped_reason(BytesIO(b"")) == ""
    assert dropped_reason(None) == ""


class Line:
    """Connections of a test: ours, and what the peer sees."""

    def __init__(self) -> None:
        self.peers: dict[Connection, socket.socket] = {}

    def new(self, address: str) -> Connection:
        ours, theirs = socket.socketpair()
        connection = Connection(ours, address, 1)
        self.peers[connection] = theirs
        return connection

    def is_closed(self, connection: Connection) -> bool:
        peer = self.peers[connection]
        peer.settimeout(0.0)
        try:
            return peer.recv(1) == b""
        except BlockingIOError:
            return False

    def close(self) -> None:
        for connection, peer in self.peers.items():
            connection.socket.close()
            peer.close()


@pytest.fixture
def line():
    line = Line()
    yield line
    line.close()


def test_the_oldest_waiting_connection_of_an_address_makes_room(line: Line) -> None:
    connections = Connections(per_address=2)
    first, second, third, other = (line.new(a) for a in ("a", "a", "a", "b"))
    assert all(connections.admit(c) for c in (first, second, other, third))
    assert [line.is_closed(c) for c in (first, second, third, other)] == [True, False, False, False]


def test_an_address_with_all_its_associations_gets_no_more(line: Line) -> None:
    connections = Connections(per_address=2)
    for connection in (line.new("a"), line.new("a")):
        assert connections.admit(connection)
        connection.waiting = False
    assert not connections.admit(line.new("a"))
    assert connections.admit(line.new("b"))


def test_the_address_that_waits_most_gives_way(line: Line, monkeypatch) -> None:
    monkeypatch.setattr("dicom_node.network.guards.MAXIMUM_WAITING", 3)
    connections = Connections(per_address=10)
    quiet, *busy = line.new("quiet"), line.new("busy"), line.new("busy")
    for connection in (quiet, *busy, line.new("new")):
        assert connections.admit(connection)
    assert [line.is_closed(c) for c in (quiet, *busy)] == [False, True, False]


def test_a_bell_wakes_and_may_be_rung_after_its_end(pair) -> None:
    ours, theirs = pair
    bell = Bell()
    bell.ring()
    assert not bell.wait(ours, 5.0)
    theirs.sendall(b"x")
    assert bell.wait(ours, 5.0)
    bell.close()
    bell.ring()


def test_every_accepted_syntax_can_be_read_and_every_class_is_offered() -> None:
    syntaxes = readable_transfer_syntaxes()
    assert set(UNCOMPRESSED) <= set(syntaxes)
    assert {"1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"} <= set(syntaxes)
    offered = {c.abstract_syntax: c for c in supported_contexts()}
    assert set(STORAGE_CLASSES) < set(offered)
    assert {c.abstract_syntax.name for c in offered.values() if c.abstract_syntax in STORAGE_CLASSES} == set(
        STORAGE_CLASSES.values()
    )
