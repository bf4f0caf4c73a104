"""Figures of a score on patients that chose nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inference.evaluation.survival.delong import delong
from inference.models.second_opinions.links import ScaledOn, SurvivalLink
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


Scored = tuple[FloatArray, FloatArray, FloatArray]
"""Score, months and event of n patients, (n,) each; months and event NaN where not known."""


def fit_link(aside: Sequence[Scored], fitted: Scored) -> SurvivalLink | None:
    """Return survival as a function of a score.

    Parameters
    ----------
    aside : sequence of Scored
        Groups of patients whom the score was not fitted to.
    fitted : Scored
        Those whom it was fitted to. They are taken as well where fewer than five events are among the
        others, and the link says so.

    Returns
    -------
    SurvivalLink or None
        None where nobody had the event.
    """
    kept = _known(aside)
    if kept[2].sum() >= _FEWEST_EVENTS:
        return _fitted(kept, ScaledOn.KEPT_ASIDE)
    everybody = _known((*aside, fitted))
    return _fitted(everybody, ScaledOn.EVERYBODY) if everybody[2].any() else None


def _known(groups: Sequence[Scored]) -> Scored:
    score, months, event = (np.concatenate(column) for column in zip(*groups, strict=True))
    known = np.isfinite(months) & np.isfinite(event) & (np.nan_to_num(months) > 0)
    return score[known], months[known], event[known] > 0


def _fitted(patients: Scored, scaled_on: ScaledOn) -> SurvivalLink:
    values, time, event = patients
    seen = np.asarray(event > 0)
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
        patients=len(values),
        events=int(seen.sum()),
        scaled_on=scaled_on,
    )
