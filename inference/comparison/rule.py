"""When a regimen is preferred, and when the comparison is refused."""

from __future__ import annotations

from pydantic import Field

from inference.settings import Frozen


class ComparisonRule(Frozen):
    """The rule of the study protocol, and the gate in front of it.

    A regimen is preferred to the reference when the median of survival is more than `benefit_months` longer
    with a probability of at least `confidence`. The reference itself is preferred when it is so much better
    than each other regimen.
    """

    benefit_months: float = Field(3.0, ge=0, description="longer median survival, months")
    confidence: float = Field(
        0.80, gt=0.5, lt=1, description="probability over the uncertainty of parameters"
    )
    any_effect_p: float = Field(0.02, gt=0, lt=1, description="the global test must reach this p")
    least_propensity: float = Field(0.10, gt=0, lt=0.5, description="for each of two compared regimens")
    least_events: int = Field(30, ge=1, description="deaths seen under a regimen")
    least_at_risk: int = Field(
        10, ge=1, description="patients under observation; ends the follow-up of a regimen"
    )
    distance_quantile: float = Field(
        0.995,
        gt=0.5,
        le=1,
        description="of the cohort's Mahalanobis distances; beyond it a patient is foreign",
    )
    draws: int = Field(1000, ge=200, description="draws of the parameters")
