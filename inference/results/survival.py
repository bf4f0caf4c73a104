"""Predicted survival."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from inference.results.refusals import NotAssessed


@dataclass(frozen=True, slots=True)
class SurvivalBasis:
    """What a curve rests on.

    Attributes
    ----------
    log_hazard : mapping of str to float
        What each variable adds to the logarithm of the hazard in the linear part, and what laboratory values
        over time, texts, angiographies and images add to it.
    attention : mapping of str to float
        Share of each variable in what the networks take of the clinical values; empty without networks.
    gates : mapping of str to float
        How far the networks open for clinical values, text, images, regimen, and laboratory values over
        time and angiographies where they take them, 0 to 1; 0 where missing.
    networks : float
        Weight of the networks beside the linear part; 0 where they add nothing.
    """

    log_hazard: Mapping[str, float]
    attention: Mapping[str, float]
    gates: Mapping[str, float]
    networks: float


@dataclass(frozen=True, slots=True)
class SurvivalCurve:
    """A predicted survival curve with pointwise 95 % limits.

    `median_months` and `rmst36` are None beyond follow-up. `probabilities` maps 12, 24 and 36
    months to (estimate, lower, upper), or is without the key beyond follow-up. `basis` is None from a
    model that cannot say.
    """

    months: tuple[float, ...]
    survival: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    probabilities: Mapping[int, tuple[float, float, float]]
    median_months: float | None
    rmst36: float | None
    risk_score: float
    risk_group: str
    basis: SurvivalBasis | None = None


@dataclass(frozen=True, slots=True)
class Survival:
    """Survival end points of one regimen."""

    os: SurvivalCurve | NotAssessed
    pfs: SurvivalCurve | NotAssessed
    ttp: SurvivalCurve | NotAssessed
