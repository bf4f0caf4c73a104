"""Cox regression with a lasso penalty along a path of penalties, by coordinate descent.

Minimises ``-log L(beta) / n + penalty * |beta|_1`` with Breslow's likelihood of ties. Each step replaces
the likelihood by its weighted least squares, whose weights are the diagonal of the Hessian, and runs
through the coordinates.

References
----------
Simon, Friedman, Hastie & Tibshirani 2011, J Stat Softw 39(5), section 2; Tibshirani 1997, Stat Med 16:385.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.errors import ModelError
from inference.evaluation.metrics import BoolArray
from inference.results import FloatArray

_TOLERANCE = 1e-7
_MOST_ROUNDS = 200
_MOST_SWEEPS = 100
_SMALLEST_WEIGHT = 1e-10
_MOST_HALVINGS = 30


@dataclass(frozen=True, slots=True)
class Risk:
    """Who was at risk when somebody died; made once, patients sorted by rising time.

    Attributes
    ----------
    order : array of int, (n,)
        Places of the sorted patients.
    event : array of bool, (n,)
    first : array of int, (n,)
        First sorted patient with the same time.
    last : array of int, (n,)
        Last sorted patient with the same time.
    """

    order: np.ndarray
    event: BoolArray
    first: np.ndarray
    last: np.ndarray

    @classmethod
    def of(cls, time: FloatArray, event: BoolArray) -> Risk:
        """Sort patients by time.

        Raises
        ------
        ModelError
            Nobody had an event.
        """
        if not event.any():
            raise ModelError("a Cox model cannot be fitted without events")
        order = np.argsort(time, kind="stable")
        ascending = time[order]
        return cls(
            order,
            np.asarray(event[order], dtype=bool),
            np.searchsorted(ascending, ascending, side="left"),
            np.searchsorted(ascending, ascending, side="right") - 1,
        )

    def likelihood(self, linear: FloatArray) -> float:
        """Return Breslow's log partial likelihood at linear predictors of the sorted patients."""
        shift = float(linear.max())
        at_risk = np.cumsum(np.exp(linear - shift)[::-1])[::-1][self.first]
        return float((linear - shift - np.log(at_risk))[self.event].sum())

    def derivatives(self, linear: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return gradient and minus the diagonal Hessian of the log likelihood, (n,) each."""
        weight = np.exp(linear - float(linear.max()))
        at_risk = np.cumsum(weight[::-1])[::-1][self.first]
        inverse = np.where(self.event, 1.0 / at_risk, 0.0)
        hazard = np.cumsum(inverse)[self.last]
        squared = np.cumsum(inverse / at_risk)[self.last]
        return self.event - weight * hazard, weight * hazard - weight**2 * squared


def largest_penalty(x: FloatArray, time: FloatArray, event: BoolArray) -> float:
    """Return the least penalty at which all coefficients are 0; x is (n, p), standardised."""
    risk = Risk.of(time, event)
    gradient, _ = risk.derivatives(np.zeros(len(time)))
    return float(np.abs(x[risk.order].T @ gradient).max()) / len(time)


def penalties(largest: float, count: int = 40, smallest_share: float = 0.05) -> FloatArray:
    """Return a falling path of penalties, evenly spaced in their logarithm."""
    return np.asarray(largest * np.geomspace(1.0, smallest_share, count))


def lasso_path(x: FloatArray, time: FloatArray, event: BoolArray, path: FloatArray) -> FloatArray:
    """Return the coefficients at each penalty, (penalties, p).

    Parameters
    ----------
    x : array, (n, p)
        Standardised covariates without missing values.
    time, event : array, (n,)
    path : array, (penalties,)
        Falling, > 0.

    Raises
    ------
    ModelError
        Nobody had an event, or no convergence.
    """
    lasso = Lasso(x, time, event)
    return np.stack([lasso.at(penalty) for penalty in path.tolist()])


class Lasso:
    """Fits one penalty after the other, each from where the one before ended.

    Raises
    ------
    ModelError
        Nobody had an event.
    """

    def __init__(self, x: FloatArray, time: FloatArray, event: BoolArray) -> None:
        self._risk = Risk.of(time, event)
        self._x = np.asfortranarray(x[self._risk.order], dtype=np.float64)
        self._beta = np.zeros(x.shape[1])

    def at(self, penalty: float) -> FloatArray:
        """Return the coefficients at a penalty, (p,)."""
        self._beta = _fitted(self._x, self._risk, penalty, self._beta)
        return self._beta


def _fitted(x: FloatArray, risk: Risk, penalty: float, start: FloatArray) -> FloatArray:
    beta = start
    objective = _objective(x, risk, penalty, beta)
    for _ in range(_MOST_ROUNDS):
        target = _step(x, risk, penalty, beta)
        share = 1.0
        for _halving in range(_MOST_HALVINGS):
            trial = beta + share * (target - beta)
            value = _objective(x, risk, penalty, trial)
            if value <= objective + 1e-14 * abs(objective):
                break
            share /= 2.0
        moved = float(np.abs(trial - beta).max(initial=0.0))
        beta, objective = trial, value
        if moved < _TOLERANCE:
            return beta
    raise ModelError("the fit of a lasso Cox model did not converge")


def _objective(x: FloatArray, risk: Risk, penalty: float, beta: FloatArray) -> float:
    return -risk.likelihood(x @ beta) / len(x) + penalty * float(np.abs(beta).sum())


def _step(x: FloatArray, risk: Risk, penalty: float, beta: FloatArray) -> FloatArray:
    """Return the minimum of the penalised weighted least squares around the present coefficients."""
    n = len(x)
    gradient, weight = risk.derivatives(x @ beta)
    weight = np.maximum(weight, _SMALLEST_WEIGHT)
    curvature = (weight @ x**2) / n
    # `slope` is the weighted residual; it changes with every coordinate.
    slope = gradient.copy()
    new = beta.copy()
    active = np.flatnonzero((new != 0) | (np.abs(x.T @ slope) / n > penalty))
    for _ in range(_MOST_SWEEPS):
        moved = _sweep(x, weight, curvature, penalty, slope, new, active)
        if moved < _TOLERANCE:
            wanted = np.flatnonzero((new != 0) | (np.abs(x.T @ slope) / n > penalty * (1 + 1e-9)))
            if np.isin(wanted, active).all():
                return new
            active = np.union1d(active, wanted)
    return new


def _sweep(
    x: FloatArray,
    weight: FloatArray,
    curvature: FloatArray,
    penalty: float,
    slope: FloatArray,
    beta: FloatArray,
    active: np.ndarray,
) -> float:
    """Run once through the active coordinates; `slope` and `beta` are changed in place."""
    n = len(x)
    most = 0.0
    for j in active.tolist():
        if curvature[j] <= 0:
            continue
        pull = float(x[:, j] @ slope) / n + curvature[j] * beta[j]
        new = np.sign(pull) * max(abs(pull) - penalty, 0.0) / curvature[j]
        change = new - beta[j]
        if change != 0.0:
            slope -= change * weight * x[:, j]
            beta[j] = new
            most = max(most, abs(change))
    return most
