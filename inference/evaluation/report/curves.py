"""Curves of one model: calibration with density, net benefit, D-calibration, and survival by risk group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from inference.evaluation.bootstrap import Estimate
from inference.evaluation.report.plan import EvaluationPlan
from inference.evaluation.report.sampled import NotComputed, computed
from inference.evaluation.report.survival_measures import horizon_refusal, too_few
from inference.evaluation.report.task import Task
from inference.evaluation.survival.calibration import (
    CalibrationCurve,
    CalibrationGroup,
    calibration_curve,
    calibration_groups,
)
from inference.evaluation.survival.d_calibration import DCalibration, d_calibration
from inference.evaluation.survival.decision import net_benefit_of
from inference.evaluation.survival.follow_up import FollowUp
from inference.evaluation.survival.kaplan_meier import (
    Curve,
    LogRank,
    log_rank,
    numbers_at_risk,
    survival_curve,
)
from inference.evaluation.survival.resampling import estimates
from inference.results import FloatArray

_QUINTILES = 5
_POINTS = 30
_FEWEST_FOR_CUTS = 20
_TWO = 2
GROUP_NAMES = {
    2: ("low", "high"),
    3: ("low", "intermediate", "high"),
    4: ("lowest", "low", "high", "highest"),
}


@dataclass(frozen=True, slots=True, eq=False)
class HorizonCurves:
    """Curves of one model at one horizon.

    Attributes
    ----------
    groups : tuple of CalibrationGroup
        Quintiles by predicted survival, as a check on the smooth curve.
    net_benefit : tuple of Estimate, (thresholds,)
    """

    horizon: float
    calibration: CalibrationCurve | NotComputed
    groups: tuple[CalibrationGroup, ...] | NotComputed
    net_benefit: tuple[Estimate, ...] | NotComputed


def horizon_curves(task: Task, plan: EvaluationPlan, weights: FloatArray) -> tuple[HorizonCurves, ...]:
    """Return the curves at each horizon."""
    return tuple(_curves(task, horizon, plan, weights) for horizon in plan.horizons)


def _curves(task: Task, horizon: float, plan: EvaluationPlan, weights: FloatArray) -> HorizonCurves:
    refusal = horizon_refusal(task, horizon, plan)
    if refusal is not None:
        return HorizonCurves(horizon, refusal, refusal, refusal)
    at, follow_up, risk = task.since_start(horizon), task.follow_up, task.event_risk(horizon)
    return HorizonCurves(
        horizon,
        computed(lambda: calibration_curve(follow_up, risk, at, weights, _POINTS)),
        computed(lambda: calibration_groups(follow_up, task.survival(horizon), at, _QUINTILES)),
        computed(lambda: estimates(net_benefit_of(follow_up, risk, at, plan.thresholds), weights)),
    )


def benefit_of_treating_all(
    task: Task, plan: EvaluationPlan, weights: FloatArray
) -> dict[float, tuple[Estimate, ...] | NotComputed]:
    """Return the net benefit of treating everybody, by horizon; no model is needed for it."""
    everybody = np.ones(len(task.follow_up))

    def benefit(horizon: float) -> tuple[Estimate, ...]:
        at = task.since_start(horizon)
        return estimates(net_benefit_of(task.follow_up, everybody, at, plan.thresholds), weights)

    return {h: computed(partial(benefit, h), horizon_refusal(task, h, plan)) for h in plan.horizons}


def d_calibration_of(task: Task, plan: EvaluationPlan) -> DCalibration | NotComputed:
    """Test the whole curves; follow-up beyond the last month that is predicted is cut off."""
    refusal = too_few(int(task.follow_up.event.sum()), plan)
    return computed(lambda: d_calibration(*task.own_survival()), refusal)


# ------------------------------------------------------------------ risk groups


@dataclass(frozen=True, slots=True, eq=False)
class RiskGroup:
    """Patients of one group and their observed survival.

    Attributes
    ----------
    at_risk : tuple of int
        At the times of `RiskGroups.times`.
    """

    name: str
    patients: int
    events: int
    curve: Curve
    at_risk: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class RiskGroups:
    """Groups by predicted risk, whose cut points come from patients that are not measured here.

    Attributes
    ----------
    cuts : tuple of float
        A risk at or above a cut belongs to the higher group.
    cut_from : str
        Whose risks the cuts are quantiles of, or `OWN_CUT`.
    times : tuple of float
        Months since the start of the task.
    """

    cuts: tuple[float, ...]
    cut_from: str
    times: tuple[float, ...]
    groups: tuple[RiskGroup, ...]
    test: LogRank | NotComputed


@dataclass(frozen=True, slots=True)
class Cuts:
    """Cut points and the words for where they come from."""

    values: tuple[float, ...]
    source: str


OWN_CUT = "the model's own cut point"
"""Source of a cut that the model brings with it."""


def cuts_of(
    validation: FloatArray, train: FloatArray, plan: EvaluationPlan, own: float | None = None
) -> Cuts:
    """Return cut points of risk into groups of equal size.

    Risks of training patients are used only beside too few validation patients: a model knows them, so
    they spread wider than those of new patients.

    Parameters
    ----------
    validation, train : array, (k,)
        Predicted risks; NaN is left out.
    own : float, optional
        The model's own cut, which is used instead where there are two groups.

    Raises
    ------
    ValueError
        Too few risks, or all alike.
    """
    if own is not None and plan.risk_groups == _TWO:
        return Cuts((own,), OWN_CUT)
    known, fitted = (r[np.isfinite(r)] for r in (validation, train))
    source, risks = "validation patients", known
    if len(known) < _FEWEST_FOR_CUTS:
        source, risks = "training and validation patients", np.concatenate((known, fitted))
    if len(risks) < _FEWEST_FOR_CUTS:
        raise ValueError(
            f"{len(risks)} training and validation patients are predicted, and {_FEWEST_FOR_CUTS} are needed "
            "for the cut points of risk groups"
        )
    shares = [k / plan.risk_groups for k in range(1, plan.risk_groups)]
    values = np.quantile(risks, shares)
    if len(np.unique(values)) < len(values) or np.ptp(risks) == 0:
        raise ValueError("predicted risks are too much alike to be divided into groups")
    return Cuts(tuple(float(v) for v in values), f"{len(risks)} {source}")


def risk_groups(task: Task, cuts: Cuts, plan: EvaluationPlan) -> RiskGroups:
    """Divide patients by risk and follow each group.

    Raises
    ------
    ValueError
        A group is empty.
    """
    index = np.searchsorted(np.array(cuts.values), task.risk, side="right")
    names = GROUP_NAMES[plan.risk_groups]
    times = _ticks(task.follow_up)
    groups = [_group(names[k], task.follow_up, index == k, times) for k in range(len(names))]
    test = computed(lambda: log_rank(task.follow_up, index))
    return RiskGroups(cuts.values, cuts.source, times, tuple(groups), test)


def _group(
    name: str, follow_up: FollowUp, member: npt.NDArray[np.bool_], times: Sequence[float]
) -> RiskGroup:
    if not member.any():
        raise ValueError(f"no patient has a {name} risk by the cut points")
    own = follow_up.of(member)
    at_risk = tuple(int(n) for n in numbers_at_risk(own, times))
    return RiskGroup(name, len(own), int(own.event.sum()), survival_curve(own), at_risk)


def _ticks(follow_up: FollowUp) -> tuple[float, ...]:
    last = float(follow_up.time.max())
    step = 6.0 if last <= 48 else 12.0 if last <= 96 else 24.0
    return tuple(float(t) for t in np.arange(0.0, last + 1e-9, step))
