"""Clinical values from a JSON or CSV file, keyed by study or by patient.

CSV: one row for each study or patient. The columns ``study_instance_uid``, ``issuer`` and
``patient_id`` are keys; every other column is a variable of `inference.clinical.variables` with its
unit in brackets: ``albumin [g/L]``. An empty cell is a missing value.

JSON: a list of objects, or ``{"units": {"albumin": "g/L"}, "patients": [...]}``. A value is a number
or a word, or ``{"value": 38, "unit": "g/L"}``; null is missing.

Units are converted, never guessed: a unit may be left out only where the table of variables accepts
no more than one. Errors name the variable and the row, never the patient.
"""

from __future__ import annotations

import csv
import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inference.case import ClinicalRecord, ClinicalValue
from inference.clinical.variables import VARIABLES, Kind, Variable
from inference.errors import ClinicalError

STUDY, ISSUER, PATIENT = "study_instance_uid", "issuer", "patient_id"
_KEYS = (STUDY, ISSUER, PATIENT)
_HEADER = re.compile(r"^\s*([^\[\]]+?)\s*(?:\[([^\[\]]*)\])?\s*$")
_WORDS: Mapping[str, bool] = {
    "yes": True,
    "true": True,
    "1": True,
    "no": False,
    "false": False,
    "0": False,
}
_MICRO = str.maketrans({"µ": "u", "μ": "u"})


@dataclass(frozen=True, slots=True)
class ClinicalTable:
    """Clinical records by study, and by (issuer of Patient ID, Patient ID)."""

    by_study: Mapping[str, ClinicalRecord] = field(default_factory=dict)
    by_patient: Mapping[tuple[str, str], ClinicalRecord] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as the file gives it."""

    value: object
    unit: str | None


@dataclass(frozen=True, slots=True)
class _Row:
    """A row as the file gives it; `place` is what people look for, like 'row 3'."""

    place: str
    keys: Mapping[str, str]
    values: Mapping[str, _Given]


# ------------------------------------------------------------------ reading


def read_clinical_file(path: Path) -> ClinicalTable:
    """Read a clinical file.

    Raises
    ------
    ClinicalError
        The file cannot be read, names an unknown variable or unit, has an implausible value, a row
        without a key, or two rows with the same key.
    """
    readers = {".json": _json_rows, ".csv": _csv_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ClinicalError("The clinical file is neither .json nor .csv.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ClinicalError(
            f"The clinical file cannot be read as UTF-8 text: {type(error).__name__}."
        ) from error
    by_study: dict[str, ClinicalRecord] = {}
    by_patient: dict[tuple[str, str], ClinicalRecord] = {}
    for row in reader(text):
        record = _record(row)
        study, patient = row.keys.get(STUDY, ""), row.keys.get(PATIENT, "")
        if study:
            _put(by_study, study, record, row.place)
        elif patient:
            _put(by_patient, (row.keys.get(ISSUER, ""), patient), record, row.place)
        else:
            raise ClinicalError(f"Clinical file, {row.place}: give {STUDY} or {PATIENT}.")
    return ClinicalTable(by_study, by_patient)


def lookup(table: ClinicalTable, study_instance_uid: str, issuer: str, patient_id: str) -> ClinicalRecord:
    """Return the record of a study, else of its patient, else an empty one.

    The issuer must be the same, an absent one included; an empty Patient ID never matches.
    """
    if study_instance_uid and study_instance_uid in table.by_study:
        return table.by_study[study_instance_uid]
    if patient_id.strip():
        return table.by_patient.get((issuer.strip(), patient_id.strip()), ClinicalRecord())
    return ClinicalRecord()


def _put(records: dict[Any, ClinicalRecord], key: object, record: ClinicalRecord, place: str) -> None:
    if key in records:
        raise ClinicalError(f"Clinical file, {place}: another row has the same key; keep one of them.")
    records[key] = record


def _csv_rows(text: str) -> Iterator[_Row]:
    rows = csv.reader(text.splitlines())
    header = [_column(cell) for cell in next(rows, [])]
    names = [name for name, _ in header]
    if len(names) == 1 and ";" in names[0]:
        raise ClinicalError("Clinical file: the columns are separated by semicolons; save it with commas.")
    if len(set(names)) != len(names):
        raise ClinicalError("Clinical file: a column appears twice; keep one of them.")
    for number, cells in enumerate(rows, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise ClinicalError(
                f"Clinical file, row {number}: it has {len(cells)} cells instead of {len(header)}."
            )
        keys, values = {}, {}
        for (name, unit), cell in zip(header, cells, strict=True):
            if name in _KEYS:
                keys[name] = cell.strip()
            elif cell.strip():
                values[name] = _Given(cell.strip(), unit)
        yield _Row(f"row {number}", keys, values)


def _column(cell: str) -> tuple[str, str | None]:
    match = _HEADER.match(cell)
    if match is None:
        raise ClinicalError("Clinical file: a column has no name, or brackets that do not close.")
    return match.group(1).strip().lower(), match.group(2)


def _json_rows(text: str) -> Iterator[_Row]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ClinicalError(f"The clinical file is not valid JSON: line {error.lineno}.") from error
    units: Mapping[str, Any] = {}
    if isinstance(content, dict):
        if set(content) - {"units", "patients"}:
            raise ClinicalError('Clinical file: an object may only have "units" and "patients".')
        units, content = content.get("units", {}), content.get("patients")
    if not isinstance(content, list) or not isinstance(units, dict):
        raise ClinicalError('Clinical file: give a list, or an object with "patients" (a list) and "units".')
    for number, entry in enumerate(content, start=1):
        if not isinstance(entry, dict):
            raise ClinicalError(f"Clinical file, entry {number}: it is not an object.")
        yield _json_row(f"entry {number}", entry, units)


def _json_row(place: str, entry: Mapping[str, Any], units: Mapping[str, Any]) -> _Row:
    keys = {name: str(entry[name]).strip() for name in _KEYS if entry.get(name) is not None}
    values = {}
    for name, given in entry.items():
        if name in _KEYS or given is None:
            continue
        unit = units.get(name)
        if isinstance(given, dict):
            if set(given) - {"value", "unit"} or "value" not in given:
                raise ClinicalError(
                    f'Clinical file, {place}: {_shown(name)} needs "value" and may have "unit".'
                )
            unit, given = given.get("unit", unit), given["value"]
        if given is not None:
            values[name.lower()] = _Given(given, None if unit is None else str(unit))
    return _Row(place, keys, values)


# ------------------------------------------------------------------ checking


def _record(row: _Row) -> ClinicalRecord:
    return ClinicalRecord({n: clinical_value(n, g.value, g.unit, row.place) for n, g in row.values.items()})


def _shown(name: str) -> str:
    """Return a column's name for a message, unless it is too odd to repeat."""
    return f"'{name}'" if re.fullmatch(r"[A-Za-z][\w -]{0,40}", name) else "a column"


