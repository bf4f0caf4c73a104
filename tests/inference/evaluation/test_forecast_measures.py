"""Measures of forecasts against independent implementations and hand-computed cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate
from sklearn.metrics import cohen_kappa_score, f1_score, roc_auc_score

from inference.evaluation.bootstrap import (
    difference,
    estimate,
    patient_weights,
    relative_difference,
    share_of_gap,
)
from inference.evaluation.measures import (
    Sampling,
    auroc,
    auroc_of,
    central_interval,
    crps,
    kappa_of,
    macro_f1_of,
    mean_of,
    most_probable,
)

EQUAL = np.ones((1, 200))


@pytest.fixture
def classes():
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 4, 200)
    predicted = np.where(rng.random(200) < 0.5, truth, rng.integers(0, 4, 200))
    return truth, predicted


@pytest.mark.parametrize("truth", [-1.0, 0.3, 5.0])
def test_crps_is_the_integral_of_the_squared_difference_of_distribution_functions(truth):
    samples = np.array([0.1, 0.4, 0.4, 2.0, 3.5])

    def squared(x: float) -> float:
        return (float((samples <= x).mean()) - float(x >= truth)) ** 2

    points = sorted({*samples.tolist(), truth})
    expected = sum(
        integrate.quad(squared, a, b, limit=200)[0] for a, b in zip(points, points[1:], strict=False)
    )
    assert crps(samples, truth) == pytest.approx(expected, abs=1e-9)


def test_crps_of_one_sample_is_the_absolute_error():
    assert crps(np.array([3.0]), 5.0) == 2.0


def test_crps_uses_the_exact_and_not_the_fair_formula():
    # |0-0|,|1-0| mean .5; pairs |0-1| twice over 2*4: .25. The fair formula would give 0.
    assert crps(np.array([0.0, 1.0]), 0.0) == pytest.approx(0.25)
    # Two samples on either side of the truth: mean error 1, half spread .5.
    assert crps(np.array([0.0, 2.0]), 1.0) == pytest.approx(0.5)


def test_crps_of_arrays_is_that_of_each_voxel():
    rng = np.random.default_rng(0)
    samples, truth = rng.normal(size=(16, 3, 4)), rng.normal(size=(3, 4))
    each = np.array([[crps(samples[:, i, j], truth[i, j]) for j in range(4)] for i in range(3)])
    np.testing.assert_allclose(crps(samples, truth), each)


@pytest.mark.parametrize(
    ("sampling", "count", "expected"),
    [
        (Sampling.INDEPENDENT, 8, 7 / 9),
        (Sampling.INDEPENDENT, 19, 0.80),
        (Sampling.STRATIFIED, 8, 0.80),
        (Sampling.STRATIFIED, 16, 0.80),
    ],
)
def test_interval_of_a_calibrated_forecast_covers_at_the_nominal_rate(sampling, count, expected):
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(1500):
        stratum = (np.arange(count) + rng.random(count)) / count
        samples = stratum if sampling is Sampling.STRATIFIED else rng.random(count)
        low, high = central_interval(samples, sampling)
        hits += low <= rng.random() <= high
    assert hits / 1500 == pytest.approx(expected, abs=0.035)


@pytest.mark.parametrize(("power", "name"), [(1, "linear"), (2, "quadratic")])
def test_weighted_kappa_is_that_of_scikit_learn(classes, power, name):
    truth, predicted = classes
    expected = cohen_kappa_score(truth, predicted, weights=name, labels=[0, 1, 2, 3])
    assert kappa_of(truth, predicted, 4, power)(EQUAL)[0] == pytest.approx(expected)


def test_macro_f1_is_that_of_scikit_learn_over_the_classes_that_occur(classes):
    truth, predicted = classes
    few = np.where(truth == 3, 2, truth), np.where(predicted == 3, 1, predicted)
    for t, p in (classes, few):
        expected = f1_score(t, p, average="macro")
        assert macro_f1_of(t, p, 4)(EQUAL)[0] == pytest.approx(expected)


def test_classes_that_are_not_known_are_left_out(classes):
    truth, predicted = classes
    hidden = truth.copy()
    hidden[::3] = -1
    kept = hidden >= 0
    expected = cohen_kappa_score(truth[kept], predicted[kept], weights="quadratic", labels=[0, 1, 2, 3])
    assert kappa_of(hidden, predicted, 4, 2)(EQUAL)[0] == pytest.approx(expected)


def test_auroc_of_worked_examples():
    score = np.array([0.1, 0.4, 0.35, 0.8])
    assert auroc(np.array([0.0, 0.0, 1.0, 1.0]), score) == pytest.approx(0.75)
    assert auroc(np.array([0.0, np.nan, 1.0, 1.0]), score) == 1.0
    assert auroc(np.array([0.0, 1.0]), np.array([0.5, 0.5])) == 0.5
    assert np.isnan(auroc(np.array([1.0, 1.0]), np.array([0.1, 0.2])))


def test_auroc_is_that_of_scikit_learn_with_ties_and_in_each_resample():
    rng = np.random.default_rng(2)
    positive = rng.random(80) < 0.4
    score = np.round(positive + rng.normal(size=80), 1)
    weights = patient_weights(80, 20, rng)
    found = auroc_of(positive, score)(weights)
    expected = [roc_auc_score(positive, score, sample_weight=w) for w in weights]
    np.testing.assert_allclose(found, expected)


def test_weights_are_the_same_as_repeating_patients(classes):
    truth, predicted = classes
    weights = patient_weights(200, 5, np.random.default_rng(3))
    found = kappa_of(truth, predicted, 4, 2)(weights)
    for value, row in zip(found, weights.astype(int), strict=True):
        t, p = np.repeat(truth, row), np.repeat(predicted, row)
        assert value == pytest.approx(cohen_kappa_score(t, p, weights="quadratic", labels=[0, 1, 2, 3]))


def test_bootstrap_interval_of_a_mean_is_that_of_the_central_limit():
    values = np.random.default_rng(5).normal(10, 2, 400)
    found = estimate(mean_of(values), patient_weights(400, 2000, np.random.default_rng(6)))
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.lower == pytest.approx(values.mean() - half, abs=0.03)
    assert found.upper == pytest.approx(values.mean() + half, abs=0.03)


def test_a_subgroup_is_the_statistic_of_its_patients_alone():
    values, among = np.arange(10.0), np.arange(10) < 3
    found = estimate(mean_of(values), patient_weights(10, 200, np.random.default_rng(0)), among)
    assert (found.value, found.n) == (1.0, 3)
    assert 0.0 <= found.lower < found.upper <= 2.0


def test_a_paired_difference_cancels_what_both_share():
    rng = np.random.default_rng(7)
    shared = rng.normal(0, 10, 300)
    first, second = mean_of(shared + 1 + rng.normal(0, 0.1, 300)), mean_of(shared)
    weights = patient_weights(300, 500, rng)
    paired = difference(first, second, weights)
    assert paired.value == pytest.approx(1.0, abs=0.02)
    assert paired.upper - paired.lower < 0.05
    assert estimate(first, weights).upper - estimate(first, weights).lower > 1.5


def test_relative_difference_and_share_of_the_gap():
    weights = patient_weights(4, 50, np.random.default_rng(0))
    model, reference, oracle = (mean_of(np.full(4, v)) for v in (8.0, 10.0, 5.0))
    assert relative_difference(model, reference, weights).value == pytest.approx(-0.2)
    assert share_of_gap(model, reference, oracle, weights).value == pytest.approx(0.4)


def test_values_that_are_missing_are_left_out_and_nothing_is_not_a_figure():
    weights = patient_weights(3, 50, np.random.default_rng(0))
    assert estimate(mean_of([1.0, np.nan, 3.0]), weights).value == 2.0
    assert not estimate(mean_of([np.nan] * 3), weights).known


@pytest.mark.parametrize(
    ("samples", "expected"),
    [([0, 0, 3], 0), ([1, 1, 2, 2, 2, 3], 2), ([0, 3, 3, 0, 2], 3), ([-1, -1, 1], 1), ([-1], -1)],
)
def test_most_probable_class_breaks_ties_towards_the_mean(samples, expected):
    assert most_probable(np.array(samples), 4) == expected
