"""C-STORE on the shortest way: fragments into one buffer, command sets without a parser for all of them.

Of what the node receives nearly all is C-STORE. pynetdicom makes some twenty objects of each message
and hands it to another thread; here its P-DATA-TF is taken apart in the thread that read it, the data
set is gathered once, and the response is written at once. Whatever is no plain C-STORE request on an
accepted context of a storage class goes to pynetdicom as it came.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO

from pynetdicom.presentation import PresentationContext

from dicom_node.network.contexts import STORAGE_COMMITMENT, VERIFICATION
from dicom_node.network.guards import LONGEST_COMMAND_SET, P_DATA_TF, Budget, ProtocolViolation

COMMAND, LAST = 1, 2
"""Bits of a message control header (PS3.8 annex E.2)."""
C_STORE_RQ, C_STORE_RSP = 0x0001, 0x8001
MEDIUM = 0x0000
WITH_DATA_SET, NO_DATA_SET = 0x0001, 0x0101
LONGEST_COMMENT = 64
_FIXED_LENGTHS = {0x0100: 2, 0x0110: 2, 0x0800: 2}
_AFFECTED_CLASS, _FIELD, _MESSAGE_ID, _DATA_SET_TYPE, _AFFECTED_INSTANCE = (
    0x0002, 0x0100, 0x0110, 0x0800, 0x1000,
)  # fmt: skip
_NOT_STORAGE = frozenset({str(VERIFICATION), str(STORAGE_COMMITMENT)})


@dataclass(frozen=True, slots=True)
class StoreCommand:
    """A C-STORE-RQ (PS3.7 table 9.3-1)."""

    message_id: int
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Store:
    """One object as it came.

    Attributes
    ----------
    data_set : BytesIO
        As encoded by the sender; empty where it was dropped.
    sha256 : str
        Of the data set; taken while it came, so that the peer does not wait for it.
    dropped : str
        Why it was dropped, or an empty text.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str
    data_set: BytesIO
    sha256: str
    dropped: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status of a response, and its reason as Error Comment."""

    status: int
    comment: str = ""


Keep = Callable[[Store], Answer]
"""Keeps one object; success means durable."""


# --- command sets -------------------------------------------------------------------------------


def store_command(command: bytes | bytearray) -> StoreCommand | None:
    """Return the C-STORE-RQ in a command set (Implicit VR Little Endian), None if it is none.

    Also None where anything about it is unusual; a full parser has to judge that.
    """
    values: dict[int, bytes] = {}
    at, end = 0, len(command)
    while at < end:
        if at + 8 > end:
            return None
        group, element, length = struct.unpack_from("<HHL", command, at)
        at += 8
        if group != 0 or element in values or at + length > end:
            return None
        values[element] = bytes(command[at : at + length])
        at += length
    if any(len(values.get(element, b"")) != length for element, length in _FIXED_LENGTHS.items()):
        return None
    if _number(values[_FIELD]) != C_STORE_RQ or _number(values[_DATA_SET_TYPE]) == NO_DATA_SET:
        return None
    sop_class, instance = _uid(values.get(_AFFECTED_CLASS)), _uid(values.get(_AFFECTED_INSTANCE))
    if sop_class is None or instance is None:
        return None
    return StoreCommand(_number(values[_MESSAGE_ID]), sop_class, instance)


def _number(value: bytes) -> int:
    return int.from_bytes(value, "little")


def _uid(value: bytes | None) -> str | None:
    """Return a UID of at most 64 characters; whether it follows the grammar is not asked here."""
    if not value or len(value) > 64 or not value.isascii():
        return None
    return value.decode("ascii").rstrip("\0") or None


def store_request(command: StoreCommand) -> bytes:
    """Return the command set of a C-STORE-RQ of medium priority (PS3.7 table 9.3-1)."""
    return with_group_length(
        _element(_AFFECTED_CLASS, command.sop_class_uid.encode("ascii"), b"\0"),
        _element(_FIELD, struct.pack("<H", C_STORE_RQ)),
        _element(_MESSAGE_ID, struct.pack("<H", command.message_id)),
        _element(0x0700, struct.pack("<H", MEDIUM)),
        _element(_DATA_SET_TYPE, struct.pack("<H", WITH_DATA_SET)),
        _element(_AFFECTED_INSTANCE, command.sop_instance_uid.encode("ascii"), b"\0"),
    )


def store_response(command: StoreCommand, answer: Answer) -> bytes:
    """Return the command set of a C-STORE-RSP (PS3.7 table 9.3-2)."""
    return with_group_length(
        _element(_AFFECTED_CLASS, command.sop_class_uid.encode("ascii"), b"\0"),
        _element(_FIELD, struct.pack("<H", C_STORE_RSP)),
        _element(0x0120, struct.pack("<H", command.message_id)),
        _element(_DATA_SET_TYPE, struct.pack("<H", NO_DATA_SET)),
        _element(0x0900, struct.pack("<H", answer.status)),
        _comment(answer.comment),
        _element(_AFFECTED_INSTANCE, command.sop_instance_uid.encode("ascii"), b"\0"),
    )


def with_group_length(*elements: bytes) -> bytes:
    """Return a command set of encoded elements in their order (PS3.7 section 6.3.1)."""
    body = b"".join(elements)
    return _element(0, struct.pack("<L", len(body))) + body


def _comment(text: str) -> bytes:
    if not text:
        return b""
    return _element(0x0902, text.encode("ascii", "replace")[:LONGEST_COMMENT], b" ")


def _element(element: int, value: bytes, padding: bytes = b"") -> bytes:
    if len(value) % 2:
        value += padding
    return struct.pack("<HHL", 0, element, len(value)) + value


# --- P-DATA-TF ----------------------------------------------------------------------------------


def fragments(pdu: bytearray | bytes) -> Iterator[tuple[int, int, memoryview]]:
    """Yield context ID, message control header and bytes of each fragment (PS3.8 section 9.3.5).

    Raises
    ------
    ProtocolViolation
        An item is longer than the PDU or too short for a fragment, or there is none.
    """
    view = memoryview(pdu)
    at, end = 6, len(view)
    if at == end:
        raise ProtocolViolation("it sent a P-DATA-TF without fragments")
    while at < end:
        if at + 6 > end:
            raise ProtocolViolation("it sent a fragment that is cut off")
        (length,) = struct.unpack_from(">L", view, at)
        if length < 2 or at + 4 + length > end:
            raise ProtocolViolation(f"it sent a fragment of length {length} that is not there")
        yield view[at + 4], view[at + 5], view[at + 6 : at + 4 + length]
        at += 4 + length


def p_data(context_id: int, content: bytes, maximum_pdu_bytes: int) -> bytes:
    """Return a command set as P-DATA-TF PDUs no longer than the peer takes; 0 means any length."""
    room = len(content) if not maximum_pdu_bytes else max(1, maximum_pdu_bytes - 6)
    parts = []
    for at in range(0, len(content), room):
        part = content[at : at + room]
        last = LAST if at + room >= len(content) else 0
        length = len(part) + 2
        parts.append(
            struct.pack(">BBLLBB", P_DATA_TF, 0, length + 4, length, context_id, COMMAND | last) + part
        )
    return b"".join(parts)


# --- an association's stores --------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """What an association's stores need of it.

    Attributes
    ----------
    pass_on : callable
        Gives a fragment of another message, control header first, to pynetdicom; returns whether
        more of that message is to come.
    send : callable
        Sends bytes to the peer.
    """

    keep: Keep
    contexts: Callable[[], Mapping[int, PresentationContext]]
    calling_ae_title: Callable[[], str]
    maximum_pdu_bytes: Callable[[], int]
    pass_on: Callable[[int, bytes], bool]
    send: Callable[[bytes], None]


class Stores:
    """Gathers the C-STOREs of one association and answers them; not for use by two threads."""

    def __init__(self, line: Line, maximum_object_bytes: int, budget: Budget) -> None:
        self._line = line
        self._maximum_object_bytes = maximum_object_bytes
        self._budget = budget
        self._command = bytearray()
        self._context_id = 0
        self._store: StoreCommand | None = None
        self._data_set = BytesIO()
        self._digest = hashlib.sha256()
        self._size_bytes = 0
        self._dropped = ""
        self._passing = False

    def take(self, pdu: bytearray | bytes) -> None:
        """Take one P-DATA-TF; raises `ProtocolViolation` as PS3.8 and PS3.7 are broken."""
        for context_id, control, fragment in fragments(pdu):
            if self._passing:
                self._passing = self._line.pass_on(context_id, bytes((control,)) + fragment)
            elif self._store is not None:
                self._add_data(context_id, control, fragment)
            else:
                self._add_command(context_id, control, fragment)

    def _add_command(self, context_id: int, control: int, fragment: memoryview) -> None:
        if not control & COMMAND:
            raise ProtocolViolation("it sent a data set without a command set")
        if self._command and context_id != self._context_id:
            raise ProtocolViolation("it sent one message in two presentation contexts")
        if len(self._command) + len(fragment) > LONGEST_COMMAND_SET:
            raise ProtocolViolation("it sent a command set without end")
        self._context_id = context_id
        self._command += fragment
        if not control & LAST:
            return
        command, self._command = bytes(self._command), bytearray()
        found = store_command(command)
        if found is not None and self._is_ours(found):
            self._store = found
        else:
            self._passing = self._line.pass_on(context_id, bytes((COMMAND | LAST,)) + command)

    def _is_ours(self, command: StoreCommand) -> bool:
        context = self._line.contexts().get(self._context_id)
        return (
            context is not None
            and bool(context.as_scp)
            and context.abstract_syntax == command.sop_class_uid
            and command.sop_class_uid not in _NOT_STORAGE
        )

    def _add_data(self, context_id: int, control: int, fragment: memoryview) -> None:
        if control & COMMAND or context_id != self._context_id:
            raise ProtocolViolation("it sent another message inside a data set")
        if not self._dropped:
            self._hold(fragment)
        if control & LAST:
            self._answer()

    def _hold(self, fragment: memoryview) -> None:
        size = len(fragment)
        if self._size_bytes + size > self._maximum_object_bytes:
            self._drop("the data set is longer than maximum_object_bytes")
        elif not self._budget.take(size):
            self._drop("too many data sets in memory, send it again later")
        else:
            self._size_bytes += size
            self._data_set.write(fragment)
            self._digest.update(fragment)

    def _drop(self, reason: str) -> None:
        self.give_back()
        self._dropped = reason

    def _answer(self) -> None:
        command, context_id = self._store, self._context_id
        assert command is not None
        syntax = str(self._line.contexts()[context_id].transfer_syntax[0])
        arrived = Store(
            command.sop_class_uid,
            command.sop_instance_uid,
            syntax,
            self._line.calling_ae_title(),
            self._data_set,
            self._digest.hexdigest(),
            self._dropped,
        )
        try:
            answer = self._line.keep(arrived)
        finally:
            self._store, self._dropped = None, ""
            self.give_back()
        self._line.send(p_data(context_id, store_response(command, answer), self._line.maximum_pdu_bytes()))

    @property
    def is_gathering(self) -> bool:
        """Whether the rest of a data set is to come."""
        return self._store is not None

    def give_back(self) -> None:
        """Let go of the data set that is being gathered."""
        self._budget.give_back(self._size_bytes)
        self._size_bytes = 0
        self._data_set = BytesIO()
        self._digest = hashlib.sha256()
