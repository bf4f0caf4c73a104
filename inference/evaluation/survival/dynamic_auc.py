"""Time-dependent AUC: events up to a time against those who lived longer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.evaluation.bootstrap import Statistic
from inference.evaluation.measures import auroc_of
from inference.evaluation.metrics import kaplan_meier
from inference.evaluation.survival.censoring import inverse_censoring_of, weighed
from inference.evaluation.survival.follow_up import FollowUp, checked, checked_times
from inference.results import FloatArray


@dataclass(frozen=True, slots=True)
class DynamicAuc:
    """AUC at m times, (m,) and (m,), and their mean weighted by the events between the times."""

    times: FloatArray
    auc: FloatArray
    mean: float


def dynamic_auc_of(train: FollowUp, follow_up: FollowUp, risk: npt.ArrayLike, at: float) -> Statistic:
    """Cumulative/dynamic AUC at one time as a function of bootstrap weights.

    Cases had the event by `at` and weigh 1 / G(time); controls lived longer; patients censored before
    are represented by the weights. Ties count a half. `inference.evaluation.survival.censoring` says what
    the draws do to G.

    Parameters
    ----------
    train : FollowUp
        Of the patients that the censoring distribution G comes from.
    follow_up : FollowUp
        Of the n patients of the evaluation.
    risk : array, (n,)
        Higher for an event by `at`.
    at : float
        Months; before the end of both follow-ups.

    Raises
    ------
    ValueError
        No case or no control, a risk that is NaN, or a time beyond the follow-up.

    References
    ----------
    Uno et al. 2007, J Am Stat Assoc 102:527; Hung & Chiang 2010, Can J Stat 38:8.
    """
    marker = checked(risk, follow_up, "risk")
    checked_times(at, train, follow_up)
    case = follow_up.event & (follow_up.time <= at)
    control = follow_up.time > at
    if not case.any():
        raise ValueError(f"no event was seen up to time {at:g}")
    factor = inverse_censoring_of(train, follow_up, follow_up.time[case], f"time {at:g}")
    area = auroc_of(case, marker, case | control)

    def statistic(weights: FloatArray) -> FloatArray:
        w = np.array(weights, dtype=np.float64)
        w[:, case] = weighed(w[:, case], factor(weights))
        return area(w)

    return statistic


def dynamic_auc(
    train: FollowUp, follow_up: FollowUp, risk: npt.ArrayLike, times: npt.ArrayLike
) -> DynamicAuc:
    """Cumulative/dynamic AUC at several times, and their mean.

    Parameters
    ----------
    risk : array, (n,) or (n, m)
        One risk for all times, or one for each.
    times : array, (m,)
        Rising.

    Raises
    ------
    ValueError
        As `dynamic_auc_of`.

    References
    ----------
    Lambert & Chevret 2016, Stat Methods Med Res 25:2088 (the mean).
    """
    moments = checked_times(times, train, follow_up)
    marker = checked(risk, follow_up, "risk")
    columns = np.broadcast_to(marker if marker.ndim == 2 else marker[:, None], (len(follow_up), len(moments)))
    once = np.ones((1, len(follow_up)))
    auc = np.array(
        [dynamic_auc_of(train, follow_up, columns[:, i], float(t))(once)[0] for i, t in enumerate(moments)]
    )
    alive = kaplan_meier(follow_up.time, follow_up.event)(moments)
    events = -np.diff(np.concatenate(([1.0], alive)))
    return DynamicAuc(moments, auc, float((auc * events).sum() / events.sum()))
