"""Patients of a table for the calculators of ``hepatocast assess``: one row, one record.

Columns are those of `inference.clinical.files`, the protocol's questions and the columns of
`inference.clinical.toxicity`, all optional. A laboratory value may be dated in its column's title: by days
from the start of treatment, ``alt @ 14 [U/L]``, or by a date, ``alt @ 2026-01-15 [U/L]``, which needs a
column ``baseline_date``. Keys of patients are accepted and not looked at.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from inference.case import ClinicalRecord, DatedValue
from inference.clinical.checking import checked_value, known_variable
from inference.clinical.files import KNOWN, row_record
from inference.clinical.longitudinal import as_date, is_laboratory, one_a_day
from inference.clinical.rows import Given, Row, read_rows
from inference.clinical.toxicity import TOXICITY
from inference.clinical.variables import Variable
from inference.errors import ClinicalError

BASELINE_DATE = "baseline_date"
COLUMNS: Mapping[str, Variable] = {**TOXICITY, **KNOWN}
"""Everything that a row may say of a patient; where both tables have a column, it is the same one."""

_DATED = re.compile(r"([a-z]\w*)\s*@\s*(?:day\s*)?([+-]?\d{1,5}|\d{4}-\d\d-\d\d)")


@dataclass(frozen=True, slots=True)
class PatientRow:
    """One row: where it stands, like 'row 3', and what it says."""

    place: str
    record: ClinicalRecord


def read_patient_rows(path: Path) -> tuple[PatientRow, ...]:
    """Read a CSV or JSON table of patients.

    Raises
    ------
    ClinicalError
        The table cannot be read, has no rows, or a value is refused; the message names row and variable.
    """
    rows = tuple(PatientRow(row.place, _record(row)) for row in read_rows(path))
    if not rows:
        raise ClinicalError("The table has no rows below its header.")
    return rows


def _record(row: Row) -> ClinicalRecord:
    where = f"Clinical file, {row.place}"
    plain = {n: given for n, given in row.values.items() if n != BASELINE_DATE and "@" not in n}
    record = row_record(Row(row.place, row.keys, plain), COLUMNS)
    given_date = row.values.get(BASELINE_DATE)
    baseline = None if given_date is None else as_date(str(given_date.value), where)
    dated = one_a_day(_dated(row.values.items(), baseline, where), where)
    return ClinicalRecord(record.values, dated)


def _dated(values: Iterable[tuple[str, Given]], baseline: dt.date | None, where: str) -> Iterator[DatedValue]:
    for title, given in values:
        if "@" not in title:
            continue
        match = _DATED.fullmatch(title)
        if match is None:
            raise ClinicalError(
                f"{where}: a dated column is not written like 'alt @ 14 [U/L]' or 'alt @ 2026-01-15 [U/L]'."
            )
        variable = known_variable(match.group(1), where, COLUMNS)
        if not (is_laboratory(variable.name) or variable.name in TOXICITY):
            raise ClinicalError(f"{where}: '{variable.name}' is no laboratory value and cannot be dated.")
        number = checked_value(variable, given.value, given.unit, where).value
        yield DatedValue(variable.name, _day(match.group(2), baseline, where), float(number))


def _day(text: str, baseline: dt.date | None, where: str) -> int:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return int(text)
    if baseline is None:
        raise ClinicalError(f"{where}: a column is dated, and {BASELINE_DATE} is not given.")
    return (as_date(text, where) - baseline).days
