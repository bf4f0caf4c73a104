"""Bootstrap intervals by simulation, and the time that they take."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from inference.evaluation.bootstrap import Statistic, estimate, patient_weights
from inference.evaluation.survival.brier import integrated_brier_of
from inference.evaluation.survival.concordance import harrell_of, uno_of
from inference.evaluation.survival.decision import net_benefit_of
from inference.evaluation.survival.dynamic_auc import dynamic_auc_of
from inference.evaluation.survival.explained import nagelkerke_of
from inference.evaluation.survival.follow_up import FollowUp
from tests.inference.evaluation.survival.survival_samples import draw

PATIENTS, STUDIES, DRAWS = 250, 1000, 400
AT, TAU = 12.0, 20.0
GRID = np.linspace(2.0, TAU, 10)

Measure = Callable[[FollowUp, np.ndarray], Statistic]


def _net_benefit(test: FollowUp, risk: np.ndarray) -> Statistic:
    joint = net_benefit_of(test, 1 - np.exp(-np.exp(0.7 * risk) * AT / 20), AT, 0.4)
    return lambda weights: joint(weights)[:, 0]


def _brier(test: FollowUp, risk: np.ndarray) -> Statistic:
    return integrated_brier_of(test, test, np.exp(-np.exp(0.7 * risk)[:, None] * GRID / 20), GRID)


MEASURES: dict[str, Measure] = {
    "harrell": lambda test, risk: harrell_of(test, risk),
    "uno": lambda test, risk: uno_of(test, test, risk, TAU),
    "auc": lambda test, risk: dynamic_auc_of(test, test, risk, AT),
    "brier": _brier,
    "net benefit": _net_benefit,
    "r2": lambda test, risk: nagelkerke_of(test, risk),
}


def _study(n: int, seed: int) -> tuple[FollowUp, np.ndarray]:
    return draw(n, seed, lost_after=40.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURES)
def test_intervals_cover_the_truth(name: str) -> None:
    """Truth is the mean of large studies, as Harrell's C depends on the censoring."""
    measure = MEASURES[name]
    size = 4000
    large = [measure(*_study(size, 900_000 + s))(np.ones((1, size)))[0] for s in range(60)]
    truth, covered = float(np.mean(large)), 0
    rng = np.random.default_rng(24_680)
    for seed in range(STUDIES):
        weights = patient_weights(PATIENTS, DRAWS, rng)
        found = estimate(measure(*_study(PATIENTS, 50_000 + seed)), weights)
        covered += found.lower <= truth <= found.upper
    assert 0.93 <= covered / STUDIES <= 0.97, covered / STUDIES


def test_a_thousand_draws_of_two_thousand_patients() -> None:
    follow_up, risk = draw(2000, 0, lost_after=40.0)
    weights = patient_weights(2000, 1000, np.random.default_rng(0))
    start = time.process_time()
    found = estimate(harrell_of(follow_up, risk), weights)
    assert time.process_time() - start < 2.0
    assert found.lower < found.value < found.upper
