"""What a confounder that was not measured would do to a benefit."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from inference.comparison.results import EValue, HiddenConfounding
from inference.results import FloatArray

TIME_RATIOS = (1.25, 1.5, 2.0)
"""A hidden trait, such as good general condition, with which patients live so many times as long."""
IMBALANCES = (0.1, 0.2, 0.4)
"""How much more often the preferred regimen was given to those with the trait."""


def e_value(risk_ratio: float) -> float:
    """Return the E-value of a risk ratio.

    VanderWeele & Ding 2017, Ann Intern Med 167:268: RR + sqrt(RR (RR - 1)) of the ratio, or of its inverse
    where it is below 1.

    Raises
    ------
    ValueError
        The ratio is not above 0.
    """
    if not risk_ratio > 0:
        raise ValueError("a risk ratio is above 0")
    ratio = max(risk_ratio, 1.0 / risk_ratio)
    return ratio + math.sqrt(ratio * (ratio - 1.0))


def e_value_of(risk_ratios: FloatArray) -> EValue:
    """Return the E-values of a risk ratio that was drawn, (draws,).

    The limit is that of the central 95 % which is nearer to 1; its E-value is 1 when they include 1.
    """
    estimate = float(np.median(risk_ratios))
    lower, upper = np.quantile(risk_ratios, (0.025, 0.975))
    nearest = 1.0 if lower <= 1.0 <= upper else float(upper if upper < 1.0 else lower)
    return EValue(estimate, e_value(estimate), e_value(nearest))


def hidden_confounding(
    better: FloatArray, worse: FloatArray, rule_months: float, calibrated: Callable[[float], float]
) -> tuple[HiddenConfounding, ...]:
    """Take away what confounders of several strengths would have feigned.

    Parameters
    ----------
    better, worse : array, (draws,)
        Medians in months under the two regimens.
    rule_months : float
        Benefit that the rule asks for.
    calibrated : callable
        Raw to calibrated confidence.

    Notes
    -----
    In a model of log survival time, a trait that multiplies time by g and that is more frequent by d under
    one regimen shifts its effect by d log g (omitted-variable bias; exact for means of log time).
    """
    found = []
    for ratio in TIME_RATIOS:
        for imbalance in IMBALANCES:
            left = better * math.exp(-imbalance * math.log(ratio)) - worse
            share = float((left > rule_months).mean())
            found.append(HiddenConfounding(ratio, imbalance, float(np.median(left)), calibrated(share)))
    return tuple(found)
