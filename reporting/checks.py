"""What every object must satisfy before it leaves the node.

Independent validators check the objects in the tests; these checks run on every object, always.
"""

from __future__ import annotations

from datetime import timedelta

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID, SegmentationStorage

from inference.provenance import MANUFACTURER
from reporting.context import Context
from reporting.errors import CheckFailed

_REQUIRED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "ContentQualification",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "DeviceSerialNumber",
)
_PRESENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime")
_OWN_DATES = (
    "InstanceCreationDate",
    "SeriesDate",
    "ContentDate",
    "AcquisitionDate",
    "DateOfSecondaryCapture",
    "PresentationCreationDate",
)
_DOSE_AND_EXPOSURE = (
    "XRayTubeCurrent",
    "Exposure",
    "ExposureInuAs",
    "ExposureTime",
    "CTDIvol",
    "CTDIPhantomTypeCodeSequence",
    "EstimatedDoseSaving",
    "SAR",
    "dBdt",
)
_LENGTHS = {"SH": 16, "CS": 16, "AE": 16, "DS": 16, "IS": 12, "LO": 64, "UI": 64, "ST": 1024, "LT": 10240}


def check(ds: Dataset, context: Context) -> None:
    """Raise `CheckFailed` when an object breaks a rule; the message names attributes, never values."""
    for rule in (_has_required, _is_ours, _says_synthetic, _has_no_dose):
        rule(ds)
    _has_no_future_date(ds, context)
    _check_elements(ds, "")


def _has_required(ds: Dataset) -> None:
    missing = [k for k in _REQUIRED if not ds.get(k)] + [k for k in _PRESENT if k not in ds]
    if missing:
        raise CheckFailed(f"attributes are missing: {', '.join(missing)}")
    meta = ds.file_meta
    if meta.MediaStorageSOPInstanceUID != ds.SOPInstanceUID or meta.MediaStorageSOPClassUID != ds.SOPClassUID:
        raise CheckFailed("file meta information and object have different UIDs")


def _is_ours(ds: Dataset) -> None:
    if ds.Manufacturer != MANUFACTURER:
        raise CheckFailed("Manufacturer is not this product's, so the node would take it as input")


def _says_synthetic(ds: Dataset) -> None:
    """Everything derived from generated content says so; the baseline segmentation is not (DICOM CP-2141)."""
    expected = not (ds.SOPClassUID == SegmentationStorage and ds.ContentLabel == "BASELINE_SEG")
    if (ds.get("SyntheticData") == "YES") is not expected:
        raise CheckFailed("SyntheticData (0008,001C) does not say what the object is")


def _has_no_dose(ds: Dataset) -> None:
    found = [k for k in _DOSE_AND_EXPOSURE if k in ds]
    if found:
        raise CheckFailed(f"nothing was exposed, but there are {', '.join(found)}")


def _has_no_future_date(ds: Dataset, context: Context) -> None:
    # A study in a time zone ahead of the job's clock may already have tomorrow's date.
    last = (context.job_time + timedelta(hours=14)).strftime("%Y%m%d")
    future = [k for k in _OWN_DATES if str(ds.get(k, "") or "") > last]
    if future:
        raise CheckFailed(f"dates lie in the future: {', '.join(future)}")


def _check_elements(ds: Dataset, where: str) -> None:
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                _check_elements(item, f"{where}{element.keyword}/")
        else:
            _check_element(element, where)


def _check_element(element: DataElement, where: str) -> None:
    limit = _LENGTHS.get(element.VR)
    if limit is None or element.value is None:
        return
    values = element.value if element.VM > 1 else [element.value]
    for value in values:
        text = str(getattr(value, "original_string", value))
        if len(text) > limit:
            raise CheckFailed(f"{where}{element.keyword} is longer than {limit} characters")
        if element.VR == "UI" and text and not UID(text).is_valid:
            raise CheckFailed(f"{where}{element.keyword} is no UID")
