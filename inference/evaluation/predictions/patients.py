"""The patients of an evaluation: where they come from, what they were given, and how they fared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from inference.errors import PredictionsError
from inference.evaluation.metrics import BoolArray
from inference.evaluation.predictions.tables import PATIENT, numbers, read_table, within
from inference.evaluation.survival.follow_up import FollowUp
from inference.results import FloatArray

TRAIN, VALIDATION, TEST, EXTERNAL = "train", "validation", "test", "external"
OS, PFS, RESPONSE = "os", "pfs", "response"
END_POINTS = (OS, PFS, RESPONSE)
SURVIVAL_END_POINTS = (OS, PFS)
OUTCOMES = "outcomes.csv"

_SPLIT = re.compile(r"train|validation|test|external(-[A-Za-z0-9_.-]+)?")
_IDENTITY = ("centre", "split", "regimen")
_OUTCOME_COLUMNS = ("os_months", "os_event", "pfs_months", "pfs_event", "response")
_LONGEST_MONTHS = 600.0

Words = npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True, eq=False)
class TimeToEvent:
    """Follow-up of n patients for one end point, NaN where it is not known.

    Attributes
    ----------
    months : array, (n,)
        To the event or to the end of follow-up.
    event : array, (n,)
        1 where the event was seen, 0 where not.
    """

    months: FloatArray
    event: FloatArray

    @property
    def known(self) -> BoolArray:
        """Whether a patient's follow-up is known, (n,)."""
        return np.isfinite(self.months) & np.isfinite(self.event)

    def of(self, patients: BoolArray) -> FollowUp:
        """Return the follow-up of some patients, all of them known."""
        return FollowUp(self.months[patients], self.event[patients] == 1)


@dataclass(frozen=True, slots=True, eq=False)
class Patients:
    """n patients in the order of ``outcomes.csv``.

    Attributes
    ----------
    ids : tuple of str
        Pseudonyms.
    centre, split, regimen : array of str, (n,)
    survival : mapping of end point to TimeToEvent
        ``os`` and ``pfs``.
    response : array, (n,)
        1 for an objective response, 0 for none, NaN for not evaluable.
    covariates : DataFrame, (n, columns)
        Baseline columns; numbers as float, words as str or None where not known.
    """

    ids: tuple[str, ...]
    centre: Words
    split: Words
    regimen: Words
    survival: Mapping[str, TimeToEvent]
    response: FloatArray
    covariates: pd.DataFrame

    def __len__(self) -> int:
        return len(self.ids)

    def in_split(self, *names: str) -> BoolArray:
        """Return who belongs to one of the splits, (n,)."""
        return np.isin(self.split, names)

    @property
    def evaluation_sets(self) -> tuple[str, ...]:
        """Names of the sets that are measured: test first, then external ones by name."""
        names = {str(s) for s in self.split} - {TRAIN, VALIDATION}
        return tuple(sorted(names, key=lambda s: (s != TEST, s)))


def read_patients(folder: Path) -> Patients:
    """Read ``outcomes.csv``.

    Raises
    ------
    PredictionsError
        It is missing or damaged, a split has an unknown name, an event is neither 0 nor 1, a time is given
        without its event, or nobody is left to be measured.
    """
    path = folder / OUTCOMES
    table = read_table(path, (*_IDENTITY, *_OUTCOME_COLUMNS))
    splits = table["split"].str.strip()
    for row, name in enumerate(splits, start=2):
        if not _SPLIT.fullmatch(name):
            raise PredictionsError(
                f"{OUTCOMES}, row {row}: the split is {name or 'empty'}; it must be train, validation, test, "
                "external or external-<name>"
            )
    found = Patients(
        ids=tuple(table[PATIENT]),
        centre=table["centre"].to_numpy(dtype=np.str_),
        split=splits.to_numpy(dtype=np.str_),
        regimen=table["regimen"].to_numpy(dtype=np.str_),
        survival={name: _time_to_event(path, table, name) for name in SURVIVAL_END_POINTS},
        response=_zero_or_one(path, table, "response"),
        covariates=_covariates(table),
    )
    if not found.evaluation_sets:
        raise PredictionsError(f"{OUTCOMES} has no patient of a test or external set: nobody can be measured")
    return found


def _time_to_event(path: Path, table: pd.DataFrame, name: str) -> TimeToEvent:
    months, event = numbers(path, table, f"{name}_months"), _zero_or_one(path, table, f"{name}_event")
    within(path, f"{name}_months", months, 0.0, _LONGEST_MONTHS)
    if (np.isfinite(months) != np.isfinite(event)).any():
        row = int(np.flatnonzero(np.isfinite(months) != np.isfinite(event))[0]) + 2
        raise PredictionsError(
            f"{path.name}, row {row}: {name}_months and {name}_event must be given together"
        )
    return TimeToEvent(months, event)


def _zero_or_one(path: Path, table: pd.DataFrame, column: str) -> FloatArray:
    found = numbers(path, table, column)
    wrong = np.isfinite(found) & ~np.isin(found, (0.0, 1.0))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0]) + 2
        raise PredictionsError(f"{path.name}, row {row}: {column} must be 0, 1 or empty")
    return found


def _covariates(table: pd.DataFrame) -> pd.DataFrame:
    left = table.drop(columns=[PATIENT, *_IDENTITY, *_OUTCOME_COLUMNS])
    return pd.DataFrame({str(name): _typed(left[name].str.strip()) for name in left.columns})


def _typed(text: pd.Series[str]) -> pd.Series[float] | pd.Series[str]:
    """Return numbers where every given cell is one, else words."""
    given = text != ""
    values = pd.to_numeric(text.where(given), errors="coerce")
    if given.any() and bool(np.isfinite(values[given]).all()):
        return values.astype(np.float64)
    return text.where(given, None)
