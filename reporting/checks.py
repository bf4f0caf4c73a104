"""A last look at each object before it leaves: rules that no object may break.

The independent validators judge in the tests; these rules run on every object of every job.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    CTImageStorage,
    EncapsulatedPDFStorage,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from inference.provenance import MANUFACTURER
from reporting.context import Context
from reporting.errors import CheckFailed

REQUIRED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "InstanceNumber",
    "SeriesDescription",
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "DeviceSerialNumber",
    "ContentQualification",
    "InstanceCreationDate",
    "CodingSchemeIdentificationSequence",
)
"""Attributes that must be there with a value in every object."""

REQUIRED_EVEN_EMPTY = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyID")

IMAGES = frozenset({CTImageStorage, MRImageStorage})
SOP_CLASSES = IMAGES | {
    SegmentationStorage,
    ComprehensiveSRStorage,
    Comprehensive3DSRStorage,
    SecondaryCaptureImageStorage,
    EncapsulatedPDFStorage,
}

DOSE = (
    "XRayTubeCurrent",
    "Exposure",
    "ExposureTime",
    "CTDIvol",
    "CTDIPhantomTypeCodeSequence",
    "ExposureModulationType",
    "EstimatedDoseSaving",
    "SAR",
)
"""Nobody was exposed for a virtual image."""

INHERITED_DATES = frozenset({"StudyDate", "PatientBirthDate"})
"""Dates of the study and patient, which are the sender's."""

LENGTHS = {"AE": 16, "CS": 16, "DS": 16, "IS": 12, "LO": 64, "SH": 16, "ST": 1024, "LT": 10240, "UI": 64}
"""Most characters of one value (PS3.5 table 6.2-1)."""

INHERITED_TEXT = frozenset(
    {"PatientID", "AccessionNumber", "StudyID", "StudyDescription", "IssuerOfPatientID"}
)
"""Identifying text of the sender, kept as it is so that the object lands in the same study."""

_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+\Z")


def check(dataset: Dataset, context: Context) -> None:
    """Raise `CheckFailed` at the first rule that the object breaks."""
    for rule in RULES:
        for complaint in rule(dataset, context):
            raise CheckFailed(f"{dataset.get('SeriesDescription', 'an object')}: {complaint}")


def _elements(dataset: Dataset) -> Iterator[DataElement]:
    """Yield all elements but bulk data, nested ones too."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item)
        else:
            yield element


def _required(dataset: Dataset, _: Context) -> Iterator[str]:
    for keyword in REQUIRED:
        if dataset.get(keyword) in (None, "") or dataset[keyword].is_empty:
            yield f"{keyword} is missing"
    for keyword in REQUIRED_EVEN_EMPTY:
        if keyword not in dataset:
            yield f"{keyword} is missing"
    if dataset.get("SOPClassUID") not in SOP_CLASSES:
        yield "its SOP class is none that this product makes"


def _maker(dataset: Dataset, context: Context) -> Iterator[str]:
    if dataset.Manufacturer != MANUFACTURER:
        yield "Manufacturer is not this product, so the object could be taken as input"
    if dataset.ContentQualification != context.qualification:
        yield "ContentQualification is not the configured one"


def _synthetic(dataset: Dataset, _: Context) -> Iterator[str]:
    images = dataset.SOPClassUID in IMAGES
    if dataset.get("SyntheticData") not in (None, "YES"):
        yield "SyntheticData is neither YES nor absent"
    if images and dataset.get("SyntheticData") != "YES":
        yield "a virtual image does not say that it is synthetic"
    if images and dataset.ImageType[-1] != "VIRTUAL_FOLLOWUP":
        yield "ImageType does not end with VIRTUAL_FOLLOWUP"
    if images:
        yield from (f"{keyword} in a virtual image" for keyword in DOSE if keyword in dataset)


def _values(dataset: Dataset, context: Context) -> Iterator[str]:
    latest = context.job_time.strftime("%Y%m%d")
    offset = str(dataset.get("TimezoneOffsetFromUTC", ""))
    for element in _elements(dataset):
        if element.keyword in INHERITED_DATES or element.keyword in INHERITED_TEXT or element.is_empty:
            continue
        values = element.value if element.VM > 1 else [element.value]
        for value in values:
            yield from _value(element, str(value), latest if not offset else "")


def _value(element: DataElement, text: str, latest: str) -> Iterator[str]:
    if element.VR == "UI" and not (len(text) <= 64 and _UID.match(text)):
        yield f"{element.keyword} is no UID"
    if element.VR in ("DA", "DT") and latest and text[:8] > latest:
        yield f"{element.keyword} lies in the future"
    if len(text) > LENGTHS.get(element.VR, len(text)):
        yield f"{element.keyword} has more than {LENGTHS[element.VR]} characters"


RULES: tuple[Callable[[Dataset, Context], Iterator[str]], ...] = (_required, _maker, _synthetic, _values)
