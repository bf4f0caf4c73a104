"""What bounds a peer: PDU lengths and deadlines, memory, and the number of connections.

Nothing here knows pynetdicom; `dicom_node.network.transport` puts these guards under it.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import TypeVar

_log = logging.getLogger(__name__)
T = TypeVar("T")

HEADER_BYTES = 6
ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA_TF, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
LONGEST_ASSOCIATE = 1024**2
"""Of an A-ASSOCIATE PDU: 128 contexts with 40 transfer syntaxes each take 200 KiB."""
LONGEST_SHORT_PDU = 64
"""Of A-ASSOCIATE-RJ, A-RELEASE and A-ABORT, which have 4 bytes (PS3.8 section 9.3)."""
LONGEST_COMMAND_SET = 64 * 1024
MAXIMUM_WAITING = 256
"""Connections that have not associated yet, all addresses together."""
READ_BYTES = 1024**2


class ProtocolViolation(Exception):
    """A peer sent what PS3.8 does not allow, or too slowly."""


# --- limits on memory ---------------------------------------------------------------------------


class Budget:
    """Bytes of data sets in memory, all associations together."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._lock = threading.Lock()

    def take(self, size_bytes: int) -> bool:
        """Take some bytes; return False, with nothing taken, if they are not to be had."""
        with self._lock:
            if self._held_bytes + size_bytes > self._limit_bytes:
                return False
            self._held_bytes += size_bytes
            return True

    def give_back(self, size_bytes: int) -> None:
        """Give bytes back."""
        with self._lock:
            self._held_bytes -= size_bytes

    @property
    def held_bytes(self) -> int:
        """What is taken now."""
        return self._held_bytes


class DroppedDataSet(BytesIO):
    """In place of a data set that was too large to keep."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


def dropped_reason(data_set: BytesIO | None) -> str:
    """Return why the transport dropped a data set, or an empty text if it did not."""
    return data_set.reason if isinstance(data_set, DroppedDataSet) else ""


# --- reading PDUs -------------------------------------------------------------------------------


SLACK_S = 0.25
"""By how much a wait may be longer than what is left until a deadline: each change is a system call."""


def _read(connection: socket.socket, into: memoryview, least: int, deadline: float) -> int:
    """Read at least so many bytes until `deadline` on the monotonic clock, and of the rest what is there.

    Returns how many it read; fewer than `least` when the peer closes.
    """
    done, size = 0, len(into)
    while done < least:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise ProtocolViolation("it sent a PDU too slowly")
        wait_s = connection.gettimeout()
        if wait_s is None or not remaining / 2 <= wait_s <= remaining + SLACK_S:
            connection.settimeout(remaining)
        try:
            count = connection.recv_into(into[done:], min(size - done, READ_BYTES))
        except TimeoutError:
            continue
        if count == 0:
            break
        done += count
    return done


def read_pdu(connection: socket.socket, longest: dict[int, int], deadline: float) -> bytearray:
    """Read one PDU, header included, and nothing behind it.

    Parameters
    ----------
    longest : dict
        PDU type to the longest length allowed in its header; other types are not allowed.

    Raises
    ------
    ProtocolViolation
        A type or length that is not allowed, or `deadline` passed.
    ConnectionError
        The peer closed before the end.
    """
    return _read_with_more(connection, b"", 0, longest, deadline)[0]


class PduReader:
    """Reads the PDUs of one connection, each with what is already there of the next one's header.

    So a run of PDUs takes one read each, where header and body would take two.
    """

    def __init__(self, longest: dict[int, int]) -> None:
        self._longest = longest
        self._ahead = b""

    @property
    def is_inside(self) -> bool:
        """Whether a part of the next PDU was read already."""
        return bool(self._ahead)

    def read(self, connection: socket.socket, deadline: float) -> bytearray:
        """Read one PDU, header included; raises what `read_pdu` raises."""
        begun, self._ahead = self._ahead, b""
        pdu, self._ahead = _read_with_more(connection, begun, HEADER_BYTES, self._longest, deadline)
        return pdu


def _read_with_more(
    connection: socket.socket, begun: bytes, more: int, longest: dict[int, int], deadline: float
) -> tuple[bytearray, bytes]:
    """Read the rest of a PDU of which the first bytes were read, and up to `more` bytes behind it."""
    header = _read_header(connection, begun, longest, deadline)
    size = HEADER_BYTES + int.from_bytes(header[2:], "big")
    pdu = bytearray(size + more)
    pdu[:HEADER_BYTES] = header
    done = HEADER_BYTES + _read(connection, memoryview(pdu)[HEADER_BYTES:], size - HEADER_BYTES, deadline)
    if done < size:
        raise ConnectionResetError("closed inside a PDU")
    ahead = bytes(pdu[size:done])
    del pdu[size:]
    return pdu, ahead


def _read_header(
    connection: socket.socket, begun: bytes, longest: dict[int, int], deadline: float
) -> bytearray:
    """Read the rest of a PDU's header (PS3.8 section 9.3.1), and check its type and length."""
    header = bytearray(HEADER_BYTES)
    header[: len(begun)] = begun
    rest = memoryview(header)[len(begun) :]
    count = len(begun) + _read(connection, rest, len(rest), deadline)
    if count < HEADER_BYTES:
        if count and header[0] not in longest:
            raise ProtocolViolation("it does not speak DICOM")
        raise ConnectionResetError("closed" if not count else "closed inside a PDU")
    kind, _, length = struct.unpack(">BBL", header)
    if kind not in longest:
        raise ProtocolViolation(f"it sent 0x{kind:02X} where a PDU type belongs")
    if length > longest[kind]:
        raise ProtocolViolation(
            f"it sent a PDU of type {kind} with length {length} (at most {longest[kind]})"
        )
    return header


