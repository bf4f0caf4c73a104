"""Who the patients are: the flow by split and centre, and baseline values of each set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from inference.evaluation.metrics import BoolArray
from inference.evaluation.predictions.patients import (
    SURVIVAL_END_POINTS,
    TRAIN,
    VALIDATION,
    Patients,
)

_MOST_LEVELS = 12


@dataclass(frozen=True, slots=True)
class Share:
    """How many of the patients whose value is known have it; `difference` is from the training part."""

    patients: int
    of: int
    difference: float | None


@dataclass(frozen=True, slots=True)
class Quartiles:
    """Median and quartiles of the known values; NaN without any."""

    median: float
    lower: float
    upper: float
    of: int
    difference: float | None


@dataclass(frozen=True, slots=True)
class Characteristic:
    """One row of the table of patients: a column, or one value of it.

    Attributes
    ----------
    cells : tuple of Share or Quartiles, (splits,)
        Standardised differences are of Austin 2009, Stat Med 28:3083, section 3.
    missing : tuple of int, (splits,)
    """

    column: str
    value: str
    cells: tuple[Share | Quartiles, ...]
    missing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SplitCount:
    """Patients of one split.

    Attributes
    ----------
    centres, regimens : dict of str to int
    known, events : dict of end point to int
        Patients whose outcome is known, and events or responders among them.
    """

    name: str
    patients: int
    centres: dict[str, int]
    regimens: dict[str, int]
    known: dict[str, int]
    events: dict[str, int]


@dataclass(frozen=True, slots=True)
class Characteristics:
    """Everything about the patients of the study, by split."""

    splits: tuple[SplitCount, ...]
    rows: tuple[Characteristic, ...]


def characteristics(patients: Patients) -> Characteristics:
    """Return the flow and the table of patients."""
    names = [s for s in (TRAIN, VALIDATION) if patients.in_split(s).any()]
    names += patients.evaluation_sets
    members = [patients.in_split(n) for n in names]
    counts = tuple(_count(patients, n, m) for n, m in zip(names, members, strict=True))
    reference = patients.in_split(TRAIN) if TRAIN in names else None
    rows = [
        row
        for column in patients.covariates.columns
        for row in _rows(str(column), patients.covariates[column], members, reference)
    ]
    return Characteristics(counts, tuple(rows))


def _count(patients: Patients, name: str, member: BoolArray) -> SplitCount:
    known, events = {}, {}
    for end_point in SURVIVAL_END_POINTS:
        outcome = patients.survival[end_point]
        known[end_point] = int((outcome.known & member).sum())
        events[end_point] = int((outcome.event[member] == 1).sum())
    known["response"] = int((np.isfinite(patients.response) & member).sum())
    events["response"] = int((patients.response[member] == 1).sum())
    return SplitCount(
        name,
        int(member.sum()),
        _tally(patients.centre[member]),
        _tally(patients.regimen[member]),
        known,
        events,
    )


def _tally(words: np.ndarray) -> dict[str, int]:
    values, counts = np.unique(words, return_counts=True)
    return {str(v): int(n) for v, n in zip(values, counts, strict=True)}


def _rows(
    column: str, values: pd.Series[float], members: list[BoolArray], reference: BoolArray | None
) -> Iterator[Characteristic]:
    missing = tuple(int(values[m].isna().sum()) for m in members)
    base = None if reference is None else values[reference].dropna()
    own = [values[m].dropna() for m in members]
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > 2:
        yield Characteristic(column, "", tuple(_quartiles(o, base) for o in own), missing)
        return
    found = sorted(values.dropna().unique())
    for value in found[:_MOST_LEVELS]:
        name = f"{value:g}" if isinstance(value, float) else str(value)
        cells = tuple(_share(o == value, None if base is None else base == value) for o in own)
        yield Characteristic(column, name, cells, missing)


def _quartiles(own: pd.Series[float], base: pd.Series[float] | None) -> Quartiles:
    if len(own) == 0:
        nan = float("nan")
        return Quartiles(nan, nan, nan, 0, None)
    lower, median, upper = (float(q) for q in own.quantile([0.25, 0.5, 0.75]))
    difference = None
    if base is not None and len(base) > 1 and len(own) > 1:
        spread = float(np.sqrt((own.var() + base.var()) / 2))
        difference = float(own.mean() - base.mean()) / spread if spread > 0 else None
    return Quartiles(median, lower, upper, len(own), difference)


def _share(own: pd.Series[bool], base: pd.Series[bool] | None) -> Share:
    difference = None
    if base is not None and len(base) and len(own):
        p, q = float(own.mean()), float(base.mean())
        spread = np.sqrt((p * (1 - p) + q * (1 - q)) / 2)
        difference = float((p - q) / spread) if spread > 0 else None
    return Share(int(own.sum()), len(own), difference)
