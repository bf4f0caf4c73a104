"""Response rates of a group of patients, with exact limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import beta

from inference.results import ResponseCategory


@dataclass(frozen=True, slots=True)
class Proportion:
    """A share of patients with its exact limits."""

    successes: int
    n: int
    estimate: float
    lower: float
    upper: float


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> Proportion:
    """Return a proportion with its exact binomial limits (Clopper & Pearson 1934, Biometrika 26:404).

    Raises
    ------
    ValueError
        `n` is not above 0, or `successes` is outside 0..n.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError("a proportion needs 0 <= successes <= n and n > 0")
    tail = (1 - confidence) / 2
    lower = 0.0 if successes == 0 else float(beta.ppf(tail, successes, n - successes + 1))
    upper = 1.0 if successes == n else float(beta.ppf(1 - tail, successes + 1, n - successes))
    return Proportion(successes, n, successes / n, lower, upper)


def _rate(categories: Sequence[ResponseCategory], wanted: tuple[ResponseCategory, ...]) -> Proportion:
    evaluable = [c for c in categories if c is not ResponseCategory.NE]
    return clopper_pearson(sum(c in wanted for c in evaluable), len(evaluable))


def objective_response_rate(categories: Sequence[ResponseCategory]) -> Proportion:
    """(CR + PR) / (CR + PR + SD + PD) with exact 95 % limits; patients not evaluable are left out.

    Raises
    ------
    ValueError
        No patient was evaluable.
    """
    return _rate(categories, (ResponseCategory.CR, ResponseCategory.PR))


def disease_control_rate(categories: Sequence[ResponseCategory]) -> Proportion:
    """(CR + PR + SD) / (CR + PR + SD + PD) with exact 95 % limits; as `objective_response_rate`."""
    return _rate(categories, (ResponseCategory.CR, ResponseCategory.PR, ResponseCategory.SD))
