"""Survival from a score: proportional hazards of one covariate, the score of a network."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from pydantic import Field, model_validator

from inference.results import FloatArray
from inference.settings import Frozen


class ScaledOn(StrEnum):
    """Whose survival gave a score its scale."""

    KEPT_ASIDE = "patients whom the score was not fitted to"
    EVERYBODY = "all patients, for whom the score is too sure: too few were kept aside"


class SurvivalLink(Frozen):
    """Part of a bundle: hazard ratio of a score, and the cumulative hazard at the mean score."""

    mean: float
    sd: float = Field(gt=0)
    beta: float = Field(description="log hazard ratio of one standard deviation")
    times: tuple[float, ...] = Field(min_length=1, description="months at which somebody had the event")
    hazard: tuple[float, ...] = Field(min_length=1)
    patients: int
    events: int
    scaled_on: ScaledOn = ScaledOn.KEPT_ASIDE

    @model_validator(mode="after")
    def _check(self) -> SurvivalLink:
        if len(self.times) != len(self.hazard):
            raise ValueError("times and hazard differ in length")
        return self

    def log_risk(self, score: FloatArray) -> FloatArray:
        """Return the log hazard ratio to a patient of the mean score."""
        return np.asarray(self.beta * np.clip((np.asarray(score) - self.mean) / self.sd, -5.0, 5.0))

    def survival(self, score: FloatArray, months: FloatArray) -> FloatArray:
        """Return the probability to be free of the event at months, (scores, months)."""
        place = np.searchsorted(np.array(self.times), np.asarray(months), side="right")
        hazard = np.concatenate([[0.0], self.hazard])[place]
        risk = np.exp(self.log_risk(np.atleast_1d(score)))
        return np.asarray(np.exp(-hazard[None, :] * risk[:, None]))
