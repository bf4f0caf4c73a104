"""Kaplan-Meier curves with limits, numbers at risk, and the log-rank test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from inference.evaluation.bootstrap import CONFIDENCE
from inference.evaluation.metrics import BoolArray, kaplan_meier
from inference.evaluation.survival.follow_up import FollowUp, need_events
from inference.results import FloatArray

IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Median:
    """Median survival in months with its limits; NaN is "not reached"."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Curve:
    """A Kaplan-Meier curve at its k distinct times, each array (k,).

    Attributes
    ----------
    times : array
        Months, rising; survival changes at a time, not after it.
    survival, lower, upper : array
        The limits are NaN before the first event and where nobody survives.
    at_risk, events : array of int
        Patients under observation just before a time, and events at it.
    """

    times: FloatArray
    survival: FloatArray
    lower: FloatArray
    upper: FloatArray
    at_risk: IntArray
    events: IntArray

    @property
    def median(self) -> Median:
        """The first time at which survival is one half or less, and that of its limits.

        Brookmeyer & Crowley 1982, Biometrics 38:29.
        """
        return Median(*(_first_half(self.times, s) for s in (self.survival, self.lower, self.upper)))


def _first_half(times: FloatArray, survival: FloatArray) -> float:
    # NaN compares as false: a limit is unknown before the first event and after the last survivor.
    below = np.flatnonzero(survival <= 0.5 + 1e-12)
    return float(times[below[0]]) if len(below) else float("nan")


def survival_curve(follow_up: FollowUp) -> Curve:
    """Kaplan-Meier curve with log-log limits.

    References
    ----------
    Kaplan & Meier 1958, J Am Stat Assoc 53:457; Greenwood's variance; limits of Kalbfleisch & Prentice
    1980, The Statistical Analysis of Failure Time Data, section 1.3.
    """
    estimated = kaplan_meier(follow_up.time, follow_up.event)
    at_risk, events = _counts(follow_up, estimated.times)
    left = at_risk - events
    terms = np.divide(events, at_risk * left, out=np.full(len(left), np.nan), where=left > 0)
    survival = estimated.values
    inside = (survival > 0) & (survival < 1)
    log = np.log(np.where(inside, survival, 0.5))
    spread = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * np.sqrt(np.cumsum(terms)) / log
    lower, upper = (np.where(inside, np.exp(log * np.exp(-sign * spread)), np.nan) for sign in (1, -1))
    return Curve(estimated.times, survival, lower, upper, at_risk, events)


def _counts(follow_up: FollowUp, times: FloatArray) -> tuple[IntArray, IntArray]:
    at_risk = numbers_at_risk(follow_up, times)
    died = np.sort(follow_up.time[follow_up.event])
    events = np.searchsorted(died, times, side="right") - np.searchsorted(died, times, side="left")
    return at_risk, events


def numbers_at_risk(follow_up: FollowUp, times: npt.ArrayLike) -> IntArray:
    """Patients whose follow-up reaches each of the times, (m,)."""
    ordered = np.sort(follow_up.time)
    return np.asarray(len(ordered) - np.searchsorted(ordered, np.asarray(times), side="left"))


def survival_at(follow_up: FollowUp, weights: FloatArray, at: float) -> FloatArray:
    """Kaplan-Meier survival at one time for each row of weights.

    Parameters
    ----------
    weights : array, (draws, n)
        How often each patient counts.
    at : float
        Months.

    Returns
    -------
    array, (draws,)
        NaN where nobody with a weight is followed to `at` and survival has not fallen to 0.
    """
    order = np.argsort(follow_up.time, kind="stable")
    time, event = follow_up.time[order], follow_up.event[order]
    inside = int(np.searchsorted(time, at, side="right"))
    w = np.asarray(weights, dtype=np.float64)[:, order]
    survival = np.ones(len(w))
    if inside:
        start = np.flatnonzero(np.concatenate(([True], np.diff(time[:inside]) > 0)))
        leaving = np.add.reduceat(w[:, :inside], start, axis=1)
        died = np.add.reduceat(w[:, :inside] * event[:inside], start, axis=1)
        gone = np.cumsum(leaving, axis=1) - leaving
        at_risk = w.sum(axis=1, keepdims=True) - gone
        hazard = np.divide(died, at_risk, out=np.zeros_like(died), where=died > 0)
        survival = np.prod(1.0 - hazard, axis=1)
    reached = w[:, time >= at].sum(axis=1) > 0
    return np.where(reached | (survival < 1e-12), survival, np.nan)


@dataclass(frozen=True, slots=True)
class LogRank:
    """Chi-square statistic, its degrees of freedom and p-value."""

    statistic: float
    degrees: int
    p: float


def log_rank(follow_up: FollowUp, group: npt.ArrayLike) -> LogRank:
    """Log-rank test of two or more groups.

    Parameters
    ----------
    group : array, (n,)
        The label of each patient's group.

    Raises
    ------
    ValueError
        Fewer than two groups, no event, or no moment at which patients of two groups were at risk.

    References
    ----------
    Mantel 1966, Cancer Chemother Rep 50:163; with tied times, Collett 2015, Modelling Survival Data in
    Medical Research, section 2.6.
    """
    need_events(follow_up)
    labels, index = np.unique(np.asarray(group), return_inverse=True)
    if len(index) != len(follow_up) or len(labels) < 2:
        raise ValueError("a log-rank test needs one group for each patient, and two groups or more")
    moments = np.unique(follow_up.time[follow_up.event])
    at_risk = np.stack([_group_at_risk(follow_up, index == g, moments) for g in range(len(labels))])
    died = np.stack([_group_events(follow_up, index == g, moments) for g in range(len(labels))])
    n, d = at_risk.sum(axis=0), died.sum(axis=0)
    share = at_risk / n
    excess = (died - d * share).sum(axis=1)
    scale = np.divide(d * (n - d), n - 1, out=np.zeros(len(n)), where=n > 1)
    covariance = np.diag((share * scale).sum(axis=1)) - (share * scale) @ share.T
    if not (np.diag(covariance) > 0).any():
        raise ValueError("the groups were never at risk together")
    statistic = float(excess @ np.linalg.pinv(covariance, hermitian=True) @ excess)
    degrees = int(np.linalg.matrix_rank(covariance, hermitian=True))
    return LogRank(statistic, degrees, float(stats.chi2.sf(statistic, degrees)))


def _group_at_risk(follow_up: FollowUp, member: BoolArray, moments: FloatArray) -> FloatArray:
    return numbers_at_risk(follow_up.of(member), moments).astype(np.float64)


def _group_events(follow_up: FollowUp, member: BoolArray, moments: FloatArray) -> FloatArray:
    return _counts(follow_up.of(member), moments)[1].astype(np.float64)
