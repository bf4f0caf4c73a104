"""Kaplan-Meier with limits and log-rank against two programs; sample sizes against worked examples."""

from __future__ import annotations

import lifelines
import numpy as np
import pytest
from sksurv.compare import compare_survival
from sksurv.nonparametric import kaplan_meier_estimator

from inference.evaluation.bootstrap import patient_weights
from inference.evaluation.survival import sample_size as size
from inference.evaluation.survival.follow_up import FollowUp
from inference.evaluation.survival.kaplan_meier import (
    log_rank,
    numbers_at_risk,
    survival_at,
    survival_curve,
)
from tests.inference.evaluation.survival.survival_samples import SEEDS, draw, sample, surv

TOLERANCE = 1e-5


@pytest.mark.parametrize("seed", SEEDS)
def test_curve_and_limits_equal_the_judges(seed: int) -> None:
    follow_up = sample(seed).test
    times, expected, limits = kaplan_meier_estimator(follow_up.event, follow_up.time, conf_type="log-log")
    curve = survival_curve(follow_up)
    np.testing.assert_array_equal(curve.times, times)
    np.testing.assert_allclose(curve.survival, expected, atol=TOLERANCE)
    inside = (expected < 1) & (expected > 0)
    np.testing.assert_allclose(curve.lower[inside], limits[0][inside], atol=TOLERANCE)
    np.testing.assert_allclose(curve.upper[inside], limits[1][inside], atol=TOLERANCE)
    assert curve.events.sum() == follow_up.event.sum()
    assert curve.at_risk[0] == len(follow_up)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_median_equals_the_judge(seed: int) -> None:
    follow_up, _ = draw(150, seed, lost_after=60.0, step=1.0 if seed % 2 else 0.01)
    fitted = lifelines.KaplanMeierFitter().fit(follow_up.time, follow_up.event)
    median = survival_curve(follow_up).median
    assert median.value == pytest.approx(fitted.median_survival_time_)
    limits = lifelines.utils.median_survival_times(fitted.confidence_interval_).to_numpy()[0]
    assert (median.lower, median.upper) == pytest.approx(tuple(limits))


def test_a_median_that_is_not_reached() -> None:
    follow_up = FollowUp(np.arange(1.0, 11.0), np.arange(10) < 2)
    assert np.isnan(survival_curve(follow_up).median.value)


def test_limits_at_the_ends_are_unknown() -> None:
    curve = survival_curve(FollowUp(np.array([1.0, 2.0, 3.0]), np.array([False, True, True])))
    assert np.isnan([curve.lower[0], curve.upper[0], curve.lower[2], curve.upper[2]]).all()
    assert 0 < curve.lower[1] < curve.survival[1] < curve.upper[1] < 1
    assert curve.median.value == 2.0


def test_numbers_at_risk() -> None:
    follow_up = FollowUp(np.array([1.0, 2.0, 2.0, 5.0]), np.array([True, False, True, False]))
    assert numbers_at_risk(follow_up, [0, 1, 1.5, 2, 3, 5, 6]).tolist() == [4, 4, 3, 3, 1, 1, 0]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("groups", [2, 3, 5])
def test_log_rank_equals_the_judge(seed: int, groups: int) -> None:
    data = sample(seed)
    group = np.argsort(np.argsort(data.risk, kind="stable")) * groups // len(data.risk)
    expected, p = compare_survival(surv(data.test), group)
    found = log_rank(data.test, group)
    assert found.statistic == pytest.approx(expected, rel=1e-8)
    assert found.p == pytest.approx(p, rel=1e-8)
    assert found.degrees == groups - 1


def test_log_rank_keeps_its_level() -> None:
    rejected = 0
    for seed in range(400):
        follow_up, _ = draw(80, 5000 + seed, step=1.0)
        rejected += log_rank(follow_up, np.arange(80) % 3).p < 0.05
    assert 0.028 < rejected / 400 < 0.075


def test_bad_input_of_log_rank() -> None:
    follow_up, _ = draw(20, 0)
    with pytest.raises(ValueError, match="no event"):
        log_rank(FollowUp(follow_up.time, np.zeros(20, dtype=bool)), np.arange(20) % 2)
    with pytest.raises(ValueError, match="two groups"):
        log_rank(follow_up, np.zeros(20))
    apart = FollowUp(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, False, True, True]))
    with pytest.raises(ValueError, match="never at risk together"):
        log_rank(apart, [0, 0, 1, 1])


