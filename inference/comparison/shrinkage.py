"""Draws from a normal likelihood times a horseshoe prior.

``b_j ~ N(0, (lambda_j tau)^2)``, lambda_j and tau half-Cauchy. The half-Cauchy distributions are written as
mixtures of inverse gamma ones, so that every step of the Gibbs sampler is closed.

References
----------
Carvalho, Polson & Scott 2010, Biometrika 97:465. Makalic & Schmidt 2016, IEEE Signal Process Lett 23:179,
eq. 8 to 12.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.lapack import dpotrf, dtrtrs

from inference.errors import ModelError
from inference.results import FloatArray

GLOBAL_SCALE = 0.05
"""Median of tau: log of the ratio of times by which an ordinary covariate changes what a regimen does."""
_BURN_IN = 200
_LEAST_VARIANCE = 1e-10


def draw_horseshoe(
    mean: FloatArray,
    precision: FloatArray,
    number: int,
    rng: np.random.Generator,
    scale: float = GLOBAL_SCALE,
) -> FloatArray:
    """Draw coefficients, (draws, terms).

    Parameters
    ----------
    mean, precision : array, (terms,) and (terms, terms)
        Of the normal likelihood.
    scale : float
        Of the half-Cauchy prior of tau.

    Raises
    ------
    ModelError
        The precision is not positive definite.
    """
    terms = len(mean)
    pulled, diagonal = precision @ mean, np.eye(terms)
    local, local_aux = np.ones(terms), np.ones(terms)
    overall, overall_aux = scale**2, 1.0
    kept = np.empty((number, terms))
    for k in range(-_BURN_IN, number):
        variance = np.maximum(local * overall, _LEAST_VARIANCE)
        b = _normal(precision + diagonal * (1.0 / variance), pulled, rng)
        local = (1.0 / local_aux + b * b / (2.0 * overall)) / rng.standard_gamma(1.0, terms)
        local_aux = (1.0 + 1.0 / local) / rng.standard_gamma(1.0, terms)
        spread = 1.0 / overall_aux + float((b * b / local).sum()) / 2.0
        overall = max(spread / float(rng.standard_gamma((terms + 1) / 2.0)), _LEAST_VARIANCE)
        overall_aux = (1.0 / scale**2 + 1.0 / overall) / float(rng.standard_gamma(1.0))
        if k >= 0:
            kept[k] = b
    return kept


def _normal(precision: FloatArray, pulled: FloatArray, rng: np.random.Generator) -> FloatArray:
    """One draw of a normal distribution given by its precision, and precision times mean.

    LAPACK is called without scipy's checks, which cost more than the work on so small matrices.
    """
    lower, failed = dpotrf(precision, lower=1)
    if failed:
        raise ModelError("the effects of the regimens cannot be told apart: a covariate repeats another one")
    half, _ = dtrtrs(lower, pulled, lower=1)
    drawn, _ = dtrtrs(lower, half + rng.standard_normal(len(pulled)), lower=1, trans=1)
    return np.asarray(drawn)
