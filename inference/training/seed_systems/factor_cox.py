"""Cox models of clinical factors, and the choice of factors by univariate, then multivariate tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from inference.errors import ModelError
from inference.evaluation.metrics import BoolArray
from inference.models.lasso_cox import LassoCox, LassoCoxFile
from inference.results import FloatArray
from inference.training.cox_fit import baseline_hazard, fit_cox
from inference.training.lasso_cox_fit import Preparation

SIGNIFICANCE = 0.05
_PENALTY = 1.0
_TINY_PENALTY = 1e-3


def fit_factor_cox(factors: FloatArray, names: Sequence[str], time: FloatArray, event: BoolArray) -> LassoCox:
    """Fit a Cox model with a slight ridge penalty; a missing value counts as the mean.

    Parameters
    ----------
    factors : array, (n, p)
        NaN for what is missing; those known for fewer than half of the patients, or the same in all, are
        left out.
    time, event : array, (n,)

    Raises
    ------
    ModelError
        No event, or no usable factor.
    """
    prepared = Preparation.of(factors)
    if not len(prepared.used):
        raise ModelError("no factor is known for half of the patients and differs between them")
    x = prepared.apply(factors)
    beta = fit_cox(x, time, event, _PENALTY).beta
    moments = np.unique(time[event])
    return LassoCox(
        LassoCoxFile(
            names=tuple(names[int(i)] for i in prepared.used),
            mean=tuple(prepared.mean.tolist()),
            sd=tuple(prepared.sd.tolist()),
            beta=tuple(beta.tolist()),
            times=tuple(moments.tolist()),
            hazard=tuple(baseline_hazard(x, time, event, beta, moments).hazard.tolist()),
            penalty=_PENALTY,
        )
    )


def chosen_factors(
    factors: FloatArray, time: FloatArray, event: BoolArray, always: Sequence[int] = ()
) -> np.ndarray:
    """Return the places of the factors that matter: univariate p < .05, then multivariate p < .05.

    Wald tests. `always` are kept whatever their p, where they are usable.

    References
    ----------
    The procedure is that of Sun et al.; it is not a good one (the choice is unstable and p after it mean
    nothing), and it is here because the study's comparators are made that way.
    """
    prepared = Preparation.of(factors)
    x = prepared.apply(factors)
    kept = np.isin(prepared.used, list(always))
    alone = np.array([_p_values(x[:, [i]], time, event)[0] for i in range(x.shape[1])])
    candidates = np.flatnonzero((alone < SIGNIFICANCE) | kept)
    if not len(candidates):
        return np.zeros(0, dtype=np.intp)
    together = _p_values(x[:, candidates], time, event)
    final = candidates[(together < SIGNIFICANCE) | kept[candidates]]
    return np.asarray(prepared.used[final])


def _p_values(x: FloatArray, time: FloatArray, event: BoolArray) -> FloatArray:
    fit = fit_cox(x, time, event, _TINY_PENALTY)
    z = fit.beta / np.sqrt(np.diag(fit.covariance))
    return np.asarray(2.0 * stats.norm.sf(np.abs(z)))


def log_risks(model: LassoCox, factors: FloatArray, names: Sequence[str]) -> FloatArray:
    """Return log hazard ratios to a patient of mean factors, (n,), of factors (n, p); 0 if none is known."""
    return np.array([_log_risk(model, dict(zip(names, row, strict=True))) for row in factors.tolist()])


def _log_risk(model: LassoCox, values: dict[str, float]) -> float:
    known = [np.isfinite(values[name]) for name in model.file.names]
    return model.log_risk(values) if any(known) else 0.0
