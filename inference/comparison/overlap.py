"""Who could have had which regimen: propensity, overlap weights, and distance from the cohort."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, softmax

from inference.errors import ModelError
from inference.results import FloatArray

_STEPS, _TOLERANCE = 50, 1e-8
_RIDGE = 1.0
"""Precision of the normal prior of a slope, of a covariate in standard units: shields from separation."""


@dataclass(frozen=True, slots=True)
class Propensity:
    """Multinomial logistic regression of the regimen on the covariates.

    Attributes
    ----------
    coefficients : array, (1 + covariates, regimens - 1)
        Logits against the first regimen; the first row has the intercepts.
    """

    coefficients: FloatArray

    def of(self, standard: FloatArray) -> FloatArray:
        """Probability of each regimen, (patients, regimens), of covariates in standard units."""
        return np.asarray(softmax(_logits(_with_one(standard), self.coefficients), axis=1))


def _with_one(standard: FloatArray) -> FloatArray:
    return np.column_stack([np.ones(len(standard)), standard])


def _logits(design: FloatArray, coefficients: FloatArray) -> FloatArray:
    return np.column_stack([np.zeros(len(design)), design @ coefficients])


def fit_propensity(standard: FloatArray, regimen: npt.NDArray[np.intp], regimens: int) -> Propensity:
    """Fit by Newton's method with a weak ridge on the slopes.

    Raises
    ------
    ModelError
        It came to no maximum.
    """
    design = _with_one(standard)
    terms, others = design.shape[1], regimens - 1
    given = np.eye(regimens)[regimen]
    penalty = np.full((terms, others), _RIDGE)
    penalty[0] = 0.0
    flat = penalty.T.ravel()
    coefficients = np.zeros((terms, others))
    value = _penalised(design, given, coefficients, penalty)
    for _ in range(_STEPS):
        chance = softmax(_logits(design, coefficients), axis=1)[:, 1:]
        gradient = (design.T @ (given[:, 1:] - chance) - penalty * coefficients).T.ravel()
        information = np.diag(flat)
        for a in range(others):
            for b in range(others):
                weight = chance[:, a] * ((a == b) - chance[:, b])
                block = (design * weight[:, None]).T @ design
                information[a * terms : (a + 1) * terms, b * terms : (b + 1) * terms] += block
        step = np.linalg.solve(information, gradient)
        if float(gradient @ step) < _TOLERANCE:
            return Propensity(coefficients)
        change, share = step.reshape(others, terms).T, 1.0
        while share > 1e-6:
            tried = _penalised(design, given, coefficients + share * change, penalty)
            if tried > value:
                break
            share *= 0.5
        coefficients, value = coefficients + share * change, tried
    raise ModelError("the propensity of the regimens came to no maximum")


def _penalised(design: FloatArray, given: FloatArray, coefficients: FloatArray, penalty: FloatArray) -> float:
    logs = log_softmax(_logits(design, coefficients), axis=1)
    return float((given * logs).sum() - 0.5 * (penalty * coefficients**2).sum())


def overlap_weights(chance: FloatArray, regimen: npt.NDArray[np.intp]) -> FloatArray:
    """Weights that make the treated groups alike where all regimens were possible; mean 1.

    Li & Li 2019, Ann Appl Stat 13:2389, eq. 2.7: one over the own propensity, times the harmonic mean of all.
    """
    weights = 1.0 / (chance[np.arange(len(regimen)), regimen] * (1.0 / chance).sum(axis=1))
    return np.asarray(weights / weights.mean())


def pair_propensity(chance: FloatArray, regimen: int, against: int) -> FloatArray:
    """Probability of `regimen` among patients who had one of the two, (patients,)."""
    return np.asarray(chance[:, regimen] / (chance[:, regimen] + chance[:, against]))


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """Where the patients of a cohort lie.

    Attributes
    ----------
    limit : float
        Squared Mahalanobis distance that the asked quantile of the cohort does not exceed.
    """

    precision: FloatArray
    limit: float

    def distances(self, standard: FloatArray) -> FloatArray:
        """Squared Mahalanobis distance from the mean, (patients,)."""
        return np.asarray(np.einsum("ij,jk,ik->i", standard, self.precision, standard))


def fit_neighbourhood(standard: FloatArray, quantile: float) -> Neighbourhood:
    """Measure the spread of covariates in standard units (mean 0)."""
    precision = np.linalg.pinv(np.atleast_2d(np.cov(standard, rowvar=False)))
    near = Neighbourhood(precision, np.inf)
    return Neighbourhood(precision, float(np.quantile(near.distances(standard), quantile)))
