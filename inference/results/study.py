"""The forecast of one study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inference.case import ClinicalRecord
from inference.results.bundles import BundleInfo
from inference.results.generated import GeneratedTimePoint, TrajectoryPoint
from inference.results.images import Baseline
from inference.results.opinions import SecondOpinion
from inference.results.outlines import Segmentation
from inference.results.refusals import NotAssessed
from inference.results.response import NOT_CHECKED, ImageCheck, LesionMeasurement, Response
from inference.results.survival import Survival

if TYPE_CHECKING:
    from inference.comparison.results import RegimenComparison


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
    mechanistic model or simulated patients only, second opinions included; every output then says
    DEMONSTRATION MODEL.

    Attributes
    ----------
    regimen_comparison : RegimenComparison or None
        Everything behind `comparison`: each regimen, each pair, refusals; None where none was learned or
        the patient could not be placed in it.
    notes : tuple of str
        What the models would have taken and did not get; people read them among the warnings.

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
    second_opinions: tuple[SecondOpinion, ...] = ()
    regimen_comparison: RegimenComparison | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        drawn = {f.regimen_id for f in self.forecasts if f.not_assessed is None}
        if isinstance(self.comparison, Comparison) and self.comparison.recommended not in {None, *drawn}:
            raise ValueError("the comparison recommends a regimen that was not forecast")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What people are told about the input, the outlines and the generated images."""
        doubts = _image_doubts(self.forecasts)
        return (*self.baseline.warnings, *self.segmentation.warnings, *doubts, *self.notes)

    @property
    def demonstration(self) -> bool:
        """Whether any bundle is mechanistic or trained on simulated patients."""
        words = ("mechanistic", "simulated")
        used = [*self.bundles.values(), *(opinion.bundle for opinion in self.second_opinions)]
        return any(b.trained_on.startswith(words) for b in used)


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
