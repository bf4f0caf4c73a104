"""Step functions of time, and the product-limit estimates that metrics of survival are made of.

Shapes: n patients, m times. `time` is (n,) and positive, `event` is (n,) and true where the event
was seen. The metrics themselves are in `inference.evaluation.survival`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.results import FloatArray

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class StepFunction:
    """A right-continuous step function: `start` before ``times[0]``, ``values[i]`` from ``times[i]``."""

    times: FloatArray
    values: FloatArray
    start: float = 1.0

    def __call__(self, at: npt.ArrayLike) -> FloatArray:
        """Return the values at the times `at`."""
        index = np.searchsorted(self.times, np.asarray(at, dtype=np.float64), side="right")
        return np.asarray(np.concatenate(([self.start], self.values))[index])


def kaplan_meier(time: FloatArray, event: BoolArray) -> StepFunction:
    """Product-limit estimate of survival (Kaplan & Meier 1958, J Am Stat Assoc 53:457)."""
    times, inverse = np.unique(time, return_inverse=True)
    deaths = np.bincount(inverse, weights=event.astype(np.float64))
    leaving = np.bincount(inverse)
    at_risk = len(time) - np.concatenate(([0], np.cumsum(leaving)[:-1]))
    return StepFunction(times, np.cumprod(1.0 - deaths / at_risk, dtype=np.float64))


def censoring_survival(time: FloatArray, event: BoolArray) -> StepFunction:
    """Product-limit estimate of staying uncensored; at a tie events come before censorings."""
    times, inverse = np.unique(time, return_inverse=True)
    deaths = np.bincount(inverse, weights=event.astype(np.float64))
    leaving = np.bincount(inverse).astype(np.float64)
    at_risk = len(time) - np.concatenate(([0.0], np.cumsum(leaving)[:-1]))
    exposed = at_risk - deaths
    censored = leaving - deaths
    hazard = np.divide(censored, exposed, out=np.zeros_like(censored), where=exposed > 0)
    return StepFunction(times, np.cumprod(1.0 - hazard, dtype=np.float64))
