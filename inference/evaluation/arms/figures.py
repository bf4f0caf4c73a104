"""Measures of the arms with intervals, and what one arm has over another, patient by patient.

Every draw of the bootstrap takes the same patients for all arms, so that the interval of a difference is
that of pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from inference.evaluation.arms.plan import ARMS, ArmsPlan, Origin
from inference.evaluation.arms.validation import MONTHS, Compared, Forecast
from inference.evaluation.bootstrap import Estimate, Statistic, patient_weights, with_interval
from inference.evaluation.predictions.models import Arm
from inference.evaluation.survival.brier import integrated_brier_of
from inference.evaluation.survival.concordance import harrell_of, uno_of
from inference.evaluation.survival.dynamic_auc import dynamic_auc_of
from inference.evaluation.survival.follow_up import FollowUp
from inference.randomness import RandomStreams
from inference.results import FloatArray

HORIZONS = (12.0, 24.0, 36.0)
MEASURES: Mapping[str, str] = {
    "harrell_c": "Harrell's C",
    "uno_c": "Uno's C",
    **{f"auc@{h:g}": f"AUC at {h:g} months" for h in HORIZONS},
    "ibs": "integrated Brier score",
}
"""More is better, but for the Brier score."""

_NOT_COMPUTED = Estimate(float("nan"), float("nan"), float("nan"), 0)


@dataclass(frozen=True, slots=True)
class EndPointFigures:
    """One end point of one table of one set.

    Attributes
    ----------
    figures : mapping
        Arm -> measure -> estimate; NaN where it could not be computed.
    differences : mapping
        (arm, other arm) -> measure -> the first less the second; the later arm of `ARMS` comes first.
    reasons : mapping
        Measure -> why it could not be computed.
    """

    set_name: str
    origin: Origin
    end_point: str
    patients: int
    events: int
    figures: Mapping[Arm, Mapping[str, Estimate]]
    differences: Mapping[tuple[Arm, Arm], Mapping[str, Estimate]]
    reasons: Mapping[str, str]


def figures_of(found: Compared, plan: ArmsPlan) -> tuple[EndPointFigures, ...]:
    """Measure all arms of a table, for each end point."""
    return tuple(_end_point(found, name, plan) for name in found.table.outcomes)


def _end_point(found: Compared, name: str, plan: ArmsPlan) -> EndPointFigures:
    followed = found.table.outcomes[name]
    known = followed.known
    arms = [arm for arm in ARMS if arm in found.forecasts]
    n, events = int(known.sum()), int((followed.event & known).sum())
    reasons: dict[str, str] = {}
    values: dict[Arm, dict[str, FloatArray]] = {arm: {} for arm in arms}
    if events:
        follow_up = FollowUp(followed.months[known], followed.event[known])
        rng = RandomStreams(plan.seed).derive("bootstrap", found.set_name, str(found.table.origin), name)
        # The first row is the set itself, the others are its resamples.
        weights = np.concatenate([np.ones((1, n)), patient_weights(n, plan.draws, rng)])
        for arm in arms:
            whole = found.forecasts[arm][name]
            forecast = Forecast(whole.risk[known], whole.survival[known])
            values[arm] = _values(follow_up, forecast, weights, reasons)
    return EndPointFigures(
        found.set_name,
        found.table.origin,
        name,
        n,
        events,
        {arm: {m: _estimate(values[arm].get(m), n) for m in MEASURES} for arm in arms},
        {(b, a): _paired(values[b], values[a], n) for a, b in combinations(arms, 2)},
        reasons if events else dict.fromkeys(MEASURES, "no event was seen"),
    )


def _values(
    follow_up: FollowUp, forecast: Forecast, weights: FloatArray, reasons: dict[str, str]
) -> dict[str, FloatArray]:
    """Return each measure for each row of weights; those that cannot be computed leave a reason."""
    found = {}
    for measure, statistic in _statistics(follow_up, forecast).items():
        try:
            found[measure] = statistic()(weights)
        except ValueError as error:
            reasons[measure] = str(error)
    return found


def _statistics(follow_up: FollowUp, forecast: Forecast) -> dict[str, Callable[[], Statistic]]:
    """Return how to make each measure; the censoring distribution is that of the patients measured."""
    last = float(follow_up.time.max())
    months = [m for m in MONTHS if m <= HORIZONS[-1] and m < last]
    found: dict[str, Callable[[], Statistic]] = {
        "harrell_c": lambda: harrell_of(follow_up, forecast.risk),
        "uno_c": lambda: uno_of(follow_up, follow_up, forecast.risk, HORIZONS[-1]),
        "ibs": lambda: integrated_brier_of(follow_up, follow_up, forecast.survival[:, : len(months)], months),
    }
    for horizon in HORIZONS:
        found[f"auc@{horizon:g}"] = _auc(follow_up, forecast, horizon)
    return found


def _auc(follow_up: FollowUp, forecast: Forecast, horizon: float) -> Callable[[], Statistic]:
    dead = 1.0 - forecast.survival[:, MONTHS.index(horizon)]
    return lambda: dynamic_auc_of(follow_up, follow_up, dead, horizon)


def _estimate(values: FloatArray | None, n: int) -> Estimate:
    return _NOT_COMPUTED if values is None else with_interval(float(values[0]), values[1:], n)


def _paired(first: Mapping[str, FloatArray], second: Mapping[str, FloatArray], n: int) -> dict[str, Estimate]:
    return {m: _estimate(first[m] - second[m] if m in first and m in second else None, n) for m in MEASURES}
