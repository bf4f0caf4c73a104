"""The header of a received data set: read without pixels, checked against the C-STORE command."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from io import SEEK_END, BytesIO
from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dicom_node.errors import InvalidUid, MismatchedObject, UnreadableObject
from inference.provenance import is_made_here

UID_GRAMMAR = re.compile(r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+")
"""Components without leading zeros, joined by dots (PS3.5 section 9.1)."""
UID_LENGTH = 64
HEADER_BYTES = 6
"""Tag and VR of an element with explicit VR."""
INFLATED_HEADER_BYTES = 16 * 1024**2
"""How much of a deflated data set is inflated to find its header: a bomb stays small."""

_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_WANTED = tuple(Tag(keyword) for keyword in (*_UIDS, "Modality", "Manufacturer"))
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
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

    def at_pixels(tag: BaseTag, _vr: str | None, length: int) -> bool:
        if tag not in _PIXELS:
            return False
        if length != _UNDEFINED_LENGTH and ends_at is not None and data_set.tell() + length > ends_at:
            raise UnreadableObject("the data set ends inside its pixel data")
        return True

    try:
        header = read_dataset(
            data_set,
            syntax.is_implicit_VR,
            syntax.is_little_endian,
            stop_when=at_pixels,
            specific_tags=list(_WANTED),
        )
        return _described(header)
    except _PARSER_ERRORS as error:
        raise UnreadableObject("the data set cannot be parsed") from error


def _described(header: Dataset) -> ObjectHeader:
    uids = {}
    for keyword in _UIDS:
        if not header.get(keyword):
            raise UnreadableObject(f"the data set has no {keyword}")
        try:
            uids[keyword] = checked_uid(header[keyword].value, keyword)
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
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        return BytesIO(inflater.decompress(data_set.read(), INFLATED_HEADER_BYTES))
    except zlib.error as error:
        raise UnreadableObject("the deflated data set cannot be inflated") from error


def check_command(header: ObjectHeader, sop_class_uid: str, sop_instance_uid: str) -> None:
    """Compare a data set with its C-STORE command; raise `MismatchedObject` where they differ."""
    if header.sop_class_uid != sop_class_uid:
        raise MismatchedObject("SOP Class UID of data set and command differ")
    if header.sop_instance_uid != sop_instance_uid:
        raise MismatchedObject("SOP Instance UID of data set and command differ")
