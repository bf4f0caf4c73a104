"""Predicted probability of an objective response: discrimination, classification and net benefit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from inference.evaluation.bootstrap import Estimate
from inference.evaluation.measures import auroc_of, mean_of
from inference.evaluation.metrics import BoolArray
from inference.evaluation.predictions.folder import ModelPredictions, Predictions
from inference.evaluation.predictions.patients import RESPONSE, VALIDATION
from inference.evaluation.report.end_point import Differences, SetOfPatients, differences
from inference.evaluation.report.plan import EvaluationPlan
from inference.evaluation.report.sampled import Better, Figure, NotComputed, computed, sampled
from inference.evaluation.report.survival_measures import Measure
from inference.evaluation.survival.decision import net_benefit_of
from inference.evaluation.survival.delong import PairedAuc, delong
from inference.evaluation.survival.follow_up import FollowUp
from inference.evaluation.survival.resampling import JointStatistic, estimates, joined
from inference.results import FloatArray

PROBABILITY: tuple[Measure, ...] = (
    Measure("auc", "AUC", Better.HIGHER),
    Measure("brier", "Brier score", Better.LOWER),
    Measure("observed", "Observed rate", Better.NONE),
    Measure("predicted", "Mean predicted rate", Better.NONE),
    Measure("observed_less_predicted", "Observed less predicted", Better.ZERO),
)
CLASSIFICATION: tuple[Measure, ...] = (
    Measure("accuracy", "Accuracy", Better.HIGHER),
    Measure("sensitivity", "Sensitivity", Better.HIGHER),
    Measure("specificity", "Specificity", Better.HIGHER),
    Measure("ppv", "Positive predictive value", Better.HIGHER),
    Measure("npv", "Negative predictive value", Better.HIGHER),
    Measure("f1", "F1", Better.HIGHER),
)


@dataclass(frozen=True, slots=True)
class Threshold:
    """Probability from which a patient is called a responder, by Youden's index of validation patients."""

    value: float
    patients: int


@dataclass(frozen=True, slots=True, eq=False)
class ResponseModelResult:
    """All figures of one model.

    Attributes
    ----------
    roc : array, (k, 2)
        One less specificity, and sensitivity, from the highest to the lowest probability.
    net_benefit : tuple of Estimate or NotComputed, (thresholds,)
    """

    model: str
    threshold: Threshold | NotComputed
    figures: Mapping[str, Figure]
    roc: FloatArray
    net_benefit: tuple[Estimate, ...] | NotComputed


@dataclass(frozen=True, slots=True, eq=False)
class ResponsePair:
    """Figures of the first less those of the second model, and DeLong's test of their areas."""

    first: str
    second: str
    differences: Differences
    delong: PairedAuc | NotComputed


@dataclass(frozen=True, slots=True, eq=False)
class ResponseResult:
    """Response in one set; patients who cannot be evaluated are counted in `unknown`."""

    patients: int
    responders: int
    unknown: int
    treating_all: tuple[Estimate, ...] | NotComputed
    models: tuple[ResponseModelResult, ...]
    pairs: tuple[ResponsePair, ...]


def measured_response(
    predictions: Predictions, chosen: SetOfPatients, plan: EvaluationPlan
) -> ResponseResult | NotComputed:
    """Measure every model that predicts response in one set of patients."""
    truth = predictions.patients.response
    known = np.isfinite(truth) & chosen.member
    responders = int((truth[known] == 1).sum())
    fewest = min(responders, int(known.sum()) - responders)
    if fewest < plan.fewest_events:
        return NotComputed(
            f"{responders} of {int(known.sum())} patients responded; {plan.fewest_events} with and "
            f"{plan.fewest_events} without response are needed"
        )
    models = predictions.of(RESPONSE)
    positive, weights = truth[known] == 1, chosen.weights[:, known]
    scores = {m.entry.name: _probability(m)[known] for m in models}
    results = []
    for model in models:
        threshold = _threshold(predictions, model, plan)
        score = scores[model.entry.name]
        results.append(
            ResponseModelResult(
                model.entry.name,
                threshold,
                _figures(positive, score, threshold, weights),
                roc_curve(positive, score),
                _net_benefit(positive, score, plan, weights),
            )
        )
    pairs = [_pair(b, a, positive, scores) for a, b in combinations(results, 2)]
    unknown = int(chosen.member.sum() - known.sum())
    everybody = _net_benefit(positive, np.ones(len(positive)), plan, weights)
    return ResponseResult(int(known.sum()), responders, unknown, everybody, tuple(results), tuple(pairs))


