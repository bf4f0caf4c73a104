"""Weights that make up for censored patients: one over the probability of being uncensored, 1 / G.

G is estimated from training patients and then stays as it is in all draws of a bootstrap, so that
intervals hold for this G; or from the patients of the evaluation themselves, by passing the very same
`FollowUp` as training and evaluation, and then each draw estimates it anew. The first kind of interval
leaves out what the estimate of G adds: in a simulation with 500 training and 250 other patients, 95 %
intervals of the integrated Brier score covered 92 %.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from inference.evaluation.metrics import censoring_survival
from inference.evaluation.survival.follow_up import FollowUp
from inference.results import FloatArray

InverseCensoring = Callable[[FloatArray], FloatArray]
"""Maps weights (draws, n) to 1 / G at k times, (draws, k) or (1, k); NaN where G is 0."""


def inverse_censoring(train: FollowUp, at: FloatArray, what: str) -> FloatArray:
    """Return 1 / G at the times `at`, (k,), from the training patients.

    Raises
    ------
    ValueError
        All training patients are censored, or their follow-up ends, before one of the times.
    """
    g = censoring_survival(train.time, train.event)(at)
    if (g <= 0).any() or (len(at) and float(at.max()) > float(train.time.max())):
        raise ValueError(f"all training patients are censored before {what}")
    return np.asarray(1.0 / g)


def inverse_censoring_of(train: FollowUp, follow_up: FollowUp, at: FloatArray, what: str) -> InverseCensoring:
    """Return 1 / G as a function of bootstrap weights; fixed unless `train` is `follow_up`.

    Raises
    ------
    ValueError
        As `inverse_censoring`.
    """
    fixed = inverse_censoring(train, at, what)[None, :]
    if train is not follow_up:
        return lambda weights: fixed

    def redrawn(weights: FloatArray) -> FloatArray:
        g = _weighted_survival(follow_up, weights, at)
        return np.divide(1.0, g, out=np.full_like(g, np.nan), where=g > 0)

    return redrawn


def _weighted_survival(follow_up: FollowUp, weights: FloatArray, at: FloatArray) -> FloatArray:
    """G for each row of weights, (draws, k); at a tie events come before censorings."""
    order = np.argsort(follow_up.time, kind="stable")
    time, event = follow_up.time[order], follow_up.event[order]
    w = np.asarray(weights, dtype=np.float64)[:, order]
    start = np.flatnonzero(np.concatenate(([True], np.diff(time) > 0)))
    leaving = np.add.reduceat(w, start, axis=1)
    censored = np.add.reduceat(w * ~event, start, axis=1)
    gone = np.cumsum(leaving, axis=1) - leaving
    exposed = w.sum(axis=1, keepdims=True) - gone - (leaving - censored)
    hazard = np.divide(censored, exposed, out=np.zeros_like(censored), where=censored > 0)
    curve = np.concatenate((np.ones((len(w), 1)), np.cumprod(1.0 - hazard, axis=1)), axis=1)
    found = curve[:, np.searchsorted(time[start], at, side="right")]
    return np.where(found > 1e-12, found, 0.0)


def weighed(weights: FloatArray, factors: FloatArray) -> FloatArray:
    """Return weights times factors; a patient who was not drawn counts 0 whatever the factor."""
    return np.where(weights > 0, weights * factors, 0.0)
