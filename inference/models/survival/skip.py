"""The linear part of the survival model: a proportional effect of each term on the hazard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from inference.models.survival.terms import Column, Scale, TableTerms
from inference.results import FloatArray


@dataclass(frozen=True, slots=True)
class ScaledSkip:
    """The linear part on one scale of the numbers.

    Attributes
    ----------
    scale : Scale
    terms : TableTerms
    beta : array, (p,)
    weight : float
        Of this scale in the average.
    """

    scale: Scale
    terms: TableTerms
    beta: FloatArray
    weight: float


@dataclass(frozen=True, slots=True)
class Skip:
    """The linear part: a weighted mean over scales, the heaviest first."""

    scales: tuple[ScaledSkip, ...]

    def predictor(self, table: Mapping[str, Column], patients: int) -> FloatArray:
        """Return the linear predictor, (n,)."""
        return np.asarray(self.contributions(table, patients).sum(axis=1))

    def contributions(self, table: Mapping[str, Column], patients: int) -> FloatArray:
        """Return what each column adds to the linear predictor, (n, columns of `columns`)."""
        names = self.columns
        total = np.zeros((patients, len(names)))
        for part in self.scales:
            matrix = part.terms(table, patients)
            own = [names.index(name) for name in part.terms.columns]
            for term, column in enumerate(matrix.columns):
                total[:, own[column]] += part.weight * part.beta[term] * matrix.x[:, term]
        return total

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that have terms, on any scale."""
        return tuple(dict.fromkeys(name for part in self.scales for name in part.terms.columns))
