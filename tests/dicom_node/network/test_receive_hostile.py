"""Peers that stall, lie or speak something else: bounded, logged, and no harm to others."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.presentation import build_context

from dicom_node.network.contexts import VERIFICATION
from dicom_node.network.scp import listening
from dicom_node.network.transport import GuardedServer
from tests.builders.dicom_files import Called, ct_series, ct_slice, send
from tests.builders.listeners import listener_settings
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

ACCEPTED, REJECTED, P_DATA, ABORT = 2, 3, 4, 7


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GuardedServer]:
    settings = listener_settings(
        tmp_path / "data",
        association_deadline_s=1.0,
        pdu_deadline_s=1.0,
        idle_deadline_s=2.0,
        maximum_pdu_bytes=16384,
        maximum_object_bytes=1024**2,
        maximum_buffered_bytes=1024**2 + 1024**2 // 2,
        maximum_associations=4,
        maximum_connections_per_address=20,
    )
    with listening(settings) as server:
        yield server
        associations = server.ae.active_associations
    assert not [a for a in associations if a.is_alive()]
    assert server.budget.held_bytes == 0


def echo(server: GuardedServer) -> int:
    ae = AE(ae_title="SENDER")
    ae.acse_timeout = 5
    association = ae.associate(
        "127.0.0.1", server.port, contexts=[build_context(VERIFICATION)], ae_title="HEPATOCAST"
    )
    assert association.is_established
    try:
        return int(association.send_c_echo().Status)
    finally:
        association.release()


def still_works(server: GuardedServer) -> None:
    assert send([ct_slice(number=99)], Called(server.port)) == [0]


def associated(connection: socket.socket) -> None:
    connection.sendall(associate_rq())
    assert read_one_pdu(connection)[0] == ACCEPTED


def test_silent_connections_do_not_block_an_echo(server: GuardedServer) -> None:
    with ExitStack() as silent:
        connections = [silent.enter_context(connected(server.port)) for _ in range(60)]
        for connection in connections[:30]:
            try:
                connection.sendall(associate_rq()[:20])
            except OSError:
                continue  # made room for a newer one already
        assert echo(server) == 0
        for connection in connections:
            read_to_end(connection)  # the deadline ends them all
    until(lambda: not server.connections.count())
    still_works(server)


def test_an_http_request_is_answered_by_an_abort_at_once(tmp_path: Path) -> None:
    # with deadlines far away, so that only the first bytes can end the connection
    settings = listener_settings(tmp_path / "data", association_deadline_s=100.0)
    with listening(settings) as server, connected(server.port, within_s=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n")
        assert read_to_end(connection)[:1] in (b"\x07", b"")


@pytest.mark.parametrize("length", [0xFFFFFFFF, 64 * 1024**2, 1024**2 + 1])
def test_a_first_pdu_that_is_too_long_is_not_read(server: GuardedServer, length: int) -> None:
    with connected(server.port) as connection:
        connection.sendall(pdu(1, b"\0" * 100, length))
        assert read_to_end(connection)[:1] in (b"\x07", b"")
    still_works(server)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 64 * 1024**2, 16384 + 1])
def test_a_pdu_beyond_the_maximum_ends_the_association(server: GuardedServer, length: int, caplog) -> None:
    with connected(server.port) as connection:
        associated(connection)
        connection.sendall(pdu(4, b"\0" * 50, length))
        assert read_one_pdu(connection)[0] == ABORT
        read_to_end(connection)
    assert f"with length {length} (at most 16384)" in caplog.text
    still_works(server)


def test_64_mb_in_one_pdu_is_cut_off_while_it_comes(server: GuardedServer) -> None:
    with connected(server.port) as connection:
        associated(connection)
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            connection.sendall(pdu(4, b"\0" * (64 * 1024**2)))
    still_works(server)


def test_a_pdu_of_the_maximum_length_is_accepted(server: GuardedServer) -> None:
    data = b"\0" * (16384 - 6)
    with connected(server.port) as connection:
        associated(connection)
        connection.sendall(c_store_rq(b"1.2.3") + p_data(2, data))
        kind, body = read_one_pdu(connection)
        assert (kind, status_of(body)) == (P_DATA, 0xC000)


@pytest.mark.parametrize("start", [b"\x04", b"\x04\0\0\0\x10\0", pdu(4, b"\0" * 10, 100)])
def test_a_slow_pdu_is_reaped(server: GuardedServer, start: bytes, caplog) -> None:
    with connected(server.port) as connection:
        associated(connection)
        connection.sendall(start)
        assert read_one_pdu(connection)[0] == ABORT
        read_to_end(connection)
    assert "too slowly" in caplog.text
    still_works(server)


def test_a_stalled_association_is_reaped(server: GuardedServer, caplog) -> None:
    with connected(server.port) as connection:
        associated(connection)
        assert read_one_pdu(connection)[0] == ABORT
        read_to_end(connection)
    assert "idle too long" in caplog.text
    until(lambda: not server.connections.count())


def test_too_many_associations_are_rejected_and_then_accepted_again(server: GuardedServer) -> None:
    with ExitStack() as stack:
        for _ in range(4):
            associated(stack.enter_context(connected(server.port)))
        fifth = stack.enter_context(connected(server.port))
        fifth.sendall(associate_rq())
        kind, body = read_one_pdu(fifth)
        assert (kind, body[1:]) == (REJECTED, bytes([2, 3, 2]))
    until(lambda: not server.ae.active_associations)
    still_works(server)


@pytest.mark.parametrize(
    "uid", [b"../../../../tmp/evil", b"..", b"1.2.03", b"1..2", b"1.2/../3", b"-1.2", b"1.2 3"]
)
def test_a_uid_that_is_none_is_refused(server: GuardedServer, uid: bytes, tmp_path: Path) -> None:
    with connected(server.port) as connection:
        associated(connection)
        connection.sendall(c_store_rq(uid) + p_data(2, b"\x08\0\0\0\x02\0\0\0ab"))
        kind, body = read_one_pdu(connection)
        assert (kind, status_of(body)) == (P_DATA, 0x0117)
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize(
    "data",
    [b"\xde\xad\xbe\xef" * 500, b"GET / HTTP/1.1\r\n" * 20, b"\0" * 5000, b"\x08\0\x16\0\xff\xff\xff\xff"],
)
def test_a_garbage_data_set_is_refused_and_the_association_goes_on(
    server: GuardedServer, data: bytes
) -> None:
    with connected(server.port) as connection:
        associated(connection)
        for message_id in (1, 2):
            connection.sendall(c_store_rq(b"1.2.3", message_id) + p_data(2, data))
            kind, body = read_one_pdu(connection)
            assert (kind, status_of(body)) == (P_DATA, 0xC000)


@pytest.mark.parametrize(
    "message",
    [
        p_data(3, b"\xff" * 100),  # no command set
        p_data(3, b""),
        pdu(4, b""),
        pdu(4, b"\0\0\0\x01\x01"),  # a fragment without control header
        pdu(4, struct.pack(">L", 10**6) + b"\x01\x03abc"),  # a fragment longer than its PDU
        p_data(2, b"data without command"),
        pdu(1, b"\0" * 20),
        pdu(9, b"\0" * 4),
        pdu(6, b"\0" * 4),
        c_store_rq(b"1" * 65) + p_data(2, b"\0" * 8),
    ],
    ids=range(10),
)
def test_broken_messages_end_only_their_own_association(server: GuardedServer, message: bytes) -> None:
    with connected(server.port) as good, connected(server.port) as bad:
        associated(good)
        associated(bad)
        bad.sendall(message)
        answer = read_to_end(bad)
        assert answer[:1] in (b"", b"\x04", b"\x07")
        good.sendall(c_store_rq(b"1.2.3") + p_data(2, b"\0" * 50))
        assert read_one_pdu(good)[0] == P_DATA
    still_works(server)


def test_a_command_set_without_end_is_cut_off(server: GuardedServer, caplog) -> None:
    with connected(server.port) as connection:
        associated(connection)
        with contextlib.suppress(OSError):
            connection.sendall(p_data(1, b"\0" * 16000) * 100)
        read_to_end(connection)
    assert "command set without end" in caplog.text


def large(number: int):
    return ct_slice(number=number, rows=768)  # 1.1 MiB


def test_an_object_beyond_the_maximum_is_dropped_with_a_status(server: GuardedServer) -> None:
    small = ct_slice()
    assert send([large(1), small, large(2)], Called(server.port)) == [0xA700, 0, 0xA700]


def test_what_all_associations_hold_in_memory_is_bounded(server: GuardedServer) -> None:
    chunk = b"\0" * 16000
    with connected(server.port) as holder, connected(server.port) as other:
        associated(holder)
        associated(other)
        holder.sendall(c_store_rq(b"1.2.3") + p_data(0, chunk) * 60)  # 0.96 MB, without its end
        until(lambda: server.budget.held_bytes == 60 * 16000)
        other.sendall(c_store_rq(b"1.2.4") + p_data(0, chunk) * 60 + p_data(2, chunk))
        assert status_of(read_one_pdu(other)[1]) == 0xA700
        assert server.budget.held_bytes == 60 * 16000
    until(lambda: server.budget.held_bytes == 0)
    still_works(server)


def test_requests_sent_far_ahead_are_all_answered_and_never_pile_up(server: GuardedServer) -> None:
    request = b"".join(c_store_rq(b"1.2.3", n) + p_data(2, b"\0" * 16000) for n in range(1, 301))
    with connected(server.port) as connection:
        associated(connection)
        sender = threading.Thread(target=connection.sendall, args=(request,))
        sender.start()
        statuses = [status_of(read_one_pdu(connection)[1]) for _ in range(300)]
        sender.join()
    assert statuses == [0xC000] * 300


def test_several_senders_at_once(server: GuardedServer) -> None:
    answers: dict[int, list[int]] = {}

    def run(number: int) -> None:
        series = ct_series(10, "1.2.5", f"1.2.5.{number}")
        answers[number] = send(series, Called(server.port))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {n: [0] * 10 for n in range(1, 5)}


def test_a_connection_lost_inside_an_object_leaves_nothing(server: GuardedServer, tmp_path: Path) -> None:
    with connected(server.port) as connection:
        associated(connection)
        connection.sendall(c_store_rq(b"1.2.3") + p_data(0, b"\0" * 16000))
        until(lambda: server.budget.held_bytes)
    until(lambda: server.budget.held_bytes == 0)
    assert not list((tmp_path / "data" / "spool" / "incoming").iterdir())
