"""Cox proportional hazards with a ridge penalty, by Newton's method.

Minimises ``-log L(beta) + alpha / 2 * |beta|^2`` with Efron's likelihood of ties; covariates are
expected standardised, so that one penalty fits all.

References
----------
Cox 1972, J R Stat Soc B 34:187; Efron 1977, J Am Stat Assoc 72:557; Verweij & van Houwelingen 1994,
Stat Med 13:2427 (ridge); Breslow 1974, Biometrics 30:89 (baseline hazard).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.errors import ModelError
from inference.evaluation.metrics import BoolArray
from inference.results import FloatArray

_MAXIMUM_STEPS = 100
_MAXIMUM_HALVINGS = 40
_GRADIENT_TOLERANCE = 1e-11


@dataclass(frozen=True, slots=True)
class CoxFit:
    """Coefficients and the inverse of the penalised information, (p,) and (p, p)."""

    beta: FloatArray
    covariance: FloatArray
    log_likelihood: float


@dataclass(frozen=True, slots=True)
class BaselineHazard:
    """Breslow's cumulative hazard at covariates 0, and what its limits need, at g times.

    Attributes
    ----------
    hazard : array, (g,)
        Cumulative hazard.
    variance : array, (g,)
        Sum of 1 / (risk sum)^2 over events: its variance with the coefficients known.
    gradient : array, (g, p)
        Sum of the risk set's mean covariates over its increments: minus its derivative with respect
        to the coefficients.
    """

    hazard: FloatArray
    variance: FloatArray
    gradient: FloatArray


@dataclass(frozen=True, slots=True)
class _Derivatives:
    value: float
    gradient: FloatArray
    information: FloatArray


def _sorted(x: FloatArray, time: FloatArray, event: BoolArray) -> tuple[FloatArray, FloatArray, BoolArray]:
    order = np.argsort(-time, kind="stable")
    return x[order], time[order], event[order]


def _partial_likelihood(x: FloatArray, time: FloatArray, event: BoolArray, beta: FloatArray) -> _Derivatives:
    """Log partial likelihood, its gradient and information; rows sorted by falling time."""
    linear = x @ beta
    shift = float(linear.max())
    weight = np.exp(linear - shift)
    s0 = np.cumsum(weight)
    s1 = np.cumsum(weight[:, None] * x, axis=0)
    s2 = np.cumsum(weight[:, None, None] * x[:, :, None] * x[:, None, :], axis=0)
    dead = np.flatnonzero(event)
    moments, group, tied = np.unique(time[dead], return_inverse=True, return_counts=True)
    last = np.searchsorted(-time, -time[dead], side="right") - 1
    weighted = weight[dead, None] * x[dead]
    d0, d1 = np.zeros(len(moments)), np.zeros((len(moments), x.shape[1]))
    d2 = np.zeros((len(moments), x.shape[1], x.shape[1]))
    np.add.at(d0, group, weight[dead])
    np.add.at(d1, group, weighted)
    np.add.at(d2, group, weighted[:, :, None] * x[dead][:, None, :])
    # Efron: the k-th of d tied deaths sees k/d of the tied weights already gone from the risk set.
    share = _rank_within(group) / tied[group]
    r0 = s0[last] - share * d0[group]
    mean = (s1[last] - share[:, None] * d1[group]) / r0[:, None]
    second = (s2[last] - share[:, None, None] * d2[group]) / r0[:, None, None]
    return _Derivatives(
        value=float((linear[dead] - np.log(r0) - shift).sum()),
        gradient=(x[dead] - mean).sum(axis=0),
        information=second.sum(axis=0) - mean.T @ mean,
    )


def _rank_within(group: np.ndarray) -> np.ndarray:
    """Position of each element among the equal ones before it: [2, 1, 1, 2] -> [0, 0, 1, 1]."""
    rank = np.zeros(len(group), dtype=np.intp)
    order = np.argsort(group, kind="stable")
    start = np.searchsorted(group[order], group[order], side="left")
    rank[order] = np.arange(len(group)) - start
    return rank


def log_partial_likelihood(x: FloatArray, time: FloatArray, event: BoolArray, beta: FloatArray) -> float:
    """Efron's log partial likelihood at `beta`; x is (n, p)."""
    return _partial_likelihood(*_sorted(x, time, event), beta).value


def fit_cox(x: FloatArray, time: FloatArray, event: BoolArray, alpha: float) -> CoxFit:
    """Fit the coefficients.

    Parameters
    ----------
    x : array, (n, p)
        Standardised covariates without missing values.
    time, event : array, (n,)
    alpha : float
        Penalty, > 0 where the covariates may be collinear; infinite: coefficients of exactly 0.

    Raises
    ------
    ModelError
        No event, or no convergence.
    """
    if not event.any():
        raise ModelError("a Cox model cannot be fitted without events")
    x, time, event = _sorted(x, time, event)
    beta = np.zeros(x.shape[1])
    at = _partial_likelihood(x, time, event, beta)
    if np.isinf(alpha):
        return CoxFit(beta, np.zeros((len(beta), len(beta))), at.value)
    for _ in range(_MAXIMUM_STEPS):
        gradient = at.gradient - alpha * beta
        information = at.information + alpha * np.eye(len(beta))
        if float(np.abs(gradient).max()) < _GRADIENT_TOLERANCE * len(time):
            return CoxFit(beta, np.asarray(np.linalg.inv(information), dtype=np.float64), at.value)
        step = np.linalg.solve(information, gradient)
        objective = at.value - 0.5 * alpha * float(beta @ beta)
        for _ in range(_MAXIMUM_HALVINGS):
            trial = beta + step
            at = _partial_likelihood(x, time, event, trial)
            if at.value - 0.5 * alpha * float(trial @ trial) >= objective - 1e-12 * abs(objective):
                break
            step = step / 2
        beta = trial
    raise ModelError("the fit of a Cox model did not converge")


def baseline_hazard(
    x: FloatArray, time: FloatArray, event: BoolArray, beta: FloatArray, times: FloatArray
) -> BaselineHazard:
    """Estimate Breslow's cumulative baseline hazard at `times` (g,), at covariates 0."""
    weight = np.exp(x @ beta)
    moments = np.unique(time[event])
    deaths = np.array([np.count_nonzero(event & (time == m)) for m in moments], dtype=np.float64)
    at_risk = time[None, :] >= moments[:, None]
    s0 = at_risk @ weight
    mean = (at_risk @ (weight[:, None] * x)) / s0[:, None]
    index = np.searchsorted(moments, times, side="right")
    return BaselineHazard(
        hazard=_cumulative(deaths / s0, index),
        variance=_cumulative(deaths / s0**2, index),
        gradient=_cumulative(mean * (deaths / s0)[:, None], index),
    )


def _cumulative(increments: FloatArray, index: np.ndarray) -> FloatArray:
    zero = np.zeros((1, *increments.shape[1:]))
    return np.asarray(np.concatenate((zero, np.cumsum(increments, axis=0)))[index])


def cross_validated_likelihood(
    x: FloatArray,
    time: FloatArray,
    event: BoolArray,
    alpha: float,
    folds: Sequence[np.ndarray],
) -> float:
    """Verweij & van Houwelingen's cross-validated log likelihood (1993, Stat Med 12:2305).

    Each fold contributes the likelihood of all patients minus that of the others, at the
    coefficients of the others.
    """
    total = 0.0
    for held_out in folds:
        keep = np.setdiff1d(np.arange(len(time)), held_out)
        fit = fit_cox(x[keep], time[keep], event[keep], alpha)
        total += log_partial_likelihood(x, time, event, fit.beta) - fit.log_likelihood
    return total
