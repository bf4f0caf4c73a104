"""The whole evaluation: every set, end point and model of a folder of predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from inference.evaluation.bootstrap import patient_weights
from inference.evaluation.predictions.folder import Predictions, at_risk
from inference.evaluation.predictions.patients import RESPONSE, SURVIVAL_END_POINTS
from inference.evaluation.report.characteristics import Characteristics, characteristics
from inference.evaluation.report.development_size import DevelopmentSize, development_size
from inference.evaluation.report.end_point import (
    EndPointResult,
    SetOfPatients,
    measured_end_point,
    set_of_patients,
)
from inference.evaluation.report.plan import EvaluationPlan
from inference.evaluation.report.response import ResponseResult, measured_response
from inference.evaluation.report.sampled import NotComputed, Sampled
from inference.evaluation.report.subgroups import levels, unused_columns
from inference.evaluation.report.task import task_of
from inference.models.protocols import Progress
from inference.randomness import RandomStreams

LIMITS = (
    (
        "Intervals are percentiles of a bootstrap over the patients of a set; they do not hold for another "
        "centre, and leave out that a model would differ had it been trained on other patients."
    ),
    "Figures of several models, subgroups and horizons are not corrected for their number.",
)


@dataclass(frozen=True, slots=True, eq=False)
class SetResult:
    """One set of patients.

    Attributes
    ----------
    end_points : mapping of end point to EndPointResult
        Those that some model predicts.
    response : ResponseResult or NotComputed
    """

    name: str
    patients: int
    end_points: Mapping[str, EndPointResult | NotComputed]
    response: ResponseResult | NotComputed


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """All figures, and what they were computed from.

    Attributes
    ----------
    sizes : mapping of (model, end point) to DevelopmentSize or NotComputed
    unused : tuple of str
        Baseline columns that form no subgroup.
    """

    predictions: Predictions
    plan: EvaluationPlan
    patients: Characteristics
    sets: tuple[SetResult, ...]
    sizes: Mapping[tuple[str, str], DevelopmentSize | NotComputed]
    unused: tuple[str, ...]


def evaluate_predictions(predictions: Predictions, plan: EvaluationPlan, progress: Progress) -> Evaluation:
    """Measure all models on all sets of patients that were kept for it.

    One matrix of bootstrap draws serves all models and end points of a set, so every difference is paired.
    """
    streams = RandomStreams(plan.seed)
    names = predictions.patients.evaluation_sets
    steps = len(names) * (len(SURVIVAL_END_POINTS) + 1)
    groups = levels(predictions.patients, plan)
    sets, done = [], 0
    for name in names:
        member = predictions.patients.in_split(name)
        draws = patient_weights(int(member.sum()), plan.draws, streams.derive("bootstrap", name))
        chosen = set_of_patients(name, member, draws)
        end_points = {}
        for end_point in SURVIVAL_END_POINTS:
            progress(f"{name}, {end_point.upper()}", done / steps)
            if predictions.of(end_point):
                end_points[end_point] = measured_end_point(predictions, end_point, chosen, groups, plan)
            done += 1
        progress(f"{name}, response", done / steps)
        sets.append(SetResult(name, int(member.sum()), end_points, _response(predictions, chosen, plan)))
        done += 1
    return Evaluation(
        predictions,
        plan,
        characteristics(predictions.patients),
        tuple(sets),
        _sizes(predictions, sets[0], plan),
        unused_columns(predictions.patients, plan),
    )


def _response(
    predictions: Predictions, chosen: SetOfPatients, plan: EvaluationPlan
) -> ResponseResult | NotComputed:
    if not predictions.of(RESPONSE):
        return NotComputed("no model predicts response")
    return measured_response(predictions, chosen, plan)


def _sizes(
    predictions: Predictions, first: SetResult, plan: EvaluationPlan
) -> dict[tuple[str, str], DevelopmentSize | NotComputed]:
    found: dict[tuple[str, str], DevelopmentSize | NotComputed] = {}
    member = predictions.patients.in_split(first.name)
    for end_point, result in first.end_points.items():
        for model in predictions.of(end_point):
            among = member & at_risk(predictions.patients, end_point, model.entry.landmark_months)
            if isinstance(result, NotComputed) or not among.any():
                continue
            task = task_of(predictions.patients, model, end_point, among, model.entry.landmark_months)
            found[model.entry.name, end_point] = development_size(predictions, model, end_point, task, plan)
    if isinstance(first.response, ResponseResult):
        measured = {r.model: r.figures["auc"] for r in first.response.models}
        for model in predictions.of(RESPONSE):
            auc = measured[model.entry.name]
            if isinstance(auc, Sampled):
                found[model.entry.name, RESPONSE] = development_size(predictions, model, RESPONSE, auc, plan)
    return found
