"""One survival end point in one set of patients: all models, all pairs, and the arms of the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from inference.evaluation.bootstrap import Estimate
from inference.evaluation.metrics import BoolArray
from inference.evaluation.predictions.folder import ModelPredictions, Predictions, at_risk
from inference.evaluation.predictions.models import Arm, Role
from inference.evaluation.predictions.patients import TRAIN, VALIDATION
from inference.evaluation.report.curves import (
    HorizonCurves,
    RiskGroups,
    benefit_of_treating_all,
    cuts_of,
    d_calibration_of,
    horizon_curves,
    risk_groups,
)
from inference.evaluation.report.plan import EvaluationPlan
from inference.evaluation.report.sampled import Figure, NotComputed, computed, difference_of
from inference.evaluation.report.subgroups import Level, SubgroupResult, measured_subgroups
from inference.evaluation.report.survival_measures import Scale, measured, scale_of, too_few
from inference.evaluation.report.task import Task, common_months, followed_beyond, task_of
from inference.evaluation.survival.d_calibration import DCalibration
from inference.evaluation.survival.follow_up import FollowUp
from inference.evaluation.survival.kaplan_meier import Median, survival_curve
from inference.results import FloatArray

ARMS = (Arm.CLINICAL, Arm.BASELINE_IMAGES, Arm.REAL_FOLLOW_UP, Arm.VIRTUAL)
"""In the order of the protocol's comparison."""

ARM_PAIRS = (
    (Arm.BASELINE_IMAGES, Arm.CLINICAL),
    (Arm.REAL_FOLLOW_UP, Arm.CLINICAL),
    (Arm.VIRTUAL, Arm.CLINICAL),
    (Arm.VIRTUAL, Arm.BASELINE_IMAGES),
    (Arm.VIRTUAL, Arm.REAL_FOLLOW_UP),
)

Differences = Mapping[str, Estimate | NotComputed]


