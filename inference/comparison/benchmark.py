"""The benchmark of the comparison: how often it recommends, and how often rightly, where truth is known.

A recommendation claims that the median is more than `ComparisonRule.benefit_months` longer than under the
reference; for the reference itself, than under every other regimen. It is right when that is true of the
patient. A positive is a patient of whom such a claim could truly be made. Patients asked about are not those
learned from.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.comparison.benchmark_cohort import (
    BenchmarkParameters,
    BenchmarkReplicate,
    draw_replicate,
    load_benchmark,
)
from inference.comparison.confidence import IDENTITY, ConfidenceMap, learn_confidence_map, most_cautious
from inference.comparison.judgement import NOBODY, Judgement, judge
from inference.comparison.learned import LearnedComparison, learn
from inference.comparison.rule import ComparisonRule
from inference.errors import ModelError
from inference.randomness import RandomStreams
from inference.results import FloatArray, NotAssessed

LEARNED_SCENARIOS = ("heterogeneous", "poor_overlap")
"""Scenarios that the map of confidence is learned from: effects differ, and overlap is good or poor."""
LEAST_TUNING_SEED = 100_000
"""Seeds from here on are for tuning; results are reported on smaller ones."""


@dataclass(frozen=True, slots=True)
class BenchmarkTask:
    """One replicate of one scenario; `seed` and `number` name its random numbers."""

    scenario: str
    number: int
    seed: int
    rule: ComparisonRule
    confidence: ConfidenceMap


@dataclass(frozen=True, slots=True)
class ReplicateScore:
    """Counts of patients of one replicate.

    Attributes
    ----------
    positives : int
        Patients of whom a true claim could be made.
    recommended, right, harmful : int
        Recommendations, those whose claim is true, and those under which the median is truly shorter than
        under what they were held against.
    bare_recommended, bare_right : int
        Of the rule of the protocol alone: not calibrated, without the gate.
    passed : bool
        The global test was passed.
    foreign, without_overlap, beyond : int
        Patients outside the cohort; those for whom no regimen overlaps with the reference; and those whose
        median under the reference lies beyond its follow-up.
    intervals, covered : int
        Benefits over the reference with 95 % limits, and those whose limits hold the true one.
    """

    scenario: str
    patients: int
    positives: int
    recommended: int
    right: int
    harmful: int
    bare_recommended: int
    bare_right: int
    passed: bool
    foreign: int
    without_overlap: int
    beyond: int
    intervals: int
    covered: int


@dataclass(frozen=True, slots=True)
class ConfidencePairs:
    """Shares of draws beside the truth, one value for each patient and ordered pair with the reference."""

    scenario: str
    raw: FloatArray
    real: FloatArray


@dataclass(frozen=True, slots=True)
class _Asked:
    """A replicate after learning; `truth` has the compared regimens in their order."""

    replicate: BenchmarkReplicate
    learned: LearnedComparison
    judged: Judgement
    truth: FloatArray


def _asked(task: BenchmarkTask, parameters: BenchmarkParameters) -> _Asked:
    streams = RandomStreams(task.seed)
    replicate = draw_replicate(parameters, task.scenario, streams, task.number)
    rng = streams.derive("comparison draws", task.scenario, task.number)
    learned = learn(replicate.cohort, task.rule, task.confidence, rng)
    if isinstance(learned, NotAssessed):
        raise ModelError(f"a cohort of the benchmark cannot be compared: {learned.detail}")
    columns = [replicate.cohort.regimens.index(d.regimen_id) for d in learned.regimens]
    judged = judge(learned, replicate.covariates)
    return _Asked(replicate, learned, judged, replicate.true_medians[:, columns])


def score_replicate(task: BenchmarkTask) -> ReplicateScore:
    """Draw a cohort, learn from it, ask about new patients, and count.

    Raises
    ------
    ModelError
        A fit came to no maximum, or the reference had too few deaths.
    """
    asked = _asked(task, load_benchmark())
    judged, truth, months = asked.judged, asked.truth, task.rule.benefit_months
    claims = _claims(asked.replicate.true_medians, months)
    compared = _claims(truth, months)
    everyone = np.arange(len(truth))
    given = judged.recommended != NOBODY
    right = given & compared[everyone, judged.recommended]
    lost = truth[everyone, judged.recommended] < truth[everyone, judged.against]
    bare = _bare_rule(judged, task.rule)
    covered, intervals = _coverage(judged, truth)
    return ReplicateScore(
        scenario=task.scenario,
        patients=len(truth),
        positives=int(claims.any(axis=1).sum()),
        recommended=int(given.sum()),
        right=int(right.sum()),
        harmful=int((given & lost).sum()),
        bare_recommended=int((bare != NOBODY).sum()),
        bare_right=int(((bare != NOBODY) & compared[everyone, bare]).sum()),
        passed=asked.learned.passes,
        foreign=int(judged.foreign.sum()),
        without_overlap=int((~judged.pairs.overlapping[:, 1:, 0].any(axis=1)).sum()),
        beyond=int(judged.beyond[:, 0].sum()),
        intervals=intervals,
        covered=covered,
    )


def _claims(medians: FloatArray, months: float) -> npt.NDArray[np.bool_]:
    """Whether a recommendation of each regimen would be right, (patients, regimens)."""
    over = medians[:, 1:] - medians[:, :1]
    return np.column_stack([(over < -months).all(axis=1), over > months])


def _bare_rule(judged: Judgement, rule: ComparisonRule) -> npt.NDArray[np.intp]:
    """Apply the rule of the protocol alone: the longest benefit, uncalibrated and without the gate."""
    over = judged.medians[:, 1:] - judged.medians[:, :1]
    benefit, months = np.median(over, axis=2), rule.benefit_months
    holds = (benefit > months) & ((over > months).mean(axis=2) >= rule.confidence)
    best = 1 + np.argmax(np.where(holds, benefit, -np.inf), axis=1)
    standard = ((over < -months).mean(axis=2) >= rule.confidence).all(axis=1)
    return np.where(holds.any(axis=1), best, np.where(standard, 0, NOBODY))


def _coverage(judged: Judgement, truth: FloatArray) -> tuple[int, int]:
    """Count true benefits within their limits, where both medians are within follow-up."""
    lower, upper = np.quantile(judged.medians[:, 1:] - judged.medians[:, :1], (0.025, 0.975), axis=2)
    true = truth[:, 1:] - truth[:, :1]
    usable = judged.pairs.usable[:, 1:, 0] & ~judged.beyond[:, 1:]
    return int((usable & (lower <= true) & (true <= upper)).sum()), int(usable.sum())


def collect_confidence(task: BenchmarkTask) -> ConfidencePairs:
    """Return raw confidences of usable pairs with the reference, and whether each was borne out.

    Nothing is returned where the global test was not passed: no confidence is given there.
    """
    asked = _asked(task, load_benchmark())
    if not asked.learned.passes:
        return ConfidencePairs(task.scenario, np.zeros(0), np.zeros(0))
    raw, real = [], []
    for k in range(1, asked.truth.shape[1]):
        for a, b in ((k, 0), (0, k)):
            usable = asked.judged.pairs.usable[:, a, b]
            raw.append(asked.judged.pairs.raw[usable, a, b])
            real.append((asked.truth[:, a] - asked.truth[:, b])[usable] > task.rule.benefit_months)
    return ConfidencePairs(task.scenario, np.concatenate(raw), np.concatenate(real).astype(np.float64))


def tasks_of(
    scenarios: Sequence[str], replicates: int, seed: int, rule: ComparisonRule, confidence: ConfidenceMap
) -> list[BenchmarkTask]:
    """Return one task for each scenario and replicate."""
    return [
        BenchmarkTask(scenario, number, seed, rule, confidence)
        for scenario in scenarios
        for number in range(replicates)
    ]


def tuning_tasks(replicates: int, seed: int, rule: ComparisonRule) -> list[BenchmarkTask]:
    """Return the tasks that a map of confidence is learned from.

    Raises
    ------
    ValueError
        The seed is one of those that results are reported on.
    """
    if seed < LEAST_TUNING_SEED:
        raise ValueError(f"seeds below {LEAST_TUNING_SEED} are kept for reporting; tune on larger ones")
    return tasks_of(LEARNED_SCENARIOS, replicates, seed, rule, IDENTITY)


def scores_of(tasks: Sequence[BenchmarkTask], workers: int) -> Iterator[ReplicateScore]:
    """Score tasks in processes, in their order; one worker stays in this process."""
    if workers == 1:
        yield from map(score_replicate, tasks)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(score_replicate, tasks)


def confidences_of(tasks: Sequence[BenchmarkTask], workers: int) -> Iterator[ConfidencePairs]:
    """Collect confidences in processes, in the order of the tasks."""
    if workers == 1:
        yield from map(collect_confidence, tasks)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(collect_confidence, tasks)


def learned_map(pairs: Sequence[ConfidencePairs]) -> ConfidenceMap:
    """Learn a map from each scenario, and return the most cautious of them.

    Raises
    ------
    ModelError
        No replicate of a scenario passed the global test.
    """
    maps = []
    for scenario in dict.fromkeys(p.scenario for p in pairs):
        raw = np.concatenate([p.raw for p in pairs if p.scenario == scenario])
        real = np.concatenate([p.real for p in pairs if p.scenario == scenario])
        if not len(raw):
            raise ModelError(f"no cohort of {scenario} passed the global test: there is nothing to calibrate")
        maps.append(learn_confidence_map(raw, real))
    return most_cautious(maps)


# ------------------------------------------------------------------ summary


@dataclass(frozen=True, slots=True)
class Rate:
    """A ratio of sums over replicates, with its standard error; None where nothing was counted."""

    estimate: float | None
    standard_error: float | None


@dataclass(frozen=True, slots=True)
class ScenarioSummary:
    """Rates of one scenario, pooled over its replicates."""

    scenario: str
    replicates: int
    passed: Rate
    positives: Rate
    recommended: Rate
    ppv: Rate
    sensitivity: Rate
    harmful: Rate
    bare_recommended: Rate
    bare_ppv: Rate
    coverage: Rate
    foreign: Rate
    without_overlap: Rate
    beyond: Rate


def rate_of(numerators: Sequence[int], denominators: Sequence[int]) -> Rate:
    """Return a ratio of sums; the standard error is over replicates (Cochran 1977, eq. 2.46)."""
    over, under = np.asarray(numerators, float), np.asarray(denominators, float)
    if under.sum() == 0:
        return Rate(None, None)
    ratio, n = over.sum() / under.sum(), len(over)
    if n < 2:
        return Rate(float(ratio), None)
    spread = np.sqrt(((over - ratio * under) ** 2).sum() / (n - 1) / n) / under.mean()
    return Rate(float(ratio), float(spread))


def summarise(scores: Sequence[ReplicateScore]) -> tuple[ScenarioSummary, ...]:
    """Pool replicates by scenario, in the order in which scenarios first appear."""
    grouped: dict[str, list[ReplicateScore]] = {}
    for score in scores:
        grouped.setdefault(score.scenario, []).append(score)
    return tuple(_summary(name, own) for name, own in grouped.items())


def _summary(name: str, scores: list[ReplicateScore]) -> ScenarioSummary:
    patients = [s.patients for s in scores]
    given = [s.recommended for s in scores]
    return ScenarioSummary(
        scenario=name,
        replicates=len(scores),
        passed=rate_of([int(s.passed) for s in scores], [1] * len(scores)),
        positives=rate_of([s.positives for s in scores], patients),
        recommended=rate_of(given, patients),
        ppv=rate_of([s.right for s in scores], given),
        sensitivity=rate_of([s.right for s in scores], [s.positives for s in scores]),
        harmful=rate_of([s.harmful for s in scores], patients),
        bare_recommended=rate_of([s.bare_recommended for s in scores], patients),
        bare_ppv=rate_of([s.bare_right for s in scores], [s.bare_recommended for s in scores]),
        coverage=rate_of([s.covered for s in scores], [s.intervals for s in scores]),
        foreign=rate_of([s.foreign for s in scores], patients),
        without_overlap=rate_of([s.without_overlap for s in scores], patients),
        beyond=rate_of([s.beyond for s in scores], patients),
    )
