"""From features, regimen and month to the columns of a linear predictor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inference.models.outcome.doses import DOSE_NAMES
from inference.models.outcome.features import vector
from inference.results import FloatArray

LIMIT = 3.5
"""Standardised features are held within this: a rare value is not extrapolated from."""


@dataclass(frozen=True, slots=True)
class Standardiser:
    """Features of training patients: centred and scaled, a missing one becomes the mean and a flag.

    Attributes
    ----------
    names : features that vary, then have a column
    flagged : array of bool, (names,)
        Features that were missing in training and have a second column saying so.
    """

    names: tuple[str, ...]
    mean: FloatArray
    scale: FloatArray
    flagged: FloatArray

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, float]]) -> Standardiser:
        """Learn means and scales; features without variation are left out."""
        every = tuple(sorted({name for row in rows for name in row}))
        table = np.array([vector(row, every) for row in rows], dtype=np.float64)
        seen = np.isfinite(table)
        count = np.maximum(seen.sum(axis=0), 1)
        mean = np.where(seen, table, 0.0).sum(axis=0) / count
        scale = np.sqrt((np.where(seen, table - mean, 0.0) ** 2).sum(axis=0) / count)
        kept = (scale > 1e-9) & (seen.mean(axis=0) > 0.05)
        names = tuple(n for n, keep in zip(every, kept, strict=True) if keep)
        share = 1.0 - seen.mean(axis=0)[kept]
        return cls(names, mean[kept], scale[kept], ((share > 0.01) & (share < 0.99)).astype(np.float64))

    @property
    def columns(self) -> int:
        """Width of `matrix`."""
        return len(self.names) + int(self.flagged.sum())

    def matrix(self, rows: Sequence[Mapping[str, float]]) -> FloatArray:
        """Return (rows, columns)."""
        table = np.array([vector(row, self.names) for row in rows], dtype=np.float64)
        table = table.reshape(len(rows), len(self.names))
        missing = ~np.isfinite(table)
        scaled = np.clip(np.where(missing, 0.0, (table - self.mean) / self.scale), -LIMIT, LIMIT)
        return np.concatenate([scaled, missing[:, self.flagged > 0].astype(np.float64)], axis=1)


def hats(months: FloatArray, knots: FloatArray) -> FloatArray:
    """Return the piecewise linear basis over some months, (rows, knots); it is held beyond the ends."""
    held = np.clip(months, knots[0], knots[-1])
    return np.stack([np.interp(held, knots, row) for row in np.eye(len(knots))], axis=1)


def shared_design(x: FloatArray, doses: FloatArray, months: FloatArray) -> FloatArray:
    """Return what all regimens share: features, and features times doses and times log months."""
    late = (np.log1p(months) - np.log(4.0))[:, None]
    factors = np.concatenate([np.ones_like(late), doses, late], axis=1)
    crossed = (factors[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    return np.concatenate([crossed, doses, doses * late], axis=1)


def own_design(x: FloatArray, basis: FloatArray) -> FloatArray:
    """Return what each regimen has of its own: a level at each month, and features."""
    return np.concatenate([basis, x], axis=1)


def tree_design(x: FloatArray, doses: FloatArray, months: FloatArray, regimen: FloatArray) -> FloatArray:
    """Return what trees see: features, doses, months, and which regimen, (rows, regimens), it is."""
    return np.concatenate([x, doses, months[:, None], regimen], axis=1)


SHARED_FACTORS = 2 + len(DOSE_NAMES)
