"""Measurements of lesions, and response."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from inference.results.refusals import NotAssessed, Reason


@dataclass(frozen=True, slots=True)
class Axis:
    """A measured diameter.

    Attributes
    ----------
    slice_index : int
        Slice of the primary grid on which it was measured.
    start_rc, end_rc : (row, column)
        End points in continuous pixel indices, 0 at the centre of the first pixel.
    start_mm, end_mm : (x, y, z)
        The same in LPS.
    """

    length_mm: float
    slice_index: int
    start_rc: tuple[float, float]
    end_rc: tuple[float, float]
    start_mm: tuple[float, float, float]
    end_mm: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class LesionMeasurement:
    """One lesion at one time point; an axis is None when nothing of it is left to measure."""

    lesion_id: str
    volume_ml: float
    viable_ml: float
    long_axis: Axis | None
    short_axis: Axis | None
    viable_long_axis: Axis | None
    viable_short_axis: Axis | None
    center_mm: tuple[float, float, float] | None


class ResponseCategory(StrEnum):
    """Response categories of RECIST 1.1 and mRECIST."""

    CR = "CR"
    PR = "PR"
    SD = "SD"
    PD = "PD"
    NE = "NE"


@dataclass(frozen=True, slots=True)
class Response:
    """Response under one set of criteria."""

    category: ResponseCategory
    sum_mm: float
    change_pct: float
    target_lesion_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """Tumour outlined again on a generated image, beside the map that it was drawn from.

    Attributes
    ----------
    dice : float
        Overlap of the outlined tumour with the tumour of the map, 1 where neither has any.
    baseline_dice : float
        The same on the baseline image: what the segmenter itself is worth on this patient.
    tumour_ml : float
    recist11 : Response or NotAssessed
        From what was outlined on the baseline and on the generated image.
    """

    dice: float
    baseline_dice: float
    tumour_ml: float
    recist11: Response | NotAssessed


NOT_CHECKED = NotAssessed(Reason.IMAGE_NOT_CHECKED, "the generated image was not outlined again")
