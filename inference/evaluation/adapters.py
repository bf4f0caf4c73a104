"""Models as forecasters: any generator behind the pipeline's seam, and a simulator's own redraws."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pandas as pd

from inference.errors import ModelError, TrainingDataError, UnsupportedRegimen
from inference.evaluation.forecasts import Detail, Forecast, Question, category_of, class_index
from inference.evaluation.maps import BaselineLesions, response_on_map
from inference.evaluation.measures import Sampling
from inference.models.protocols import Generator
from inference.randomness import RandomStreams
from inference.results import (
    Baseline,
    GeneratedCourse,
    GeneratedTimePoint,
    Labels,
    Segmentation,
    Tissue,
    TissueMap,
)
from inference.settings import PipelineSettings, Regimen
from inference.stages.generate import SharesPreparation
from inference.training.cohort import NO_VALUE, CohortInfo, PatientImages
from inference.training.crop_study import as_study, course_streams
from inference.training.crop_volumes import tissue_ml

REDRAWS = "redraws.csv"
REDRAW_COLUMNS = (
    "patient_id",
    "regimen_id",
    "months",
    "draw",
    "viable_ml",
    "necrosis_ml",
    "lipiodol_ml",
    "mrecist",
)


@runtime_checkable
class Redrawable(Protocol):
    """A generator of one patient that can be given other luck."""

    def redrawn(self, each: Sequence[RandomStreams]) -> Iterator[Generator]:
        """Return generators of the same patient that draw by other streams, stratified over them."""
        ...


@dataclass(frozen=True, slots=True)
class GeneratorForecaster:
    """A generator of the pipeline, given the crop of a patient as if it were a study.

    Samples are courses with different seeds, the same for every regimen; volumes and response are
    measured on the tissue maps that it returns. The volume requested of the map is what the trajectory of
    the course states for that month. A generator that draws one expected course answers
    with one sample.

    Attributes
    ----------
    regimens : mapping of str to Regimen
        Schedule of each regimen by its id.
    courses : int
        Most seeds that are tried: 1 for a generator without randomness.
    """

    name: str
    generator: Generator
    regimens: Mapping[str, Regimen]
    info: CohortInfo
    courses: int = 1

    def schedule(self, question: Question) -> Regimen:
        """Return the regimen of a question.

        Raises
        ------
        UnsupportedRegimen
            It has no schedule.
        """
        regimen = self.regimens.get(question.regimen_id)
        if regimen is None:
            raise UnsupportedRegimen(f"the regimen {question.regimen_id} has no schedule")
        return regimen

    def forecast(self, question: Question, samples: int, detail: Detail, streams: RandomStreams) -> Forecast:
        """Return a sample for each course; see `Forecaster.forecast`."""
        regimen = self.schedule(question)
        patient = question.patient
        baseline, segmentation = as_study(patient, self.info)
        settings = PipelineSettings(regimens=(regimen,), months=(question.months,), best_response=False)
        points, requested = [], []
        each = course_streams(streams, patient.patient_id, min(samples, self.courses))
        generators, sampling = _redrawn(self.generator, baseline, segmentation, each)
        for generator, own in zip(generators, each, strict=True):
            drawn = generator.generate(baseline, segmentation, question.clinical, regimen, settings, own)
            points.append(drawn.time_points[0])
            requested.append(_on_trajectory(drawn, question.months))
        fractions = np.stack([_fractions(p.labels, patient.lesion.shape) for p in points])
        change = np.stack([_change(p, baseline, patient) for p in points])
        images = change if detail is Detail.IMAGES else None
        return measured(question, fractions, images, sampling, np.array(requested))


def _redrawn(
    generator: Generator, baseline: Baseline, segmentation: Segmentation, each: Sequence[RandomStreams]
) -> tuple[Iterable[Generator], Sampling]:
    """Return the generator for each of several streams, all that they share prepared once where it can be."""
    if isinstance(generator, SharesPreparation):
        prepared = generator.prepared(baseline, segmentation, each[0])
        if isinstance(prepared, Redrawable):
            return prepared.redrawn(each), Sampling.STRATIFIED
    return itertools.repeat(generator, len(each)), Sampling.INDEPENDENT


def measured(
    question: Question,
    fractions: Labels,
    change: npt.NDArray[np.int16] | None,
    sampling: Sampling = Sampling.INDEPENDENT,
    requested_viable_ml: npt.NDArray[np.float64] | None = None,
) -> Forecast:
    """Return a forecast whose volumes and classes are measured on generated maps.

    Parameters
    ----------
    fractions : array of uint8, (samples, 3, z, y, x)
    change : array of int16, (samples, phase, z, y, x), or None
        Follow-up less baseline.
    """
    patient = question.patient
    volumes = tissue_ml(fractions)
    lesions = BaselineLesions.of(patient.lesion)
    found = [
        response_on_map(question.targets, sample, lesions.numbered(sample), patient.liver)
        for sample in fractions
    ]
    return Forecast(
        volumes[:, 0],
        volumes[:, 1],
        volumes[:, 2],
        tuple(f.mrecist for f in found),
        np.array([f.viable_mm for f in found]),
        sampling,
        change,
        fractions if change is not None else None,
        requested_viable_ml,
    )


# ------------------------------------------------------------------ a crop as a study


def _on_trajectory(course: GeneratedCourse, months: float) -> float:
    """Return the viable volume that a course states for a month; NaN between its months."""
    stated = (p.viable_ml for p in course.trajectory if abs(p.months - months) < 1e-6)
    return next(stated, float("nan"))


def _fractions(labels: TissueMap, shape: Sequence[int]) -> Labels:
    whole = np.zeros(tuple(shape), dtype=np.uint8)
    whole[labels.box.slices] = labels.tissue
    return np.stack(
        [(whole == t) * np.uint8(255) for t in (Tissue.VIABLE, Tissue.NECROSIS, Tissue.LIPIODOL)]
    ).astype(np.uint8)


def _change(point: GeneratedTimePoint, baseline: Baseline, patient: PatientImages) -> npt.NDArray[np.int16]:
    change = np.zeros(patient.images.shape, dtype=np.int32)
    for index, volume in enumerate(baseline.volumes):
        image = next((i for i in point.images if i.series_instance_uid == volume.series_instance_uid), None)
        if image is not None:
            change[index][image.box.slices] = image.stored - volume.stored[image.box.slices]
    return np.where(patient.images == NO_VALUE, 0, change).clip(-32767, 32767).astype(np.int16)


# ------------------------------------------------------------------ the simulator's own oracle


@dataclass(frozen=True, slots=True)
class Redraws:
    """What the simulator itself draws again for the same patient: no forecaster can do better."""

    draws: Mapping[tuple[str, str, float], pd.DataFrame]
    name: str = "oracle"

    @classmethod
    def of(cls, folder: Path) -> Redraws | None:
        """Read ``redraws.csv`` of a cohort, None where there is none.

        Raises
        ------
        TrainingDataError
            It lacks a column.
        """
        path = folder / REDRAWS
        if not path.is_file():
            return None
        table = pd.read_csv(path, dtype={"patient_id": str})
        missing = [c for c in REDRAW_COLUMNS if c not in table.columns]
        if missing:
            raise TrainingDataError(f"{REDRAWS} lacks the columns {', '.join(missing)}")
        groups = table.groupby(["patient_id", "regimen_id", "months"])
        return cls({(str(k[0]), str(k[1]), float(str(k[2]))): part for k, part in groups})

    def forecast(self, question: Question, samples: int, detail: Detail, streams: RandomStreams) -> Forecast:
        """Return all redraws, however many were asked for; they are independent of each other."""
        key = (question.patient.patient_id, question.regimen_id, float(question.months))
        found = self.draws.get(key)
        if found is None:
            raise ModelError("the simulator did not draw this follow-up again")
        chosen = found.sort_values("draw")
        classes = [class_index(str(c)) for c in chosen["mrecist"].fillna("NE")]
        return Forecast(
            chosen["viable_ml"].to_numpy(dtype=np.float64),
            chosen["necrosis_ml"].to_numpy(dtype=np.float64),
            chosen["lipiodol_ml"].to_numpy(dtype=np.float64),
            tuple(category_of(c) for c in classes),
            np.full(len(chosen), np.nan),
        )
