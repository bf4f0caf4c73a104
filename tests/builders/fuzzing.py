"""Hostile input for the listener: mutated recordings of real conversations, and inputs made by grammar.

Every input follows from (seed, number), so that one that does harm can be made again:
``fuzz_input(seed, number, recordings)``.
"""

from __future__ import annotations

import random
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.builders.raw_peers import (
    CT,
    IMPLICIT,
    VERIFICATION,
    associate_rq,
    c_echo_rq,
    c_store_rq,
    command_element,
    command_set,
    p_data,
    pdu,
    read_one_pdu,
    status_of,
)

Pdus = list[bytes]

INTERESTING = (b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\\")
ATTACKERS_ADDRESS = "127.0.0.2"
"""Attackers have an address of their own, so that their places are not those of honest senders."""


# --- recordings ---------------------------------------------------------------------------------


@contextmanager
def recording(port: int) -> Iterator[tuple[int, list[bytes]]]:
    """Forward connections to a port of loopback; yields where, and what each client sent."""
    sent: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        stop = threading.Event()

        def accept() -> None:
            while not stop.is_set():
                with suppress(TimeoutError):
                    client, _ = server.accept()
                    with client, socket.create_connection(("127.0.0.1", port)) as node:
                        sent.append(_forward(client, node))

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server.getsockname()[1], sent
        finally:
            stop.set()
            thread.join()


def _forward(client: socket.socket, node: socket.socket) -> bytes:
    other = {client: node, node: client}
    parts = []
    while True:
        for source in select.select(list(other), [], [])[0]:
            data = source.recv(65536)
            if not data:
                return b"".join(parts)
            if source is client:
                parts.append(data)
            other[source].sendall(data)


def split_pdus(content: bytes) -> Pdus:
    """Cut a stream into its PDUs; a rest that is none is the last part."""
    found, at = [], 0
    while at + 6 <= len(content):
        (length,) = struct.unpack_from(">L", content, at + 2)
        found.append(content[at : at + 6 + length])
        at += 6 + length
    return found


# --- mutations ----------------------------------------------------------------------------------


def _place(rng: random.Random, data: bytes) -> int:
    """Return a place; more often near the start, where headers are."""
    if not data:
        return 0
    return rng.randrange(min(len(data), 200)) if rng.random() < 0.8 else rng.randrange(len(data))


def flip_bit(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data or b"\0")
    changed[_place(rng, changed)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwrite(rng: random.Random, data: bytes) -> bytes:
    at, value = _place(rng, data), rng.choice(INTERESTING)
    return data[:at] + value + data[at + len(value) :]


def insert(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 4, 100))) + data[at:]


def remove(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + rng.choice((1, 2, 4, 100)) :]


def repeat(rng: random.Random, data: bytes) -> bytes:
    at = _place(rng, data)
    part = data[at : at + rng.choice((4, 8, 64, 1000))]
    return data[:at] + part * rng.choice((2, 3, 50)) + data[at:]


def truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: _place(rng, data)]


def lie_about_length(rng: random.Random, data: bytes) -> bytes:
    """Change a length somewhere: two or four bytes, of the PDU itself or of an item in it."""
    length = rng.choice(
        (0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, len(data), len(data) + 1, rng.randrange(1 << 32))
    )
    if rng.random() < 0.5:
        return data[:2] + struct.pack(">L", length) + data[6:]
    at = _place(rng, data)
    short = struct.pack(rng.choice((">H", "<H")), length & 0xFFFF)
    return data[:at] + short + data[at + 2 :]


def change_type(rng: random.Random, data: bytes) -> bytes:
    return bytes([rng.randrange(10)]) + data[1:]


MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    flip_bit, overwrite, insert, remove, repeat, truncate, lie_about_length, change_type,
)  # fmt: skip


def _with_length(data: bytes) -> bytes:
    """Return a PDU whose header tells its length, so that the damage inside it is reached."""
    return data[:2] + struct.pack(">L", len(data) - 6) + data[6:] if len(data) >= 6 else data


