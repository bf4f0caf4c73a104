"""Predicted risk and survival of patients: ``<model>.os.csv`` and ``<model>.pfs.csv``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from inference.errors import PredictionsError
from inference.evaluation.metrics import BoolArray
from inference.evaluation.predictions.patients import OS
from inference.evaluation.predictions.tables import PATIENT, given_numbers, read_table, within
from inference.results import FloatArray

HORIZONS = (12.0, 24.0, 36.0)
"""Months at which the protocol asks for probabilities."""

_SURVIVAL = re.compile(r"s@(\d+(?:\.\d+)?)")
_ROUNDING = 1e-6
_LEAST_SURVIVAL = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class SurvivalPrediction:
    """Predictions of one model for one end point; rows are all n patients, NaN where one is not predicted.

    Attributes
    ----------
    months : array, (m,)
        Rising, after the start of treatment.
    risk : array, (n,)
        Higher for an earlier event; best a log relative hazard.
    survival : array, (n, m)
        Probability of being free of the event at each month; never rises.
    lower, upper : array, (n, m)
        Limits of the probability, NaN where not given.
    """

    months: FloatArray
    risk: FloatArray
    survival: FloatArray
    lower: FloatArray
    upper: FloatArray

    @property
    def predicted(self) -> BoolArray:
        """Who is predicted, (n,)."""
        return np.isfinite(self.risk)

    def at(self, months: float) -> FloatArray:
        """Return survival at one time, (n,), with a constant hazard between the months.

        Raises
        ------
        ValueError
            The time lies beyond the last month.
        """
        if months > self.months[-1] + 1e-9:
            raise ValueError(f"the model predicts no survival at {months:g} months")
        return self.at_own_times(np.full(len(self.risk), months))

    def at_own_times(self, months: FloatArray) -> FloatArray:
        """Return each patient's survival at a time of the patient's own, (n,), at most the last month."""
        grid = np.concatenate(([0.0], self.months))
        start = np.zeros((len(self.risk), 1))
        log = np.concatenate((start, np.log(np.maximum(self.survival, _LEAST_SURVIVAL))), axis=1)
        right = np.clip(np.searchsorted(grid, months, side="left"), 1, len(grid) - 1)
        share = (np.minimum(months, grid[-1]) - grid[right - 1]) / (grid[right] - grid[right - 1])
        row = np.arange(len(self.risk))
        return np.asarray(np.exp(log[row, right - 1] * (1 - share) + log[row, right] * share))


def read_survival(path: Path, ids: tuple[str, ...], end_point: str) -> SurvivalPrediction:
    """Read one table, its rows put in the order of the patients.

    Raises
    ------
    PredictionsError
        It is missing or damaged; a patient is unknown; a number is missing; survival is no probability,
        rises over time or lies outside its limits; or months that the end point needs are not there.
    """
    table = read_table(path, ("risk",))
    months = _months(path, table, end_point)
    columns = {name: given_numbers(path, table, name) for name in table.columns if name != PATIENT}
    survival = np.stack([columns[f"s@{m}"] for m in months.values()], axis=1)
    limits = [_limits(path, months, columns, side, survival.shape) for side in ("lower", "upper")]
    for name, values in columns.items():
        if name != "risk":
            within(path, name, values, 0.0, 1.0)
    if (np.diff(survival, axis=1) > _ROUNDING).any():
        row = int(np.flatnonzero((np.diff(survival, axis=1) > _ROUNDING).any(axis=1))[0]) + 2
        raise PredictionsError(f"{path.name}, row {row}: survival rises over time")
    if (limits[0] > survival + _ROUNDING).any() or (limits[1] < survival - _ROUNDING).any():
        raise PredictionsError(f"{path.name}: survival lies outside its own limits")
    place = places(path, table, ids)
    spread = [_spread(v, place, len(ids)) for v in (columns["risk"], survival, *limits)]
    return SurvivalPrediction(np.array(list(months)), *spread)


def _months(path: Path, table: pd.DataFrame, end_point: str) -> dict[float, str]:
    """Return the months of the header, rising, with how each is written."""
    found = {}
    for name in table.columns:
        matched = _SURVIVAL.fullmatch(name)
        if matched:
            found[float(matched[1])] = matched[1]
        elif name not in (PATIENT, "risk") and not re.fullmatch(_SURVIVAL.pattern + "_(lower|upper)", name):
            raise PredictionsError(f"{path.name}: the column {name} means nothing here")
    absent = [m for m in HORIZONS if m not in found] if end_point == OS else []
    if absent:
        raise PredictionsError(f"{path.name} lacks the column s@{absent[0]:g}")
    if len(found) < 2 or min(found) <= 0:
        raise PredictionsError(f"{path.name} needs survival at two months or more, all above 0")
    return dict(sorted(found.items()))


def _limits(
    path: Path,
    months: dict[float, str],
    columns: dict[str, FloatArray],
    side: str,
    shape: tuple[int, ...],
) -> FloatArray:
    given = {name for name in columns if name.endswith(f"_{side}")}
    strange = given - {f"s@{text}_{side}" for text in months.values()}
    if strange:
        raise PredictionsError(f"{path.name}: the column {min(strange)} has no survival beside it")
    found = np.full(shape, np.nan)
    for column, text in enumerate(months.values()):
        if f"s@{text}_{side}" in given:
            found[:, column] = columns[f"s@{text}_{side}"]
    return found


def places(path: Path, table: pd.DataFrame, ids: tuple[str, ...]) -> np.ndarray:
    """Return where each row of a table belongs among the patients.

    Raises
    ------
    PredictionsError
        A row's patient is not in ``outcomes.csv``.
    """
    place = pd.Index(ids).get_indexer(pd.Index(table[PATIENT]))
    if (place < 0).any():
        row = int(np.flatnonzero(place < 0)[0]) + 2
        raise PredictionsError(f"{path.name}, row {row}: outcomes.csv does not have this patient")
    return np.asarray(place)


def _spread(values: FloatArray, place: np.ndarray, n: int) -> FloatArray:
    found = np.full((n, *values.shape[1:]), np.nan)
    found[place] = values
    return found
