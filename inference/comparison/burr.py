"""Accelerated failure times with Burr XII errors: Weibull with gamma frailty, fitted by Newton's method.

``z = (log t - x b) / s``, ``log S(t) = -log(1 + k exp z) / k``. The shape k is the variance of a gamma
frailty: 0 is Weibull, 1 log-logistic, and larger values have heavier tails. All of it is closed: gradient,
Hessian, and the median ``exp(x b + s log((2^k - 1) / k))``.

References
----------
Lancaster 1979, Econometrica 47:939 (Weibull with gamma frailty). Tadikamalla 1980, Int Stat Rev 48:337.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.errors import ModelError
from inference.results import FloatArray

_STEPS, _HALVINGS, _TOLERANCE = 60, 30, 1e-8
_LARGEST_EXPONENT = 500.0
LEAST_SHAPE = 1e-6
"""A shape of Weibull errors; below it, the formulas lose digits and the curve no longer changes."""


@dataclass(frozen=True, slots=True)
class SurvivalRows:
    """What is fitted: one row a patient.

    Attributes
    ----------
    design : array, (patients, terms)
    log_months : array, (patients,)
    died : array, (patients,)
        1 where death was seen, otherwise 0.
    weights : array, (patients,)
        What a patient's likelihood counts; all 1 for the plain likelihood.
    """

    design: FloatArray
    log_months: FloatArray
    died: FloatArray
    weights: FloatArray

    def columns(self, chosen: npt.NDArray[np.bool_]) -> SurvivalRows:
        """Return the rows with a part of the terms."""
        return SurvivalRows(self.design[:, chosen], self.log_months, self.died, self.weights)


@dataclass(frozen=True, slots=True)
class BurrFit:
    """The mode of a penalised likelihood.

    Attributes
    ----------
    theta : array, (terms + 1,)
        Coefficients on log months, then log s.
    curvature : array, (terms + 1, terms + 1)
        Minus the Hessian of the penalised log-likelihood at `theta`.
    log_likelihood : float
        Without the penalty.
    """

    shape: float
    theta: FloatArray
    curvature: FloatArray
    log_likelihood: float


def log_likelihood(theta: FloatArray, rows: SurvivalRows, shape: float) -> float:
    """Log-likelihood of log months, weighted."""
    z, _ = _residuals(theta, rows)
    tail = np.log1p(shape * np.exp(z))
    each = rows.died * (z - theta[-1]) - (rows.died + 1.0 / shape) * tail
    return float(rows.weights @ each)


def scores(theta: FloatArray, rows: SurvivalRows, shape: float) -> FloatArray:
    """Gradient of each patient's log-likelihood, (patients, terms + 1), weighted."""
    z, scale = _residuals(theta, rows)
    slope, _ = _slopes(z, rows, shape)
    coefficients = -rows.design * (rows.weights * slope / scale)[:, None]
    own = rows.weights * (-z * slope - rows.died)
    return np.concatenate([coefficients, own[:, None]], axis=1)


def curvature(theta: FloatArray, rows: SurvivalRows, shape: float) -> FloatArray:
    """Minus the Hessian of the log-likelihood, (terms + 1, terms + 1)."""
    z, scale = _residuals(theta, rows)
    slope, bend = _slopes(z, rows, shape)
    p = len(theta) - 1
    hessian = np.empty((p + 1, p + 1))
    hessian[:p, :p] = (rows.design * (rows.weights * bend / scale**2)[:, None]).T @ rows.design
    hessian[:p, p] = hessian[p, :p] = rows.design.T @ (rows.weights * (slope + bend * z)) / scale
    hessian[p, p] = rows.weights @ (z * slope + bend * z * z)
    return -hessian


def _residuals(theta: FloatArray, rows: SurvivalRows) -> tuple[FloatArray, float]:
    scale = float(np.exp(theta[-1]))
    z = (rows.log_months - rows.design @ theta[:-1]) / scale
    return np.minimum(z, _LARGEST_EXPONENT), scale


