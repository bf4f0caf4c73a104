"""Brier scores of survival probabilities under censoring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.evaluation.bootstrap import Statistic
from inference.evaluation.metrics import BoolArray
from inference.evaluation.survival.censoring import InverseCensoring, inverse_censoring_of, weighed
from inference.evaluation.survival.follow_up import FollowUp, checked_probability, checked_times
from inference.evaluation.survival.resampling import JointStatistic
from inference.results import FloatArray


@dataclass(frozen=True, slots=True)
class _Errors:
    """Squared errors of those who died and of those alive, with their censoring weights.

    Attributes
    ----------
    died : array, (d, m)
        Of the d patients whose event was seen by the last time; 0 before it.
    alive : array, (n, m)
        0 from the end of follow-up on.
    counted : array of bool, (n,)
        Who the d patients are.
    own, at : InverseCensoring
        1 / G at the events of the d patients, and at the m times.
    """

    died: FloatArray
    alive: FloatArray
    counted: BoolArray
    own: InverseCensoring
    at: InverseCensoring

    def scores(self, weights: FloatArray) -> FloatArray:
        """Brier scores, (draws, m)."""
        w = np.asarray(weights, dtype=np.float64)
        died = weighed(w[:, self.counted], self.own(w)) @ self.died
        alive = weighed(w @ self.alive, self.at(w))
        return np.asarray((died + alive) / w.sum(axis=1, keepdims=True))


def _errors(train: FollowUp, follow_up: FollowUp, survival: npt.ArrayLike, moments: FloatArray) -> _Errors:
    s = checked_probability(survival, follow_up, "predicted survival")
    if s.shape != (len(follow_up), len(moments)):
        raise ValueError("predicted survival must have one column for each time")
    died = (follow_up.time[:, None] <= moments) & follow_up.event[:, None]
    counted = died[:, -1]
    return _Errors(
        died=(died * s**2)[counted],
        alive=(follow_up.time[:, None] > moments) * (1 - s) ** 2,
        counted=counted,
        own=inverse_censoring_of(train, follow_up, follow_up.time[counted], "the last event"),
        at=inverse_censoring_of(train, follow_up, moments, "the last time"),
    )


def briers_of(
    train: FollowUp, follow_up: FollowUp, survival: npt.ArrayLike, times: npt.ArrayLike
) -> JointStatistic:
    """Brier score at each time as a function of bootstrap weights, to (draws, m).

    `inference.evaluation.survival.censoring` says what the draws do to the censoring distribution.

    Parameters
    ----------
    train : FollowUp
        Of the patients that the censoring distribution comes from.
    follow_up : FollowUp
        Of the n patients of the evaluation.
    survival : array, (n, m)
        Predicted survival of each patient at each time.
    times : array, (m,)
        Rising, before the end of both follow-ups.

    Raises
    ------
    ValueError
        Survival that is NaN, outside 0 and 1 or of another shape; a time beyond the follow-up.

    References
    ----------
    Graf et al. 1999, Stat Med 18:2529, section 5.
    """
    return _errors(train, follow_up, survival, checked_times(times, train, follow_up)).scores


def brier_score(
    train: FollowUp, follow_up: FollowUp, survival: npt.ArrayLike, times: npt.ArrayLike
) -> FloatArray:
    """Brier score at each time, (m,); see `briers_of`."""
    return np.asarray(briers_of(train, follow_up, survival, times)(np.ones((1, len(follow_up))))[0])


def integrated_brier_score(scores: FloatArray, times: FloatArray) -> float:
    """Mean of Brier scores over time by the trapezoidal rule, (m,) and (m,); m is at least 2."""
    return float(_over_time(scores[None, :], times)[0])


def brier_of(train: FollowUp, follow_up: FollowUp, survival: npt.ArrayLike, at: float) -> Statistic:
    """Brier score at one time as a function of bootstrap weights; survival is (n,). See `briers_of`."""
    s = checked_probability(survival, follow_up, "predicted survival")
    scores = briers_of(train, follow_up, s.reshape(len(follow_up), -1), at)
    return lambda weights: scores(weights)[:, 0]


def integrated_brier_of(
    train: FollowUp, follow_up: FollowUp, survival: npt.ArrayLike, times: npt.ArrayLike
) -> Statistic:
    """Integrated Brier score as a function of bootstrap weights; survival is (n, m). See `briers_of`."""
    moments = checked_times(times, train, follow_up)
    if len(moments) < 2:
        raise ValueError("a score over time needs at least two times")
    scores = briers_of(train, follow_up, survival, moments)
    return lambda weights: _over_time(scores(weights), moments)


def _over_time(scores: FloatArray, times: FloatArray) -> FloatArray:
    return np.asarray(np.trapezoid(scores, times, axis=1) / (times[-1] - times[0]))
