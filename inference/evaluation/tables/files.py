"""Tables of a site as CSV files, and that of HCC-TACE-Seg."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from inference.errors import ModelError
from inference.evaluation.tables.protocol import Table
from inference.models.survival.columns import clinical_columns
from inference.training.hcc_tace_seg import COLUMNS, read_cohort

_YES, _NO = frozenset({"1", "1.0", "true", "yes"}), frozenset({"0", "0.0", "false", "no"})


def read_table(path: Path, time: str, event: str, left_out: Sequence[str] = ()) -> Table:
    """Read a CSV file with a row for each patient.

    Parameters
    ----------
    time, event : str
        Columns of the follow-up, in any unit, and of whether the event was seen (1/0, true/false, yes/no).
    left_out : sequence of str
        Columns that are no covariates, such as identifiers, or what was known only later.

    Raises
    ------
    ModelError
        The file cannot be read, a column is absent, or a follow-up is missing or not above 0.
    """
    try:
        found = pd.read_csv(path, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.name} cannot be read as a table") from error
    absent = [name for name in (time, event, *left_out) if name not in found]
    if absent:
        raise ModelError(f"{path.name} has no column {absent[0]!r}; it has {', '.join(map(str, found))}")
    months = pd.to_numeric(found[time], errors="coerce").to_numpy(dtype=np.float64)
    if not (np.isfinite(months) & (months > 0)).all():
        row = int(np.flatnonzero(~(np.isfinite(months) & (months > 0)))[0]) + 2
        raise ModelError(f"the follow-up in line {row} of {path.name} is missing or not above 0")
    covariates = found.drop(columns=[time, event, *left_out])
    if not len(covariates.columns):
        raise ModelError(f"{path.name} has no covariates")
    return Table(path.stem, covariates, months, _events(found[event], path.name))


def _events(column: pd.Series, name: str) -> np.ndarray:
    words = [str(value).strip().lower() for value in column]
    strange = next((i for i, word in enumerate(words) if word not in _YES | _NO), None)
    if strange is not None:
        raise ModelError(f"the event in line {strange + 2} of {name} is none of 1, 0, true, false, yes, no")
    return np.array([word in _YES for word in words], dtype=np.bool_)


def hcc_tace_seg(path: Path) -> Table:
    """Return overall survival in HCC-TACE-Seg by the baseline columns that we read of it.

    Raises
    ------
    ModelError
        The table is not that of HCC-TACE-Seg.
    """
    cohort = read_cohort(path)
    names = list(dict.fromkeys(name for _, name, _ in COLUMNS))
    outcome = cohort.outcomes["os"]
    covariates = pd.DataFrame(clinical_columns(cohort.records, names))
    return Table("hcc-tace-seg", covariates, outcome.months, outcome.event)
