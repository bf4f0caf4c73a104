"""CSV tables as text and numbers, with refusals that name file, column and row but never a patient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from inference.errors import PredictionsError
from inference.results import FloatArray

PATIENT = "patient"
_FIRST_ROW = 2  # As a spreadsheet counts: the header is row 1.


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Return a table of text that has at least these columns and each patient once.

    Raises
    ------
    PredictionsError
        The file is absent or no CSV, lacks a column or has one twice, or a patient is empty or there twice.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, header=None, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise PredictionsError(f"{path.name} is missing") from error
    except (OSError, ValueError) as error:
        raise PredictionsError(f"{path.name} cannot be read as CSV") from error
    header = [str(c).strip() for c in table.iloc[0]]
    if len(set(header)) < len(header):
        raise PredictionsError(f"{path.name} has a column twice")
    absent = [c for c in (PATIENT, *columns) if c not in header]
    if absent:
        raise PredictionsError(f"{path.name} lacks the column {absent[0]}")
    table = table.iloc[1:].reset_index(drop=True).set_axis(header, axis=1)
    if len(table) == 0:
        raise PredictionsError(f"{path.name} has no patients")
    _refuse(path, PATIENT, (table[PATIENT].str.strip() == "").to_numpy(), "is empty")
    _refuse(path, PATIENT, table[PATIENT].duplicated().to_numpy(), "is there twice")
    return table


def numbers(path: Path, table: pd.DataFrame, column: str) -> FloatArray:
    """Return a column as numbers; an empty cell is NaN.

    Raises
    ------
    PredictionsError
        A cell that is neither a finite number nor empty.
    """
    text = table[column].str.strip()
    found = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
    _refuse(path, column, ((text != "") & ~np.isfinite(found)).to_numpy(), "is not a number")
    return found


def given_numbers(path: Path, table: pd.DataFrame, column: str) -> FloatArray:
    """Return a column as numbers, none of them empty; errors as `numbers`."""
    found = numbers(path, table, column)
    _refuse(path, column, np.isnan(found), "is empty")
    return found


def within(path: Path, column: str, values: FloatArray, low: float, high: float) -> None:
    """Refuse values outside the limits; NaN passes."""
    _refuse(path, column, (values < low) | (values > high), f"is not between {low:g} and {high:g}")


def _refuse(path: Path, column: str, wrong: np.ndarray, what: str) -> None:
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0]) + _FIRST_ROW
        raise PredictionsError(f"{path.name}, row {row}: {column} {what}")
