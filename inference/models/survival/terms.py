"""Columns of a table as terms of a linear predictor and as tokens of a network.

Every column becomes a group of terms, of three kinds. *Linear*: the value of a number, or the categories
of a word, standardised. *Missing*: that a number is missing; it is then at its median. *Smooth*: what a
restricted cubic spline of the number adds to its linear term. All scales, knots and categories are those
of the patients that the terms were made from, and a value outside of their range is moved to its end.

References
----------
Harrell 2015, Regression Modeling Strategies, section 2.4.5 (restricted cubic splines); Box & Cox 1964,
J R Stat Soc B 26:211.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from scipy import special

from inference.results import FloatArray

KNOT_QUANTILES = (0.05, 0.275, 0.5, 0.725, 0.95)
POWERS = tuple(np.arange(-2.0, 3.01, 0.25).tolist())
"""Powers of Box and Cox that are tried: -1 the reciprocal, 0 the logarithm, 1 no change."""
LEAST_DISTINCT = 8
"""Distinct values of a number from which its effect may be curved."""
LEAST_OF_CATEGORY = 5
"""Patients of a category; rarer ones count as the reference."""


class Scale(StrEnum):
    """How numbers are brought to one scale."""

    RAW = "raw"
    NORMAL = "normal"
    RANK = "rank"


@dataclass(frozen=True, slots=True)
class NumberTerms:
    """How one number becomes terms.

    Attributes
    ----------
    low, high, median : float
        Range and median of the training values.
    from_values, to_values : array, (k,)
        The change of scale as a table that is interpolated.
    mean, scale : float
        Of the changed values.
    knots : array, (5,) or (0,)
        Of the standardised values; none where there are no smooth terms.
    straight : array, (2, s)
        Intercept and slope of each spline term, which are taken out.
    rotation : array, (s, s)
        To uncorrelated terms of variance 1, the smoothest first.
    missing_share : float
        Of the training values; where it is 0, a missing value has no term.
    """

    low: float
    high: float
    median: float
    from_values: FloatArray
    to_values: FloatArray
    mean: float
    scale: float
    knots: FloatArray
    straight: FloatArray
    rotation: FloatArray
    missing_share: float

    def standardised(self, values: FloatArray) -> FloatArray:
        """Return the values (n,) on the common scale; missing ones at the median."""
        filled = np.clip(np.where(np.isfinite(values), values, self.median), self.low, self.high)
        return np.asarray((np.interp(filled, self.from_values, self.to_values) - self.mean) / self.scale)

    def missing(self, values: FloatArray) -> FloatArray:
        """Return the term of a missing value, (n, 1), or (n, 0) where none was missing in training."""
        share = self.missing_share
        if share in (0.0, 1.0):
            return np.zeros((len(values), 0))
        flag = (~np.isfinite(values)).astype(np.float64)
        return np.asarray((flag - share) / np.sqrt(share * (1.0 - share)))[:, None]

    def smooth(self, values: FloatArray) -> FloatArray:
        """Return smooth terms, (n, s)."""
        if not len(self.knots):
            return np.zeros((len(values), 0))
        z = self.standardised(values)
        basis = _restricted_cubic(z, self.knots) - self.straight[0] - z[:, None] * self.straight[1]
        return np.asarray(basis @ self.rotation)


@dataclass(frozen=True, slots=True)
class WordTerms:
    """How one word becomes terms: one for each category but the most frequent.

    Attributes
    ----------
    categories : tuple of str
    shares : array, (c,)
        Share of each category among the training patients.
    """

    categories: tuple[str, ...]
    shares: FloatArray

    def linear(self, words: Sequence[str | None]) -> FloatArray:
        """Return linear terms, (n, c); the word is None where it is missing."""
        found = np.array([[w == c for c in self.categories] for w in words], dtype=np.float64)
        found = found.reshape(len(words), len(self.categories))
        return np.asarray((found - self.shares) / np.sqrt(self.shares * (1.0 - self.shares)))


Column: TypeAlias = FloatArray | Sequence[str | None]
MISSING_WORD = "(missing)"


def _restricted_cubic(z: FloatArray, knots: FloatArray) -> FloatArray:
    """Spline terms (n, k - 2), linear beyond the outer knots; Harrell's equation 2.26."""
    last, before = knots[-1], knots[-2]

    def cubed(t: float | np.floating) -> FloatArray:
        return np.asarray(np.clip(z - t, 0.0, None) ** 3)

    terms = [
        cubed(t) - cubed(before) * (last - t) / (last - before) + cubed(last) * (before - t) / (last - before)
        for t in knots[:-2]
    ]
    return np.asarray(np.stack(terms, axis=1) / (last - knots[0]) ** 2)


def number_terms(values: FloatArray, scale: Scale) -> NumberTerms:
    """Learn how a number (n,) becomes terms; NaN is missing."""
    known = values[np.isfinite(values)]
    if not len(known):
        known = np.zeros(1)
    table = _scale_table(known, scale)
    changed = np.interp(known, *table)
    spread = float(np.std(changed))
    mean, spread = float(np.mean(changed)), spread if spread > 1e-12 else 1.0
    z = (changed - mean) / spread
    knots, straight, rotation = _smooth_parts(z)
    return NumberTerms(
        low=float(known.min()),
        high=float(known.max()),
        median=float(np.median(known)),
        from_values=table[0],
        to_values=table[1],
        mean=mean,
        scale=spread,
        knots=knots,
        straight=straight,
        rotation=rotation,
        missing_share=float(np.mean(~np.isfinite(values))),
    )


