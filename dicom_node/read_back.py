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

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.dsutils import decode

from dicom_node.network.dicomweb import retrieve_series
from dicom_node.network.query import Fetched, PeerQuery
from dicom_node.network.scu import read_part10
from dicom_node.settings import PeerSettings

_log = logging.getLogger(__name__)


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
    """Return the keyword or tag of our first element that `theirs` lacks or has otherwise."""
    for element in ours:
        if element.tag.element == 0:
            continue
        other = theirs.get(element.tag)
        if other is None or other.value != element.value:
            return element.keyword or str(element.tag)
    return None


def _finding(ours: Dataset, theirs: Dataset) -> Finding:
    difference = first_difference(ours, theirs)
    if difference is None:
        return Finding(Verdict.EQUAL)
    return Finding(Verdict.DIFFERENT, f"the peer returns another {difference}")


def _compare_bytes(path: Path, fetched: Fetched) -> Finding:
    """Compare a fetched object with our file; equal bytes need no decoding."""
    part10 = read_part10(path)
    if part10.data_set == fetched.data_set:
        return Finding(Verdict.EQUAL)
    implicit = fetched.transfer_syntax_uid == str(ImplicitVRLittleEndian)
    theirs = decode(BytesIO(bytes(fetched.data_set)), implicit, True)
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
