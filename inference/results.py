"""What the pipeline returns: frozen, typed, free of torch.

Arrays are NumPy, in the order (slice, row, column) of the baseline series, and are not to be
written to. Coordinates are DICOM patient coordinates (LPS, mm). Volumes are in ml, diameters in mm,
times in months after the start of treatment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from inference.case import ClinicalRecord, Phase

FloatArray: TypeAlias = npt.NDArray[np.float64]
Voxels: TypeAlias = npt.NDArray[np.float32]
StoredValues: TypeAlias = npt.NDArray[np.int32]
Labels: TypeAlias = npt.NDArray[np.uint8]
Mask: TypeAlias = npt.NDArray[np.bool_]


# ------------------------------------------------------------------ refusals inside a result


class Reason(StrEnum):
    """Why a part of a result was not assessed."""

    PHASE_MISSING = "PhaseMissing"
    REGIMEN_NOT_COVERED = "RegimenNotCovered"
    CLINICAL_VALUES_MISSING = "ClinicalValuesMissing"
    ENDPOINT_NOT_COVERED = "EndpointNotCovered"
    NOTHING_MEASURABLE = "NothingMeasurable"
    COMPARISON_NOT_SUPPORTED = "ComparisonNotSupported"
    BEYOND_FOLLOW_UP = "BeyondFollowUp"
    TOO_FEW_EVENTS = "TooFewEvents"
    NO_OVERLAP = "NoOverlap"
    OUT_OF_DISTRIBUTION = "OutOfDistribution"
    NO_EFFECT_SHOWN = "NoEffectShown"
    IMAGE_NOT_CHECKED = "ImageNotChecked"


@dataclass(frozen=True, slots=True)
class NotAssessed:
    """An explicit refusal: a reason from the table and one sentence for people."""

    reason: Reason
    detail: str


# ------------------------------------------------------------------ geometry and images


@dataclass(frozen=True, slots=True)
class Grid:
    """A regular sampling of patient space.

    Attributes
    ----------
    shape : (slices, rows, columns)
    affine : array, (4, 4)
        Maps (slice, row, column, 1) at voxel centres to LPS in mm.
    frame_of_reference_uid : str
    """

    shape: tuple[int, int, int]
    affine: FloatArray
    frame_of_reference_uid: str

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (slice, row, column) axes, in mm."""
        z, y, x = (float(np.linalg.norm(self.affine[:3, axis])) for axis in range(3))
        return z, y, x

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in ml."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def to_patient(self, index: npt.ArrayLike) -> FloatArray:
        """Map (..., 3) indices (slice, row, column) to (..., 3) LPS coordinates in mm."""
        i = np.asarray(index, dtype=np.float64)
        return np.asarray(i @ self.affine[:3, :3].T + self.affine[:3, 3])

    def part(self, box: Box) -> Grid:
        """Return the grid of a box of this one."""
        affine = self.affine.copy()
        affine[:3, 3] = self.to_patient(box.start)
        return Grid(box.shape, affine, self.frame_of_reference_uid)


@dataclass(frozen=True, slots=True)
class Resampled:
    """That a series was interpolated from its own grid onto that of the primary series.

    Attributes
    ----------
    covered : array of bool, (slices, rows, columns)
        Voxels that the series acquired; the others have its least value.
    """

    source_grid: Grid
    covered: Mask