@pytest.mark.parametrize("seed", SEEDS)
def test_survival_at_a_time_by_weights(seed: int) -> None:
    data = sample(seed)
    weights = patient_weights(len(data.test), 4, np.random.default_rng(seed))
    for at in (float(data.times[0]) / 2, *map(float, data.times)):
        found = survival_at(data.test, weights, at)
        for row, value in zip(weights, found, strict=True):
            copies = data.test.of(np.repeat(np.arange(len(row)), row.astype(int)))
            times, curve = kaplan_meier_estimator(copies.event, copies.time)
            expected = np.concatenate(([1.0], curve))[np.searchsorted(times, at, side="right")]
            assert value == pytest.approx(expected, abs=1e-12)


def test_survival_beyond_follow_up_is_unknown_unless_nobody_lives() -> None:
    follow_up = FollowUp(np.array([1.0, 2.0, 3.0]), np.array([True, True, False]))
    found = survival_at(follow_up, np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]), 4.0)
    assert np.isnan(found[0])
    assert found[1] == 0.0


# ------------------------------------------------------------------ sample size

BINARY = [  # R2, parameters, prevalence; patients by criterion 1, 2, 3, and in all
    (0.288, 24, 0.174, 623, 662, 221, 662),
    (0.288, 36, 0.174, 934, 992, 221, 992),
    (0.288, 24, 0.25, 623, 590, 289, 623),
    (0.55, 24, 0.174, 255, 532, 221, 532),
]
SURVIVAL = [  # R2, parameters, rate, mean follow-up, time; patients by criterion 1 and 2
    (0.051, 25, 0.065, 2.07, 2, 4286, 866),
    (0.051, 50, 0.065, 2.07, 2, 8572, 1731),
    (0.065, 25, 0.065, 2.07, 2, 3335, 859),
    (0.051, 25, 0.1, 2.07, 2, 4286, 731),
    (0.051, 30, 0.065, 2.07, 2, 5143, 1039),
]


@pytest.mark.parametrize(("r2", "k", "prevalence", "one", "two", "three", "all_"), BINARY)
def test_binary_worked_examples(
    r2: float, k: int, prevalence: float, one: int, two: int, three: int, all_: int
) -> None:
    found = size.binary_sample_size(r2, k, prevalence)
    assert (found.shrinkage, found.optimism, found.overall_risk, found.patients) == (one, two, three, all_)
    assert found.events_per_parameter == pytest.approx(all_ * prevalence / k)


@pytest.mark.parametrize(("r2", "k", "rate", "follow_up", "time", "one", "two"), SURVIVAL)
def test_survival_worked_examples(
    r2: float, k: int, rate: float, follow_up: float, time: float, one: int, two: int
) -> None:
    found = size.survival_sample_size(r2, k, rate, follow_up, time)
    assert (found.shrinkage, found.optimism, found.patients) == (one, two, max(one, two))


def test_survival_events_and_incidence() -> None:
    """Recurrent venous thromboembolism, Riley 2019: 23.07 events for each parameter; incidence of .122."""
    found = size.survival_sample_size(0.051, 25, 0.065, 2.07, 2)
    assert round(found.events_per_parameter, 2) == 23.07
    assert found.incidence.value == pytest.approx(1 - np.exp(-0.13))
    assert found.incidence.lower < found.incidence.value < found.incidence.upper
    assert found.incidence.margin < size.MARGIN


AUC = [(0.2, 0.1827, 882), (0.3, 0.2277, 686), (0.5, 0.2608, 585)]


@pytest.mark.parametrize(("prevalence", "r2", "patients"), AUC)
def test_r2_from_auc(prevalence: float, r2: float, patients: int) -> None:
    found = size.r2_from_auc(0.8, prevalence)
    assert round(found, 4) == r2
    assert size.binary_sample_size(found, 20, prevalence).patients == patients


def test_bad_input_of_sample_sizes() -> None:
    for wrong in ((0.288, 24, 0.0), (0.7, 24, 0.174), (0.0, 24, 0.174), (0.288, 0, 0.174)):
        with pytest.raises(ValueError, match="must|at least"):
            size.binary_sample_size(*wrong)
    for wrong in ((0.051, 25, 0.0, 2.07, 2), (0.9, 25, 0.065, 2.07, 2)):
        with pytest.raises(ValueError, match="must"):
            size.survival_sample_size(*wrong)
    with pytest.raises(ValueError, match="AUC"):
        size.r2_from_auc(0.5, 0.2)