def clinical_value(name: str, value: object, unit: str | None, place: str) -> ClinicalValue:
    """Check one value and convert it to the unit of the table.

    Raises
    ------
    ClinicalError
        Unknown variable, unknown or missing unit, implausible or unreadable value.
    """
    variable = VARIABLES.get(name)
    if variable is None:
        close = difflib.get_close_matches(name, VARIABLES, n=1)
        hint = f"did you mean '{close[0]}'?" if close else "remove it, or see the table of variables."
        raise ClinicalError(f"Clinical file, {place}: {_shown(name)} is not a known variable; {hint}")
    if variable.kind is Kind.NUMBER:
        return ClinicalValue(name, _number(variable, value, unit, place), variable.unit)
    if unit:
        raise ClinicalError(f"Clinical file, {place}: '{name}' has no unit; remove [{unit}].")
    if variable.kind is Kind.YES_NO:
        return ClinicalValue(name, _yes_no(variable, value, place))
    return ClinicalValue(name, _category(variable, value, place))


def _factor(variable: Variable, unit: str | None, place: str) -> float:
    accepted = _accepted(variable)
    if not variable.units:
        if unit and unit.strip() not in ("1", "-"):
            raise ClinicalError(
                f"Clinical file, {place}: '{variable.name}' is a pure number; remove [{unit}]."
            )
        return 1.0
    if not unit or not unit.strip():
        if len(set(variable.units.values())) == 1:
            return next(iter(variable.units.values()))
        raise ClinicalError(
            f"Clinical file, {place}: '{variable.name}' has no unit; write it like "
            f"'{variable.name} [{variable.unit}]' (accepted: {accepted})."
        )
    key = unit.strip().translate(_MICRO).lower()
    if key not in variable.units:
        raise ClinicalError(
            f"Clinical file, {place}: unit [{unit.strip()[:20]}] of '{variable.name}' is not known; "
            f"use one of {accepted}."
        )
    return variable.units[key]


def _accepted(variable: Variable) -> str:
    return ", ".join(variable.units)


def _number(variable: Variable, value: object, unit: str | None, place: str) -> float:
    factor = _factor(variable, unit, place)
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError
        number = float(value) * factor
    except ValueError:
        raise ClinicalError(
            f"Clinical file, {place}: '{variable.name}' is not a number; write digits with a decimal point."
        ) from None
    if not math.isfinite(number) or not variable.low <= number <= variable.high:
        given = (unit or variable.unit or "1").strip()[:20]
        raise ClinicalError(
            f"Clinical file, {place}: '{variable.name}' is outside the plausible {variable.low:g} to "
            f"{variable.high:g} {variable.unit or '(no unit)'}; check the value and its unit [{given}]."
        )
    if variable.whole and number != int(number):
        raise ClinicalError(f"Clinical file, {place}: '{variable.name}' must be a whole number.")
    return number


def _yes_no(variable: Variable, value: object, place: str) -> bool:
    answer = _WORDS.get(str(value).strip().lower())
    if answer is None:
        raise ClinicalError(f"Clinical file, {place}: '{variable.name}' must be yes or no.")
    return answer


def _category(variable: Variable, value: object, place: str) -> str:
    names = {c.lower(): c for c in variable.categories}
    category = names.get(str(value).strip().lower())
    if category is None:
        choices: Sequence[str] = variable.categories
        raise ClinicalError(f"Clinical file, {place}: '{variable.name}' must be one of {', '.join(choices)}.")
    return category
