"""Penalised linear and logistic regression for the models of comparison.

Columns are expected to be standardised; the intercept is not penalised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from inference.results import FloatArray

PENALTIES = (0.3, 3.0, 30.0, 300.0)
FOLDS = 5
_ITERATIONS = 50
_CONVERGED = 1e-8

IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Linear:
    """Coefficients of a linear predictor."""

    intercept: float
    slope: FloatArray

    def __call__(self, matrix: FloatArray) -> FloatArray:
        """Return the linear predictor, (rows,)."""
        return np.asarray(self.intercept + matrix @ self.slope)

    def probability(self, matrix: FloatArray) -> FloatArray:
        """Return the linear predictor of a logistic model as a probability, (rows,)."""
        return np.asarray(expit(self(matrix)))


def ridge(matrix: FloatArray, outcome: FloatArray, penalty: float) -> Linear:
    """Least squares with a quadratic penalty (Hoerl & Kennard 1970, Technometrics 12:55)."""
    centre, level = matrix.mean(axis=0), float(outcome.mean())
    x = matrix - centre
    gram = x.T @ x + penalty * np.eye(x.shape[1])
    slope = np.linalg.solve(gram, x.T @ (outcome - level))
    return Linear(level - float(centre @ slope), slope)


def logistic(matrix: FloatArray, outcome: FloatArray, penalty: float) -> Linear:
    """Logistic regression with a quadratic penalty, by Newton's method with step halving.

    Parameters
    ----------
    outcome : array, (rows,)
        0 or 1; both must occur.

    Raises
    ------
    ValueError
        Only one outcome occurs.
    """
    if outcome.min() == outcome.max():
        raise ValueError("a logistic regression needs both outcomes")
    design = np.concatenate([np.ones((len(matrix), 1)), matrix], axis=1)
    ridge_matrix = penalty * np.eye(design.shape[1])
    ridge_matrix[0, 0] = 0.0
    beta = np.zeros(design.shape[1])
    loss = _logistic_loss(design, outcome, beta, ridge_matrix)
    for _ in range(_ITERATIONS):
        p = expit(design @ beta)
        gradient = design.T @ (p - outcome) + ridge_matrix @ beta
        hessian = (design * (p * (1 - p))[:, None]).T @ design + ridge_matrix
        hessian[0, 0] += 1e-10
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while (tried := _logistic_loss(design, outcome, beta - size * step, ridge_matrix)) > loss + 1e-12:
            size /= 2
            if size < 1e-6:
                return Linear(float(beta[0]), beta[1:])
        beta, gain, loss = beta - size * step, loss - tried, tried
        if gain < _CONVERGED * max(loss, 1.0):
            break
    return Linear(float(beta[0]), beta[1:])


def _logistic_loss(design: FloatArray, outcome: FloatArray, beta: FloatArray, penalty: FloatArray) -> float:
    eta = design @ beta
    return float((np.logaddexp(0.0, eta) - outcome * eta).sum() + 0.5 * beta @ penalty @ beta)


Fit = Callable[[FloatArray, FloatArray, float], Linear]
Loss = Callable[[FloatArray, FloatArray], float]


def squared_error(predictor: FloatArray, outcome: FloatArray) -> float:
    """Return the mean squared error."""
    return float(((predictor - outcome) ** 2).mean())


def log_loss(predictor: FloatArray, outcome: FloatArray) -> float:
    """Return the mean negative log-likelihood of a logistic predictor."""
    return float((np.logaddexp(0.0, predictor) - outcome * predictor).mean())


@dataclass(frozen=True, slots=True)
class CrossFitted:
    """A model with the penalty that cross-validation chose.

    Attributes
    ----------
    out_of_fold : array, (rows,)
        Linear predictor of each row by the model that was fitted without the row's patient.
    """

    model: Linear
    penalty: float
    out_of_fold: FloatArray


def cross_fitted(
    fit: Fit,
    loss: Loss,
    matrix: FloatArray,
    outcome: FloatArray,
    group: IntArray,
    rng: np.random.Generator,
) -> CrossFitted:
    """Choose the penalty by cross-validation over patients, and fit on all rows.

    Parameters
    ----------
    group : array of int, (rows,)
        Patient of each row; the rows of a patient are never on both sides of a fold.
    """
    members = np.unique(group)
    fold_of = dict(zip(rng.permutation(members).tolist(), np.arange(len(members)) % FOLDS, strict=True))
    fold = np.array([fold_of[g] for g in group.tolist()])
    best: CrossFitted | None = None
    best_loss = np.inf
    for penalty in PENALTIES:
        predicted = np.full(len(outcome), np.nan)
        for k in range(FOLDS):
            held = fold == k
            if not held.any() or held.all() or (fit is logistic and np.ptp(outcome[~held]) == 0):
                predicted[held] = outcome.mean() if fit is ridge else 0.0
                continue
            predicted[held] = fit(matrix[~held], outcome[~held], penalty)(matrix[held])
        figure = loss(predicted, outcome)
        if best is None or figure < best_loss:
            best, best_loss = CrossFitted(fit(matrix, outcome, penalty), penalty, predicted), figure
    assert best is not None  # the table of penalties is not empty
    return best
