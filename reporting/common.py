"""What every object shares: patient and study, equipment, dates, file meta, wording."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from inference.results import (
    BundleInfo,
    RegimenForecast,
    SeriesVolume,
    StudyResults,
    TimePoint,
    TimePointKind,
)
from reporting import codes
from reporting.context import Context
from reporting.uids import IMPLEMENTATION_CLASS_UID

IMPLEMENTATION_VERSION_NAME = "HEPATOCAST_1"

STATEMENT = (
    "Forecast by a computer model from the pre-treatment study. Not an acquisition, not a diagnosis. "
    "Research use only."
)
DEMONSTRATION = (
    "DEMONSTRATION MODEL: a model behind these results was not trained on images of treated patients. "
    "The comparison of regimens is for research, never advice."
)

PATIENT_AND_STUDY = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "PatientWeight",
    "PatientSize",
    "OtherPatientIDsSequence",
    "EthnicGroup",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName",
    "ReferencedStudySequence",
    "ProcedureCodeSequence",
    "TimezoneOffsetFromUTC",
)
"""Attributes of the patient and the study, the same in all objects of the study."""

_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""Those of them that must be there, empty where nothing is known (PS3.3 C.7.1.1, C.7.2.1)."""


@dataclass(frozen=True, slots=True)
class SeriesOfNode:
    """One series that the node makes."""

    uid: UID
    number: int
    description: str


# ------------------------------------------------------------------ elements


def copy_elements(source: Dataset, target: Dataset, keywords: Iterable[str]) -> None:
    """Copy elements that are there; decimal strings longer than 16 characters are written anew."""
    for keyword in keywords:
        if keyword in source:
            target.add(clean_element(source[keyword]))


def clean_element(element: DataElement) -> DataElement:
    """Return a copy of an element in which every decimal string fits its representation (PS3.5 6.2)."""
    if element.VR != "DS" or element.value in (None, ""):
        return copy.deepcopy(element)
    values = element.value if element.VM > 1 else [element.value]
    texts = [decimal(v) for v in values]
    return DataElement(element.tag, "DS", texts if element.VM > 1 else texts[0])


def decimal(value: object) -> str:
    """Return a number as a decimal string of at most 16 characters; what fits stays as it was."""
    text = str(getattr(value, "original_string", value)).strip()
    return text if len(text) <= 16 else format_number_as_ds(float(text))


def number_text(value: float) -> str:
    """Return a float as a decimal string of at most 16 characters."""
    return format_number_as_ds(float(value))


# ------------------------------------------------------------------ modules


def new_dataset(results: StudyResults, context: Context, sop_class: UID, instance: UID) -> Dataset:
    """Return a data set with patient, study, equipment, provenance and file meta.

    It has no series yet; see `set_series`.
    """
    ds = Dataset()
    ds.SpecificCharacterSet = character_set(results)
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = instance
    set_patient_and_study(ds, source_header(results))
    set_equipment(ds, context)
    set_dates(ds, context, local_offset(results))
    ds.InstanceCreatorUID = IMPLEMENTATION_CLASS_UID
    ds.ContentQualification = str(context.qualification)
    ds.CodingSchemeIdentificationSequence = [codes.private_scheme()]
    set_file_meta(ds)
    return ds


def character_set(results: StudyResults) -> str:
    """Return Latin-1 where it suffices, because more programs read it, else UTF-8."""
    header = source_header(results)
    texts = [str(header[k].value) for k in PATIENT_AND_STUDY if k in header]
    texts += [f.name for f in results.forecasts]
    texts += results.warnings
    texts += [str(v.value) for v in results.clinical.used.values.values()]
    try:
        "".join(texts).encode("latin-1")
    except UnicodeEncodeError:
        return "ISO_IR 192"
    return "ISO_IR 100"


def source_header(results: StudyResults) -> Dataset:
    """Return the header that patient and study are taken from."""
    return results.baseline.primary.headers[0]


def set_patient_and_study(ds: Dataset, source: Dataset) -> None:
    """Copy patient and study; attributes that must be there are added empty."""
    copy_elements(source, ds, PATIENT_AND_STUDY)
    for keyword in _TYPE_2:
        if keyword not in ds:
            setattr(ds, keyword, "")


def set_equipment(ds: Dataset, context: Context) -> None:
    """Write the node as the equipment (PS3.3 C.7.5.1)."""
    equipment = context.equipment
    ds.Manufacturer = equipment.manufacturer
    ds.ManufacturerModelName = equipment.model_name
    ds.SoftwareVersions = equipment.software_version
    ds.DeviceSerialNumber = equipment.device_serial_number


