"""Decision curves: the net benefit of treating those whose predicted probability reaches a threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.evaluation.bootstrap import Estimate
from inference.evaluation.survival.follow_up import FollowUp, checked_probability, checked_times, need_events
from inference.evaluation.survival.kaplan_meier import survival_at
from inference.evaluation.survival.resampling import JointStatistic, estimates
from inference.results import FloatArray


@dataclass(frozen=True, slots=True)
class DecisionCurve:
    """Net benefit at k thresholds, of the prediction and of treating everybody; of nobody it is 0.

    Attributes
    ----------
    thresholds : array, (k,)
    model, everybody : tuple of Estimate, (k,)
        NaN where nobody of those to be treated is followed to the time.
    """

    thresholds: FloatArray
    model: tuple[Estimate, ...]
    everybody: tuple[Estimate, ...]


def net_benefit_of(
    follow_up: FollowUp, risk: npt.ArrayLike, at: float, thresholds: npt.ArrayLike
) -> JointStatistic:
    """Net benefit at each threshold as a function of bootstrap weights, to (draws, k).

    ``share treated * (d - (1 - d) * pt / (1 - pt))``, where d is the probability of the event by `at`
    among those whose risk is `pt` or more, one minus Kaplan-Meier.

    Parameters
    ----------
    follow_up : FollowUp
        Of n patients.
    risk : array, (n,)
        Predicted probability of the event by `at`.
    at : float
        Months, before the end of follow-up.
    thresholds : array, (k,)
        Above 0 and below 1.

    Raises
    ------
    ValueError
        No event, a risk that is NaN or no probability, a time beyond the follow-up, or a threshold that is
        not between 0 and 1.

    References
    ----------
    Vickers et al. 2008, BMC Med Inform Decis Mak 8:53, "Extension to survival data".
    """
    need_events(follow_up)
    predicted = checked_probability(risk, follow_up, "predicted probability")
    checked_times(at, follow_up)
    limits = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    if not ((limits > 0) & (limits < 1)).all():
        raise ValueError("thresholds must lie between 0 and 1")

    def net_benefit(weights: FloatArray) -> FloatArray:
        columns = [_at_threshold(follow_up, predicted >= pt, at, float(pt), weights) for pt in limits]
        return np.stack(columns, axis=1)

    return net_benefit


def _at_threshold(
    follow_up: FollowUp, treated: npt.NDArray[np.bool_], at: float, threshold: float, weights: FloatArray
) -> FloatArray:
    if not treated.any():
        return np.zeros(len(weights))
    among = weights[:, treated]
    count = among.sum(axis=1)
    died = 1.0 - survival_at(follow_up.of(treated), among, at)
    benefit = count / weights.sum(axis=1) * (died - (1.0 - died) * threshold / (1.0 - threshold))
    return np.where(count > 0, benefit, 0.0)


def decision_curve(
    follow_up: FollowUp, risk: npt.ArrayLike, at: float, thresholds: npt.ArrayLike, weights: FloatArray
) -> DecisionCurve:
    """Return a decision curve with bootstrap intervals.

    Parameters
    ----------
    weights : array, (draws, n)
        From `inference.evaluation.bootstrap.patient_weights`.

    Raises
    ------
    ValueError
        As `net_benefit_of`.
    """
    limits = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    model = net_benefit_of(follow_up, risk, at, limits)
    everybody = net_benefit_of(follow_up, np.ones(len(follow_up)), at, limits)
    return DecisionCurve(limits, estimates(model, weights), estimates(everybody, weights))
