"""Penalised regression against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge

from inference.evaluation.features import Standardiser
from inference.evaluation.regression import cross_fitted, log_loss, logistic, ridge, squared_error


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(150, 6))
    eta = matrix @ np.array([1.0, -2.0, 0.0, 0.5, 0.0, 0.0]) + 0.4
    return matrix, eta + rng.normal(size=150), (rng.random(150) < 1 / (1 + np.exp(-eta))).astype(float)


def test_ridge_is_that_of_scikit_learn(data):
    matrix, outcome, _ = data
    found, expected = ridge(matrix, outcome, 5.0), SklearnRidge(alpha=5.0).fit(matrix, outcome)
    np.testing.assert_allclose(found.slope, expected.coef_)
    assert found.intercept == pytest.approx(expected.intercept_)


@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_logistic_regression_is_that_of_scikit_learn(data, penalty):
    matrix, _, outcome = data
    found = logistic(matrix, outcome, penalty)
    expected = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=1000).fit(matrix, outcome)
    np.testing.assert_allclose(found.slope, expected.coef_[0], atol=1e-5)
    assert found.intercept == pytest.approx(expected.intercept_[0], abs=1e-5)


def test_logistic_regression_of_separable_data_stays_finite():
    matrix = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    found = logistic(matrix, np.array([0.0, 0.0, 1.0, 1.0]), 1e-3)
    assert np.isfinite(found.slope).all()
    assert found.probability(matrix)[3] > 0.99


def test_one_outcome_is_refused():
    with pytest.raises(ValueError, match="both outcomes"):
        logistic(np.zeros((3, 1)), np.ones(3), 1.0)


def test_out_of_fold_predictions_do_not_see_their_own_patient(data):
    matrix, _, _ = data
    noise = np.random.default_rng(1).normal(size=150)
    group = np.repeat(np.arange(50), 3)
    same = np.repeat(matrix[::3], 3, axis=0)
    fitted = cross_fitted(ridge, squared_error, same, noise, group, np.random.default_rng(2))
    within = np.corrcoef(fitted.model(same), noise)[0, 1]
    assert np.corrcoef(fitted.out_of_fold, noise)[0, 1] < within


def test_cross_validation_chooses_a_strong_penalty_for_noise_and_a_weak_one_for_signal(data):
    matrix, outcome, binary = data
    group, rng = np.arange(150), np.random.default_rng(3)
    noise = np.random.default_rng(4).normal(size=150)
    assert cross_fitted(ridge, squared_error, matrix, noise, group, rng).penalty == 300.0
    assert cross_fitted(ridge, squared_error, matrix, outcome, group, rng).penalty <= 3.0
    assert cross_fitted(logistic, log_loss, matrix, binary, group, rng).penalty <= 3.0


def test_missing_values_are_flagged_and_constants_dropped():
    rows = [{"a": 1.0, "b": 5.0, "c": np.nan}, {"a": 3.0, "b": 5.0, "c": 2.0}, {"a": 5.0, "b": 5.0, "c": 4.0}]
    standardiser = Standardiser.of(rows)
    assert standardiser.names == ("a", "c")
    found = standardiser.matrix([{"a": 3.0, "b": 9.0}, {"a": 5.0, "c": 3.0}])
    np.testing.assert_allclose(found, [[0.0, 0.0, 1.0], [np.sqrt(1.5), 0.0, 0.0]])
