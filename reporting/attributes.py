"""Attributes that objects share: who, which study, when, and with what they were made.

A value of the source that DICOM does not allow is left out where its attribute may be absent; the
identifying attributes stay as they are, so that the object lands in the same study.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds, validate_value

from inference.results import StudyResults
from reporting import codes
from reporting.context import Context
from reporting.uids import IMPLEMENTATION_CLASS_UID

IMPLEMENTATION_VERSION = "HEPATOCAST"

PATIENT_AND_STUDY_REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""Type 1 and 2 of the Patient and General Study modules: always there, empty when unknown."""

PATIENT_AND_STUDY_OPTIONAL = (
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDsSequence",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "EthnicGroup",
    "StudyDescription",
    "IssuerOfAccessionNumberSequence",
    "ProcedureCodeSequence",
    "ReferencedStudySequence",
    "TimezoneOffsetFromUTC",
)


def element(keyword: str, value: object) -> DataElement:
    """Return a data element of a keyword, without validation of its value."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE)


def copied(source: Dataset, keyword: str) -> DataElement | None:
    """Return a copy of an attribute of the source with text free of its character set, or None."""
    if keyword not in source:
        return None
    found = source[keyword]
    if found.VR == "SQ":
        return copy.deepcopy(found)
    value = {"DS": decimal, "PN": lambda name: str(name or "")}.get(found.VR, copy.copy)(found.value)
    return DataElement(found.tag, found.VR, value, validation_mode=config.IGNORE)


def decimal(value: object) -> object:
    """Return Decimal String values in at most 16 characters each (PS3.5 section 6.2)."""
    if value is None or value == "":
        return None
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [_ds(v) for v in value]
    return _ds(value)


def _ds(value: object) -> str:
    text = str(value).strip()
    return text if len(text) <= 16 else format_number_as_ds(float(text))


def is_valid(found: DataElement) -> bool:
    """Whether the values of an attribute have the form of its VR (PS3.5 section 6.2)."""
    if found.VR == "SQ":
        return all(is_valid(e) for item in found.value for e in item)
    values = found.value if found.VM > 1 else [found.value]
    try:
        for value in values:
            validate_value(found.VR, value if isinstance(value, str | bytes) else str(value), config.RAISE)
    except (ValueError, TypeError):
        return False
    return True


def copy_valid(target: Dataset, source: Dataset, keywords: Iterable[str]) -> None:
    """Copy optional attributes that are there, not empty, and valid."""
    for keyword in keywords:
        found = copied(source, keyword)
        if found is not None and not found.is_empty and is_valid(found):
            target.add(found)


def local_time(results: StudyResults, context: Context) -> datetime:
    """Return the job's time as the study writes times: in its offset from UTC, where it gives one."""
    offset = str(results.baseline.primary.headers[0].get("TimezoneOffsetFromUTC", "") or "").strip()
    if len(offset) != 5 or offset[0] not in "+-" or not offset[1:].isdigit():
        return context.job_time
    delta = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:]))
    return context.job_time.astimezone(timezone(-delta if offset[0] == "-" else delta))


def patient_and_study(results: StudyResults) -> Dataset:
    """Return the Patient, General Study and Patient Study modules, the same in every object."""
    source = results.baseline.primary.headers[0]
    found = Dataset()
    for keyword in PATIENT_AND_STUDY_REQUIRED:
        found.add(copied(source, keyword) or element(keyword, ""))
    copy_valid(found, source, PATIENT_AND_STUDY_OPTIONAL)
    found.StudyInstanceUID = results.baseline.study_instance_uid
    return found


def body_part(results: StudyResults) -> str:
    """Return Body Part Examined of the source, or ABDOMEN (PS3.16 annex L): the liver was found in it."""
    found = copied(results.baseline.primary.headers[0], "BodyPartExamined")
    return str(found.value) if found is not None and found.value and is_valid(found) else "ABDOMEN"


def add_equipment(target: Dataset, context: Context) -> None:
    """Add the node as General Equipment (PS3.3 C.7.5.1)."""
    equipment = context.equipment
    target.Manufacturer = equipment.manufacturer
    target.ManufacturerModelName = equipment.model_name
    target.SoftwareVersions = equipment.software_version
    target.DeviceSerialNumber = equipment.device_serial_number


def synthesizing_equipment(context: Context, made_at: datetime, what: str) -> Dataset:
    """Return the node as an item of Contributing Equipment Sequence (PS3.3 C.12.1)."""
    found = Dataset()
    found.PurposeOfReferenceCodeSequence = [codes.item(codes.SYNTHESIZING_EQUIPMENT)]
    add_equipment(found, context)
    found.ContributionDateTime = made_at.strftime("%Y%m%d%H%M%S")
    found.ContributionDescription = what
    return found


def acquisition_equipment(source: Dataset) -> Dataset:
    """Return the scanner as an item of Contributing Equipment Sequence."""
    found = Dataset()
    found.PurposeOfReferenceCodeSequence = [codes.item(codes.ACQUISITION_EQUIPMENT)]
    found.Manufacturer = "unknown"
    names = ("Manufacturer", "InstitutionName", "StationName", "ManufacturerModelName", "DeviceSerialNumber")
    copy_valid(found, source, (*names, "SoftwareVersions"))
    return found


def stamp(target: Dataset, made_at: datetime, qualification: str) -> None:
    """Write when the object was made; there is no other date in it but the study's and the patient's."""
    date, time = made_at.strftime("%Y%m%d"), made_at.strftime("%H%M%S")
    target.SpecificCharacterSet = "ISO_IR 192"
    target.InstanceCreationDate = target.SeriesDate = target.ContentDate = date
    target.InstanceCreationTime = target.SeriesTime = target.ContentTime = time
    target.InstanceCreatorUID = IMPLEMENTATION_CLASS_UID
    target.ContentQualification = qualification
    target.CodingSchemeIdentificationSequence = [codes.scheme_identification()]


def add_file_meta(target: Dataset) -> Dataset:
    """Add the file meta information, Explicit VR Little Endian, and return the data set."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = target.SOPClassUID
    meta.MediaStorageSOPInstanceUID = target.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    target.file_meta = meta
    return target


def reference(source: Dataset) -> Dataset:
    """Return an item that references an instance."""
    found = Dataset()
    found.ReferencedSOPClassUID = source.SOPClassUID
    found.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return found