@dataclass(frozen=True, slots=True)
class SeriesVolume:
    """One series as a volume, slices in the order of the grid's first axis.

    Attributes
    ----------
    stored : array of int32, (slices, rows, columns)
        Stored values exactly as in the files; interpolated where `resampled` says so.
    slope, intercept : array, (slices,)
        Rescale Slope and Intercept of each slice; value = slope * stored + intercept (HU in CT).
    headers : tuple of Dataset
        Source headers without Pixel Data, one for each slice. Not to be written to.
    phase_evidence : str
        What the phase was concluded from, one sentence.
    resampled : Resampled or None
        None for a series on its own grid, which the primary always is.
    """

    series_instance_uid: str
    modality: str
    phase: Phase
    phase_evidence: str
    grid: Grid
    stored: StoredValues
    slope: FloatArray
    intercept: FloatArray
    headers: tuple[Dataset, ...]
    resampled: Resampled | None = None

    def values(self) -> Voxels:
        """Rescaled values, float32 (slices, rows, columns); HU in CT (PS3.3 C.11.1.1.2)."""
        shape = (-1, 1, 1)
        scaled = self.stored * self.slope.reshape(shape) + self.intercept.reshape(shape)
        return np.asarray(scaled, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open box of voxel indices on a grid."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as an index."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    @property
    def shape(self) -> tuple[int, int, int]:
        """Extent along (slice, row, column)."""
        z, y, x = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    def slices_in(self, other: Box) -> tuple[slice, slice, slice]:
        """Return the box as an index of an array that covers `other`, which must hold it."""
        z, y, x = (slice(a - o, b - o) for a, b, o in zip(self.start, self.stop, other.start, strict=True))
        return z, y, x


class Tissue(IntEnum):
    """Values of a tissue map. Each voxel has one: lipiodol and necrosis are not viable tumour."""

    BACKGROUND = 0
    LIVER = 1
    VIABLE = 2
    NECROSIS = 3
    LIPIODOL = 4


@dataclass(frozen=True, slots=True)
class TissueMap:
    """Tissues and lesions in a box of the primary series' grid; background outside the box.

    Attributes
    ----------
    tissue : array of uint8, shape of the box
        Values of `Tissue`.
    lesion : array of uint8, shape of the box
        0, or the `Lesion.number` the voxel belongs to (viable, necrosis or lipiodol).
    """

    box: Box
    tissue: Labels
    lesion: Labels

    def mask(self, *tissues: Tissue) -> Mask:
        """Voxels of the box that are one of `tissues`."""
        return np.isin(self.tissue, [int(t) for t in tissues])


# ------------------------------------------------------------------ stage results


@dataclass(frozen=True, slots=True)
class RejectedSeries:
    """A series that was not used, and why."""

    series_instance_uid: str
    modality: str
    description: str
    reason: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """The chosen series as volumes. The first is primary: masks and forecasts live on its grid.

    Series of other phases have been checked to share the primary's geometry, or are rejected.
    """

    study_instance_uid: str
    volumes: tuple[SeriesVolume, ...]
    rejected: tuple[RejectedSeries, ...]
    warnings: tuple[str, ...] = ()

    @property
    def primary(self) -> SeriesVolume:
        """The series on whose grid everything is measured."""
        return self.volumes[0]

    def phase(self, phase: Phase) -> SeriesVolume | None:
        """Return the volume of one phase, if it was chosen."""
        return next((v for v in self.volumes if v.phase is phase), None)


@dataclass(frozen=True, slots=True)
class Lesion:
    """One tumour, an object of its own with an identifier that is stable over time points."""

    number: int
    lesion_id: str
    tracking_uid: str | None = None


@dataclass(frozen=True, slots=True)
class BundleInfo:
    """What a result was made with. `trained_on` is one of the words of the bundle's metadata."""

    name: str
    version: str
    sha256: str
    trained_on: str


@dataclass(frozen=True, slots=True)
class Region:
    """A reference structure that a segmentation also has, such as the aorta; used to tell the phase.

    Attributes
    ----------
    name : str
        A value of `inference.imaging.segmentations.Structure`.
    mask : array of bool, shape of the box
    """

    name: str
    box: Box
    mask: Mask


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A more trusted segmenter that was not used, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Liver and lesions at baseline, on the grid of the primary series.

    Attributes
    ----------
    source_sop_instance_uid : str or None
        The segmentation object it was read from; None where a program of the node drew it.
    entropy : float or None
        Mean entropy (nats) of the segmenter's own uncertainty near the liver, where it has one.
    passed_over : tuple of PassedOver
        More trusted segmenters that were not used.
    """

    labels: TissueMap
    lesions: tuple[Lesion, ...]
    bundle: BundleInfo
    source_sop_instance_uid: str | None
    warnings: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()
    entropy: float | None = None
    passed_over: tuple[PassedOver, ...] = ()


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


@dataclass(frozen=True, slots=True)
class TimePoint:
    """One forecast time point: what was generated, and what was measured on it."""

    generated: GeneratedTimePoint
    lesions: tuple[LesionMeasurement, ...]
    viable_ml: float
    recist11: Response | NotAssessed
    mrecist: Response | NotAssessed
    image_check: ImageCheck | NotAssessed = NOT_CHECKED


@dataclass(frozen=True, slots=True)
class SurvivalCurve:
    """A predicted survival curve with pointwise 95 % limits.

    `median_months` and `rmst36` are None beyond follow-up. `probabilities` maps 12, 24 and 36
    months to (estimate, lower, upper), or is without the key beyond follow-up.
    """

    months: tuple[float, ...]
    survival: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    probabilities: Mapping[int, tuple[float, float, float]]
    median_months: float | None
    rmst36: float | None
    risk_score: float
    risk_group: str


@dataclass(frozen=True, slots=True)
class Survival:
    """Survival end points of one regimen."""

    os: SurvivalCurve | NotAssessed
    pfs: SurvivalCurve | NotAssessed
    ttp: SurvivalCurve | NotAssessed


@dataclass(frozen=True, slots=True)
class RegimenForecast:
    """Everything predicted under one regimen.

    Attributes
    ----------
    not_assessed : NotAssessed or None
        Why no follow-up was drawn under this regimen; time points and trajectory are empty then.
        Survival rests on another model, and says for itself what it does not cover.
    """

    regimen_id: str
    name: str
    time_points: tuple[TimePoint, ...]
    trajectory: tuple[TrajectoryPoint, ...]
    survival: Survival
    not_assessed: NotAssessed | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The regimens against each other; `recommended` is None unless the rule was met."""

    recommended: str | None
    benefit_months: float | None
    confidence: float | None
    reasons: tuple[str, ...]
    demonstration: bool


@dataclass(frozen=True, slots=True)
class ClinicalSummary:
    """Clinical values that were used and that were missing, derived scores and eligibility."""

    used: ClinicalRecord
    missing: tuple[str, ...]
    scores: Mapping[str, float | str]
    eligibility: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StudyResults:
    """The forecast of one study.

    `timings_s` has a key for each stage. `demonstration` is true when any bundle was made from a
    mechanistic model or simulated patients only; every output then says DEMONSTRATION MODEL.

    Raises
    ------
    ValueError
        The comparison recommends a regimen that was not forecast.
    """

    baseline: Baseline
    segmentation: Segmentation
    baseline_lesions: tuple[LesionMeasurement, ...]
    clinical: ClinicalSummary
    forecasts: tuple[RegimenForecast, ...]
    comparison: Comparison | NotAssessed
    bundles: Mapping[str, BundleInfo]
    seed: int
    timings_s: Mapping[str, float]

    def __post_init__(self) -> None:
        drawn = {f.regimen_id for f in self.forecasts if f.not_assessed is None}
        if isinstance(self.comparison, Comparison) and self.comparison.recommended not in {None, *drawn}:
            raise ValueError("the comparison recommends a regimen that was not forecast")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What people are told about the input, the outlines and the generated images."""
        return (*self.baseline.warnings, *self.segmentation.warnings, *_image_doubts(self.forecasts))

    @property
    def demonstration(self) -> bool:
        """Whether any bundle is mechanistic or trained on simulated patients."""
        words = ("mechanistic", "simulated")
        return any(b.trained_on.startswith(words) for b in self.bundles.values())


_DICE_LOST = 0.25


def _image_doubts(forecasts: Sequence[RegimenForecast]) -> tuple[str, ...]:
    """Name the images that a segmenter reads otherwise than the maps they were drawn from."""
    return tuple(
        f"{forecast.name}: outlined again on the generated image of month {point.generated.months:g}, the "
        f"tumour agrees less with the map (Dice {found.dice:.2f}) than on the baseline "
        f"({found.baseline_dice:.2f}); look at the image before relying on its response."
        for forecast in forecasts
        for point in forecast.time_points
        if isinstance(found := point.image_check, ImageCheck)
        and found.dice < found.baseline_dice - _DICE_LOST
    )