@dataclass(frozen=True, slots=True, eq=False)
class ModelResult:
    """All figures of one model; `patients` and `events` are those it was measured on, from `start` on."""

    model: str
    start: float
    patients: int
    events: int
    figures: Mapping[str, Figure]
    d_calibration: DCalibration | NotComputed
    curves: tuple[HorizonCurves, ...]
    risk_groups: RiskGroups | NotComputed
    subgroups: tuple[SubgroupResult, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Figures of the first less those of the second model, of the same draws."""

    first: str
    second: str
    differences: Differences


@dataclass(frozen=True, slots=True, eq=False)
class ArmsResult:
    """The arms of the protocol on the same patients.

    Attributes
    ----------
    start : float
        Landmark in months, the latest of the models; earlier events are not looked at.
    models : mapping of arm to name of its model
    """

    start: float
    patients: int
    events: int
    models: Mapping[Arm, str]
    figures: Mapping[Arm, Mapping[str, Figure]]
    differences: Mapping[tuple[Arm, Arm], Differences]


@dataclass(frozen=True, slots=True, eq=False)
class EndPointResult:
    """One end point in one set.

    Attributes
    ----------
    unknown : int
        Patients of the set without follow-up for it.
    follow_up : Median or NotComputed
        Median follow-up by reverse Kaplan-Meier.
    followed : mapping of horizon to int
        Patients followed to each horizon.
    """

    end_point: str
    patients: int
    events: int
    unknown: int
    follow_up: Median | NotComputed
    followed: Mapping[float, int]
    scale: Scale
    treating_all: Mapping[float, tuple[Estimate, ...] | NotComputed]
    models: tuple[ModelResult, ...]
    pairs: tuple[Pair, ...]
    arms: ArmsResult | NotComputed


@dataclass(frozen=True, slots=True, eq=False)
class SetOfPatients:
    """One set to be measured.

    Attributes
    ----------
    member : array of bool, (n,)
    weights : array, (draws, n)
        One matrix for all models and end points; 0 for patients of other sets.
    """

    name: str
    member: BoolArray
    weights: FloatArray


def measured_end_point(
    predictions: Predictions,
    end_point: str,
    chosen: SetOfPatients,
    groups: tuple[Level, ...],
    plan: EvaluationPlan,
) -> EndPointResult | NotComputed:
    """Measure every model that predicts an end point in one set of patients."""
    known = predictions.patients.survival[end_point].known & chosen.member
    models = predictions.of(end_point)
    if not known.any():
        return NotComputed(f"no patient of {chosen.name} has a known follow-up")
    outcome = predictions.patients.survival[end_point].of(known)
    tasks = {m.entry.name: _task(predictions, m, end_point, chosen) for m in models}
    found = [t for t in tasks.values() if isinstance(t, Task)]
    if not found:
        return NotComputed("no model can be measured: nobody is followed beyond its landmark")
    from_start = [t for t in found if t.start == 0] or found
    scale = scale_of(from_start, plan, common_months(from_start, plan.horizons[-1]))
    results = [
        _model(predictions, m, end_point, task, scale, groups, plan, chosen.weights[:, task.among])
        for m in models
        if isinstance(task := tasks[m.entry.name], Task)
    ]
    first = from_start[0]
    return EndPointResult(
        end_point=end_point,
        patients=len(outcome),
        events=int(outcome.event.sum()),
        unknown=int(chosen.member.sum()) - len(outcome),
        follow_up=_median_follow_up(outcome),
        followed={h: followed_beyond(outcome, h) for h in plan.horizons},
        scale=scale,
        treating_all=benefit_of_treating_all(first, plan, chosen.weights[:, first.among]),
        models=tuple(results),
        pairs=_pairs([r for r in results if r.start == 0]),
        arms=_arms(predictions, models, end_point, chosen, results, plan),
    )


def _task(
    predictions: Predictions, model: ModelPredictions, end_point: str, chosen: SetOfPatients
) -> Task | NotComputed:
    start = model.entry.landmark_months
    among = chosen.member & at_risk(predictions.patients, end_point, start)
    return computed(lambda: task_of(predictions.patients, model, end_point, among, start))


def _median_follow_up(outcome: FollowUp) -> Median | NotComputed:
    lost = FollowUp(outcome.time, ~outcome.event)
    return computed(lambda: survival_curve(lost).median)


def _model(
    predictions: Predictions,
    model: ModelPredictions,
    end_point: str,
    task: Task,
    scale: Scale,
    groups: tuple[Level, ...],
    plan: EvaluationPlan,
    weights: FloatArray,
) -> ModelResult:
    if task.start:
        scale = scale_of([task], plan, common_months([task], plan.horizons[-1]))
    risk = model.survival[end_point].risk
    validation, train = (risk[predictions.patients.in_split(s)] for s in (VALIDATION, TRAIN))
    cut = model.entry.risk_cut
    events = int(task.follow_up.event.sum())
    refusal = too_few(events, plan)
    return ModelResult(
        model=model.entry.name,
        start=task.start,
        patients=len(task.follow_up),
        events=events,
        figures=measured(task, scale, plan, weights),
        d_calibration=d_calibration_of(task, plan),
        curves=horizon_curves(task, plan, weights),
        risk_groups=computed(lambda: risk_groups(task, cuts_of(validation, train, plan, cut), plan), refusal),
        subgroups=measured_subgroups(task, groups, _middle(scale, plan), plan, weights),
    )


def _middle(scale: Scale, plan: EvaluationPlan) -> float:
    """Return the middle horizon of those that can be measured: subgroups are seldom followed to the last."""
    reached = [h for h in plan.horizons if h <= scale.last]
    return reached[(len(reached) - 1) // 2]


def _pairs(results: Sequence[ModelResult]) -> tuple[Pair, ...]:
    return tuple(
        Pair(second.model, first.model, differences(second.figures, first.figures))
        for first, second in combinations(results, 2)
    )


def differences(
    first: Mapping[str, Figure], second: Mapping[str, Figure]
) -> dict[str, Estimate | NotComputed]:
    """Return paired differences of the measures of two models."""
    return {key: difference_of(first[key], second[key]) for key in first if key in second}


# ------------------------------------------------------------------ arms


def _arms(
    predictions: Predictions,
    models: Sequence[ModelPredictions],
    end_point: str,
    chosen: SetOfPatients,
    results: Sequence[ModelResult],
    plan: EvaluationPlan,
) -> ArmsResult | NotComputed:
    by_arm = {arm: _of_arm(models, arm) for arm in ARMS}
    present = {arm: m for arm, m in by_arm.items() if m is not None}
    if len(present) < 2:
        return NotComputed("fewer than two arms of the protocol have a model for this end point")
    start = max(m.entry.landmark_months for m in present.values())
    among = chosen.member & at_risk(predictions.patients, end_point, start)
    for model in present.values():
        among = among & model.survival[end_point].predicted
    tasks = computed(
        lambda: [task_of(predictions.patients, m, end_point, among, start) for m in present.values()]
    )
    if isinstance(tasks, NotComputed):
        return tasks
    figures = _arm_figures(present, tasks, results, plan, chosen.weights[:, among])
    return ArmsResult(
        start,
        len(tasks[0].follow_up),
        int(tasks[0].follow_up.event.sum()),
        {arm: m.entry.name for arm, m in present.items()},
        figures,
        {(a, b): differences(figures[a], figures[b]) for a, b in ARM_PAIRS if a in present and b in present},
    )


def _of_arm(models: Sequence[ModelPredictions], arm: Arm) -> ModelPredictions | None:
    """Return the model of an arm: the first candidate, else the first."""
    own = [m for m in models if m.entry.arm is arm]
    return min(own, key=lambda m: m.entry.role is not Role.CANDIDATE, default=None)


def _arm_figures(
    present: Mapping[Arm, ModelPredictions],
    tasks: Sequence[Task],
    results: Sequence[ModelResult],
    plan: EvaluationPlan,
    weights: FloatArray,
) -> dict[Arm, Mapping[str, Figure]]:
    if tasks[0].start == 0:
        known = {r.model: r.figures for r in results}
        return {arm: known[m.entry.name] for arm, m in present.items()}
    scale = scale_of(tasks, plan, common_months(tasks, plan.horizons[-1]))
    return {arm: measured(t, scale, plan, weights) for arm, t in zip(present, tasks, strict=True)}


def set_of_patients(name: str, member: BoolArray, draws: FloatArray) -> SetOfPatients:
    """Return a set with the draws of its own patients, (draws, members), spread over all patients."""
    weights = np.zeros((len(draws), len(member)))
    weights[:, member] = draws
    return SetOfPatients(name, member, weights)
