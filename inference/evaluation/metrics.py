"""Metrics of survival predictions, each a pure function of arrays.

Shapes: n patients, m times. `time` is (n,) and positive, `event` is (n,) and true where the event
was seen. Where a metric weights by the censoring distribution, that distribution comes from the
training patients, as the prediction does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.results import FloatArray

BoolArray = npt.NDArray[np.bool_]
_TIED_RISK = 1e-8


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


def _concordance(time: FloatArray, event: BoolArray, risk: FloatArray, weight: FloatArray) -> float:
    earlier = (time[:, None] < time[None, :]) | (
        (time[:, None] == time[None, :]) & event[:, None] & ~event[None, :]
    )
    pairs = earlier & event[:, None]
    difference = risk[:, None] - risk[None, :]
    tied = np.abs(difference) <= _TIED_RISK
    score = np.where(tied, 0.5, difference > 0)
    total = float((pairs * weight[:, None]).sum())
    if total == 0:
        raise ValueError("no pair of patients can be compared")
    return float((pairs * weight[:, None] * score).sum() / total)


def harrell_c(time: FloatArray, event: BoolArray, risk: FloatArray) -> float:
    """Concordance of risk and time (Harrell et al. 1996, Stat Med 15:361); ties in risk count a half.

    Raises
    ------
    ValueError
        No pair can be compared.
    """
    return _concordance(time, event, risk, np.ones_like(time))


def uno_c(
    train_time: FloatArray,
    train_event: BoolArray,
    time: FloatArray,
    event: BoolArray,
    risk: FloatArray,
    tau: float,
) -> float:
    """Concordance before `tau`, weighted for censoring (Uno et al. 2011, Stat Med 30:1105).

    Raises
    ------
    ValueError
        No pair can be compared, or the censoring distribution is 0 before `tau`.
    """
    seen = event & (time < tau)
    g = censoring_survival(train_time, train_event)(time)
    if np.any(g[seen] <= 0):
        raise ValueError("all training patients are censored before tau")
    weight = np.zeros_like(time)
    weight[seen] = 1.0 / g[seen] ** 2
    return _concordance(time, event, risk, weight)


def brier_score(
    train_time: FloatArray,
    train_event: BoolArray,
    time: FloatArray,
    event: BoolArray,
    survival: FloatArray,
    times: FloatArray,
) -> FloatArray:
    """Squared error of survival probabilities, weighted for censoring (Graf et al. 1999, Stat Med 18:2529).

    Parameters
    ----------
    survival : array, (n, m)
        Predicted survival of each patient at each of `times`.

    Returns
    -------
    array, (m,)
    """
    g = censoring_survival(train_time, train_event)
    g_at, g_own = g(times), g(time)
    g_at = np.where(g_at == 0, np.inf, g_at)
    g_own = np.where(g_own == 0, np.inf, g_own)
    died = (time[:, None] <= times[None, :]) & event[:, None]
    alive = time[:, None] > times[None, :]
    error = died * survival**2 / g_own[:, None] + alive * (1 - survival) ** 2 / g_at[None, :]
    return np.asarray(error.mean(axis=0))


def integrated_brier_score(scores: FloatArray, times: FloatArray) -> float:
    """Mean of Brier scores over time by the trapezoidal rule, (m,) and (m,)."""
    return float(np.trapezoid(scores, times) / (times[-1] - times[0]))


@dataclass(frozen=True, slots=True)
class CalibrationGroup:
    """Predicted and observed survival of one group of patients at one time."""

    n: int
    predicted: float
    observed: float


def calibration_groups(
    time: FloatArray, event: BoolArray, survival: FloatArray, at: float, groups: int
) -> tuple[CalibrationGroup, ...]:
    """Compare predicted survival with Kaplan-Meier, in groups of equal size by predicted survival.

    Parameters
    ----------
    survival : array, (n,)
        Predicted survival at the time `at`.
    """
    order = np.argsort(survival, kind="stable")
    return tuple(
        CalibrationGroup(
            n=len(part),
            predicted=float(survival[part].mean()),
            observed=float(kaplan_meier(time[part], event[part])(at)),
        )
        for part in np.array_split(order, groups)
    )
