"""Scores of one forecaster on one patient; their table is what all measures are computed from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

import numpy as np
import numpy.typing as npt
import pandas as pd

from inference.evaluation.forecasts import CLASSES, Forecast, class_index
from inference.evaluation.maps import response_on_map
from inference.evaluation.measures import central_interval, crps, most_probable
from inference.evaluation.questions import Asked, Known, Outcome
from inference.results import FloatArray, Mask
from inference.training.cohort import NO_VALUE, FollowUpImages, PatientImages

_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one forecast; NaN or -1 where it was not measured.

    Attributes
    ----------
    crps_pct, error_pct, width_pct, difference_error_pct, realised_error_pct : float
        In percent of the viable volume at baseline.
    covered : float
        1 when the 80 % interval of the viable volume holds the true one.
    predicted, single : int
        Most probable class, and class of the first sample.
    response_score : float
        Share of samples with CR or PR, equal shares ordered by volume.
    lesion_mae, single_mae, voxel_crps : float
        HU in the lesions: error of the mean of all samples, mean error of one, CRPS.
    """

    crps_pct: float
    error_pct: float
    error_ml: float
    width_pct: float
    covered: float
    diameter_error_mm: float
    predicted: int
    single: int
    response_score: float
    requested_ml: float = _NAN
    realised_ml: float = _NAN
    realised_error_pct: float = _NAN
    lesion_mae: float = _NAN
    single_mae: float = _NAN
    voxel_crps: float = _NAN
    difference_error_pct: float = _NAN


@dataclass(frozen=True, slots=True)
class Truth:
    """What truly happened, measured as forecasts are.

    Attributes
    ----------
    class_on_map : int
        Class of the true map against the baseline alone, as forecasts are classified; the table's class
        comes from the whole course and may differ.
    """

    outcome: Outcome
    baseline_ml: float
    viable_mm: float
    images: FollowUpImages | None
    class_on_map: int = -1


def truth_of(asked: Asked, known: Known, images: FollowUpImages | None) -> Truth:
    """Measure the true follow-up."""
    if images is None:
        return Truth(asked.main, asked.baseline_viable_ml, _NAN, None)
    found = response_on_map(known.targets, images.fractions, images.lesion, known.patient.liver)
    category = class_index(found.mrecist)
    return Truth(asked.main, asked.baseline_viable_ml, found.viable_mm, images, category)


def scores(forecast: Forecast, truth: Truth) -> Scores:
    """Score the scalars of a forecast."""
    base, true = truth.baseline_ml, truth.outcome.viable_ml
    viable = forecast.viable_ml
    middle = float(np.median(viable))
    low, high = central_interval(viable, forecast.sampling)
    spread = len(viable) > 1
    classes = np.array([class_index(c) for c in forecast.mrecist], dtype=np.intp)
    asked = _requested(forecast, base)
    known = forecast.viable_mm[np.isfinite(forecast.viable_mm)]
    return Scores(
        crps_pct=100 * float(crps(viable, true)) / base,
        error_pct=100 * abs(middle - true) / base,
        error_ml=abs(middle - true),
        width_pct=100 * (high - low) / base if spread else _NAN,
        covered=float(low <= true <= high) if spread else _NAN,
        diameter_error_mm=abs(float(np.median(known)) - truth.viable_mm) if len(known) else _NAN,
        predicted=most_probable(classes, len(CLASSES)),
        single=int(classes[0]),
        response_score=response_score(forecast, base),
        requested_ml=asked.requested_ml,
        realised_ml=asked.realised_ml,
        realised_error_pct=asked.error_pct,
    )


@dataclass(frozen=True, slots=True)
class _Requested:
    requested_ml: float
    realised_ml: float
    error_pct: float


def _requested(forecast: Forecast, baseline_ml: float) -> _Requested:
    """Compare what was asked of the images with what they show, over the samples that state it."""
    requested = forecast.requested_viable_ml
    if requested is None or not np.isfinite(requested).any():
        return _Requested(_NAN, _NAN, _NAN)
    stated = np.isfinite(requested)
    wanted, shown = requested[stated], forecast.viable_ml[stated]
    error = 100 * float(np.abs(shown - wanted).mean()) / baseline_ml
    return _Requested(float(wanted.mean()), float(shown.mean()), error)


def unanswered() -> Scores:
    """Return the scores of a question that a forecaster could not answer."""
    return Scores(_NAN, _NAN, _NAN, _NAN, _NAN, _NAN, -1, -1, _NAN)


def response_score(forecast: Forecast, baseline_ml: float) -> float:
    """Return the share of samples with an objective response, equal shares ordered by the change.

    What orders equal shares stays below half a sample, so it never turns the order of two shares.
    """
    classes = np.array([class_index(c) for c in forecast.mrecist])
    known = classes >= 0
    share = float((classes[known] <= 1).mean()) if known.any() else 0.0
    mean = float(np.log(forecast.viable_ml / baseline_ml + 0.01).mean())
    return share - 0.49 / len(classes) * float(np.tanh(mean / 10))


def difference_error_pct(
    first: Forecast, second: Forecast, true_first: float, true_second: float, baseline_ml: float
) -> float:
    """Return the error of the expected difference between two regimens, in percent of baseline."""
    expected = float(first.viable_ml.mean() - second.viable_ml.mean())
    return 100 * abs(expected - (true_first - true_second)) / baseline_ml


# ------------------------------------------------------------------ images


def lesion_region(patient: PatientImages, true: FollowUpImages) -> Mask:
    """Return where HU are compared: lesions of the baseline and of the true follow-up, (phase, z, y, x).

    It does not depend on the forecast. Voxels that were not acquired are left out.
    """
    where = (patient.lesion > 0) | (true.lesion > 0)
    return np.asarray((true.images != NO_VALUE) & (patient.images != NO_VALUE) & where)


@dataclass(frozen=True, slots=True)
class ImageScores:
    """Errors of HU in the lesions: of the mean of all samples, of one sample, and the voxel CRPS."""

    lesion_mae: float
    single_mae: float
    voxel_crps: float


def hu_scores(
    change: npt.NDArray[np.int16], patient: PatientImages, true: FollowUpImages
) -> ImageScores | None:
    """Score the images of a forecast where the lesions are.

    Parameters
    ----------
    change : array of int16, (samples, phase, z, y, x)
        Compared with the true change: of noise-free images where the cohort has them.

    Returns
    -------
    ImageScores or None
        None where there is no lesion.
    """
    region = lesion_region(patient, true)
    if not region.any():
        return None
    base = patient.images if patient.clean is None else patient.clean
    truth: FloatArray = true.images[region].astype(np.float64) - base[region]
    samples: FloatArray = change[:, region].astype(np.float64)
    return ImageScores(
        lesion_mae=float(np.abs(samples.mean(axis=0) - truth).mean()),
        single_mae=float(np.abs(samples - truth).mean()),
        voxel_crps=float(crps(samples, truth).mean()),
    )


def table(rows: Iterable[Scores]) -> pd.DataFrame:
    """Return scores as a table, one row a patient."""
    return pd.DataFrame([asdict(row) for row in rows], columns=[f.name for f in fields(Scores)])