def _scale_table(known: FloatArray, scale: Scale) -> tuple[FloatArray, FloatArray]:
    distinct = np.unique(known)
    if len(distinct) > 400:
        distinct = np.unique(np.quantile(known, np.linspace(0, 1, 400)))
    if scale is Scale.RAW or len(distinct) < 3:
        return distinct, distinct
    if scale is Scale.RANK:
        below = np.searchsorted(np.sort(known), distinct, side="left")
        up_to = np.searchsorted(np.sort(known), distinct, side="right")
        return distinct, (below + up_to) / (2.0 * len(known))
    return distinct, _box_cox(known, distinct)


def _box_cox(known: FloatArray, at: FloatArray) -> FloatArray:
    """Change values towards a normal distribution; counted from the least, in units of the median."""
    low, high = float(known.min()), float(known.max())
    unit = float(np.median(known)) - low or (high - low) / 10.0
    sample = 1.0 + (known - low) / unit
    logs = float(np.log(sample).sum())
    fits = [
        (power - 1.0) * logs - 0.5 * len(sample) * np.log(special.boxcox(sample, power).var())
        for power in POWERS
    ]
    return np.asarray(special.boxcox(1.0 + (at - low) / unit, POWERS[int(np.argmax(fits))]))


def _smooth_parts(z: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    none = np.zeros(0), np.zeros((2, 0)), np.zeros((0, 0))
    knots = np.unique(np.quantile(z, KNOT_QUANTILES))
    if len(np.unique(z)) < LEAST_DISTINCT or len(knots) < 3:
        return none
    basis = _restricted_cubic(z, knots)
    line = np.stack((np.ones_like(z), z), axis=1)
    straight = np.asarray(np.linalg.lstsq(line, basis, rcond=None)[0], dtype=np.float64)
    bent = basis - line @ straight
    values, vectors = np.linalg.eigh(bent.T @ bent / len(z))
    order = np.argsort(-values)
    values, vectors = values[order], vectors[:, order]
    kept = values > 1e-8 * max(values[0], 1e-300)
    if values[0] < 1e-12:
        return none
    # Less curved terms vary more; dividing all by the largest keeps that order under one penalty.
    return knots, np.asarray(straight), np.asarray(vectors[:, kept] / np.sqrt(values[0]))


def word_terms(words: Sequence[str | None]) -> WordTerms:
    """Learn the categories of a word; None is a category of its own."""
    named = [MISSING_WORD if w is None else w for w in words]
    counts = Counter(sorted(named))
    reference = max(counts, key=lambda w: counts[w], default=MISSING_WORD)
    categories = tuple(w for w, n in counts.items() if w != reference and n >= LEAST_OF_CATEGORY)
    shares = np.array([counts[c] / max(len(named), 1) for c in categories])
    return WordTerms(categories, shares)


class Kind(StrEnum):
    """Kinds of terms; terms of one kind share a penalty."""

    LINEAR = "linear"
    MISSING = "missing"
    SMOOTH = "smooth"


@dataclass(frozen=True, slots=True)
class TermMatrix:
    """The p terms of n patients.

    Attributes
    ----------
    x : array, (n, p)
    kinds : tuple of Kind, (p,)
    columns : tuple of int, (p,)
        Which column of the table each term is of.
    """

    x: FloatArray
    kinds: tuple[Kind, ...]
    columns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TableTerms:
    """How the columns of a table become terms, by name of the column."""

    columns: Mapping[str, NumberTerms | WordTerms]

    def __call__(self, table: Mapping[str, Column], patients: int) -> TermMatrix:
        """Return the terms of so many patients."""
        parts: list[FloatArray] = [np.zeros((patients, 0))]
        kinds: list[Kind] = []
        owners: list[int] = []
        for index, (name, terms) in enumerate(self.columns.items()):
            for kind, x in _of_kinds(terms, table[name]).items():
                parts.append(x)
                kinds += [kind] * x.shape[1]
                owners += [index] * x.shape[1]
        return TermMatrix(np.concatenate(parts, axis=1), tuple(kinds), tuple(owners))


def _of_kinds(terms: NumberTerms | WordTerms, column: Column) -> dict[Kind, FloatArray]:
    if isinstance(terms, WordTerms):
        words = [MISSING_WORD if w is None else str(w) for w in column]
        return {Kind.LINEAR: terms.linear(words)}
    values = np.asarray(column, dtype=np.float64)
    return {
        Kind.LINEAR: terms.standardised(values)[:, None],
        Kind.MISSING: terms.missing(values),
        Kind.SMOOTH: terms.smooth(values),
    }


def table_terms(table: Mapping[str, Column], scale: Scale) -> TableTerms:
    """Learn terms from columns: arrays of numbers, or sequences of words; columns without variation go."""
    found: dict[str, NumberTerms | WordTerms] = {}
    for name, column in table.items():
        if isinstance(column, np.ndarray):
            terms: NumberTerms | WordTerms = number_terms(np.asarray(column, dtype=np.float64), scale)
        else:
            terms = word_terms(column)
        if any((np.ptp(x, axis=0) > 0).any() for x in _of_kinds(terms, column).values() if x.size):
            found[name] = terms
    return TableTerms(found)
