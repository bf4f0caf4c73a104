"""A figure with all its bootstrap draws, so that paired differences come from the same draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np

from inference.evaluation.bootstrap import Estimate, with_interval
from inference.evaluation.survival.resampling import JointStatistic
from inference.results import FloatArray

T = TypeVar("T")


class Better(StrEnum):
    """Which values of a measure are good."""

    HIGHER = "higher"
    LOWER = "lower"
    ZERO = "near 0"
    ONE = "near 1"
    NONE = ""


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """A figure of n patients and its value in each draw, (draws,); NaN where a draw had nothing to use."""

    value: float
    draws: FloatArray
    n: int

    @property
    def estimate(self) -> Estimate:
        """The figure with its percentile interval."""
        return with_interval(self.value, self.draws, self.n)

    def less(self, other: Sampled) -> Estimate:
        """Return the paired difference ``self - other`` of the same draws."""
        return with_interval(self.value - other.value, self.draws - other.draws, self.n)


@dataclass(frozen=True, slots=True)
class NotComputed:
    """A figure that cannot be computed, and why."""

    reason: str


Figure = Sampled | NotComputed


def sampled(statistic: JointStatistic, weights: FloatArray) -> tuple[Sampled, ...]:
    """Return the figures of a joint statistic.

    Parameters
    ----------
    weights : array, (draws, n)
        From `inference.evaluation.bootstrap.patient_weights`.
    """
    n = weights.shape[1]
    values, draws = statistic(np.ones((1, n)))[0], statistic(weights)
    return tuple(Sampled(float(v), draws[:, i], n) for i, v in enumerate(values))


def computed(compute: Callable[[], T], refusal: NotComputed | None = None) -> T | NotComputed:
    """Return what a measure gives, or its refusal in words; with a refusal given nothing is computed."""
    if refusal is not None:
        return refusal
    try:
        return compute()
    except ValueError as error:
        return NotComputed(str(error))


def difference_of(first: Figure, second: Figure) -> Estimate | NotComputed:
    """Return the paired difference of two figures, or the reason why there is none."""
    if isinstance(first, NotComputed):
        return first
    return second if isinstance(second, NotComputed) else first.less(second)
