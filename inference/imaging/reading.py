"""Files to a `Case`: headers only, grouped into series, what cannot be used named with its reason."""

from __future__ import annotations

import logging
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from inference.case import Case, ClinicalRecord, Instance, LeftOut, Series
from inference.errors import PixelsUnreadable, RejectedInput
from inference.imaging.limits import check_inflation
from inference.provenance import is_made_here

_log = logging.getLogger(__name__)

_REQUIRED = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality")
_USED = (
    "SOPClassUID",
    "ImageType",
    "SeriesDescription",
    "ProtocolName",
    "BodyPartExamined",
    "ConvolutionKernel",
    "ContrastBolusAgent",
    "ContrastBolusStartTime",
    "AcquisitionTime",
    "AcquisitionNumber",
    "SeriesNumber",
    "SliceThickness",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "FrameOfReferenceUID",
    "RescaleSlope",
    "RescaleIntercept",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "SegmentSequence",
    "ReferencedSeriesSequence",
)
"""Attributes that decide something later; reading them here shows damage while the file has a name."""

_BROKEN_FILE = (
    EOFError,
    OSError,
    ValueError,
    KeyError,
    AttributeError,
    TypeError,
    NotImplementedError,
    struct.error,
    zlib.error,
    RecursionError,
    MemoryError,
)


def read_case(paths: Path | Iterable[Path], clinical: ClinicalRecord | None = None) -> Case:
    """Read the headers of one study.

    Files that are not DICOM are passed over in silence. DICOM files that are damaged, that lack the
    attributes every instance has, or that this product made are in ``Case.left_out``.

    Parameters
    ----------
    paths : a folder, which is searched with all its sub-folders, or files
    clinical : ClinicalRecord, optional

    Raises
    ------
    RejectedInput
        Nothing is there, there are several studies, or two different files carry one SOP Instance UID.
    """
    instances: list[Instance] = []
    left_out: list[LeftOut] = []
    for path in _files(paths):
        found = _read(path)
        if isinstance(found, Instance):
            instances.append(found)
        elif found is not None:
            left_out.append(found)
    if not instances:
        raise RejectedInput(_nothing_reason(left_out))
    _refuse_several_studies(instances)
    if left_out:
        _log.warning("%d of %d files were left out", len(left_out), len(left_out) + len(instances))
    return Case(
        study_instance_uid=str(instances[0].header.StudyInstanceUID),
        series=_group(instances),
        clinical=clinical or ClinicalRecord(),
        left_out=tuple(left_out),
    )


def _files(paths: Path | Iterable[Path]) -> Iterator[Path]:
    if isinstance(paths, Path):
        paths = [paths] if paths.is_file() else (p for p in paths.rglob("*") if p.is_file())
    return iter(sorted(paths))


def _read(path: Path) -> Instance | LeftOut | None:
    """Return an instance, why a DICOM file was left out, or None for what is not DICOM."""
    try:
        check_inflation(path)
        header = pydicom.dcmread(path, stop_before_pixels=True)
        missing = [k for k in _REQUIRED if k not in header]
        values = {k: str(header.get(k) or "") for k in _REQUIRED}
        made_here = is_made_here(header)
        for keyword in _USED:
            header.get(keyword)
    except InvalidDicomError:
        return None
    except PixelsUnreadable as error:
        return LeftOut(path, str(error))
    except _BROKEN_FILE as error:
        return LeftOut(path, f"the file is damaged ({type(error).__name__})")
    if missing:
        return LeftOut(path, f"attribute {missing[0]} is missing")
    if not values["SOPInstanceUID"] or not values["SeriesInstanceUID"]:
        return LeftOut(path, "its SOP or Series Instance UID is empty")
    if made_here:
        return LeftOut(path, "it was made by this product and is never input")
    return Instance(path, header)


def _nothing_reason(left_out: list[LeftOut]) -> str:
    if not left_out:
        return "no DICOM file was found"
    reasons = sorted({item.reason for item in left_out})
    return f"none of the {len(left_out)} DICOM files can be used: {'; '.join(reasons)}"


def _refuse_several_studies(instances: list[Instance]) -> None:
    studies = {str(i.header.StudyInstanceUID) for i in instances}
    if len(studies) == 1:
        return
    reason = f"there are {len(studies)} studies; a forecast is made of one study at a time"
    if not any(str(i.header.Modality) == "SEG" for i in instances):
        reason += " (and there is no liver segmentation in any of them)"
    raise RejectedInput(reason)


def _group(instances: list[Instance]) -> tuple[Series, ...]:
    by_series: dict[str, dict[str, Instance]] = defaultdict(dict)
    for instance in instances:
        series = by_series[str(instance.header.SeriesInstanceUID)]
        earlier = series.setdefault(instance.sop_instance_uid, instance)
        if earlier is not instance and not _same_bytes(earlier.path, instance.path):
            raise RejectedInput("two different files carry the same SOP Instance UID in one series")
    return tuple(_series(uid, by_series[uid]) for uid in sorted(by_series))


def _series(uid: str, by_sop: dict[str, Instance]) -> Series:
    ordered = tuple(by_sop[k] for k in sorted(by_sop))
    return Series(uid, str(ordered[0].header.Modality), ordered)


def _same_bytes(a: Path, b: Path) -> bool:
    return a.stat().st_size == b.stat().st_size and a.read_bytes() == b.read_bytes()
