"""Response as a function of the level that a treatment reaches: a logistic curve for calibration.

A patient followed on the grid costs a tenth of a second, a patient of which only the traits are drawn
a millisecond. So a curve of response over the levels in the two target tumours is fitted to some
hundred patients that were followed, and response rates are integrated over some thousand drawn ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from inference.randomness import RandomStreams
from inference.results import FloatArray
from inference.settings import Regimen
from inference.simulation.calibration_population import Member
from inference.simulation.latents import Person, draw_person
from inference.simulation.parameters import SimulationParameters
from inference.simulation.treatment import Luck, plan

_RIDGE = 0.5
LEVELS = 2
"""Columns of the features that move with the level."""


def features(
    person: Person,
    luck: Luck,
    tumours: list[tuple[float, float]],
    regimen: Regimen,
    parameters: SimulationParameters,
) -> FloatArray:
    """Return what response depends on; `tumours` are diameter (mm) and luck, largest first.

    The first `LEVELS` columns are the levels reached in the first tumour, and in the worse of the targets.
    """
    laid_out = plan(person, luck, regimen, parameters, (1.0,))
    reached = [
        laid_out.level
        + laid_out.size_slope * math.log(diameter / 60.0)
        + parameters.treatment.lesion_sd * own
        for diameter, own in tumours[:2]
    ]
    return np.array(
        [
            reached[0],
            min(reached),
            math.log(tumours[0][0] / 60.0),
            float(len(tumours) > 1),
            math.log(len(person.plan.diameters_mm)),
            math.log(person.plan.tvdt_months / 5.0),
            person.plan.infiltrative,
            float(bool(regimen.tace)),
            float(bool(regimen.immunotherapy)),
        ]
    )


def of_member(member: Member, regimen: Regimen) -> FloatArray:
    """Return the features of a patient whose tumours have been placed."""
    lesions = sorted(member.course.disease.lesions, key=lambda v: -v.diameter_mm)
    pairs = [(v.diameter_mm, v.luck) for v in lesions]
    return features(member.person, member.course.luck, pairs, regimen, member.course.parameters)


@dataclass(frozen=True, slots=True)
class Crowd:
    """Patients of one source of whom only the traits were drawn."""

    people: tuple[tuple[Person, Luck, tuple[tuple[float, float], ...]], ...]

    @classmethod
    def draw(cls, source: str, count: int, parameters: SimulationParameters, seed: int) -> Crowd:
        """Draw some patients."""
        people = []
        for number in range(count):
            streams = RandomStreams(int(RandomStreams(seed).derive("crowd", source, number).integers(2**62)))
            person = draw_person(source, parameters, streams)
            own = streams.derive("tumours").standard_normal(len(person.plan.diameters_mm))
            pairs = tuple(zip(person.plan.diameters_mm, (float(v) for v in own), strict=True))
            people.append((person, Luck.draw(parameters, streams), pairs))
        return cls(tuple(people))

    def features(self, regimen: Regimen, parameters: SimulationParameters) -> FloatArray:
        """Return the features of all, (patients, features)."""
        rows = [features(p, luck, list(pairs), regimen, parameters) for p, luck, pairs in self.people]
        return np.stack(rows)


@dataclass(frozen=True, slots=True)
class ResponseCurve:
    """Logistic curve of response; features standardised, ridge on all but the constant."""

    mean: FloatArray
    spread: FloatArray
    weights: FloatArray

    @classmethod
    def fit(cls, rows: FloatArray, responded: FloatArray, ridge: float = _RIDGE) -> ResponseCurve:
        """Fit by Newton's method."""
        mean, spread = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-6)
        design = np.column_stack([np.ones(len(rows)), (rows - mean) / spread])
        penalty = np.diag([0.0, *([ridge] * rows.shape[1])])
        weights = np.zeros(design.shape[1])
        for _ in range(30):
            p = expit(design @ weights)
            gradient = design.T @ (responded - p) - penalty @ weights
            curvature = (design * (p * (1 - p))[:, None]).T @ design + penalty
            weights = weights + np.linalg.solve(curvature + 1e-9 * np.eye(len(weights)), gradient)
        return cls(mean, spread, weights)

    def logit(self, rows: FloatArray) -> FloatArray:
        """Return the log odds of response."""
        return np.asarray(self.weights[0] + (rows - self.mean) / self.spread @ self.weights[1:])

    def offset_for(self, rows: FloatArray, rate: float, bias: float = 0.0) -> float:
        """Return what must be added to the levels for a response rate; `bias` is added to the log odds."""
        slope = float((self.weights[1 : 1 + LEVELS] / self.spread[:LEVELS]).sum())
        logit = self.logit(rows) + bias

        def miss(offset: float) -> float:
            return float(expit(logit + slope * offset).mean()) - rate

        return float(brentq(miss, -8.0, 8.0))

    def bias_of(self, rows: FloatArray, responded: FloatArray, shrinkage: float = 8.0) -> float:
        """Return how far the log odds of one arm lie from the curve, drawn towards it."""
        bias, logit = 0.0, self.logit(rows)
        for _ in range(20):
            p = expit(logit + bias)
            information = float((p * (1 - p)).sum())
            # A prior of deviation 1 / sqrt(information at `shrinkage` responses).
            prior = shrinkage / 4.0
            bias += (float((responded - p).sum()) - prior * bias) / (information + prior)
        return bias
