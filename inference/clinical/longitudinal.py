"""Laboratory values over time, by days from the study.

What was measured after the day of the study is known to nobody who predicts on that day: `features` look at
day 0 and before only (landmark), and `after` is for grading and evaluation.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from inference.case import ClinicalRecord, ClinicalValue, DatedValue
from inference.clinical.variables import VARIABLES, Kind
from inference.errors import ClinicalError

DAYS_PER_MONTH = 30.4375
LAST_VALUE_DAYS = 30
"""A value that is older than this says nothing of the day of the study."""
SLOPE_DAYS = 7
"""Values closer together than this have no slope: what they differ by is mostly noise."""


@dataclass(frozen=True, slots=True)
class Course:
    """One variable up to the day of the study.

    Attributes
    ----------
    last : float
        In the unit of the variable.
    last_days : int
        Day of `last`, 0 or below.
    slope_per_month : float or None
        Least-squares slope in units per month of 30.4375 days; None for values of fewer than `SLOPE_DAYS`.
    n : int
        Number of values.
    """

    last: float
    last_days: int
    slope_per_month: float | None
    n: int


@dataclass(frozen=True, slots=True)
class LongitudinalValues:
    """Dated values of one patient, day 0 the day of the study."""

    values: tuple[DatedValue, ...] = ()

    def before(self, name: str) -> tuple[DatedValue, ...]:
        """Return the values of a variable on day 0 and before, in the order of their days."""
        return tuple(v for v in self._of(name) if v.days <= 0)

    def after(self, name: str) -> tuple[DatedValue, ...]:
        """Return the values of a variable after day 0; never for a prediction."""
        return tuple(v for v in self._of(name) if v.days > 0)

    def _of(self, name: str) -> list[DatedValue]:
        return sorted((v for v in self.values if v.name == name), key=lambda v: v.days)

    @property
    def landmark(self) -> LongitudinalValues:
        """What was known on day 0."""
        return LongitudinalValues(tuple(v for v in self.values if v.days <= 0))

    def course(self, name: str) -> Course | None:
        """Return last value, slope and number of values up to day 0, None without any."""
        before = self.before(name)
        if not before:
            return None
        days = np.array([v.days for v in before], dtype=np.float64)
        slope = None
        if days[-1] - days[0] >= SLOPE_DAYS:
            centred = days - days.mean()
            measured = np.array([v.value for v in before])
            slope = float(centred @ measured / (centred @ centred)) * DAYS_PER_MONTH
        return Course(before[-1].value, before[-1].days, slope, len(before))

    @property
    def features(self) -> Mapping[str, Course]:
        """Courses of all variables that have values up to day 0."""
        names = sorted({v.name for v in self.values if v.days <= 0})
        return {name: course for name in names if (course := self.course(name)) is not None}


def with_last_values(record: ClinicalRecord, maximum_age_days: int = LAST_VALUE_DAYS) -> ClinicalRecord:
    """Fill variables that a record lacks from its dated values of the days before the study.

    What the record gives is kept, and a value older than `maximum_age_days` is not used.
    """
    filled = {}
    for name, course in LongitudinalValues(record.dated).features.items():
        if name in VARIABLES and name not in record.values and -course.last_days <= maximum_age_days:
            filled[name] = ClinicalValue(name, course.last, VARIABLES[name].unit)
    return ClinicalRecord({**record.values, **filled}, record.dated, record.texts)


def as_date(text: str, where: str) -> dt.date:
    """Return the date of a text like 2026-01-31.

    Raises
    ------
    ClinicalError
        It is none.
    """
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        try:
            return dt.date.fromisoformat(text)
        except ValueError:
            pass
    raise ClinicalError(f"{where}: a date is not written as YYYY-MM-DD, or does not exist.")


def is_laboratory(name: str) -> bool:
    """Tell whether a variable is a number that may be given by date."""
    variable = VARIABLES.get(name)
    return variable is not None and variable.kind is Kind.NUMBER


def one_a_day(values: Iterable[DatedValue], where: str) -> tuple[DatedValue, ...]:
    """Return the values, each once.

    Raises
    ------
    ClinicalError
        A variable has two different values on one day.
    """
    found: dict[tuple[str, int], DatedValue] = {}
    for value in values:
        earlier = found.setdefault((value.name, value.days), value)
        if earlier.value != value.value:
            raise ClinicalError(f"{where}: '{value.name}' has two different values on one day; keep one.")
    return tuple(sorted(found.values(), key=lambda v: (v.name, v.days)))
