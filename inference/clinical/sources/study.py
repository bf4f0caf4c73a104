"""What sources are asked with: the keys of a study, and headers of its objects."""

from __future__ import annotations

import datetime as dt
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from inference.case import ClinicalRecord
from inference.imaging.attributes import text

BROKEN_FILE = (
    InvalidDicomError,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    AttributeError,
    TypeError,
    NotImplementedError,
    RecursionError,
    struct.error,
    zlib.error,
)
"""What reading a damaged file may raise; that it is damaged is said where the case is read."""

_TAGS = [
    "SOPClassUID",
    "StudyInstanceUID",
    "StudyDate",
    "IssuerOfPatientID",
    "PatientID",
    "PatientBirthDate",
    "PatientAge",
    "PatientSex",
    "PatientWeight",
    "PatientSize",
    "Manufacturer",
]


@dataclass(frozen=True, slots=True)
class StudyKeys:
    """What a study is found by; an empty text is not known and never matches.

    Attributes
    ----------
    study_date : date or None
        Day of the study, from which laboratory values are counted.
    """

    study_instance_uid: str = ""
    issuer: str = ""
    patient_id: str = ""
    study_date: dt.date | None = None


class ClinicalSource(Protocol):
    """Gives clinical values of one study."""

    @property
    def name(self) -> str:
        """Name in the configuration."""
        ...

    def record_for(self, keys: StudyKeys) -> ClinicalRecord:
        """Return what the source has of the study or its patient, an empty record where it has nothing.

        Raises
        ------
        inference.errors.ClinicalError
            A value is refused; the message names the variable, never the patient.
        inference.errors.ClinicalSourceAway
            The source does not answer; it is worth asking again.
        """
        ...


@dataclass(frozen=True, slots=True)
class StudyObject:
    """A file of the study and a few attributes of it."""

    path: Path
    header: Dataset

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID (0008,0016)."""
        return text(self.header, "SOPClassUID")


def study_objects(files: Iterable[Path]) -> tuple[StudyObject, ...]:
    """Return the readable DICOM objects of the study that the first of them belongs to."""
    objects = tuple(_readable(files))
    return tuple(o for o in objects if _study(o) == _study(objects[0]))


def _study(found: StudyObject) -> str:
    return text(found.header, "StudyInstanceUID")


def _readable(files: Iterable[Path]) -> Iterator[StudyObject]:
    for path in files:
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
            for keyword in _TAGS:
                header.get(keyword)  # Values are converted here, while the file has a name.
        except BROKEN_FILE:
            continue
        yield StudyObject(path, header)


def keys_of(objects: Iterable[StudyObject]) -> StudyKeys:
    """Return the keys that the first object has; no object, no keys."""
    for found in objects:
        identifiers = ("StudyInstanceUID", "IssuerOfPatientID", "PatientID")
        study, issuer, patient = (text(found.header, keyword).strip() for keyword in identifiers)
        return StudyKeys(study, issuer, patient, date_of(text(found.header, "StudyDate")))
    return StudyKeys()


def date_of(value: str) -> dt.date | None:
    """Return the date of a DICOM DA or the day of a DT, None for what is none (PS3.5 table 6.2-1)."""
    match = re.match(r"(\d{4})[.]?(\d{2})[.]?(\d{2})", value.strip())
    if match is None:
        return None
    year, month, day = (int(part) for part in match.groups())
    try:
        return dt.date(year, month, day)
    except ValueError:
        return None
