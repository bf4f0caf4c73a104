"""Laboratory values over time as tokens and as terms: what was known on the day of the study, and no more.

Each value is a token of its variable, with its day. The linear part takes two terms of each variable: the
level of the values of the year before the study, and the slope. The last value itself is a clinical
column, see `inference.clinical.longitudinal.with_last_values`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from inference.case import ClinicalRecord
from inference.clinical.longitudinal import DAYS_PER_MONTH, SLOPE_DAYS, LongitudinalValues, is_laboratory
from inference.models.survival.tokens import LABORATORY, DatedLayout, DatedTokens
from inference.results import FloatArray

LONGEST_DAYS = 365
"""Older values say nothing that newer ones do not say better."""
MOST_VALUES = 24
"""Of each variable the latest so many; daily values of a ward would crowd out all else."""
LEAST_PATIENTS = 30
"""Training patients with values of a variable; rarer ones are left out."""
_BOUND = 5.0


def values_before(record: ClinicalRecord, name: str) -> tuple[tuple[float, float], ...]:
    """Return (months, value) of a variable up to the day of the study, months 0 or less, the latest last.

    This is the one place where the model looks at dated values; those of later days never pass.
    """
    found = LongitudinalValues(record.dated).before(name)
    recent = [(v.days / DAYS_PER_MONTH, v.value) for v in found if -v.days <= LONGEST_DAYS]
    return tuple(recent[-MOST_VALUES:])


def laboratory_variables(records: Sequence[ClinicalRecord], least: int = LEAST_PATIENTS) -> tuple[str, ...]:
    """Return the variables that enough of the training patients have values of, in alphabetical order."""
    counts = Counter(name for record in records for name in {v.name for v in record.dated if v.days <= 0})
    return tuple(sorted(name for name, n in counts.items() if n >= least and is_laboratory(name)))


def laboratory_tokens(records: Sequence[ClinicalRecord], names: Sequence[str]) -> DatedTokens:
    """Return the dated values of n patients as tokens of width 1, in the units of the variables.

    Parameters
    ----------
    names : sequence of str
        Variables that are read; `DatedTokens.kind` counts them.
    """
    rows = [
        [(kind, *seen) for kind, name in enumerate(names) for seen in values_before(record, name)]
        for record in records
    ]
    n, most = len(rows), max((len(row) for row in rows), default=0)
    kind, months = np.zeros((n, most), dtype=np.intp), np.zeros((n, most))
    values, known = np.zeros((n, most, 1), dtype=np.float32), np.zeros((n, most), dtype=np.bool_)
    for place, row in enumerate(rows):
        for i, (variable, month, value) in enumerate(row):
            kind[place, i], months[place, i], values[place, i, 0], known[place, i] = (
                variable,
                month,
                value,
                True,
            )
    return DatedTokens(values, kind, months, known)


@dataclass(frozen=True, slots=True)
class LaboratoryTerms:
    """How values of V variables are standardised, and made terms.

    Values are put through asinh, since most laboratory values are skewed.

    Attributes
    ----------
    names : tuple of str, (V,)
    centre, spread : array, (V,)
        Median and standard deviation of the values of training patients, after asinh.
    """

    names: tuple[str, ...]
    centre: FloatArray
    spread: FloatArray

    @property
    def layout(self) -> DatedLayout:
        """Shape of the tokens."""
        return DatedLayout(LABORATORY, self.names, 1)

    def standardised(self, tokens: DatedTokens) -> DatedTokens:
        """Return tokens whose vectors are standard scores."""
        if not self.names:
            return tokens
        scores = (np.arcsinh(tokens.features[:, :, 0]) - self.centre[tokens.kind]) / self.spread[tokens.kind]
        scores = np.where(tokens.known, np.clip(scores, -_BOUND, _BOUND), 0.0)
        return replace(tokens, features=scores.astype(np.float32)[:, :, None])

    def __call__(self, tokens: DatedTokens) -> FloatArray:
        """Return the terms of n patients, (n, 2 V): levels, then slopes a month; 0 where missing."""
        scored = self.standardised(tokens)
        found = [_level_and_slope(scored, variable) for variable in range(len(self.names))]
        if not found:
            return np.zeros((len(tokens), 0))
        return np.stack([level for level, _ in found] + [slope for _, slope in found], axis=1)


def _level_and_slope(tokens: DatedTokens, variable: int) -> tuple[FloatArray, FloatArray]:
    """Mean and least-squares slope of one variable, (n,) each; no slope within `SLOPE_DAYS`."""
    own = tokens.known & (tokens.kind == variable)
    count = np.maximum(own.sum(axis=1), 1)
    months = np.where(own, tokens.months, 0.0)
    scores = np.where(own, tokens.features[:, :, 0].astype(np.float64), 0.0)
    level = scores.sum(axis=1) / count
    centred = np.where(own, months - (months.sum(axis=1) / count)[:, None], 0.0)
    first = np.min(tokens.months, axis=1, where=own, initial=0.0)
    last = np.max(tokens.months, axis=1, where=own, initial=-LONGEST_DAYS / DAYS_PER_MONTH)
    long_enough = last - first >= SLOPE_DAYS / DAYS_PER_MONTH - 1e-9
    squares = np.where(long_enough, (centred**2).sum(axis=1), 1.0)
    slope = np.where(long_enough, (centred * scores).sum(axis=1) / np.maximum(squares, 1e-12), 0.0)
    return level, np.clip(slope, -_BOUND, _BOUND)


def no_laboratory() -> LaboratoryTerms:
    """Return terms of no variable."""
    return LaboratoryTerms((), np.zeros(0), np.zeros(0))


def laboratory_terms(tokens: DatedTokens, names: Sequence[str]) -> LaboratoryTerms:
    """Learn the scale of each variable from the values of training patients."""
    centre, spread = np.zeros(len(names)), np.ones(len(names))
    for variable in range(len(names)):
        values = np.arcsinh(tokens.features[:, :, 0][tokens.known & (tokens.kind == variable)])
        if len(values):
            centre[variable] = np.median(values)
            sd = float(values.std())
            # A variable that never changes carries nothing, and must not blow up.
            spread[variable] = sd if sd > 1e-6 else 1.0
    return LaboratoryTerms(tuple(names), centre, spread)
