"""Response of many patients at once, from a table of sums of diameters.

Columns: ``baseline_mm`` and ``current_mm``; optional ``nadir_mm``, ``new_lesions`` (yes or no),
``non_target`` (none, CR, non-CR/non-PD, PD, NE) and ``targets_gone`` (yes or no, needed with lymph
nodes). An empty cell is a missing value. Other columns are not looked at.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from inference.clinical import rates, response
from inference.clinical.rates import Proportion
from inference.clinical.response import NonTarget
from inference.errors import ClinicalError
from inference.results import ResponseCategory

_Word = TypeVar("_Word")
_REQUIRED = ("baseline_mm", "current_mm")
_ANSWERS = {"": None, "yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_NON_TARGET = {"": NonTarget.NONE, **{state.value.lower(): state for state in NonTarget}}


class Criteria(StrEnum):
    """Sets of response criteria."""

    RECIST11 = "recist11"
    MRECIST = "mrecist"


@dataclass(frozen=True, slots=True)
class Assessment:
    """Category and change from baseline in percent of one row; None where it has none."""

    row: int
    category: ResponseCategory
    change_pct: float | None


@dataclass(frozen=True, slots=True)
class AssessedTable:
    """All rows, and the rates over those that are evaluable (None when none is)."""

    rows: tuple[Assessment, ...]
    objective_response: Proportion | None
    disease_control: Proportion | None


def assess_table(path: Path, criteria: Criteria) -> AssessedTable:
    """Assess every row of a CSV file.

    Raises
    ------
    ClinicalError
        The file cannot be read, a column is absent or a cell is not what its column says.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            absent = [name for name in _REQUIRED if name not in (reader.fieldnames or ())]
            if absent:
                raise ClinicalError(
                    f"The table has no column {absent[0]}; it needs {' and '.join(_REQUIRED)}."
                )
            rows = tuple(_assess(number, row, criteria) for number, row in enumerate(reader, start=2))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ClinicalError(f"The table cannot be read as UTF-8 CSV: {type(error).__name__}.") from error
    categories = [row.category for row in rows]
    if all(category is ResponseCategory.NE for category in categories):
        return AssessedTable(rows, None, None)
    return AssessedTable(
        rows, rates.objective_response_rate(categories), rates.disease_control_rate(categories)
    )


def _assess(number: int, row: Mapping[str, str | None], criteria: Criteria) -> Assessment:
    baseline = _millimetres(number, row, "baseline_mm")
    current = _millimetres(number, row, "current_mm")
    categorise = {
        Criteria.RECIST11: response.recist11_category,
        Criteria.MRECIST: response.mrecist_category,
    }[criteria]
    category = categorise(
        baseline,
        current,
        _millimetres(number, row, "nadir_mm"),
        bool(_word(number, row, "new_lesions", _ANSWERS)),
        non_target=_word(number, row, "non_target", _NON_TARGET),
        targets_gone=_word(number, row, "targets_gone", _ANSWERS),
    )
    change = response.change_pct(baseline, current) if baseline and current is not None else None
    return Assessment(number, category, change)


def _text(row: Mapping[str, str | None], column: str) -> str:
    return (row.get(column) or "").strip()


def _millimetres(number: int, row: Mapping[str, str | None], column: str) -> float | None:
    text = _text(row, column)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise ClinicalError(f"Row {number}: {column} is not a number; write millimetres.") from None
    if not 0 <= value < 10000:
        raise ClinicalError(f"Row {number}: {column} is not between 0 and 10000 mm.")
    return value


def _word(number: int, row: Mapping[str, str | None], column: str, words: Mapping[str, _Word]) -> _Word:
    text = _text(row, column).lower()
    if text not in words:
        raise ClinicalError(f"Row {number}: {column} must be one of {', '.join(w for w in words if w)}.")
    return words[text]
