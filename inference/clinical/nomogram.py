"""A Cox model as a nomogram: each value has points, and the sum of points has a survival.

The predictor whose effect is largest over its range spans 0 to 100 points, the others in proportion; so the
points are the Cox model in other units, and nothing is rounded (Iasonos et al. 2008, J Clin Oncol 26:1364).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field, model_validator

from inference.bundle_store import read_file, write_file
from inference.errors import ModelError
from inference.results import FloatArray
from inference.settings import Frozen

FILE = "nomogram.json"
MOST_POINTS = 100.0


class Predictor(Frozen):
    """One line of a nomogram.

    ``levels`` names the values of a yes-no question or of grades; without it, the value is a number.
    """

    name: str
    label: str
    unit: str = ""
    beta: float = Field(description="log hazard ratio per unit")
    low: float = Field(description="least value on the line")
    high: float = Field(description="largest value on the line")
    levels: Mapping[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _range(self) -> Predictor:
        if not self.low < self.high:
            raise ValueError(f"the range of {self.name} is empty")
        return self

    @property
    def effect(self) -> float:
        """Change of the log hazard over the range, >= 0."""
        return abs(self.beta) * (self.high - self.low)

    @property
    def least(self) -> float:
        """Least contribution to the log hazard on the line."""
        return min(self.beta * self.low, self.beta * self.high)


class NomogramFile(Frozen):
    """``nomogram.json`` of a bundle."""

    endpoint: str = Field(description="os or pfs")
    predictors: tuple[Predictor, ...] = Field(min_length=1)
    times: tuple[float, ...] = Field(description="months at which somebody had the event")
    hazard: tuple[float, ...] = Field(description="cumulative hazard where every predictor is 0")
    months: tuple[float, ...] = Field((12.0, 18.0, 24.0), min_length=1)

    @model_validator(mode="after")
    def _usable(self) -> NomogramFile:
        if len(self.times) != len(self.hazard):
            raise ValueError("times and hazard differ in length")
        if max(p.effect for p in self.predictors) <= 0:
            raise ValueError("no predictor has an effect")
        return self


@dataclass(frozen=True, slots=True)
class Scored:
    """Points of one patient.

    Attributes
    ----------
    points : mapping of predictor to points
    total : float
    survival : mapping of months to probability
    beyond : tuple of str
        Predictors whose value lies outside the line and was taken at its end.
    """

    points: Mapping[str, float]
    total: float
    survival: Mapping[float, float]
    beyond: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Nomogram:
    """Points, and what they mean."""

    file: NomogramFile

    @classmethod
    def read(cls, folder: Path) -> Nomogram:
        """Read the nomogram of a verified bundle.

        Raises
        ------
        ModelError
            The file is absent or not valid.
        """
        return cls(read_file(folder, FILE, NomogramFile))

    def write(self, folder: Path) -> None:
        """Write the file of a bundle."""
        write_file(folder, FILE, self.file)

    @property
    def per_point(self) -> float:
        """Log hazard ratio of one point."""
        return max(p.effect for p in self.file.predictors) / MOST_POINTS

    @property
    def most_total(self) -> float:
        """Largest sum of points."""
        return sum(p.effect for p in self.file.predictors) / self.per_point

    def points(self, predictor: Predictor, value: float) -> float:
        """Return the points of a value on the line of a predictor."""
        return (predictor.beta * value - predictor.least) / self.per_point

    def survival(self, total: float | FloatArray, months: float) -> FloatArray:
        """Return the probability to be free of the event longer than `months`, by sums of points."""
        offset = sum(p.least for p in self.file.predictors)
        place = int(np.searchsorted(np.array(self.file.times), months, side="right"))
        hazard = 0.0 if place == 0 else self.file.hazard[place - 1]
        return np.asarray(np.exp(-hazard * np.exp(np.asarray(total) * self.per_point + offset)))

    def total_of(self, survival: float, months: float) -> float:
        """Return the sum of points at which a survival is reached; infinite where none does."""
        offset = sum(p.least for p in self.file.predictors)
        place = int(np.searchsorted(np.array(self.file.times), months, side="right"))
        hazard = 0.0 if place == 0 else self.file.hazard[place - 1]
        if hazard <= 0 or not 0 < survival < 1:
            return math.inf
        return (math.log(-math.log(survival) / hazard) - offset) / self.per_point

    def score(self, values: Mapping[str, float]) -> Scored:
        """Return the points of a patient.

        Parameters
        ----------
        values : mapping of predictor to value, in the predictor's unit

        Raises
        ------
        ModelError
            A value is missing: a nomogram has no line for what is not known.
        """
        missing = [p.label for p in self.file.predictors if not math.isfinite(values.get(p.name, math.nan))]
        if missing:
            raise ModelError(f"the nomogram needs {', '.join(missing)}")
        held = {p.name: min(max(float(values[p.name]), p.low), p.high) for p in self.file.predictors}
        points = {p.name: self.points(p, held[p.name]) for p in self.file.predictors}
        total = sum(points.values())
        return Scored(
            points,
            total,
            {m: float(self.survival(total, m)) for m in self.file.months},
            tuple(p.name for p in self.file.predictors if held[p.name] != float(values[p.name])),
        )
