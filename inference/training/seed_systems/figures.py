"""Figures of a score on patients that chose nothing."""

from __future__ import annotations

import numpy as np

from inference.evaluation.survival.delong import delong
from inference.models.second_opinions.links import SurvivalLink
from inference.results import FloatArray
from inference.training.cox_fit import baseline_hazard, fit_cox

_FEWEST_EVENTS = 5
_PENALTY = 1.0


def auc_figures(outcome: FloatArray, score: FloatArray) -> dict[str, float]:
    """Return AUC with DeLong's 95 % limits, patients and outcomes; counts alone where there is no AUC.

    Parameters
    ----------
    outcome : array, (n,)
        1, 0, or NaN for patients who are left out.
    """
    known = np.isfinite(outcome)
    positive, value = outcome[known] == 1, np.asarray(score)[known]
    counts = {"n": float(known.sum()), "outcomes": float(positive.sum())}
    if min(positive.sum(), (~positive).sum()) < 2:
        return counts
    found = delong(positive, value, value)
    reach = 1.96 * float(np.sqrt(found.covariance[0, 0]))
    limits = {"lower": max(found.first - reach, 0.0), "upper": min(found.first + reach, 1.0)}
    return {"auc": round(found.first, 4), **{k: round(v, 4) for k, v in limits.items()}, **counts}


def fit_link(score: FloatArray, months: FloatArray, event: FloatArray) -> SurvivalLink | None:
    """Return survival as a function of a score; None with fewer than five events.

    The patients should be others than those whom the score was fitted to, for whom it is too sure.
    """
    known = np.isfinite(months) & np.isfinite(event) & (np.nan_to_num(months) > 0)
    values, time, seen = np.asarray(score)[known], months[known], event[known] > 0
    if seen.sum() < _FEWEST_EVENTS:
        return None
    mean, sd = float(values.mean()), float(values.std()) or 1.0
    x = np.clip((values - mean) / sd, -5.0, 5.0)[:, None]
    fitted = fit_cox(x, time, seen, _PENALTY)
    moments = np.unique(time[seen])
    hazard = baseline_hazard(x, time, seen, fitted.beta, moments).hazard
    return SurvivalLink(
        mean=mean,
        sd=sd,
        beta=float(fitted.beta[0]),
        times=tuple(moments.tolist()),
        hazard=tuple(hazard.tolist()),
        patients=int(known.sum()),
        events=int(seen.sum()),
    )
