"""Subgroups of patients, and whether a model serves them alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from inference.evaluation.bootstrap import Estimate
from inference.evaluation.metrics import BoolArray
from inference.evaluation.predictions.patients import TRAIN, VALIDATION, Patients
from inference.evaluation.report.plan import EvaluationPlan
from inference.evaluation.report.sampled import Figure, NotComputed, Sampled, computed, difference_of, sampled
from inference.evaluation.report.survival_measures import horizon_refusal, too_few
from inference.evaluation.report.task import Task
from inference.evaluation.survival.calibration import calibration_in_the_large_of
from inference.evaluation.survival.concordance import harrell_of
from inference.evaluation.survival.resampling import joined
from inference.results import FloatArray

_MOST_LEVELS = 8
_AGE, _AGE_CUT = "age", 65.0
NOT_KNOWN = "not known"


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """Patients who share one value of a column; `member` is over all patients of the study."""

    column: str
    name: str
    member: BoolArray


@dataclass(frozen=True, slots=True, eq=False)
class SubgroupResult:
    """How one model does in one subgroup.

    Attributes
    ----------
    concordance : Figure
        Harrell's C.
    less_rest : Estimate or NotComputed
        C less that of all other patients of the set.
    observed_less_predicted : Figure
        Risk at `horizon`.
    """

    column: str
    name: str
    patients: int
    events: int
    concordance: Figure
    less_rest: Estimate | NotComputed
    observed_less_predicted: Figure
    horizon: float


def levels(patients: Patients, plan: EvaluationPlan) -> tuple[Level, ...]:
    """Return all subgroups: centre, regimen, and the columns of the plan or all that have a few values.

    Numbers are divided in two, age at 65 and others at the median of training and validation patients.
    """
    return tuple(_levels(patients, plan))


def unused_columns(patients: Patients, plan: EvaluationPlan) -> tuple[str, ...]:
    """Return baseline columns that form no subgroup."""
    used = {level.column for level in levels(patients, plan)}
    return tuple(c for c in patients.covariates.columns if c not in used)


def _levels(patients: Patients, plan: EvaluationPlan) -> Iterator[Level]:
    for name, words in (("centre", patients.centre), ("regimen", patients.regimen)):
        if len(np.unique(words)) > 1:
            yield from _by_word(name, pd.Series(words))
    developed = patients.in_split(TRAIN, VALIDATION)
    for column in patients.covariates.columns:
        if plan.subgroups and column not in plan.subgroups:
            continue
        values = patients.covariates[column]
        if values.nunique() < 2:
            continue
        if values.nunique() == 2 or not pd.api.types.is_numeric_dtype(values):
            yield from _by_word(column, values)
        elif column == _AGE or plan.subgroups:
            yield from _by_number(column, values, developed)


def _by_word(column: str, values: pd.Series[str]) -> Iterator[Level]:
    given = values.dropna()
    if given.nunique() > _MOST_LEVELS:
        return
    for value in sorted(given.unique()):
        name = f"{value:g}" if isinstance(value, float) else str(value)
        yield Level(column, name, (values == value).to_numpy(dtype=bool))
    if values.isna().any():
        yield Level(column, NOT_KNOWN, values.isna().to_numpy(dtype=bool))


def _by_number(column: str, values: pd.Series[float], developed: BoolArray) -> Iterator[Level]:
    source = values[developed].dropna()
    cut = _AGE_CUT if column == _AGE else float((source if len(source) else values).median())
    yield Level(column, f"below {cut:g}", (values < cut).to_numpy(dtype=bool))
    yield Level(column, f"{cut:g} and above", (values >= cut).to_numpy(dtype=bool))
    if values.isna().any():
        yield Level(column, NOT_KNOWN, values.isna().to_numpy(dtype=bool))


def measured_subgroups(
    task: Task, groups: tuple[Level, ...], horizon: float, plan: EvaluationPlan, weights: FloatArray
) -> tuple[SubgroupResult, ...]:
    """Measure a model in each subgroup that has patients in this set.

    Parameters
    ----------
    horizon : float
        Where calibration is measured.
    weights : array, (draws, n)
        Of the task's patients.
    """
    concordances: dict[bytes, Figure] = {}

    def concordance(member: BoolArray) -> Figure:
        # The rest of one level is often another level: each group of patients is measured once.
        key = member.tobytes()
        if key not in concordances:
            concordances[key] = _concordance(task.of(member), plan, weights[:, member])
        return concordances[key]

    found = []
    for level in groups:
        member = level.member[task.among]
        if member.any():
            own = task.of(member)
            rest = NotComputed("there are no other patients") if member.all() else concordance(~member)
            found.append(
                SubgroupResult(
                    level.column,
                    level.name,
                    len(own.follow_up),
                    int(own.follow_up.event.sum()),
                    concordance(member),
                    difference_of(concordance(member), rest),
                    _calibration(own, horizon, plan, weights[:, member]),
                    horizon,
                )
            )
    return tuple(found)


def _concordance(task: Task, plan: EvaluationPlan, weights: FloatArray) -> Figure:
    def figure() -> Sampled:
        return sampled(joined((harrell_of(task.follow_up, task.risk),)), weights)[0]

    return computed(figure, too_few(int(task.follow_up.event.sum()), plan))


def _calibration(task: Task, horizon: float, plan: EvaluationPlan, weights: FloatArray) -> Figure:
    def figure() -> Sampled:
        at = task.since_start(horizon)
        statistic = calibration_in_the_large_of(task.follow_up, task.event_risk(horizon), at)
        return sampled(statistic, weights)[2]

    return computed(figure, horizon_refusal(task, horizon, plan))