def mutated(rng: random.Random, recordings: Sequence[Pdus]) -> Pdus:
    """Return a recorded conversation with something wrong in it."""
    pdus = list(rng.choice(recordings))
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(pdus)) if rng.random() < 0.3 else rng.randrange(1, len(pdus) + 1) - 1
        pdus[at] = rng.choice(MUTATIONS)(rng, pdus[at])
        if rng.random() < 0.6:
            pdus[at] = _with_length(pdus[at])
    how = rng.random()
    if how < 0.1:
        rng.shuffle(pdus)
    elif how < 0.2:
        pdus.insert(rng.randrange(len(pdus) + 1), rng.choice(pdus))
    elif how < 0.3:
        pdus = pdus[: rng.randrange(len(pdus)) + 1] + list(rng.choice(recordings))
    return pdus


# --- grammar ------------------------------------------------------------------------------------


def _item(rng: random.Random, depth: int = 0) -> bytes:
    """Return an item of an A-ASSOCIATE PDU (PS3.8 section 9.3.2), often a wrong one."""
    kind = rng.choice((0x10, 0x20, 0x21, 0x30, 0x40, 0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0))
    if depth < 3 and rng.random() < 0.5:
        body = b"".join(_item(rng, depth + 1) for _ in range(rng.randrange(4)))
    else:
        body = rng.choice((CT, IMPLICIT, VERIFICATION, b"", rng.randbytes(rng.randrange(60)), b"1." * 40))
    if kind in (0x20, 0x21):
        body = bytes([rng.randrange(256), 0, rng.randrange(5), 0]) + body
    length = len(body) if rng.random() < 0.9 else rng.randrange(1 << 16)
    return struct.pack(">BBH", kind, 0, length) + body


def _association(rng: random.Random) -> bytes:
    if rng.random() < 0.7:
        return associate_rq(abstract=rng.choice((CT, VERIFICATION)))
    head = struct.pack(">HH", rng.choice((1, 0, 0xFFFF)), 0)
    titles = rng.choice((b"HEPATOCAST", b"\\", b"\0" * 16, rng.randbytes(16))).ljust(16)[:16]
    calling = rng.choice((b"SENDER", b" ", b"\xff" * 16)).ljust(16)[:16]
    items = b"".join(_item(rng) for _ in range(rng.randrange(8)))
    return pdu(1, head + titles + calling + bytes(32) + items)


_COMMAND_FIELDS = (
    0x0001, 0x8001, 0x0010, 0x0020, 0x0021, 0x0030, 0x8030, 0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150,
    0x0FFF, 0x0000, 0xFFFF,
)  # fmt: skip


def _command(rng: random.Random) -> bytes:
    """Return a command set (PS3.7 annex E) with elements missing, doubled, or of the wrong kind."""
    elements = [
        command_element(
            0x0002, rng.choice((CT, VERIFICATION, b"", b"1..2", b"../../etc", rng.randbytes(20)))
        ),
        command_element(0x0100, struct.pack("<H", rng.choice(_COMMAND_FIELDS))),
        command_element(0x0110, struct.pack("<H", rng.randrange(65536))),
        command_element(0x0700, struct.pack("<H", rng.randrange(4))),
        command_element(0x0800, struct.pack("<H", rng.choice((0x0101, 0, 1, 0xFFFF)))),
        command_element(0x1000, rng.choice((b"1.2.3", b"../../x", b"1" * 70, b"", b"\0", rng.randbytes(9)))),
        command_element(0x1008, struct.pack("<H", rng.randrange(4))),
        command_element(rng.randrange(1 << 16), rng.randbytes(rng.randrange(40))),
    ]
    chosen = [e for e in elements if rng.random() < 0.85]
    if rng.random() < 0.2:
        rng.shuffle(chosen)
    return command_set(b"".join(chosen), None if rng.random() < 0.9 else rng.randrange(1 << 32))


def nested(depth: int, length: int = 0xFFFFFFFF) -> bytes:
    """Return sequences within sequences, none of them ended, in Implicit VR Little Endian."""
    return (struct.pack("<HHL", 0x0008, 0x1115, length) + struct.pack("<HHL", 0xFFFE, 0xE000, length)) * depth


def _data_set(rng: random.Random) -> bytes:
    """Return a data set that may hold anything."""
    if rng.random() < 0.1:
        return nested(rng.choice((2, 50, 1500)))
    parts = []
    for _ in range(rng.randrange(20)):
        group, element = rng.choice(
            ((8, 0x16), (8, 0x18), (0x20, 0x0D), (0x20, 0x0E), (0x7FE0, 0x10), (8, 0x1199))
        )
        value = rng.choice((CT, b"1.2.3", b"../..", b"", rng.randbytes(rng.randrange(200))))
        length = len(value) if rng.random() < 0.8 else rng.choice((0xFFFFFFFF, rng.randrange(1 << 32)))
        parts.append(struct.pack("<HHL", group, element, length) + value)
    return b"".join(parts)


