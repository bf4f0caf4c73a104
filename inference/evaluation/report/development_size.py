"""Whether a model's development had as many patients as the criteria of Riley and others ask for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.evaluation.predictions.folder import ModelPredictions, Predictions
from inference.evaluation.predictions.patients import RESPONSE, TRAIN
from inference.evaluation.report.plan import EvaluationPlan
from inference.evaluation.report.sampled import NotComputed, Sampled, computed
from inference.evaluation.report.task import Task
from inference.evaluation.survival.sample_size import (
    BinarySize,
    SurvivalSize,
    binary_sample_size,
    r2_from_auc,
    survival_sample_size,
)
from inference.evaluation.survival.weighted_cox import WeightedCox


@dataclass(frozen=True, slots=True)
class DevelopmentSize:
    """Patients that a model's development needed, and had.

    Attributes
    ----------
    parameters : int
        Candidate coefficients.
    r2 : float
        Cox and Snell's, as measured in the first evaluation set, and so free of optimism.
    """

    model: str
    end_point: str
    parameters: int
    r2: float
    patients: int
    events: int
    needed: SurvivalSize | BinarySize


def development_size(
    predictions: Predictions,
    model: ModelPredictions,
    end_point: str,
    measured: Task | Sampled,
    plan: EvaluationPlan,
) -> DevelopmentSize | NotComputed:
    """Return what the development of a model needed.

    Parameters
    ----------
    measured : Task or Sampled
        Of the first evaluation set: the task for a survival end point, the AUC for response.
    """
    return computed(lambda: _size(predictions, model, end_point, measured, plan))


def _size(
    predictions: Predictions,
    model: ModelPredictions,
    end_point: str,
    measured: Task | Sampled,
    plan: EvaluationPlan,
) -> DevelopmentSize:
    name, parameters = model.entry.name, model.entry.parameters
    if parameters is None:
        raise ValueError("models.json does not tell how many parameters were candidates")
    if isinstance(measured, Task):
        return _survival(predictions, name, end_point, parameters, measured, plan)
    return _response(predictions, name, parameters, measured)


def _survival(
    predictions: Predictions,
    name: str,
    end_point: str,
    parameters: int,
    task: Task,
    plan: EvaluationPlan,
) -> DevelopmentSize:
    outcome = predictions.patients.survival[end_point]
    developed = outcome.known & predictions.patients.in_split(TRAIN)
    if not (outcome.event[developed] == 1).any():
        raise ValueError("no training patient has an event")
    seen = outcome.of(developed)
    events, total = int(seen.event.sum()), float(seen.time.sum())
    r2 = cox_snell_r2(task)
    if not 0 < r2 < 1:
        raise ValueError("the model explains nothing in the evaluation set, so that no size can be derived")
    size = survival_sample_size(r2, parameters, events / total, total / len(seen), plan.horizons[-1])
    return DevelopmentSize(name, end_point, parameters, r2, len(seen), events, size)


def cox_snell_r2(task: Task) -> float:
    """Cox and Snell's R2 of the predicted risk, of a Cox regression on it alone.

    References
    ----------
    Cox & Snell 1989, Analysis of Binary Data, p 208.
    """
    spread = float(task.risk.std())
    if spread == 0 or not task.follow_up.event.any():
        return 0.0
    x = ((task.risk - task.risk.mean()) / spread)[:, None]
    fit = WeightedCox.of(x, task.follow_up, np.ones((1, len(task.risk)))).fit()
    if fit.beta[0, 0] <= 0:
        return 0.0
    return float(-np.expm1(2 * (fit.null_log_likelihood[0] - fit.log_likelihood[0]) / len(task.risk)))


def _response(predictions: Predictions, name: str, parameters: int, auc: Sampled) -> DevelopmentSize:
    truth = predictions.patients.response[predictions.patients.in_split(TRAIN)]
    known = truth[np.isfinite(truth)]
    if len(known) == 0 or not 0 < known.mean() < 1:
        raise ValueError("the training patients do not include both responders and others")
    prevalence = float(known.mean())
    r2 = r2_from_auc(auc.value, prevalence)
    size = binary_sample_size(r2, parameters, prevalence)
    return DevelopmentSize(name, RESPONSE, parameters, r2, len(known), int(known.sum()), size)
