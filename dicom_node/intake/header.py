"""The header of a received data set: read without pixels, checked against the C-STORE command."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import SEEK_END, BytesIO
from typing import BinaryIO, cast

from pydicom.datadict import keyword_for_tag
from pydicom.errors import BytesLengthException
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

from dicom_node.errors import InvalidUid, MismatchedObject, UnreadableObject
from inference.imaging.limits import MAXIMUM_INFLATED_BYTES, inflates_within
from inference.provenance import is_made_here

UID_GRAMMAR = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+")
"""Components without leading zeros, joined by dots (PS3.5 section 9.1)."""
UID_LENGTH = 64
HEADER_BYTES = 6
"""Tag and VR of an element with explicit VR."""
MAXIMUM_ELEMENTS = 50_000
"""Elements before the pixel data, those in sequences not counted; the longest headers have some thousands."""
MAXIMUM_READS = 500_000
"""Reads of a parser, two or three for an element, those in sequences counted."""
INFLATED_HEADER_BYTES = 16 * 1024**2
"""How much of a deflated data set is kept to find its header: a bomb stays small."""

_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_WANTED = tuple(Tag(keyword) for keyword in (*_UIDS, "Modality", "Manufacturer"))
_KEYWORDS = {int(tag): keyword_for_tag(tag) for tag in _WANTED}
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_TAG, _LONG, _SHORT = struct.Struct("<HH"), struct.Struct("<L"), struct.Struct("<H")
_SHORT_VRS = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_16)
_ITEM_GROUP = 0xFFFE
_LONG_VRS = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)
_UNDEFINED_LENGTH = 0xFFFFFFFF
_PARSER_ERRORS = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError,
    EOFError, OSError, OverflowError, RecursionError, struct.error, BytesLengthException,
    UserWarning,
)  # fmt: skip
# UserWarning: pydicom warns of some damage, and Python may be told to raise warnings.


@dataclass(frozen=True, slots=True)
class ObjectHeader:
    """What the index keeps of a data set; all UIDs follow the grammar."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    made_here: bool


def checked_uid(value: object, keyword: str) -> str:
    """Return `value` as a UID that may become a part of a path.

    Raises
    ------
    InvalidUid
        It breaks the grammar of PS3.5 section 9.1. The message does not repeat it.
    """
    text = str(value or "")
    if len(text) > UID_LENGTH or UID_GRAMMAR.fullmatch(text) is None:
        raise InvalidUid(f"{keyword} breaks the UID grammar of PS3.5 section 9.1")
    return text


def read_header(data_set: BinaryIO, transfer_syntax_uid: str) -> ObjectHeader:
    """Read what the index needs from an encoded data set, without its pixels.

    Parameters
    ----------
    data_set : binary file
        At the start of the data set.

    Raises
    ------
    UnreadableObject
        It is not in its transfer syntax, cannot be parsed, ends inside its pixel data, or has no
        valid UID where one belongs.
    """
    syntax = UID(transfer_syntax_uid)
    ends_at: int | None = None
    if syntax == DeflatedExplicitVRLittleEndian:
        data_set = _inflated(data_set)
    else:
        start = data_set.tell()
        ends_at = data_set.seek(0, SEEK_END)
        data_set.seek(start)
    _check_encoding(data_set, syntax)
    if isinstance(data_set, BytesIO) and syntax.is_little_endian and ends_at is not None:
        values = wanted_values(data_set.getbuffer()[data_set.tell() :], syntax.is_implicit_VR)
        if values is not None:
            return _described(values)

    def at_pixels(tag: BaseTag, _vr: str | None, length: int) -> bool:
        if tag not in _PIXELS:
            return False
        if length != _UNDEFINED_LENGTH and ends_at is not None and data_set.tell() + length > ends_at:
            raise UnreadableObject("the data set ends inside its pixel data")
        return True

    try:
        found = read_dataset(
            cast(BinaryIO, _Counted(data_set)),
            syntax.is_implicit_VR,
            syntax.is_little_endian,
            stop_when=at_pixels,
            specific_tags=list(_WANTED),
        )
        header = {k: found[k].value for k in _KEYWORDS.values() if k in found}
        return _described(header)
    except _PARSER_ERRORS as error:
        raise UnreadableObject("the data set cannot be parsed") from error


@dataclass
class _Counted:
    """A stream that ends a parser's work when it reads without end: each nested element takes memory."""

    stream: BinaryIO
    reads: int = 0

    def read(self, size: int = -1) -> bytes:
        self.reads += 1
        if self.reads > MAXIMUM_READS:
            raise UnreadableObject("the data set has too many elements before its pixel data")
        return self.stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.stream.seek(offset, whence)

    def tell(self) -> int:
        return self.stream.tell()


