"""What a routing expression sees of a study. No names, no IDs, no dates of birth.

    calling_ae   AE title the study came from
    study        {uid, modalities, instances, segmentations, attributes}
    series       list of {uid, modality, description, instances, slice_thickness_mm, pixel_spacing_mm,
                 body_part, attributes}

``attributes`` maps DICOM keywords to the values in the first instance's header, for the keywords of
`ATTRIBUTES` that are there.
"""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from inference.case import Case, Series

ATTRIBUTES = (
    "AcquisitionDate",
    "BodyPartExamined",
    "ContrastBolusAgent",
    "ConvolutionKernel",
    "EchoTime",
    "ImageType",
    "InstitutionName",
    "KVP",
    "MagneticFieldStrength",
    "Manufacturer",
    "ManufacturerModelName",
    "PatientPosition",
    "PatientSex",
    "ProtocolName",
    "RepetitionTime",
    "ScanningSequence",
    "SequenceName",
    "SeriesDate",
    "SeriesDescription",
    "SliceThickness",
    "SOPClassUID",
    "SpacingBetweenSlices",
    "StationName",
    "StudyDate",
    "StudyDescription",
)
"""Keywords that rules may use; none identifies a patient."""


def _plain(value: Any) -> Any:
    if isinstance(value, (MultiValue, list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (int, float)):
        return float(value)
    return str(value)


def _attributes(header: Dataset) -> dict[str, Any]:
    present = ((k, header.get(k)) for k in ATTRIBUTES)
    return {k: _plain(v) for k, v in present if v not in (None, "")}


def _number(header: Dataset, keyword: str) -> float:
    value = header.get(keyword)
    return float(value) if value not in (None, "") else 0.0


def _series_facts(series: Series) -> dict[str, Any]:
    header = series.instances[0].header
    spacing = header.get("PixelSpacing") or (0.0, 0.0)
    return {
        "uid": series.series_instance_uid,
        "modality": series.modality,
        "description": series.description,
        "instances": len(series.instances),
        "slice_thickness_mm": _number(header, "SliceThickness"),
        "pixel_spacing_mm": float(spacing[0]),
        "body_part": str(header.get("BodyPartExamined", "") or ""),
        "attributes": _attributes(header),
    }


def study_facts(case: Case, calling_ae: str) -> dict[str, Any]:
    """Return the variables of a routing expression for one study."""
    series = [_series_facts(s) for s in case.series]
    return {
        "calling_ae": calling_ae,
        "study": {
            "uid": case.study_instance_uid,
            "modalities": sorted({s.modality for s in case.series}),
            "instances": sum(len(s.instances) for s in case.series),
            "segmentations": sum(len(s.instances) for s in case.series if s.modality == "SEG"),
            "attributes": _attributes(case.series[0].instances[0].header),
        },
        "series": series,
    }
