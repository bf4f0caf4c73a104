"""Bootstrap intervals over patients, as matrix products.

A statistic is a function of weights: given an array (draws, patients) of how often each patient was
drawn, it returns one value a draw. The estimate is the statistic at equal weights; its interval is
the percentile interval (Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 13). A
subgroup is the same statistic with the weights of all others set to 0, and a paired difference takes
the same weights on both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from inference.evaluation.metrics import BoolArray
from inference.results import FloatArray

DRAWS = 1000
CONFIDENCE = 0.95

Statistic = Callable[[FloatArray], FloatArray]
"""Maps weights (draws, patients) to values (draws,); NaN where a draw has nothing to compute from."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval; NaN where it could not be computed.

    Attributes
    ----------
    n : int
        Patients that the figure is computed from.
    """

    value: float
    lower: float
    upper: float
    n: int

    @property
    def known(self) -> bool:
        """Whether there is a value."""
        return bool(np.isfinite(self.value))


def patient_weights(patients: int, draws: int, rng: np.random.Generator) -> FloatArray:
    """Return how often each patient is drawn in each resample, (draws, patients)."""
    if patients < 1:
        raise ValueError("a bootstrap needs at least one patient")
    share = np.full(patients, 1.0 / patients)
    return rng.multinomial(patients, share, size=draws).astype(np.float64)


def estimate(statistic: Statistic, weights: FloatArray, among: BoolArray | None = None) -> Estimate:
    """Return a statistic with its percentile interval.

    Parameters
    ----------
    weights : array, (draws, patients)
    among : array of bool, (patients,), optional
        The patients to compute from; all when not given.
    """
    chosen = np.ones(weights.shape[1], dtype=bool) if among is None else among
    value = float(statistic(chosen[None, :].astype(np.float64))[0])
    return with_interval(value, statistic(weights * chosen), int(chosen.sum()))


def difference(
    first: Statistic, second: Statistic, weights: FloatArray, among: BoolArray | None = None
) -> Estimate:
    """Return the paired difference ``first - second``."""
    return estimate(lambda w: first(w) - second(w), weights, among)


def relative_difference(
    first: Statistic, second: Statistic, weights: FloatArray, among: BoolArray | None = None
) -> Estimate:
    """Return the paired ``first / second - 1``."""

    def relative(w: FloatArray) -> FloatArray:
        base = second(w)
        safe = np.where(base == 0, np.nan, base)
        return np.asarray(first(w) / safe - 1.0)

    return estimate(relative, weights, among)


def share_of_gap(
    model: Statistic,
    reference: Statistic,
    oracle: Statistic,
    weights: FloatArray,
    among: BoolArray | None = None,
) -> Estimate:
    """Return the share of the gap from the reference to the oracle that the model closes."""

    def share(w: FloatArray) -> FloatArray:
        start = reference(w)
        gap = start - oracle(w)
        return np.asarray((start - model(w)) / np.where(gap == 0, np.nan, gap))

    return estimate(share, weights, among)


def with_interval(value: float, draws: FloatArray, n: int) -> Estimate:
    """Return a value with the percentile interval of its draws, (draws,); NaN draws are left out."""
    finite = draws[np.isfinite(draws)]
    if len(finite) == 0 or not np.isfinite(value):
        return Estimate(value, float("nan"), float("nan"), n)
    tail = (1 - CONFIDENCE) / 2
    lower, upper = np.quantile(finite, [tail, 1 - tail])
    return Estimate(value, float(lower), float(upper), n)