def wanted_values(data: memoryview, implicit: bool) -> dict[str, str] | None:
    """Return the wanted values of a little-endian data set by keyword, None where a parser has to look.

    It steps over all elements up to the pixel data by their lengths. An element of undefined length, one
    that reaches beyond the end, or a value that is no plain text is left to the parser.
    """
    found: dict[str, str] = {}
    at, end, count = 0, len(data), 0
    while at + 8 <= end:
        count += 1
        if count > MAXIMUM_ELEMENTS:
            raise UnreadableObject("the data set has too many elements before its pixel data")
        group, element = _TAG.unpack_from(data, at)
        tag = group << 16 | element
        if tag in _PIXELS:
            return found if _pixels_fit(data, at, implicit) else None
        at, length = _value(data, at, implicit)
        if length == _UNDEFINED_LENGTH or at + length > end or group == _ITEM_GROUP:
            return None
        if keyword := _KEYWORDS.get(tag):
            value = bytes(data[at : at + length])
            if not value.isascii():
                return None
            found[keyword] = value.decode("ascii").strip("\0 ")
        at += length
    return found if at == end else None


def _value(data: memoryview, at: int, implicit: bool) -> tuple[int, int]:
    """Return where the value of an element begins, and its length (PS3.5 section 7.1)."""
    if implicit:
        return at + 8, _LONG.unpack_from(data, at + 4)[0]
    vr = bytes(data[at + 4 : at + 6])
    if vr in _SHORT_VRS:
        return at + 8, _SHORT.unpack_from(data, at + 6)[0]
    if vr not in _LONG_VRS or at + 12 > len(data):
        return at, _UNDEFINED_LENGTH
    return at + 12, _LONG.unpack_from(data, at + 8)[0]


def _pixels_fit(data: memoryview, at: int, implicit: bool) -> bool:
    start, length = _value(data, at, implicit)
    return length == _UNDEFINED_LENGTH or start + length <= len(data)


def _described(header: Mapping[str, object]) -> ObjectHeader:
    uids = {}
    for keyword in _UIDS:
        if not header.get(keyword):
            raise UnreadableObject(f"the data set has no {keyword}")
        try:
            uids[keyword] = checked_uid(header[keyword], keyword)
        except InvalidUid as error:
            raise UnreadableObject(str(error)) from error
    return ObjectHeader(
        sop_class_uid=uids["SOPClassUID"],
        sop_instance_uid=uids["SOPInstanceUID"],
        study_instance_uid=uids["StudyInstanceUID"],
        series_instance_uid=uids["SeriesInstanceUID"],
        modality=str(header.get("Modality", "") or "")[:16],
        made_here=is_made_here(header),
    )


def _check_encoding(data_set: BinaryIO, syntax: UID) -> None:
    """Check by the first element that VRs are there or not, as the transfer syntax says.

    No first element is so long that its length could be read as two capital letters.
    """
    start = data_set.tell()
    vr = data_set.read(HEADER_BYTES)[4:]
    data_set.seek(start)
    if len(vr) < 2:
        raise UnreadableObject("the data set is empty")
    explicit = all(0x41 <= letter <= 0x5A for letter in vr)
    if explicit == bool(syntax.is_implicit_VR):
        raise UnreadableObject("the data set is not encoded in its transfer syntax")


def _inflated(data_set: BinaryIO) -> BinaryIO:
    """Return the start of a deflated data set; one that inflates beyond all measure is refused."""
    start = data_set.tell()
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        head = BytesIO(inflater.decompress(data_set.read(INFLATED_HEADER_BYTES), INFLATED_HEADER_BYTES))
        data_set.seek(start)
        within = inflates_within(data_set.read, MAXIMUM_INFLATED_BYTES)
    except zlib.error as error:
        raise UnreadableObject("the deflated data set cannot be inflated") from error
    if not within:
        raise UnreadableObject(f"the data set inflates to more than {MAXIMUM_INFLATED_BYTES // 1024**2} MiB")
    return head


def check_command(header: ObjectHeader, sop_class_uid: str, sop_instance_uid: str) -> None:
    """Compare a data set with its C-STORE command; raise `MismatchedObject` where they differ."""
    if header.sop_class_uid != sop_class_uid:
        raise MismatchedObject("SOP Class UID of data set and command differ")
    if header.sop_instance_uid != sop_instance_uid:
        raise MismatchedObject("SOP Instance UID of data set and command differ")
