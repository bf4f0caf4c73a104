"""Rows of a clinical table, as a CSV or JSON file gives them; nothing is checked or converted yet.

A column is a name, with a unit in brackets where it has one: ``albumin [g/L]``. An empty cell is missing.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.errors import ClinicalError

STUDY, ISSUER, PATIENT = "study_instance_uid", "issuer", "patient_id"
KEYS = (STUDY, ISSUER, PATIENT)
_HEADER = re.compile(r"^\s*([^\[\]]+?)\s*(?:\[([^\[\]]*)\])?\s*$")


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was given, and its unit or None."""

    value: object
    unit: str | None


@dataclass(frozen=True, slots=True)
class Row:
    """One row; `place` is what people look for, like 'row 3'."""

    place: str
    keys: Mapping[str, str]
    values: Mapping[str, Given]


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a JSON or CSV file, told by its suffix.

    Raises
    ------
    ClinicalError
        The file cannot be read as UTF-8 text or has no rows and columns of this kind.
    """
    readers = {".json": _json_rows, ".csv": _csv_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ClinicalError("The clinical file is neither .json nor .csv.")
    return reader(read_text(path))


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file.

    Raises
    ------
    ClinicalError
        It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ClinicalError(
            f"The clinical file cannot be read as UTF-8 text: {type(error).__name__}."
        ) from error


def column(cell: str) -> tuple[str, str | None]:
    """Return name (lower case) and unit of a column's title.

    Raises
    ------
    ClinicalError
        No name, or brackets that do not close.
    """
    match = _HEADER.match(cell)
    if match is None:
        raise ClinicalError("Clinical file: a column has no name, or brackets that do not close.")
    return match.group(1).strip().lower(), match.group(2)


def csv_cells(text: str) -> Iterator[tuple[int, list[tuple[str, str | None, str]]]]:
    """Yield the number of each row that is not empty, and its cells as (column, unit, text).

    Raises
    ------
    ClinicalError
        A column appears twice, or a row is longer or shorter than the header.
    """
    rows = csv.reader(text.splitlines())
    header = [column(cell) for cell in next(rows, [])]
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
        yield number, [(n, u, c.strip()) for (n, u), c in zip(header, cells, strict=True)]


def _csv_rows(text: str) -> Iterator[Row]:
    for number, cells in csv_cells(text):
        keys, values = {}, {}
        for name, unit, cell in cells:
            if name in KEYS:
                keys[name] = cell
            elif cell:
                values[name] = Given(cell, unit)
        yield Row(f"row {number}", keys, values)


def _json_rows(text: str) -> Iterator[Row]:
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


def _json_row(place: str, entry: Mapping[str, Any], units: Mapping[str, Any]) -> Row:
    keys = {name: str(entry[name]).strip() for name in KEYS if entry.get(name) is not None}
    values = {}
    for name, given in entry.items():
        if name in KEYS or given is None:
            continue
        unit = units.get(name)
        if isinstance(given, dict):
            if set(given) - {"value", "unit"} or "value" not in given:
                raise ClinicalError(
                    f'Clinical file, {place}: {shown(name)} needs "value" and may have "unit".'
                )
            unit, given = given.get("unit", unit), given["value"]
        if given is not None:
            values[name.lower()] = Given(given, None if unit is None else str(unit))
    return Row(place, keys, values)


def shown(name: str) -> str:
    """Return a column's name for a message, unless it is too odd to repeat."""
    return f"'{name}'" if re.fullmatch(r"[A-Za-z][\w -]{0,40}", name) else "a column"
