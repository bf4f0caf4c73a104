"""Predicted survival."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from inference.results.refusals import NotAssessed


@dataclass(frozen=True, slots=True)
class SurvivalCurve:
    """A predicted survival curve with pointwise 95 % limits.

    `median_months` and `rmst36` are None beyond follow-up. `probabilities` maps 12, 24 and 36
    months to (estimate, lower, upper), or is without the key beyond follow-up.
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


@dataclass(frozen=True, slots=True)
class Survival:
    """Survival end points of one regimen."""

    os: SurvivalCurve | NotAssessed
    pfs: SurvivalCurve | NotAssessed
    ttp: SurvivalCurve | NotAssessed