def _message(rng: random.Random) -> Pdus:
    command, data = _command(rng), _data_set(rng)
    pdus = [p_data(rng.choice((3, 3, 3, 1, 0, 2, 0xFF)), command)]
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(3)))
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        last = 2 if end == len(data) and rng.random() < 0.9 else 0
        pdus.append(p_data(last | (rng.random() < 0.05), data[start:end]))
    return pdus


def by_grammar(rng: random.Random) -> Pdus:
    """Return a conversation that is right in form and wrong in what it says."""
    pdus = [_association(rng)]
    for _ in range(rng.randrange(4)):
        pdus += rng.choice((_message, _message, _store, _control))(rng)
    return pdus


def _store(rng: random.Random) -> Pdus:
    return [c_store_rq(rng.choice((b"1.2.3", b"../../../tmp/x", b"1.2\0.3"))), p_data(2, _data_set(rng))]


def _control(rng: random.Random) -> Pdus:
    """Return PDUs of release, abort, empty fragments and several fragments in one PDU."""
    return [
        rng.choice(
            (
                pdu(5, bytes(4)), pdu(6, bytes(4)), pdu(7, bytes([0, 0, rng.randrange(256), 255])),
                pdu(3, bytes([0, 1, 1, 1])), pdu(2, bytes(68)), pdu(4, b""), pdu(4, struct.pack(">L", 0)),
                pdu(4, struct.pack(">LBB", 0xFFFFFFFF, 1, 3)), pdu(4, struct.pack(">LBB", 2, 1, 3) * 50),
                pdu(4, struct.pack(">LBB", 3, 3, 3) + b"x"), rng.randbytes(rng.randrange(300)),
            )
        )
    ]  # fmt: skip


def fuzz_input(seed: int, number: int, recordings: Sequence[Pdus]) -> Pdus:
    """Return one hostile conversation; the same for the same seed and number."""
    rng = random.Random(f"{seed}/{number}")
    return mutated(rng, recordings) if recordings and number % 3 else by_grammar(rng)


# --- attacking, and seeing that the service goes on ---------------------------------------------


class Hang(AssertionError):
    """A connection was not closed in time although its peer had nothing more to say."""


def attack(port: int, pdus: Pdus, answer_within_s: float = 0.2, closed_within_s: float = 20.0) -> None:
    """Say something, and see that the other side closes the connection.

    The rest is sent when the first PDU was answered, or `answer_within_s` passed.

    Raises
    ------
    Hang
        It is still open `closed_within_s` after everything was said and our side was closed.
    """
    with socket.create_connection(("127.0.0.1", port), 30.0, (ATTACKERS_ADDRESS, 0)) as connection:
        with suppress(OSError):
            connection.sendall(pdus[0] if pdus else b"")
            select.select([connection], [], [], answer_within_s)
            connection.sendall(b"".join(pdus[1:]))
            connection.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + closed_within_s
        with suppress(ConnectionError):
            while True:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise Hang(f"open after {closed_within_s} s")
                connection.settimeout(remaining)
                try:
                    if not connection.recv(65536):
                        return
                except TimeoutError:
                    raise Hang(f"open after {closed_within_s} s") from None


def echo_seconds(port: int, within_s: float = 30.0) -> float:
    """Associate, do a C-ECHO and release; return how long it took.

    Raises
    ------
    OSError, AssertionError
        The service does not answer, or not as it should.
    """
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), within_s) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(associate_rq(abstract=VERIFICATION))
        assert read_one_pdu(connection)[0] == 2
        connection.sendall(c_echo_rq())
        assert status_of(read_one_pdu(connection)[1]) == 0
        elapsed = time.monotonic() - started
        connection.sendall(pdu(5, bytes(4)))
        assert read_one_pdu(connection)[0] == 6
    return elapsed


@dataclass
class EchoWatch:
    """Does a C-ECHO again and again while something else goes on; use it as a context manager."""

    port: int
    every_s: float = 0.2
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                self.seconds.append(echo_seconds(self.port))
            except (OSError, AssertionError, ValueError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
            self._stop.wait(self.every_s)

    def __enter__(self) -> EchoWatch:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()
