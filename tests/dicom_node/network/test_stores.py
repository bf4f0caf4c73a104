"""C-STORE on the short way: the same answers as a full parser gives, and nothing but C-STORE."""

from __future__ import annotations

import hashlib
import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pynetdicom.dsutils import decode, encode
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.errors import UnreadableObject
from dicom_node.intake.header import read_header, wanted_values
from dicom_node.network.guards import LONGEST_COMMAND_SET, Budget, ProtocolViolation
from dicom_node.network.stores import (
    Answer,
    Line,
    Store,
    StoreCommand,
    Stores,
    fragments,
    p_data,
    store_command,
    store_request,
    store_response,
)
from tests.builders.dicom_files import CT, ct_slice
from tests.builders.raw_peers import c_echo_rq, c_store_rq
from tests.builders.raw_peers import p_data as raw_p_data

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"


def command(**changes: object) -> bytes:
    """Encode a C-STORE-RQ by pynetdicom; None leaves an element out."""
    ds = Dataset()
    values = {
        "AffectedSOPClassUID": CT,
        "CommandField": 1,
        "MessageID": 7,
        "Priority": 0,
        "CommandDataSetType": 1,
        "AffectedSOPInstanceUID": "1.2.3",
        **changes,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(ds, keyword, value)
    encoded = encode(ds, True, True)
    assert encoded is not None
    return struct.pack("<HHLL", 0, 0, 4, len(encoded)) + encoded


def test_a_store_command_is_read_as_pynetdicom_writes_it() -> None:
    assert store_command(command()) == StoreCommand(7, str(CT), "1.2.3")
    moved = command(MoveOriginatorApplicationEntityTitle="PACS", MoveOriginatorMessageID=3)
    assert store_command(moved) == StoreCommand(7, str(CT), "1.2.3")


@pytest.mark.parametrize(
    "other",
    [
        command(CommandField=0x0030),
        command(CommandField=0x8001),
        command(CommandDataSetType=0x0101),
        command(AffectedSOPInstanceUID=None),
        command(AffectedSOPClassUID=None),
        command(MessageID=None),
        command(AffectedSOPInstanceUID="1" * 66),
        command() + command(),
        command()[:-3],
        command() + struct.pack("<HHL", 8, 0x16, 0),
        b"",
        b"\0" * 9,
    ],
)
def test_anything_unusual_is_left_to_the_parser(other: bytes) -> None:
    assert store_command(other) is None


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.30"])
def test_a_request_is_what_pynetdicom_writes(uid: str) -> None:
    sent = store_request(StoreCommand(7, str(CT), uid))
    assert sent == command(AffectedSOPInstanceUID=uid)


@pytest.mark.parametrize("comment", ["", "odd", "even", "x" * 99, "name\u00e9"])
def test_a_response_is_what_pynetdicom_reads(comment: str) -> None:
    content = store_response(StoreCommand(65535, str(CT), "1.2.30"), Answer(0xA700, comment))
    ds = decode(BytesIO(content), True, True)
    assert (ds.CommandField, ds.MessageIDBeingRespondedTo, ds.CommandDataSetType) == (0x8001, 65535, 0x0101)
    assert (ds.Status, ds.AffectedSOPClassUID, ds.AffectedSOPInstanceUID) == (0xA700, CT, "1.2.30")
    assert ds.get("ErrorComment", "") == comment.replace("\u00e9", "?")[:64]
    assert ds.CommandGroupLength == len(content) - 12
    assert len(content) % 2 == 0


@given(st.binary(min_size=1, max_size=500), st.integers(0, 60))
def test_p_data_is_cut_to_what_the_peer_takes(content: bytes, maximum: int) -> None:
    stream, found, at = p_data(5, content, maximum), b"", 0
    while at < len(stream):
        (length,) = struct.unpack_from(">L", stream, at + 2)
        assert not maximum or length <= max(maximum, 7)
        ((context_id, control, part),) = fragments(stream[at : at + 6 + length])
        found += part
        at += 6 + length
        assert (context_id, control) == (5, 3 if at == len(stream) else 1)
    assert found == content


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        struct.pack(">L", 0),
        struct.pack(">LBB", 1, 1, 3),
        struct.pack(">LBB", 3, 1, 3),
        struct.pack(">LBB", 0xFFFFFFFF, 1, 3),
        struct.pack(">LBB", 2, 1, 3) + b"\0\0",
    ],
)
def test_fragments_that_lie_are_a_violation(body: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        list(fragments(struct.pack(">BBL", 4, 0, len(body)) + body))


def accepted_context() -> PresentationContext:
    context = build_context(CT, EXPLICIT)
    context.context_id = 1
    context._as_scp = True
    return context


class Peer:
    """The other side of an association's stores, as a test sees it."""

    def __init__(self, budget_bytes: int = 10_000, maximum_object_bytes: int = 5_000) -> None:
        self.budget = Budget(budget_bytes)
        self.kept: list[tuple[Store, bytes]] = []
        self.passed: list[tuple[int, bytes]] = []
        self.sent: list[bytes] = []
        line = Line(
            keep=self._keep,
            contexts=lambda: {1: accepted_context()},
            calling_ae_title=lambda: "SENDER",
            maximum_pdu_bytes=lambda: 0,
            pass_on=self._pass_on,
            send=self.sent.append,
        )
        self.stores = Stores(line, maximum_object_bytes, self.budget)

    def _keep(self, store: Store) -> Answer:
        content = store.data_set.getvalue()
        assert store.dropped or store.sha256 == hashlib.sha256(content).hexdigest()
        self.kept.append((store, content))
        return Answer(0xA700, store.dropped) if store.dropped else Answer(0)

    def _pass_on(self, context_id: int, fragment: bytes) -> bool:
        self.passed.append((context_id, fragment))
        return False

    def statuses(self) -> list[int]:
        return [decode(BytesIO(s[12:]), True, True).Status for s in self.sent]


def test_a_data_set_is_gathered_and_answered_once() -> None:
    peer = Peer()
    for pdu in (c_store_rq(b"1.2.3"), raw_p_data(0, b"ab"), raw_p_data(0, b""), raw_p_data(2, b"cd")):
        peer.stores.take(pdu)
    ((store, content),) = peer.kept
    assert (content, store.transfer_syntax_uid, store.calling_ae_title) == (b"abcd", EXPLICIT, "SENDER")
    assert peer.statuses() == [0]
    assert peer.budget.held_bytes == 0
    assert not peer.passed


def test_a_command_and_its_data_set_may_share_a_pdu_and_a_command_may_be_cut() -> None:
    peer = Peer()
    whole = c_store_rq(b"1.2.3")[12:]
    peer.stores.take(raw_p_data(1, whole[:20]))
    body = struct.pack(">LBB", len(whole) - 20 + 2, 1, 3) + whole[20:] + struct.pack(">LBB", 4, 1, 2) + b"xy"
    peer.stores.take(struct.pack(">BBL", 4, 0, len(body)) + body)
    assert [content for _, content in peer.kept] == [b"xy"]


def test_other_messages_are_passed_on_whole() -> None:
    peer = Peer()
    peer.stores.take(c_echo_rq())
    assert peer.passed == [(1, b"\x03" + c_echo_rq()[12:])]
    assert not peer.kept


def test_too_large_and_too_many_are_dropped_with_a_reason_and_the_rest_goes_on() -> None:
    peer = Peer(budget_bytes=6_000)
    peer.stores.take(c_store_rq(b"1.2.3"))
    peer.stores.take(raw_p_data(0, bytes(4_000)))
    peer.stores.take(raw_p_data(0, bytes(4_000)))
    assert peer.budget.held_bytes == 0  # given back at once
    peer.stores.take(raw_p_data(2, bytes(4_000)))
    assert peer.budget.take(3_000)
    for pdu in (
        c_store_rq(b"1.2.4"),
        raw_p_data(2, bytes(4_000)),
        c_store_rq(b"1.2.5"),
        raw_p_data(2, b"ok"),
    ):
        peer.stores.take(pdu)
    reasons = [store.dropped for store, _ in peer.kept]
    assert ["maximum_object_bytes" in reasons[0], "memory" in reasons[1], reasons[2]] == [True, True, ""]
    assert peer.statuses() == [0xA700, 0xA700, 0]
    assert [content for _, content in peer.kept] == [b"", b"", b"ok"]


def test_messages_that_break_the_protocol() -> None:
    with pytest.raises(ProtocolViolation, match="without a command set"):
        Peer().stores.take(raw_p_data(2, b"x"))
    peer = Peer()
    peer.stores.take(c_store_rq(b"1.2.3"))
    with pytest.raises(ProtocolViolation, match="inside a data set"):
        peer.stores.take(c_store_rq(b"1.2.3"))
    peer.stores.give_back()
    endless = Peer()
    for _ in range(4):
        endless.stores.take(raw_p_data(1, bytes(LONGEST_COMMAND_SET // 4)))
    with pytest.raises(ProtocolViolation, match="without end"):
        endless.stores.take(raw_p_data(1, b"\0"))


def test_an_association_that_ends_inside_a_data_set_gives_its_memory_back() -> None:
    peer = Peer()
    peer.stores.take(c_store_rq(b"1.2.3"))
    peer.stores.take(raw_p_data(0, bytes(100)))
    assert peer.budget.held_bytes == 100
    peer.stores.give_back()
    assert peer.budget.held_bytes == 0


# --- the header of a data set --------------------------------------------------------------------


def encoded(ds: Dataset, implicit: bool) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, Dataset(ds), implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    return buffer.getvalue()


def by_parser(data: bytes, syntax: str):
    """Read a header from a stream that is no BytesIO, so that the parser does it."""

    class Stream(BytesIO):
        pass

    class Reader:
        def __init__(self) -> None:
            self._stream = Stream(data)

        def __getattr__(self, name: str):
            return getattr(self._stream, name)

    return read_header(Reader(), syntax)  # type: ignore[arg-type]


@pytest.mark.parametrize("implicit", [False, True])
def test_stepping_over_elements_gives_what_the_parser_gives(implicit: bool) -> None:
    syntax = IMPLICIT if implicit else EXPLICIT
    plain = ct_slice()
    nested = ct_slice()
    item = Dataset()
    item.StudyInstanceUID, item.Modality = "9.9.9", "XX"
    nested.ReferencedStudySequence = [item]
    nested.Manufacturer = "Hepatocast "
    for ds in (plain, nested):
        data = encoded(ds, implicit)
        assert wanted_values(memoryview(data), implicit) is not None
        assert read_header(BytesIO(data), syntax) == by_parser(data, syntax)
    assert read_header(BytesIO(encoded(nested, implicit)), syntax).made_here


@pytest.mark.parametrize("implicit", [False, True])
@given(st.integers(0, 400), st.binary(max_size=6))
def test_damage_is_judged_as_the_parser_judges_it(implicit: bool, at: int, damage: bytes) -> None:
    syntax = IMPLICIT if implicit else EXPLICIT
    data = encoded(ct_slice(rows=8), implicit)
    damaged = data[:at] + damage + data[at + len(damage) :]

    def judged(read, source):
        try:
            return read(source, syntax)
        except UnreadableObject:
            return "unreadable"

    assert judged(read_header, BytesIO(damaged)) == judged(by_parser, damaged)
