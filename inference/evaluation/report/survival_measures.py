"""The measures of survival predictions as one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from inference.evaluation.bootstrap import Statistic
from inference.evaluation.report.plan import EvaluationPlan
from inference.evaluation.report.sampled import Better, Figure, NotComputed, Sampled, computed, sampled
from inference.evaluation.report.task import Task, followed_beyond
from inference.evaluation.survival.brier import brier_of, integrated_brier_of
from inference.evaluation.survival.calibration import calibration_errors_of, calibration_in_the_large_of
from inference.evaluation.survival.concordance import harrell_of, uno_of
from inference.evaluation.survival.dynamic_auc import dynamic_auc_of
from inference.evaluation.survival.explained import nagelkerke_of
from inference.evaluation.survival.follow_up import FollowUp
from inference.evaluation.survival.kaplan_meier import survival_curve
from inference.evaluation.survival.resampling import JointStatistic, in_parts, joined
from inference.evaluation.survival.weighted_cox import WeightedCox
from inference.results import FloatArray

_LEAST, _MOST = 1e-6, 1 - 1e-6
_DRAWS_AT_ONCE = 100

Where = TypeVar("Where")


@dataclass(frozen=True, slots=True)
class Measure:
    """A row of the tables of results.

    Attributes
    ----------
    key : str
        In ``metrics.json``; a measure at a horizon has it behind an ``@``.
    """

    key: str
    title: str
    better: Better


@dataclass(frozen=True, slots=True)
class Scale:
    """Where measures are taken: months after the start of treatment.

    Attributes
    ----------
    grid : array, (m,)
        Months that all models predict, for scores over time.
    last : float
        The last horizon that can be measured; pairs opened after it do not count in Uno's C.
    """

    grid: FloatArray
    last: float


@dataclass(frozen=True, slots=True)
class OverTime:
    """Measures of the whole course that come from one statistic."""

    measures: tuple[Measure, ...]
    statistic: Callable[[Task, Scale], JointStatistic]


@dataclass(frozen=True, slots=True)
class AtHorizon:
    """Measures at one horizon that come from one statistic."""

    measures: tuple[Measure, ...]
    statistic: Callable[[Task, float], JointStatistic]


def _alone(statistic: Statistic) -> JointStatistic:
    return joined((statistic,))


def _uno(task: Task, scale: Scale) -> JointStatistic:
    tau = task.since_start(scale.last)
    return _alone(uno_of(task.follow_up, task.follow_up, task.risk, tau))


def _integrated_brier(task: Task, scale: Scale) -> JointStatistic:
    """Score of the model, of Kaplan-Meier, and the share by which the model is better.

    The share is the index of prediction accuracy (Kattan & Gerds 2018, Diagn Progn Res 2:7). Kaplan-Meier
    is that of the same patients and stays as it is in all draws.
    """
    times = np.array([task.since_start(m) for m in scale.grid])
    columns = np.stack([task.survival(m) for m in scale.grid], axis=1) if len(times) else np.empty((0, 0))
    model = integrated_brier_of(task.follow_up, task.follow_up, columns, times)
    curve = survival_curve(task.follow_up)
    index = np.searchsorted(curve.times, times, side="right")
    overall = np.broadcast_to(np.concatenate(([1.0], curve.survival))[index], columns.shape)
    null = integrated_brier_of(task.follow_up, task.follow_up, overall, times)

    def scores(weights: FloatArray) -> FloatArray:
        m, k = model(weights), null(weights)
        return np.stack((m, k, 1.0 - m / np.where(k > 0, k, np.nan)), axis=1)

    return scores


def _slope(task: Task, at: float) -> JointStatistic:
    """Coefficient of ``log(-log(1 - p))`` in a Cox regression; 1 where predictions spread as outcomes do."""
    p = np.clip(task.event_risk(at), _LEAST, _MOST)
    v = np.log(-np.log1p(-p))
    spread = float(v.std())
    if spread < 1e-8:
        raise ValueError("all predictions are the same, and have no slope")
    x = ((v - v.mean()) / spread)[:, None]
    time, end = task.follow_up.time, task.since_start(at)
    # What happens after the horizon is no part of a prediction for it.
    until = FollowUp(np.minimum(time, end), task.follow_up.event & (time <= end))
    return in_parts(lambda weights: WeightedCox.of(x, until, weights).fit().beta / spread, _DRAWS_AT_ONCE)


OVER_TIME: tuple[OverTime, ...] = (
    OverTime(
        (Measure("harrell_c", "Harrell's C", Better.HIGHER),),
        lambda task, _: _alone(harrell_of(task.follow_up, task.risk)),
    ),
    OverTime((Measure("uno_c", "Uno's C", Better.HIGHER),), _uno),
    OverTime(
        (
            Measure("ibs", "Integrated Brier score", Better.LOWER),
            Measure("ibs_kaplan_meier", "the same of Kaplan-Meier", Better.NONE),
            Measure("ipa", "Prediction accuracy over Kaplan-Meier", Better.HIGHER),
        ),
        _integrated_brier,
    ),
    OverTime(
        (Measure("nagelkerke_r2", "Nagelkerke's R2", Better.HIGHER),),
        lambda task, _: _alone(nagelkerke_of(task.follow_up, task.risk)),
    ),
)

AT_HORIZON: tuple[AtHorizon, ...] = (
    AtHorizon(
        (Measure("auc", "AUC", Better.HIGHER),),
        lambda task, at: _alone(
            dynamic_auc_of(task.follow_up, task.follow_up, task.event_risk(at), task.since_start(at))
        ),
    ),
    AtHorizon(
        (Measure("brier", "Brier score", Better.LOWER),),
        lambda task, at: _alone(
            brier_of(task.follow_up, task.follow_up, task.survival(at), task.since_start(at))
        ),
    ),
    AtHorizon(
        (
            Measure("ici", "ICI", Better.LOWER),
            Measure("e50", "E50", Better.LOWER),
            Measure("e90", "E90", Better.LOWER),
        ),
        lambda task, at: calibration_errors_of(task.follow_up, task.event_risk(at), task.since_start(at)),
    ),
    AtHorizon(
        (
            Measure("observed", "Observed risk", Better.NONE),
            Measure("predicted", "Mean predicted risk", Better.NONE),
            Measure("observed_less_predicted", "Observed less predicted", Better.ZERO),
        ),
        lambda task, at: calibration_in_the_large_of(
            task.follow_up, task.event_risk(at), task.since_start(at)
        ),
    ),
    AtHorizon((Measure("slope", "Calibration slope", Better.ONE),), _slope),
)


def measured(task: Task, scale: Scale, plan: EvaluationPlan, weights: FloatArray) -> dict[str, Figure]:
    """Return every measure of one task by its key.

    Parameters
    ----------
    weights : array, (draws, n)
        Of the task's patients.
    """
    found: dict[str, Figure] = {}
    refusal = too_few(int(task.follow_up.event.sum()), plan)
    for group in OVER_TIME:
        compute = partial(_sampled, group.statistic, task, scale, weights)
        found |= _named(group.measures, computed(compute, refusal), "")
    for horizon in plan.horizons:
        refusal = horizon_refusal(task, horizon, plan)
        for at_horizon in AT_HORIZON:
            at = partial(_sampled, at_horizon.statistic, task, horizon, weights)
            found |= _named(at_horizon.measures, computed(at, refusal), f"@{horizon:g}")
    return found


def _sampled(
    statistic: Callable[[Task, Where], JointStatistic], task: Task, where: Where, weights: FloatArray
) -> tuple[Sampled, ...]:
    return sampled(statistic(task, where), weights)


def _named(
    measures: Sequence[Measure], figures: Sequence[Figure] | NotComputed, suffix: str
) -> dict[str, Figure]:
    if isinstance(figures, NotComputed):
        return {m.key + suffix: figures for m in measures}
    return {m.key + suffix: f for m, f in zip(measures, figures, strict=True)}


def too_few(events: int, plan: EvaluationPlan) -> NotComputed | None:
    """Return the refusal of patients among whom too few events were seen."""
    if events >= plan.fewest_events:
        return None
    return NotComputed(f"too few events ({events}, and {plan.fewest_events} are needed)")


def horizon_refusal(task: Task, horizon: float, plan: EvaluationPlan) -> NotComputed | None:
    """Return why nothing can be measured at a horizon, or None."""
    events = int(task.follow_up.event.sum())
    if task.start >= horizon:
        return NotComputed(f"the landmark of {task.start:g} months is not before {horizon:g} months")
    followed = followed_beyond(task.follow_up, task.since_start(horizon))
    if followed < plan.fewest_at_risk:
        return NotComputed(
            f"too few patients followed to {horizon:g} months "
            f"({followed}, and {plan.fewest_at_risk} are needed)"
        )
    return too_few(events, plan)


def scale_of(tasks: Sequence[Task], plan: EvaluationPlan, months: FloatArray) -> Scale:
    """Return where the tasks of one end point and the same patients are measured."""
    reached = [h for h in plan.horizons if all(horizon_refusal(t, h, plan) is None for t in tasks)]
    last = reached[-1] if reached else plan.horizons[0]
    return Scale(months[months <= last], last)
