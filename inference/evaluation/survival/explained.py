"""Explained variation: Nagelkerke's R2."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from inference.evaluation.bootstrap import Statistic
from inference.evaluation.survival.follow_up import FollowUp, checked, need_events
from inference.evaluation.survival.resampling import in_parts
from inference.evaluation.survival.weighted_cox import WeightedCox
from inference.results import FloatArray

_DRAWS_AT_ONCE = 100


def nagelkerke_r2(null_log_likelihood: FloatArray, log_likelihood: FloatArray, n: FloatArray) -> FloatArray:
    """R2 scaled so that it can reach 1, of log likelihoods without and with the model.

    References
    ----------
    Nagelkerke 1991, Biometrika 78:691, eq. 1 and 3.
    """
    explained = -np.expm1(2.0 * (null_log_likelihood - log_likelihood) / n)
    most = -np.expm1(2.0 * null_log_likelihood / n)
    return np.divide(explained, most, out=np.full_like(explained, np.nan), where=most > 0)


def nagelkerke_of(follow_up: FollowUp, risk: npt.ArrayLike) -> Statistic:
    """Nagelkerke's R2 of a log relative hazard as a function of bootstrap weights.

    A Cox regression of the outcome on `risk` alone gives the likelihoods, so the figure does not depend
    on the scale of `risk`, nor punish a slope that is not 1: calibration measures do.

    Parameters
    ----------
    risk : array, (n,)
        Log relative hazard, or any linear predictor.

    Raises
    ------
    ValueError
        No event, or a risk that is NaN.
    """
    need_events(follow_up)
    r = checked(risk, follow_up, "risk")
    spread = float(r.std())
    x = (r - r.mean())[:, None] / (spread if spread > 0 else 1.0)

    def explained(weights: FloatArray) -> FloatArray:
        fits = WeightedCox.of(x, follow_up, weights).fit()
        return nagelkerke_r2(fits.null_log_likelihood, fits.log_likelihood, weights.sum(axis=1))

    return in_parts(explained, _DRAWS_AT_ONCE)
