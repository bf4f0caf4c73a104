"""What a generator returns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from inference.case import Phase
from inference.results.arrays import Mask, StoredValues
from inference.results.images import Box
from inference.results.outlines import TissueMap
from inference.results.refusals import NotAssessed


@dataclass(frozen=True, slots=True)
class VirtualImage:
    """Generated stored values of one baseline series inside a box; baseline values elsewhere.

    Attributes
    ----------
    stored : array of int32, shape of the box
        Differs from the baseline only inside the liver mask.
    """

    series_instance_uid: str
    phase: Phase
    box: Box
    stored: StoredValues


class TimePointKind(StrEnum):
    """Why a time point was generated."""

    SCHEDULED = "scheduled"
    BEST_RESPONSE = "best_response"


@dataclass(frozen=True, slots=True)
class ViableRange:
    """Extents of viable tumour at the two ends of an interval of its volume.

    Attributes
    ----------
    least, most : array of bool, shape of the box
        `least` lies within what was drawn, `most` holds it.
    """

    box: Box
    least: Mask
    most: Mask


@dataclass(frozen=True, slots=True)
class GeneratedTimePoint:
    """Images and tissue map of one regimen at one time (what a generator returns).

    Attributes
    ----------
    viable_range80 : ViableRange or None
        Where viable tumour would be at the ends of its interval; None from a generator that cannot say.
    """

    months: float
    kind: TimePointKind
    images: tuple[VirtualImage, ...]
    labels: TissueMap
    viable_ml_interval80: tuple[float, float]
    viable_range80: ViableRange | None = None


@dataclass(frozen=True, slots=True)
class TrajectoryPoint:
    """Predicted burden at one time, for the trajectory chart."""

    months: float
    viable_ml: float
    total_ml: float
    viable_ml_interval80: tuple[float, float]


@dataclass(frozen=True, slots=True)
class GeneratedCourse:
    """One regimen as the generator draws it: time points by month, and the monthly burden.

    Attributes
    ----------
    not_assessed : NotAssessed or None
        Why nothing was drawn under this regimen; time points and trajectory are empty then.
    """

    regimen_id: str
    time_points: tuple[GeneratedTimePoint, ...]
    trajectory: tuple[TrajectoryPoint, ...]
    not_assessed: NotAssessed | None = None