def local_offset(results: StudyResults) -> timezone | None:
    """Return the time zone that the study's dates are in, where the study says so."""
    text = str(source_header(results).get("TimezoneOffsetFromUTC", "") or "").strip()
    if len(text) != 5 or text[0] not in "+-" or not text[1:].isdigit():
        return None
    minutes = int(text[1:3]) * 60 + int(text[3:5])
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))


def set_dates(ds: Dataset, context: Context, zone: timezone | None) -> None:
    """Write the job's time as the date of series, content and instance."""
    when = context.job_time.astimezone(zone) if zone else context.job_time
    for kind in ("InstanceCreation", "Series", "Content"):
        setattr(ds, f"{kind}Date", when.strftime("%Y%m%d"))
        setattr(ds, f"{kind}Time", when.strftime("%H%M%S"))


def timestamp(when: datetime) -> str:
    """Return a time as a DICOM DT with its offset from UTC."""
    return when.strftime("%Y%m%d%H%M%S%z")


def set_series(ds: Dataset, series: SeriesOfNode, modality: str, instance_number: int = 1) -> None:
    """Write series and instance number."""
    ds.Modality = modality
    ds.SeriesInstanceUID = series.uid
    ds.SeriesNumber = series.number
    ds.SeriesDescription = series.description[:64]
    ds.InstanceNumber = instance_number


def body_part(header: Dataset) -> str:
    """Return Body Part Examined, abdomen where the source says nothing."""
    return str(header.get("BodyPartExamined", "") or "ABDOMEN")


def set_file_meta(ds: Dataset) -> None:
    """Write the file meta information (PS3.10 7.1)."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    ds.file_meta = meta


def synthesizing_equipment(context: Context, description: str) -> Dataset:
    """Return the node as contributing equipment (109100, DCM)."""
    ds = Dataset()
    ds.PurposeOfReferenceCodeSequence = [codes.item(codes.SYNTHESIZING_EQUIPMENT)]
    set_equipment(ds, context)
    ds.ContributionDateTime = timestamp(context.job_time)
    ds.ContributionDescription = description
    return ds


def reference(sop_class: str, sop_instance: str) -> Dataset:
    """Return a reference to an instance (PS3.3 table 10-11)."""
    ds = Dataset()
    ds.ReferencedSOPClassUID = sop_class
    ds.ReferencedSOPInstanceUID = sop_instance
    return ds


# ------------------------------------------------------------------ grids


def frame_of_reference(results: StudyResults) -> str:
    """Return the Frame of Reference UID that all objects of the forecast share."""
    return results.baseline.primary.grid.frame_of_reference_uid


def volume_of(results: StudyResults, series_instance_uid: str) -> SeriesVolume:
    """Return a baseline volume by its Series Instance UID."""
    return next(v for v in results.baseline.volumes if v.series_instance_uid == series_instance_uid)


# ------------------------------------------------------------------ wording


def months_text(months: float) -> str:
    """Return months without a useless decimal: 3, 4.5."""
    return f"{months:g}"


def time_point_text(point: TimePoint) -> str:
    """Return how people call a time point: ``+3 mo``, ``+2 mo (best response)``."""
    best = " (best response)" if point.generated.kind is TimePointKind.BEST_RESPONSE else ""
    return f"+{months_text(point.generated.months)} mo{best}"


def point_key(forecast: RegimenForecast, point: TimePoint) -> tuple[str, str]:
    """Return the parts of a UID path that tell a time point from every other."""
    return forecast.regimen_id, f"{point.generated.months:.6f} {point.generated.kind}"


def time_points(results: StudyResults) -> list[tuple[RegimenForecast, TimePoint]]:
    """Return every forecast time point with its regimen, in order."""
    return [(f, p) for f in results.forecasts for p in f.time_points]


def bundle_text(info: BundleInfo) -> str:
    """Return a model with its version and digest in one line; of one that could not be read its name."""
    if not info.sha256:
        return f"{info.name}, which could not be read"
    return f"{info.name} {info.version}, sha256 {info.sha256[:16]}, trained on: {info.trained_on}"


def statement(results: StudyResults) -> str:
    """Return what every object says about its use."""
    return f"{DEMONSTRATION} {STATEMENT}" if results.demonstration else STATEMENT


def bundle(bundles: Mapping[str, BundleInfo], part: str) -> BundleInfo:
    """Return the model of one part of the forecast."""
    return bundles[part]


def change_pct(now: float, before: float) -> float | None:
    """Return the relative change in percent, or None from nothing."""
    return 100.0 * (now - before) / before if before > 0 else None


def unit(vector: np.ndarray) -> np.ndarray:
    """Return a vector at length 1."""
    return np.asarray(vector / np.linalg.norm(vector))
