"""Reading back what was delivered: a peer must return what it was sent.

An object counts as read back when every element of it (file meta information and group lengths aside)
is there with an equal value, pixel data included. A peer may add elements, and may encode the data set
in another way; it may not change or lose anything.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, ImplicitVRLittleEndian
from pynetdicom.dsutils import decode

from dicom_node.network.dicomweb import retrieve_series
from dicom_node.network.query import Fetched, PeerQuery
from dicom_node.network.scu import read_part10
from dicom_node.settings import PeerSettings

_log = logging.getLogger(__name__)

SPECIFIC_CHARACTER_SET = Tag(0x0008, 0x0005)
PIXEL_DATA = Tag(0x7FE0, 0x0010)
NOT_COMPARED = frozenset({Tag(0xFFFC, 0xFFFC)})
"""Data Set Trailing Padding has no meaning (PS3.10 section 7.2)."""


class Verdict(Enum):
    """What the read-back of one object found."""

    EQUAL = auto()
    DIFFERENT = auto()


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict on one object that the peer returned, and what differs."""

    verdict: Verdict
    detail: str = ""


def first_difference(ours: Dataset, theirs: Dataset) -> str | None:
    """Return the keyword or tag of our first element that `theirs` lacks or has otherwise.

    Elements are compared as encoded where that is enough; where a peer encoded them in another way,
    their values are, and pixel data that it compressed is decoded. What a peer may add, at any depth,
    is not looked at.
    """
    for tag in ours.keys():
        if tag.element == 0 or tag in NOT_COMPARED:
            continue
        if not _same_bytes(ours, theirs, tag) and not _equal_values(ours, theirs, tag):
            return keyword_for_tag(tag) or str(tag)
    return None


def _same_bytes(ours: Dataset, theirs: Dataset, tag: BaseTag) -> bool:
    if tag not in theirs or tag == SPECIFIC_CHARACTER_SET:
        return False
    mine, other = ours.get_item(tag), theirs.get_item(tag)
    return (
        isinstance(mine, RawDataElement)
        and isinstance(other, RawDataElement)
        and (mine.VR, mine.value) == (other.VR, other.value)
        and mine.is_little_endian == other.is_little_endian
        # Text of the same bytes is another text in another character set.
        and _character_sets(ours) == _character_sets(theirs)
    )


def _character_sets(data_set: Dataset) -> object:
    return data_set.get("SpecificCharacterSet")


def _equal_values(ours: Dataset, theirs: Dataset, tag: BaseTag) -> bool:
    mine = ours[tag]
    if tag == SPECIFIC_CHARACTER_SET:
        return True  # texts are compared decoded
    if tag not in theirs:
        return False
    other = theirs[tag]
    if tag == PIXEL_DATA:
        return _equal_pixels(ours, theirs)
    if mine.VR == "SQ":
        return (
            other.VR == "SQ"
            and len(mine.value) == len(other.value)
            and all(first_difference(a, b) is None for a, b in zip(mine.value, other.value, strict=True))
        )
    if mine.is_empty or other.is_empty:
        return mine.is_empty and other.is_empty
    return bool(mine.value == other.value)


def _equal_pixels(ours: Dataset, theirs: Dataset) -> bool:
    """Compare pixel data: as bytes where both are native, else decoded (a lossless syntax gives the same)."""
    if not _is_encapsulated(ours) and not _is_encapsulated(theirs):
        return bool(ours.PixelData == theirs.PixelData)
    try:
        return bool(np.array_equal(ours.pixel_array, theirs.pixel_array))
    except (ValueError, RuntimeError, NotImplementedError, AttributeError):
        _log.warning("pixel data that a peer returned cannot be decoded")
        return False


def _is_encapsulated(data_set: Dataset) -> bool:
    syntax = data_set.file_meta.get("TransferSyntaxUID") if hasattr(data_set, "file_meta") else None
    return bool(syntax is not None and UID(syntax).is_encapsulated)


def _finding(ours: Dataset, theirs: Dataset) -> Finding:
    difference = first_difference(ours, theirs)
    if difference is None:
        return Finding(Verdict.EQUAL)
    return Finding(Verdict.DIFFERENT, f"the peer returns another {difference}")


def _compare_bytes(path: Path, fetched: Fetched) -> Finding:
    """Compare a fetched object with our file; equal bytes need no decoding."""
    part10 = read_part10(path)
    if bytes(part10.data_set) == bytes(fetched.data_set):
        return Finding(Verdict.EQUAL)
    implicit = fetched.transfer_syntax_uid == str(ImplicitVRLittleEndian)
    theirs = decode(BytesIO(bytes(fetched.data_set)), implicit, True)
    theirs.file_meta = FileMetaDataset()
    theirs.file_meta.TransferSyntaxUID = UID(fetched.transfer_syntax_uid)
    return _finding(dcmread(path), theirs)


def read_back(
    peer: PeerSettings, our_ae_title: str, study: str, series: str, files: Mapping[str, Path]
) -> Iterator[tuple[str, Finding]]:
    """Yield SOP Instance UID and finding of each of `files` that the peer returns.

    Uses WADO-RS where the peer has it, else C-GET.

    Raises
    ------
    TransientError, PeerRejected
        The peer cannot be asked.
    """
    if peer.dicomweb_url is not None:
        for theirs in retrieve_series(peer, study, series):
            uid = str(theirs.SOPInstanceUID)
            if uid in files:
                yield uid, _finding(dcmread(files[uid]), theirs)
        return
    findings: dict[str, Finding] = {}

    def take(fetched: Fetched) -> None:
        path = files.get(fetched.sop_instance_uid)
        if path is not None:
            findings[fetched.sop_instance_uid] = _compare_bytes(path, fetched)

    identifier = Dataset()
    identifier.QueryRetrieveLevel = "SERIES"
    identifier.StudyInstanceUID, identifier.SeriesInstanceUID = study, series
    PeerQuery(peer, our_ae_title).get(identifier, take)
    yield from findings.items()
