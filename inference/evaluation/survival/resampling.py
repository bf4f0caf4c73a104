"""Intervals of several figures at once: a curve, or measures that come from one fit.

`inference.evaluation.bootstrap` does the same of one figure, and explains the method.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from inference.evaluation.bootstrap import Estimate, Statistic, with_interval
from inference.results import FloatArray

JointStatistic = Callable[[FloatArray], FloatArray]
"""Maps weights (draws, n) to values (draws, k); NaN where a draw has nothing to compute from."""


def estimates(statistic: JointStatistic, weights: FloatArray) -> tuple[Estimate, ...]:
    """Return the k figures, each with its percentile interval.

    Parameters
    ----------
    weights : array, (draws, n)
        From `inference.evaluation.bootstrap.patient_weights`.
    """
    n = weights.shape[1]
    values, draws = statistic(np.ones((1, n)))[0], statistic(weights)
    return tuple(with_interval(float(v), draws[:, i], n) for i, v in enumerate(values))


def differences(first: JointStatistic, second: JointStatistic, weights: FloatArray) -> tuple[Estimate, ...]:
    """Return the k paired differences ``first - second`` with their intervals."""
    return estimates(lambda w: first(w) - second(w), weights)


def joined(statistics: tuple[Statistic, ...]) -> JointStatistic:
    """Return statistics of one figure as one of several."""
    return lambda weights: np.stack([s(weights) for s in statistics], axis=1)


def in_parts(statistic: JointStatistic, draws: int) -> JointStatistic:
    """Return the same statistic computed for at most so many draws at a time, to bound memory."""

    def parted(weights: FloatArray) -> FloatArray:
        parts = [statistic(weights[low : low + draws]) for low in range(0, len(weights), draws)]
        return np.concatenate(parts)

    return parted
