"""While somebody attacks, everybody else is served: C-ECHO within a second, memory bounded."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import psutil
import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests.builders.bombs import deflated_bomb
from tests.builders.dicom_files import CT, Called, ct_slice, send
from tests.builders.fuzzing import ATTACKERS_ADDRESS, EchoWatch, echo_seconds, nested
from tests.builders.listeners import ListenerProcess, listener_config, listener_process
from tests.builders.nodes import encode
from tests.builders.raw_peers import (
    associate_rq,
    c_store_rq,
    connected,
    p_data,
    pdu,
    read_one_pdu,
    read_to_end,
    status_of,
)
from tests.builders.waiting import until

ECHO_BAR_S = 1.0
MEMORY_BAR_MB = 150.0
MIB = 1024**2
A_ABORT = 0x07
"""PDU type (PS3.8 section 9.3.8)."""


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ListenerProcess]:
    data_dir = tmp_path_factory.mktemp("hostile") / "data"
    config = listener_config(
        data_dir, association_deadline_s=3.0, pdu_deadline_s=3.0, idle_deadline_s=6.0,
        maximum_connections_per_address=120, maximum_associations=110,
    )  # fmt: skip
    with listener_process(config, data_dir) as process:
        echo_seconds(process.port)  # the first one loads what is loaded once
        yield process
        assert process.process.poll() is None


@pytest.fixture
def served(listener: ListenerProcess) -> Iterator[EchoWatch]:
    """See that echoes are answered in time during a test."""
    with EchoWatch(listener.port) as watch:
        yield watch
        until(lambda: watch.seconds)
    assert not watch.failures
    assert max(watch.seconds) < ECHO_BAR_S


def attacker(stack: ExitStack, port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 20.0, (ATTACKERS_ADDRESS, 0))
    return stack.enter_context(connection)


def memory_mb(listener: ListenerProcess) -> float:
    return float(psutil.Process(listener.process.pid).memory_info().rss) / 1e6


def _slow_association(connection: socket.socket) -> Callable[[], None]:
    rest = iter(associate_rq())
    return lambda: connection.sendall(bytes([next(rest)]))


def _slow_data(connection: socket.socket) -> Callable[[], None]:
    connection.sendall(associate_rq())
    read_one_pdu(connection)
    connection.sendall(c_store_rq(b"1.2.3"))
    rest = iter(p_data(2, bytes(9000)))
    return lambda: connection.sendall(bytes([next(rest)]))


@pytest.mark.parametrize("start", [_slow_association, _slow_data], ids=["association", "data"])
def test_slowloris(listener: ListenerProcess, served: EchoWatch, start) -> None:
    """50 peers that send one byte after another are ended by the deadline of a PDU."""
    with ExitStack() as stack:
        sending = {c: start(c) for c in (attacker(stack, listener.port) for _ in range(50))}
        ended: set[socket.socket] = set()

        def drip() -> bool:
            for connection, send_byte in sending.items():
                if connection not in ended:
                    try:
                        send_byte()
                    except OSError:
                        ended.add(connection)
            return len(ended) == len(sending)

        until(drip, within_s=60.0, every_s=0.2)


@pytest.mark.parametrize(
    "banner",
    [
        b"GET / HTTP/1.1\r\nHost: node\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS ClientHello on a port without TLS
        b"EHLO mail.hospital\r\n",
        b"MSH|^~\\&|HIS|HOSPITAL|||20250102||ADT^A01|1|P|2.5\r",  # HL7
        b"\0",
        b"\xff" * 5000,
    ],
    ids=["HTTP", "SSH", "TLS", "SMTP", "HL7", "zero", "ones"],
)
def test_another_protocol_is_hung_up_on(listener: ListenerProcess, served: EchoWatch, banner: bytes) -> None:
    with ExitStack() as stack:
        connection = attacker(stack, listener.port)
        with suppress(OSError):
            connection.sendall(banner)
            connection.shutdown(socket.SHUT_WR)
        assert read_to_end(connection)[:1] in (b"", b"\x07")


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, 256 * MIB])
@pytest.mark.parametrize("kind", [1, 4, 5, 7])
def test_an_oversized_length_takes_no_memory(
    listener: ListenerProcess, served: EchoWatch, kind: int, length: int
) -> None:
    before = memory_mb(listener)
    with ExitStack() as stack:
        connection = attacker(stack, listener.port)
        if kind != 1:
            connection.sendall(associate_rq())
            read_one_pdu(connection)
        with suppress(OSError):
            connection.sendall(pdu(kind, bytes(1000), length))
        read_to_end(connection)
    assert memory_mb(listener) - before < 20.0


@pytest.mark.parametrize("lacks", [{"abstract": b""}, {"transfer": b""}], ids=lambda lacks: next(iter(lacks)))
def test_a_context_without_a_syntax_is_aborted(
    listener: ListenerProcess, served: EchoWatch, lacks: dict[str, bytes]
) -> None:
    with connected(listener.port) as connection:
        connection.sendall(associate_rq(**lacks))
        assert read_one_pdu(connection)[0] == A_ABORT
    assert "a thread of the listener ended" not in listener.log.read_text()


def test_fragments_that_lie_about_their_length(listener: ListenerProcess, served: EchoWatch) -> None:
    with ExitStack() as stack:
        connection = attacker(stack, listener.port)
        connection.sendall(associate_rq())
        read_one_pdu(connection)
        connection.sendall(pdu(4, struct.pack(">LBB", 0xFFFFFFF0, 1, 3) + bytes(100)))
        assert read_one_pdu(connection)[0] in (4, 7)
        read_to_end(connection)


@pytest.mark.parametrize(
    "uid",
    [b"../../../../tmp/x", b"..", b"/etc/passwd", b"1.2/../3", b"1.2\0/x", b"C:\\x", b"1.2.3\n", b"1" * 65],
)
def test_a_uid_that_is_a_path_writes_nothing(
    listener: ListenerProcess, served: EchoWatch, uid: bytes
) -> None:
    spool = listener.data_dir / "spool"
    before = {p for p in listener.data_dir.parent.rglob("*") if p.suffix in (".dcm", ".part")}
    ds = ct_slice(number=7)
    ds.StudyInstanceUID = "1.2.9"
    data = encode(ds)
    with ExitStack() as stack:
        connection = attacker(stack, listener.port)
        connection.sendall(associate_rq())
        read_one_pdu(connection)
        connection.sendall(c_store_rq(uid) + p_data(2, data))
        kind, body = read_one_pdu(connection)
        assert kind == 7 or status_of(body) != 0
    assert {p for p in listener.data_dir.parent.rglob("*") if p.suffix in (".dcm", ".part")} == before
    assert all(p.is_relative_to(spool) for p in before if p.suffix == ".dcm")


def test_sequences_nested_20000_deep_are_refused(listener: ListenerProcess, served: EchoWatch) -> None:
    for length in (0xFFFFFFFF, 0x7FFFFFFF):
        with ExitStack() as stack:
            connection = attacker(stack, listener.port)
            connection.sendall(associate_rq())
            read_one_pdu(connection)
            data = nested(20_000, length)
            parts = [data[k : k + 16_000] for k in range(0, len(data), 16_000)]
            fragments = [p_data(2 if p is parts[-1] else 0, p) for p in parts]
            connection.sendall(c_store_rq(b"1.2.3") + b"".join(fragments))
            assert status_of(read_one_pdu(connection)[1]) == 0xC000


@pytest.mark.parametrize(
    "start",
    [
        b"",
        struct.pack("<HHL", 8, 0x1115, 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF),
    ],
    ids=["flat", "nested"],
)
def test_millions_of_empty_elements_are_refused(
    listener: ListenerProcess, served: EchoWatch, start: bytes
) -> None:
    """8 bytes each on the line, a hundred in memory."""
    rest = struct.pack("<HHL", 9, 0x10, 0) * 2_000
    before = memory_mb(listener)
    with ExitStack() as stack:
        connection = attacker(stack, listener.port)
        connection.sendall(associate_rq())
        read_one_pdu(connection)
        connection.sendall(c_store_rq(b"1.2.3") + p_data(0, start + rest) + p_data(0, rest) * 1_000)
        connection.sendall(p_data(2, rest))
        answer = read_one_pdu(connection)[1]
    assert status_of(answer) == 0xC000
    assert memory_mb(listener) - before < 150.0


def test_a_deflated_bomb_is_refused_with_its_reason(listener: ListenerProcess, served: EchoWatch) -> None:
    """A megabyte that would inflate to more than 512 MiB."""
    ds = ct_slice(number=8)
    data = deflated_bomb(ds, 600 * MIB)
    before = memory_mb(listener)
    with ExitStack() as stack:
        connection = attacker(stack, listener.port)
        request = associate_rq().replace(
            b"\x40\0\0\x111.2.840.10008.1.2", b"\x40\0\0\x16" + DeflatedExplicitVRLittleEndian.encode()
        )
        connection.sendall(_longer(request))
        assert read_one_pdu(connection)[0] == 2
        connection.sendall(c_store_rq(str(ds.SOPInstanceUID).encode()))
        for at in range(0, len(data), 16_000):
            connection.sendall(p_data(2 if at + 16_000 >= len(data) else 0, data[at : at + 16_000]))
        answer = read_one_pdu(connection)[1]
    assert status_of(answer) == 0xC000
    assert b"inflates to more than 512 MiB" in answer
    assert memory_mb(listener) - before < 60.0


def _longer(request: bytes) -> bytes:
    """Correct the lengths of an A-ASSOCIATE-RQ after its transfer syntax became 5 bytes longer."""
    at = request.index(b"\x20\0") if request[74:75] != b"\x10" else request.index(b"\x20\0", 74)
    (context,) = struct.unpack_from(">H", request, at + 2)
    request = request[: at + 2] + struct.pack(">H", context + 5) + request[at + 4 :]
    return request[:2] + struct.pack(">L", len(request) - 6) + request[6:]


def test_absurd_dimensions_are_taken_in_and_harm_nobody(listener: ListenerProcess, served: EchoWatch) -> None:
    """The listener keeps what it is sent; who decodes it refuses it (test_limits.py)."""
    ds = ct_slice("1.2.77", "1.2.77.1")
    ds.Rows = ds.Columns = 65535
    ds.NumberOfFrames = 2147483647
    before = memory_mb(listener)
    assert send([ds], Called(listener.port)) == [0]
    assert memory_mb(listener) - before < 20.0
    (path,) = listener.data_dir.rglob("spool/*/1.2.77/*.dcm")
    assert dcmread(path, stop_before_pixels=True).Rows == 65535


def test_100_simultaneous_associations_all_store_in_150_mb(
    listener: ListenerProcess, served: EchoWatch, capsys
) -> None:
    """All 100 are open at once and each stores; the bar of 150 MB holds for resident memory."""
    with ExitStack() as stack:
        connections = [stack.enter_context(connected(listener.port)) for _ in range(100)]
        for connection in connections:
            connection.sendall(associate_rq(abstract=CT.encode()))
        for connection in connections:
            assert read_one_pdu(connection)[0] == 2
        used_mb = memory_mb(listener)
        for number, connection in enumerate(connections):
            connection.sendall(c_store_rq(b"1.2.3", number + 1) + p_data(2, bytes(16_000)))
        for connection in connections:
            assert status_of(read_one_pdu(connection)[1]) == 0xC000
        used_mb = max(used_mb, memory_mb(listener))
    with capsys.disabled():
        print(f"\nlistener's resident memory {used_mb:.0f} MB with 100 associations")  # noqa: T201
    assert used_mb < MEMORY_BAR_MB
