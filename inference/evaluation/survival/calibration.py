"""Calibration of predicted probabilities of an event by a fixed time.

What is observed at each predicted probability is estimated by a Cox regression of the outcome on a
restricted cubic spline of ``log(-log(1 - p))``; it is flexible, and right whenever the prediction is.
Distances between predicted and observed are its summary: ICI (mean), E50 (median) and E90.

References
----------
Austin, Harrell & van Klaveren 2020, Stat Med 39:2714, section 2 (ICI, E50, E90); knots and basis:
Harrell 2015, Regression Modeling Strategies, section 2.4.5, table 2.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.evaluation.bootstrap import Estimate
from inference.evaluation.metrics import kaplan_meier
from inference.evaluation.survival.follow_up import (
    FollowUp,
    checked,
    checked_probability,
    checked_times,
    need_events,
)
from inference.evaluation.survival.kaplan_meier import survival_at
from inference.evaluation.survival.resampling import JointStatistic, estimates, in_parts
from inference.evaluation.survival.weighted_cox import WeightedCox
from inference.results import FloatArray

KNOTS = {3: (0.1, 0.5, 0.9), 4: (0.05, 0.35, 0.65, 0.95), 5: (0.05, 0.275, 0.5, 0.725, 0.95)}
"""Quantiles of the knots, by their number."""

ERRORS = ("ici", "e50", "e90")
_LEAST, _MOST = 1e-6, 1 - 1e-6  # A certain prediction has no complementary log-log.
_DRAWS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class CalibrationGroup:
    """Predicted and observed survival of one group of patients at one time."""

    n: int
    predicted: float
    observed: float


def calibration_groups(
    follow_up: FollowUp, survival: npt.ArrayLike, at: float, groups: int
) -> tuple[CalibrationGroup, ...]:
    """Compare predicted survival with Kaplan-Meier, in groups of equal size by predicted survival.

    Parameters
    ----------
    survival : array, (n,)
        Predicted survival at the time `at`.

    Raises
    ------
    ValueError
        Survival that is NaN or no probability.
    """
    s = checked_probability(survival, follow_up, "predicted survival")
    parts = np.array_split(np.argsort(s, kind="stable"), groups)
    return tuple(
        CalibrationGroup(
            n=len(part),
            predicted=float(s[part].mean()),
            observed=float(kaplan_meier(follow_up.time[part], follow_up.event[part])(at)),
        )
        for part in parts
    )


@dataclass(frozen=True, slots=True)
class _Basis:
    """A restricted cubic spline scaled to be orthogonal on the patients; no column where all are alike."""

    knots: FloatArray
    mean: FloatArray
    scale: FloatArray

    @classmethod
    def of(cls, v: FloatArray, knots: int) -> _Basis:
        if knots not in KNOTS:
            raise ValueError(f"a calibration curve has {', '.join(map(str, KNOTS))} knots")
        at = np.quantile(v, KNOTS[knots])
        # Few distinct predictions, or knots on top of each other, determine no more than a straight line.
        if np.diff(at).min() < 1e-8 or len(np.unique(v)) <= knots:
            at = at[:2]
        raw = _cubic(v, at)
        mean = raw.mean(axis=0)
        triangle = np.linalg.qr(raw - mean, mode="r") / np.sqrt(len(v))
        if np.ptp(v) < 1e-8:
            return cls(at, mean, np.zeros((1, 0)))
        return cls(at, mean, np.asarray(np.linalg.inv(triangle)))

    def __call__(self, v: FloatArray) -> FloatArray:
        return np.asarray((_cubic(v, self.knots) - self.mean) @ self.scale)


def _cubic(v: FloatArray, t: FloatArray) -> FloatArray:
    columns = [v]
    for knot in t[:-2]:
        cubes = [np.maximum(v - k, 0.0) ** 3 for k in (knot, t[-2], t[-1])]
        gap = t[-1] - t[-2]
        bend = cubes[0] - cubes[1] * (t[-1] - knot) / gap + cubes[2] * (t[-2] - knot) / gap
        columns.append(bend / (t[-1] - t[0]) ** 2)
    return np.stack(columns, axis=1)


def _log_log(risk: FloatArray) -> FloatArray:
    return np.asarray(np.log(-np.log1p(-np.clip(risk, _LEAST, _MOST))))


def observed_of(
    follow_up: FollowUp, risk: npt.ArrayLike, at: float, grid: npt.ArrayLike, knots: int = 3
) -> JointStatistic:
    """Observed probability of the event at predicted ones, as a function of bootstrap weights.

    Knots stay where the quantiles of all patients put them.

    Parameters
    ----------
    follow_up : FollowUp
        Of n patients.
    risk : array, (n,)
        Predicted probability of the event by `at`.
    at : float
        Months, before the end of follow-up.
    grid : array, (k,)
        Predicted probabilities at which the curve is wanted.
    knots : int
        3, 4 or 5.

    Returns
    -------
    JointStatistic
        To (draws, k).

    Raises
    ------
    ValueError
        No event by `at`, a risk that is NaN or no probability, or a time beyond the follow-up.
    """
    predicted = checked_probability(risk, follow_up, "predicted probability")
    checked_times(at, follow_up)
    need_events(follow_up)
    if not (follow_up.event & (follow_up.time <= at)).any():
        raise ValueError(f"no event was seen up to time {at:g}")
    v = _log_log(predicted)
    basis = _Basis.of(v, knots)
    x, wanted = basis(v), basis(_log_log(np.asarray(grid, dtype=np.float64)))

    def observed(weights: FloatArray) -> FloatArray:
        model = WeightedCox.of(x, follow_up, weights)
        beta = model.fit().beta
        hazard = model.baseline_hazard(beta, at)
        with np.errstate(over="ignore"):
            return np.asarray(-np.expm1(-hazard[:, None] * np.exp(beta @ wanted.T)))

    return in_parts(observed, _DRAWS_AT_ONCE)


def calibration_errors_of(
    follow_up: FollowUp, risk: npt.ArrayLike, at: float, knots: int = 3
) -> JointStatistic:
    """ICI, E50 and E90 as a function of bootstrap weights, to (draws, 3).

    They are the mean, median and 90th percentile over patients of |predicted - observed|. Errors are those
    of `observed_of`.
    """
    predicted = checked(risk, follow_up, "predicted probability")
    observed = observed_of(follow_up, predicted, at, predicted, knots)

    def errors(weights: FloatArray) -> FloatArray:
        distance = np.abs(observed(weights) - predicted)
        mean = (weights * distance).sum(axis=1) / weights.sum(axis=1)
        return np.stack((mean, *_quantiles(distance, weights, (0.5, 0.9))), axis=1)

    return in_parts(errors, _DRAWS_AT_ONCE)


def _quantiles(values: FloatArray, weights: FloatArray, shares: tuple[float, ...]) -> list[FloatArray]:
    """Weighted quantiles of each row: the smallest value that at least the share does not exceed."""
    order = np.argsort(values, axis=1)
    ranked = np.take_along_axis(values, order, axis=1)
    below = np.cumsum(np.take_along_axis(np.broadcast_to(weights, values.shape), order, axis=1), axis=1)
    found = []
    for share in shares:
        position = (below < share * below[:, -1:] * (1 - 1e-12)).sum(axis=1)
        found.append(ranked[np.arange(len(ranked)), position])
    return found


def calibration_in_the_large_of(follow_up: FollowUp, risk: npt.ArrayLike, at: float) -> JointStatistic:
    """Observed, mean predicted, and observed less predicted probability of the event, to (draws, 3).

    What is observed is one minus Kaplan-Meier at `at`. Errors are those of `observed_of`.
    """
    predicted = checked_probability(risk, follow_up, "predicted probability")
    checked_times(at, follow_up)

    def whole(weights: FloatArray) -> FloatArray:
        observed = 1.0 - survival_at(follow_up, weights, at)
        mean = weights @ predicted / weights.sum(axis=1)
        return np.stack((observed, mean, observed - mean), axis=1)

    return whole


@dataclass(frozen=True, slots=True)
class CalibrationCurve:
    """A calibration curve and how many patients lie where.

    Attributes
    ----------
    predicted : array, (k,)
        Evenly spaced between the least and the greatest prediction.
    observed : tuple of Estimate, (k,)
    edges, density : array, (bins + 1,) and (bins,)
        Histogram of the predictions; its area is 1.
    """

    predicted: FloatArray
    observed: tuple[Estimate, ...]
    edges: FloatArray
    density: FloatArray


def calibration_curve(
    follow_up: FollowUp, risk: npt.ArrayLike, at: float, weights: FloatArray, points: int = 50
) -> CalibrationCurve:
    """Return the curve with bootstrap intervals at each point, and the density of the predictions.

    Parameters
    ----------
    risk : array, (n,)
        Predicted probability of the event by `at`.
    weights : array, (draws, n)
        From `inference.evaluation.bootstrap.patient_weights`.

    Raises
    ------
    ValueError
        As `observed_of`.
    """
    predicted = checked_probability(risk, follow_up, "predicted probability")
    grid = np.linspace(predicted.min(), predicted.max(), points)
    density, edges = np.histogram(predicted, bins=20, range=(0.0, 1.0), density=True)
    curve = estimates(observed_of(follow_up, predicted, at, grid), weights)
    return CalibrationCurve(grid, curve, edges, density)
