"""The learned generator as a forecaster, and the one-step regression network that its bundle carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inference.bundle_store import BundleDescription
from inference.evaluation.adapters import GeneratorForecaster
from inference.evaluation.baselines import class_by_size
from inference.evaluation.forecasts import Detail, Forecast, Forecaster, Question
from inference.evaluation.generator_report import REGRESSION
from inference.evaluation.maps import SMALLEST_NEW_ML
from inference.evaluation.measures import Sampling
from inference.models.flow.conditions import Request
from inference.models.flow.generator import Course, LearnedGenerator
from inference.models.flow.sampler import Draw
from inference.randomness import RandomStreams
from inference.results import ResponseCategory
from inference.settings import Regimen
from inference.training.cohort import CohortInfo
from inference.training.crop_study import as_study, course_streams
from inference.training.crop_volumes import tissue_ml

LEARNED = "learned generator"
MOST_SAMPLES = 1000


@dataclass(frozen=True, slots=True)
class LearnedForecaster:
    """The learned generator with sampled courses.

    Where no images are asked for, volumes are those that its images would be asked to have, and the
    response is that of a tumour which keeps its shape.
    """

    name: str
    generator: LearnedGenerator
    images: GeneratorForecaster

    def forecast(self, question: Question, samples: int, detail: Detail, streams: RandomStreams) -> Forecast:
        """Return a sample for each course; see `Forecaster.forecast`."""
        if detail is Detail.IMAGES:
            return self.images.forecast(question, samples, detail, streams)
        regimen = self.images.schedule(question)
        baseline, segmentation = as_study(question.patient, self.images.info)
        each = course_streams(streams, question.patient.patient_id, samples)
        prepared = self.generator.prepared(baseline, segmentation, each[0])
        courses = prepared.redrawn(each)
        drawn = [course.request(question.clinical, regimen, question.months) for course in courses]
        base = float(tissue_ml(question.patient.fractions)[0])
        return Forecast(
            np.array([r.viable_ml for r in drawn]),
            np.array([sum(r.necrosis.values()) for r in drawn]),
            np.array([sum(r.lipiodol.values()) for r in drawn]),
            tuple(_response(r, base) for r in drawn),
            np.full(len(drawn), np.nan),
            Sampling.STRATIFIED,
        )


def _response(request: Request, base_ml: float) -> ResponseCategory:
    """Return the class of a request; a new lesion that can be measured is progression."""
    if any(ml >= SMALLEST_NEW_ML for ml in request.new_ml):
        return ResponseCategory.PD
    kept = sum(request.viable.values())
    return class_by_size(float(np.cbrt(kept / base_ml)) if base_ml > 0 else 1.0)


def learned_forecasters(
    bundle: BundleDescription, info: CohortInfo, regimens: Mapping[str, Regimen]
) -> Sequence[Forecaster]:
    """Return the generator with sampled courses and, where its weights are there, one-step regression.

    The regression network draws the median course once, as it would be shown.
    """
    sampled = LearnedGenerator.from_bundle(bundle.folder, course=Course.SAMPLED)
    images = GeneratorForecaster(LEARNED, sampled, regimens, info, courses=MOST_SAMPLES)
    found: list[Forecaster] = [LearnedForecaster(LEARNED, sampled, images)]
    weights = bundle.folder / "models" / f"{Draw.REGRESSION.value}.safetensors"
    if sampled.settings.draw is not Draw.REGRESSION and weights.is_file():
        median = LearnedGenerator.from_bundle(bundle.folder, draw=Draw.REGRESSION)
        found.append(GeneratorForecaster(REGRESSION, median, regimens, info))
    return tuple(found)