def longest_pdus(maximum_pdu_bytes: int) -> dict[int, int]:
    """Return PDU type to the longest length in its header, for an open association."""
    short = dict.fromkeys((ASSOCIATE_RJ, RELEASE_RQ, RELEASE_RP, ABORT), LONGEST_SHORT_PDU)
    associate = dict.fromkeys((ASSOCIATE_RQ, ASSOCIATE_AC), LONGEST_ASSOCIATE)
    return {**short, **associate, P_DATA_TF: maximum_pdu_bytes}


# --- waking threads -----------------------------------------------------------------------------


class Bell:
    """Wakes a thread that waits for a socket."""

    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._open = True

    def ring(self) -> None:
        """Wake the waiting thread; after `close` do nothing."""
        with self._lock:
            if self._open:
                try:
                    os.write(self._write_end, b"\0")
                except BlockingIOError:
                    return  # rung often enough

    def wait(self, connection: socket.socket | None, timeout_s: float) -> bool:
        """Wait for the bell, a readable connection or the timeout; return whether it is readable."""
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return True
        poll = select.poll()
        poll.register(self._read_end, select.POLLIN)
        if connection is not None:
            poll.register(connection, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(timeout_s * 1000)}
        if self._read_end in ready:
            os.read(self._read_end, 4096)
            ready.discard(self._read_end)
        return bool(ready)

    def close(self) -> None:
        """Release the bell."""
        with self._lock:
            if self._open:
                self._open = False
                os.close(self._read_end)
                os.close(self._write_end)


class RingingQueue(queue.Queue[T]):
    """A queue that tells its reader of a new item."""

    def __init__(self, ring: Callable[[], object]) -> None:
        super().__init__()
        self._ring = ring

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Put an item in, and tell the reader."""
        super().put(item, block, timeout)
        self._ring()


@dataclass(eq=False)
class Connection:
    """A connection, from accept to close."""

    socket: socket.socket
    address: str
    port: int
    waiting: bool = True


@dataclass
class Connections:
    """All connections, in the order in which they came."""

    per_address: int
    _all: dict[Connection, None] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def admit(self, new: Connection) -> bool:
        """Take in a connection; the oldest waiting one is dropped where there is no room.

        False when its address holds all its places with associations.
        """
        with self._lock:
            same_address = [c for c in self._all if c.address == new.address]
            waiting = [c for c in self._all if c.waiting]
            dropped: Connection | None = None
            if len(same_address) >= self.per_address:
                dropped = next((c for c in same_address if c.waiting), None)
                if dropped is None:
                    return False
            elif len(waiting) >= MAXIMUM_WAITING:
                # The address that waits with most connections gives up its oldest one.
                busiest = Counter(c.address for c in waiting).most_common(1)[0][0]
                dropped = next(c for c in waiting if c.address == busiest)
            if dropped is not None:
                del self._all[dropped]
            self._all[new] = None
        if dropped is not None:
            _log.warning("%s: a connection without association makes room for a new one", dropped.address)
            hang_up(dropped.socket)
        return True

    def remove(self, connection: Connection) -> None:
        """Forget a connection, and close it."""
        with self._lock:
            self._all.pop(connection, None)
        hang_up(connection.socket)
        connection.socket.close()

    def count(self) -> int:
        """Return how many connections there are, waiting or associated."""
        with self._lock:
            return len(self._all)

    def close_waiting(self) -> None:
        """Close all connections without association."""
        with self._lock:
            waiting = [c for c in self._all if c.waiting]
        for connection in waiting:
            hang_up(connection.socket)


def hang_up(connection: socket.socket) -> None:
    """End a connection, also under a thread that reads from it."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        _log.debug("connection already closed")