def _probability(model: ModelPredictions) -> FloatArray:
    assert model.response is not None  # `read_predictions` reads it where response is an end point.
    return model.response


def _pair(
    first: ResponseModelResult,
    second: ResponseModelResult,
    positive: BoolArray,
    scores: Mapping[str, FloatArray],
) -> ResponsePair:
    return ResponsePair(
        first.model,
        second.model,
        differences(first.figures, second.figures),
        computed(lambda: delong(positive, scores[first.model], scores[second.model])),
    )


# ------------------------------------------------------------------ threshold


def _threshold(
    predictions: Predictions, model: ModelPredictions, plan: EvaluationPlan
) -> Threshold | NotComputed:
    truth, score = predictions.patients.response, _probability(model)
    used = predictions.patients.in_split(VALIDATION) & np.isfinite(truth) & np.isfinite(score)
    positive = truth[used] == 1
    if min(positive.sum(), (~positive).sum()) < plan.fewest_events:
        return NotComputed(
            f"the threshold needs {plan.fewest_events} validation patients with and {plan.fewest_events} "
            f"without response, and there are {int(positive.sum())} and {int((~positive).sum())}"
        )
    return computed(lambda: Threshold(youden(positive, score[used]), int(used.sum())))


def youden(positive: BoolArray, score: FloatArray) -> float:
    """Return the score from which sensitivity plus specificity is greatest; the lowest of equals.

    References
    ----------
    Youden 1950, Cancer 3:32.

    Raises
    ------
    ValueError
        All scores are alike.
    """
    candidates = np.unique(score)
    if len(candidates) < 2:
        raise ValueError("all validation patients have the same probability, and no threshold divides them")
    called = score[None, :] >= candidates[:, None]
    index = called[:, positive].mean(axis=1) - called[:, ~positive].mean(axis=1)
    return float(candidates[np.argmax(index)])


# ------------------------------------------------------------------ figures


def roc_curve(positive: BoolArray, score: FloatArray) -> FloatArray:
    """Return (1 - specificity, sensitivity) from no patient called to all, (k, 2)."""
    limits = np.concatenate(([np.inf], np.unique(score)[::-1]))
    called = score[None, :] >= limits[:, None]
    return np.stack((called[:, ~positive].mean(axis=1), called[:, positive].mean(axis=1)), axis=1)


def _net_benefit(
    positive: BoolArray, score: FloatArray, plan: EvaluationPlan, weights: FloatArray
) -> tuple[Estimate, ...] | NotComputed:
    # Responders have the event before, all others are followed beyond the time: nobody is censored, and
    # one minus Kaplan-Meier is the plain share.
    follow_up = FollowUp(np.where(positive, 1.0, 3.0), positive)
    return computed(lambda: estimates(net_benefit_of(follow_up, score, 2.0, plan.thresholds), weights))


def _figures(
    positive: BoolArray, score: FloatArray, threshold: Threshold | NotComputed, weights: FloatArray
) -> dict[str, Figure]:
    truth = positive.astype(np.float64)
    observed, predicted = mean_of(truth), mean_of(score)
    probability = joined(
        (
            auroc_of(positive, score),
            mean_of((score - truth) ** 2),
            observed,
            predicted,
            lambda w: observed(w) - predicted(w),
        )
    )
    found: dict[str, Figure] = dict(
        zip((m.key for m in PROBABILITY), sampled(probability, weights), strict=True)
    )
    if isinstance(threshold, NotComputed):
        return found | {m.key: threshold for m in CLASSIFICATION}
    classes = sampled(classification_of(positive, score >= threshold.value), weights)
    return found | dict(zip((m.key for m in CLASSIFICATION), classes, strict=True))


def classification_of(positive: BoolArray, called: BoolArray) -> JointStatistic:
    """Return the measures of `CLASSIFICATION` as a function of bootstrap weights, to (draws, 6).

    Parameters
    ----------
    positive, called : array of bool, (n,)
        The truth, and whether the model called it.
    """
    cells = np.stack(
        [positive & called, ~positive & called, positive & ~called, ~positive & ~called], axis=1
    ).astype(np.float64)

    def measures(weights: FloatArray) -> FloatArray:
        hit, false_alarm, missed, right = (weights @ cells).T
        every = hit + false_alarm + missed + right
        shares = (
            (hit + right, every),
            (hit, hit + missed),
            (right, right + false_alarm),
            (hit, hit + false_alarm),
            (right, right + missed),
            (2 * hit, 2 * hit + false_alarm + missed),
        )
        return np.stack([_share(top, bottom) for top, bottom in shares], axis=1)

    return measures


def _share(top: FloatArray, bottom: FloatArray) -> FloatArray:
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)
