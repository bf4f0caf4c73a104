"""Death before a fixed time, predicted from baseline alone, with the true and with the virtual follow-up.

One logistic regression is fitted on training patients with their true follow-up at the landmark, one on
their baseline alone. On the patients of the evaluation the former is given the true follow-up, and then
the virtual one in its place: the mean probability over its samples. Patients who died or were lost
before the landmark, or were lost before the fixed time, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from inference.evaluation.forecasts import CLASSES, Forecast, class_index
from inference.evaluation.metrics import BoolArray
from inference.evaluation.questions import LANDMARK_MONTHS, Outcome
from inference.evaluation.regression import Linear, cross_fitted, log_loss, logistic
from inference.evaluation.training_rows import log_ratio
from inference.results import FloatArray

HORIZON_MONTHS = 12.0
FEWEST_DEATHS = 10


@dataclass(frozen=True, slots=True)
class Status:
    """Who is at risk at the landmark with a known fate at the horizon, and who of them died.

    Attributes
    ----------
    known, died : array of bool, (patients,)
    """

    known: BoolArray
    died: BoolArray


def status(rows: Sequence[Mapping[Any, Any]]) -> Status:
    """Return the status of patients from their rows of ``patients.csv``."""
    time = np.array([float(r["os_months"]) for r in rows])
    event = np.array([float(r["os_event"]) for r in rows]) == 1
    died = event & (time <= HORIZON_MONTHS)
    at_risk = np.isfinite(time) & (time > LANDMARK_MONTHS)
    return Status(at_risk & (died | (time >= HORIZON_MONTHS)), died)


def true_features(outcome: Outcome, baseline_ml: float) -> FloatArray:
    """Return what a model is told of a true follow-up, (1, features)."""
    share = np.array([[outcome.viable_ml, outcome.necrosis_ml, outcome.lipiodol_ml]]) / baseline_ml
    return _features(share, np.array([outcome.viable_ml]), np.array([outcome.response]))


def virtual_features(forecast: Forecast, baseline_ml: float) -> FloatArray:
    """Return the same of each sample of a forecast, (samples, features)."""
    volumes = np.stack([forecast.viable_ml, forecast.necrosis_ml, forecast.lipiodol_ml], axis=1)
    response = np.array([class_index(c) for c in forecast.mrecist])
    return _features(volumes / baseline_ml, forecast.viable_ml, response)


def _features(share: FloatArray, viable_ml: FloatArray, response: np.ndarray) -> FloatArray:
    progressed = (response == len(CLASSES) - 1).astype(np.float64)
    responded = ((response >= 0) & (response <= 1)).astype(np.float64)
    columns = (
        log_ratio(share[:, 0]),
        np.log(viable_ml + 0.1),
        np.minimum(share[:, 1], 3.0),
        np.minimum(share[:, 2], 3.0),
        progressed,
        responded,
    )
    return np.stack(columns, axis=1)


@dataclass(frozen=True, slots=True)
class SurvivalModels:
    """The two logistic regressions, and the scale of the follow-up features."""

    baseline: Linear
    with_follow_up: Linear
    mean: FloatArray
    scale: FloatArray

    @classmethod
    def of(
        cls, matrix: FloatArray, follow_up: FloatArray, seen: Status, rng: np.random.Generator
    ) -> SurvivalModels | None:
        """Fit on training patients; None where too few died or survived.

        Parameters
        ----------
        matrix : array, (patients, features)
            Standardised baseline features.
        follow_up : array, (patients, features)
            Of `true_features`.
        """
        x, f = matrix[seen.known], follow_up[seen.known]
        died = seen.died[seen.known].astype(np.float64)
        if min(died.sum(), len(died) - died.sum()) < FEWEST_DEATHS:
            return None
        mean, scale = f.mean(axis=0), np.maximum(f.std(axis=0), 1e-6)
        both = np.concatenate([x, (f - mean) / scale], axis=1)
        group = np.arange(len(died))
        state = rng.bit_generator.state
        baseline = cross_fitted(logistic, log_loss, x, died, group, rng).model
        rng.bit_generator.state = state
        return cls(baseline, cross_fitted(logistic, log_loss, both, died, group, rng).model, mean, scale)

    def from_baseline(self, features: FloatArray) -> float:
        """Return the probability of death from the baseline alone; features are (1, k)."""
        return float(self.baseline.probability(features)[0])

    def from_follow_up(self, features: FloatArray, follow_up: FloatArray) -> float:
        """Return the mean probability of death over the samples of a follow-up, (samples, features)."""
        repeated = np.repeat(features, len(follow_up), axis=0)
        scaled = (follow_up - self.mean) / self.scale
        both = np.concatenate([repeated, scaled], axis=1)
        return float(self.with_follow_up.probability(both).mean())
