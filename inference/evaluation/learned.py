"""The learned generator as a forecaster, and the one-step regression network that its bundle carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inference.bundle_store import BundleDescription
from inference.evaluation.adapters import GeneratorForecaster
from inference.evaluation.forecasts import Forecaster
from inference.evaluation.generator_report import REGRESSION
from inference.models.flow.generator import Course, LearnedGenerator
from inference.models.flow.sampler import Draw
from inference.settings import Regimen
from inference.training.cohort import CohortInfo

LEARNED = "learned generator"
MOST_SAMPLES = 1000


def learned_forecasters(
    bundle: BundleDescription, info: CohortInfo, regimens: Mapping[str, Regimen]
) -> Sequence[Forecaster]:
    """Return the generator with sampled courses and, where its weights are there, one-step regression.

    The regression network draws the median course once, as it would be shown.
    """
    sampled = LearnedGenerator.from_bundle(bundle.folder, course=Course.SAMPLED)
    found = [GeneratorForecaster(LEARNED, sampled, regimens, info, courses=MOST_SAMPLES)]
    weights = bundle.folder / "models" / f"{Draw.REGRESSION.value}.safetensors"
    if sampled.settings.draw is not Draw.REGRESSION and weights.is_file():
        median = LearnedGenerator.from_bundle(bundle.folder, draw=Draw.REGRESSION)
        found.append(GeneratorForecaster(REGRESSION, median, regimens, info))
    return tuple(found)