def _slopes(z: FloatArray, rows: SurvivalRows, shape: float) -> tuple[FloatArray, FloatArray]:
    """First and second derivative of each log-likelihood by z."""
    grown = np.exp(z)
    share = grown / (1.0 + shape * grown)
    factor = 1.0 + shape * rows.died
    return rows.died - factor * share, -factor * share * (1.0 - shape * share)


def first_guess(rows: SurvivalRows) -> FloatArray:
    """Return a start for Newton's method: least squares on the log of months, as if all had died."""
    rooted = np.sqrt(rows.weights)
    coefficients, *_ = np.linalg.lstsq(rows.design * rooted[:, None], rows.log_months * rooted, rcond=None)
    residual = rows.log_months - rows.design @ coefficients
    return np.append(coefficients, np.log(max(float(residual.std()), 0.05)))


def fit(
    rows: SurvivalRows, shape: float, prior_sd: Sequence[float] | FloatArray, start: FloatArray
) -> BurrFit:
    """Maximise the likelihood times normal priors of mean 0.

    Parameters
    ----------
    rows : SurvivalRows
    shape : float
        k, at least `LEAST_SHAPE`.
    prior_sd : (terms,)
        Standard deviation of the prior of each coefficient; infinity for none.
    start : array, (terms + 1,)

    Raises
    ------
    ModelError
        Newton's method came to no maximum: the terms are collinear, or a regimen has no deaths.
    """
    penalty = np.append(1.0 / np.asarray(prior_sd, dtype=np.float64) ** 2, 0.0)

    def value(theta: FloatArray) -> float:
        return log_likelihood(theta, rows, shape) - 0.5 * float(penalty @ theta**2)

    theta, best = start.copy(), value(start)
    for _ in range(_STEPS):
        gradient = scores(theta, rows, shape).sum(axis=0) - penalty * theta
        bent = curvature(theta, rows, shape) + np.diag(penalty)
        step = _uphill(bent, gradient)
        if float(gradient @ step) < _TOLERANCE:
            return BurrFit(shape, theta, bent, log_likelihood(theta, rows, shape))
        theta, best = _improved(theta, best, step, value)
    raise ModelError("the survival model of the comparison came to no maximum")


def _uphill(bent: FloatArray, gradient: FloatArray) -> FloatArray:
    """Newton's step; away from the maximum the curvature is made positive definite first."""
    try:
        np.linalg.cholesky(bent)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(bent)
        lifted = np.maximum(np.abs(values), 1e-6 * np.abs(values).max())
        return np.asarray(vectors @ ((vectors.T @ gradient) / lifted))
    return np.asarray(np.linalg.solve(bent, gradient), dtype=np.float64)


def _improved(
    theta: FloatArray, best: float, step: FloatArray, value: Callable[[FloatArray], float]
) -> tuple[FloatArray, float]:
    """Go as far along a step as the value rises; log s changes by 1 at most."""
    share = min(1.0, 1.0 / max(abs(float(step[-1])), 1e-12))
    for _ in range(_HALVINGS):
        tried = theta + share * step
        found = value(tried)
        if found > best:
            return tried, found
        share *= 0.5
    raise ModelError("the survival model of the comparison does not rise along its gradient")


def log_median_offset(shape: FloatArray, scale: FloatArray) -> FloatArray:
    """Return what is added to ``x b`` to make the log of the median."""
    return np.asarray(scale * np.log((2.0**shape - 1.0) / shape))


def survival(
    log_months: FloatArray, location: FloatArray, scale: FloatArray, shape: FloatArray
) -> FloatArray:
    """S(t) for arrays that broadcast."""
    z = np.minimum((log_months - location) / scale, _LARGEST_EXPONENT)
    return np.asarray(np.exp(-np.log1p(shape * np.exp(z)) / shape))
