"""Cohorts and patients of the comparison, from CSV tables."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.clinical.longitudinal import DAYS_PER_MONTH
from inference.comparison.cohort import ComparisonCohort
from inference.errors import TrainingDataError
from inference.results import FloatArray

ON_THE_FIRST_DAY_MONTHS = 0.5 / DAYS_PER_MONTH
"""Follow-up of a patient whose 0 months mean that it ended on the day of treatment: half a day."""

LEAST_OWN_SHARE = 1e-6
"""Of a covariate's spread that the ones before it must leave."""

_EVENTS = {"1": True, "1.0": True, "yes": True, "0": False, "0.0": False, "no": False}


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a table are what."""

    covariates: tuple[str, ...]
    regimen: str = "regimen_id"
    months: str = "os_months"
    event: str = "os_event"


@dataclass(frozen=True, slots=True)
class CohortTable:
    """A cohort, and how many rows lacked a value and were left out."""

    cohort: ComparisonCohort
    left_out: int


def read_cohort_table(path: Path, columns: Columns, reference: str) -> CohortTable:
    """Read patients who were treated: a row each, complete cases only.

    Parameters
    ----------
    columns : Columns
        Covariates must be numbers that were known at the start of treatment. Months of 0 are taken as
        `ON_THE_FIRST_DAY_MONTHS`.
    reference : str
        Regimen that the others are held against; it comes first, the others follow by name.

    Raises
    ------
    TrainingDataError
        The table cannot be read, a column is missing, a value is no number, or nobody had the reference.
    """
    rows = _rows(path, (*columns.covariates, columns.regimen, columns.months, columns.event))
    complete = [(n, row) for n, row in rows if all(value.strip() for value in row.values())]
    regimens = sorted({row[columns.regimen] for _, row in complete} - {reference})
    given = [row[columns.regimen] for _, row in complete]
    if reference not in given or not regimens:
        raise TrainingDataError(
            f"{path.name} has no patients under {reference}, or none under another regimen"
        )
    order = (reference, *regimens)
    covariates = np.array([[_number(row[c], c, n) for c in columns.covariates] for n, row in complete])
    _check_independent(covariates, columns.covariates)
    try:
        cohort = ComparisonCohort(
            columns.covariates,
            covariates,
            order,
            np.array([order.index(regimen) for regimen in given], dtype=np.intp),
            np.array([_months(row[columns.months], columns.months, n) for n, row in complete]),
            np.array([_event(row[columns.event], columns.event, n) for n, row in complete], dtype=np.bool_),
        )
    except ValueError as error:
        raise TrainingDataError(f"{path.name} is not a cohort to compare: {error}") from error
    return CohortTable(cohort, len(rows) - len(complete))


def _check_independent(covariates: FloatArray, names: Sequence[str]) -> None:
    """Refuse a covariate that the ones before it say already: no effect could be told from theirs."""
    varying = [k for k in range(len(names)) if np.ptp(covariates[:, k]) > 0]
    standard = covariates[:, varying] - covariates[:, varying].mean(axis=0)
    standard /= np.sqrt((standard**2).sum(axis=0))
    left = np.abs(np.diag(np.linalg.qr(standard, mode="r")))
    for k, share in zip(varying, left, strict=False):
        if share < LEAST_OWN_SHARE:
            raise TrainingDataError(f"{names[k]} follows from the other covariates: leave it out")


def read_patients(path: Path, covariates: Sequence[str]) -> list[Mapping[str, float | None]]:
    """Read the covariates of patients, a row each; an empty cell is None.

    Raises
    ------
    TrainingDataError
        The table cannot be read, a column is missing, or a value is no number.
    """
    return [
        {c: _number(row[c], c, n) if row[c].strip() else None for c in covariates}
        for n, row in _rows(path, covariates)
    ]


def _rows(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Return rows by their number, the first below the header being 1, with the asked columns alone."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = [c for c in columns if c not in (reader.fieldnames or ())]
            if missing:
                raise TrainingDataError(f"{path.name} has no column {', '.join(missing)}")
            return [(n, {c: row[c] or "" for c in columns}) for n, row in enumerate(reader, start=1)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingDataError(f"{path.name} cannot be read as a CSV table") from error


def _number(text: str, column: str, row: int) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise TrainingDataError(f"{column} of row {row} is not a number") from error
    if not math.isfinite(value):
        raise TrainingDataError(f"{column} of row {row} is not a number")
    return value


def _months(text: str, column: str, row: int) -> float:
    months = _number(text, column, row)
    if months < 0:
        raise TrainingDataError(f"{column} of row {row} is negative: follow-up begins with treatment")
    return months or ON_THE_FIRST_DAY_MONTHS


def _event(text: str, column: str, row: int) -> bool:
    known = _EVENTS.get(text.strip().lower())
    if known is None:
        raise TrainingDataError(f"{column} of row {row} is neither 1 nor 0")
    return known
