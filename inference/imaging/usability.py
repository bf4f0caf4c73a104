"""Whether a series can be the input of a forecast: a table of checks on its headers."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from pydicom.dataset import Dataset

from inference.case import Series
from inference.imaging.attributes import numbers, text

MINIMUM_SLICES = 10
"""A series with fewer slices covers no liver."""

AXIAL_COSINE = 0.8
"""Smallest share of the slice normal along the body axis; gantry tilt goes to about 30 degrees (0.87)."""

_MULTIFRAME = {
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT",
    "1.2.840.10008.5.1.4.1.1.4.1": "Enhanced MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "Legacy Converted Enhanced MR",
}
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_LOCALIZER = re.compile(
    r"\b(localiz|localis|scout|topogram|surview|scanogram|lokali|survey|3[- ]?plane|plan scan|pilot)",
    re.IGNORECASE,
)
_REFORMAT = re.compile(
    r"\b(mip|minip|mpr|vrt?|ssd|3d[- ]?render\w*|reformat\w*|thick slab|coron\w*|cor|sag\w*)\b"
    r"|曲面|冠状|矢状",
    re.IGNORECASE,
)
_REFORMAT_VALUES = {
    "MPR", "MIP", "MINIP", "PROJECTION IMAGE", "REFORMATTED", "CSA MPR", "CSA MIP", "VOLREND", "RENDERING",
    "MAX_IP", "MIN_IP", "CURVED_MPR", "SUBTRACTION", "SCREEN SAVE", "DOSE_INFO",
}  # fmt: skip
_MAP = re.compile(
    r"\b(iodine|vnc|virtual (non|native)\w*|mono[- ]?(e|\d|energ)\w*|eff\w* z|perfusion|subtract\w*|\bsub\b"
    r"|dose (report|info)|smart ?prep|bolus track\w*|monitoring|pre ?monitor\w*|test bolus|patient protocol)",
    re.IGNORECASE,
)
_DIFFUSION = re.compile(r"\b(dwi|diff\w*|adc|trace\w*|ep2d)\b", re.IGNORECASE)
_OTHER_BODY_PARTS = {
    "HEAD", "BRAIN", "SKULL", "NECK", "CSPINE", "KNEE", "LEG", "FOOT", "ANKLE", "HAND", "WRIST", "ELBOW",
    "SHOULDER", "ARM", "HIP", "BREAST", "HEART", "PROSTATE", "EXTREMITY", "LSPINE", "SSPINE", "TSPINE",
}  # fmt: skip


def unusable_reason(series: Series, *, segmented: bool) -> str | None:
    """Return why a series cannot be used, or None when it can.

    Parameters
    ----------
    segmented : bool
        Whether a segmentation refers to the series. A person chose it then, so that its being called
        derived, or its body part, is no reason against it.
    """
    header = series.instances[0].header
    checks = _ALWAYS if segmented else _ALWAYS + _UNLESS_SEGMENTED
    reasons = (check(series, header) for check in checks)
    return next((r for r in reasons if r is not None), None)


def _modality(series: Series, _header: Dataset) -> str | None:
    return None if series.modality in ("CT", "MR") else f"modality {series.modality[:16]} is not CT or MR"


def _secondary_capture(_series: Series, header: Dataset) -> str | None:
    if text(header, "SOPClassUID").startswith(_SECONDARY_CAPTURE):
        return "a secondary capture, not an image of the scanner"
    if str(header.get("SamplesPerPixel") or 1) != "1":
        return "colour images"
    return None


def _multiframe(_series: Series, header: Dataset) -> str | None:
    name = _MULTIFRAME.get(text(header, "SOPClassUID"))
    if name is None:
        return None
    return f"{name} (multi-frame) is stored and routed, but a forecast needs single-frame images"


def _localizer(_series: Series, header: Dataset) -> str | None:
    values = text(header, "ImageType").upper().split("\\")
    if "LOCALIZER" in values or "SCOUT" in values:
        return "a localizer (Image Type)"
    if _LOCALIZER.search(text(header, "SeriesDescription")):
        return "a localizer (Series Description)"
    return None


def _reformat(_series: Series, header: Dataset) -> str | None:
    values = set(text(header, "ImageType").upper().split("\\"))
    if values & _REFORMAT_VALUES:
        return f"reformatted or projected images (Image Type has {sorted(values & _REFORMAT_VALUES)[0]})"
    if _REFORMAT.search(text(header, "SeriesDescription").replace("_", " ")):
        return "reformatted or projected images (Series Description)"
    return None


def _parameter_map(_series: Series, header: Dataset) -> str | None:
    if _MAP.search(text(header, "SeriesDescription").replace("_", " ")):
        return "a parameter map, subtraction, bolus monitoring or dose page (Series Description)"
    return None


def _diffusion(series: Series, header: Dataset) -> str | None:
    if series.modality != "MR":
        return None
    if header.get("DiffusionBValue") or _DIFFUSION.search(
        text(header, "SeriesDescription").replace("_", " ")
    ):
        return "diffusion-weighted images or their maps"
    return None


def _few_slices(series: Series, _header: Dataset) -> str | None:
    n = len(series.instances)
    if n >= MINIMUM_SLICES:
        return None
    return f"{n} image{'s' if n != 1 else ''}; at least {MINIMUM_SLICES} are needed"


def _not_axial(_series: Series, header: Dataset) -> str | None:
    cosines = numbers(header, "ImageOrientationPatient", 6)
    if cosines is None:
        return None  # loading refuses it, and says what is missing
    normal = np.cross(cosines[:3], cosines[3:])
    return None if abs(float(normal[2])) >= AXIAL_COSINE else "not axial"


def _derived(_series: Series, header: Dataset) -> str | None:
    values = text(header, "ImageType").upper().split("\\")
    if values[0] == "DERIVED":
        return "derived images (Image Type), and no segmentation refers to them"
    if len(values) > 1 and values[1] == "SECONDARY":
        return "secondary images (Image Type), and no segmentation refers to them"
    return None


def _body_part(_series: Series, header: Dataset) -> str | None:
    part = text(header, "BodyPartExamined").strip().upper()
    return f"body part {part}" if part in _OTHER_BODY_PARTS else None


_Check = Callable[[Series, Dataset], str | None]
_ALWAYS: tuple[_Check, ...] = (
    _modality,
    _secondary_capture,
    _multiframe,
    _localizer,
    _few_slices,
    _not_axial,
)
_UNLESS_SEGMENTED: tuple[_Check, ...] = (_reformat, _parameter_map, _diffusion, _body_part, _derived)
