"""Peers that do not follow the protocol: bytes on a socket."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

VERIFICATION = b"1.2.840.10008.1.1"
CT = b"1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = b"1.2.840.10008.1.2"


def pdu(kind: int, body: bytes, length: int | None = None) -> bytes:
    """Return a PDU; `length` may lie about the body."""
    return struct.pack(">BBL", kind, 0, len(body) if length is None else length) + body


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def syntaxes(abstract: bytes = CT, transfer: bytes = IMPLICIT) -> bytes:
    """Return the abstract and the transfer syntax of a presentation context; an empty one is left out."""
    return (_item(0x30, abstract) if abstract else b"") + (_item(0x40, transfer) if transfer else b"")


def associate_rq(
    called: str = "HEPATOCAST", calling: str = "SENDER", abstract: bytes = CT, transfer: bytes = IMPLICIT
) -> bytes:
    """Return an A-ASSOCIATE-RQ with one presentation context (PS3.8 section 9.3.2)."""
    context = _item(0x20, b"\x01\0\0\0" + syntaxes(abstract, transfer))
    user = _item(0x50, _item(0x51, struct.pack(">L", 16384)) + _item(0x52, b"1.2.3"))
    titles = called.ljust(16).encode() + calling.ljust(16).encode()
    body = b"\0\x01\0\0" + titles + b"\0" * 32 + _item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    return pdu(1, body)


def p_data(control: int, data: bytes) -> bytes:
    """Return a P-DATA-TF with one fragment in context 1 (PS3.8 section 9.3.5)."""
    return pdu(4, struct.pack(">LBB", len(data) + 2, 1, control) + data)


def command_element(element: int, value: bytes) -> bytes:
    """Return an element of group 0000, padded to an even length."""
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHL", 0, element, len(value)) + value


def command_set(body: bytes, length: int | None = None) -> bytes:
    """Return a command set of some elements; `length` may lie about them."""
    return command_element(0, struct.pack("<L", len(body) if length is None else length)) + body


def c_echo_rq(message_id: int = 1) -> bytes:
    """Return the P-DATA-TF of a C-ECHO-RQ (PS3.7 table 9.3-12)."""
    body = b"".join(
        (
            command_element(0x0002, VERIFICATION),
            command_element(0x0100, struct.pack("<H", 0x0030)),
            command_element(0x0110, struct.pack("<H", message_id)),
            command_element(0x0800, struct.pack("<H", 0x0101)),
        )
    )
    return p_data(3, command_set(body))


def c_store_rq(sop_instance_uid: bytes, message_id: int = 1) -> bytes:
    """Return the P-DATA-TF of a C-STORE-RQ's command set (PS3.7 table 9.3-1)."""
    body = b"".join(
        (
            command_element(0x0002, CT),
            command_element(0x0100, struct.pack("<H", 1)),
            command_element(0x0110, struct.pack("<H", message_id)),
            command_element(0x0700, struct.pack("<H", 0)),
            command_element(0x0800, struct.pack("<H", 0)),
            command_element(0x1000, sop_instance_uid),
        )
    )
    return p_data(3, command_set(body))


IMPLICIT_DATA = 15_000


def implicit(ds: Dataset) -> bytes:
    """Encode a data set as the raw peers' one presentation context says."""
    buffer = BytesIO()
    dcmwrite(buffer, Dataset(ds), implicit_vr=True, little_endian=True, enforce_file_format=False)
    return buffer.getvalue()


def store_pdus(ds: Dataset) -> bytes:
    """Return the whole C-STORE of a data set."""
    data = implicit(ds)
    parts = [data[k : k + IMPLICIT_DATA] for k in range(0, len(data), IMPLICIT_DATA)]
    body = b"".join(p_data(2 if n == len(parts) else 0, part) for n, part in enumerate(parts, 1))
    return c_store_rq(str(ds.SOPInstanceUID).encode()) + body


@contextmanager
def connected(port: int, within_s: float = 20.0) -> Iterator[socket.socket]:
    """Connect; reads fail after `within_s`."""
    with socket.create_connection(("127.0.0.1", port), within_s) as connection:
        yield connection


def read_to_end(connection: socket.socket) -> bytes:
    """Read until the other side closes."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def read_one_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """Read one PDU; returns its type and body."""
    header = _exactly(connection, 6)
    kind, _, length = struct.unpack(">BBL", header)
    return kind, _exactly(connection, length)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("closed")
        data += part
    return data


def status_of(body: bytes) -> int:
    """Return Status (0000,0900) of a response's P-DATA-TF body."""
    at = body.index(struct.pack("<HHL", 0, 0x0900, 2))
    return int(struct.unpack_from("<H", body, at + 8)[0])


def statuses(port: int, data_sets: Iterable[Dataset], within_s: float = 60.0) -> list[int]:
    """Send CT images over one association; return the status of each."""
    found = []
    with connected(port, within_s) as connection:
        connection.sendall(associate_rq())
        read_one_pdu(connection)
        for ds in data_sets:
            connection.sendall(store_pdus(ds))
            found.append(status_of(read_one_pdu(connection)[1]))
    return found
