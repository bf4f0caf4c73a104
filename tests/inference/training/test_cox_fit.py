"""The ridge Cox fit against scikit-survival and lifelines."""

from __future__ import annotations

import lifelines
import numpy as np
import pandas as pd
import pytest
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from inference.errors import ModelError
from inference.training.cox_fit import (
    baseline_hazard,
    cross_validated_likelihood,
    fit_cox,
    log_partial_likelihood,
)


def cohort(seed: int, step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(120, 5))
    died = rng.exponential(20 * np.exp(-x @ np.array([0.6, -0.4, 0.2, 0, 0])))
    left = rng.exponential(40, size=120)
    return x, np.ceil(np.minimum(died, left) / step) * step, died <= left


@pytest.mark.parametrize("step", [0.001, 4.0])
@pytest.mark.parametrize("alpha", [0.0, 1.0, 30.0])
def test_coefficients_agree_with_scikit_survival(step: float, alpha: float) -> None:
    x, time, event = cohort(1, step)
    judge = CoxPHSurvivalAnalysis(alpha=alpha, ties="efron", tol=1e-12).fit(x, Surv.from_arrays(event, time))
    np.testing.assert_allclose(fit_cox(x, time, event, alpha).beta, judge.coef_, atol=1e-6)


@pytest.mark.parametrize("step", [0.001, 4.0])
def test_covariance_and_likelihood_agree_with_lifelines(step: float) -> None:
    x, time, event = cohort(2, step)
    table = pd.DataFrame(x).assign(time=time, event=event)
    judge = lifelines.CoxPHFitter().fit(table, "time", "event", fit_options={"precision": 1e-12})
    fit = fit_cox(x, time, event, 0.0)
    np.testing.assert_allclose(fit.beta, judge.params_.to_numpy(), atol=1e-5)
    np.testing.assert_allclose(fit.covariance, judge.variance_matrix_.to_numpy(), atol=1e-5)
    assert fit.log_likelihood == pytest.approx(judge.log_likelihood_, abs=1e-6)


def test_baseline_hazard_agrees_with_scikit_survival() -> None:
    x, time, event = cohort(3, 4.0)
    judge = CoxPHSurvivalAnalysis(alpha=5.0, ties="breslow", tol=1e-12).fit(x, Surv.from_arrays(event, time))
    times = np.unique(time)
    found = baseline_hazard(x, time, event, judge.coef_, times)
    np.testing.assert_allclose(found.hazard, judge.cum_baseline_hazard_(times), atol=1e-8)
    assert baseline_hazard(x, time, event, judge.coef_, np.array([0.0])).hazard[0] == 0.0


def test_gradient_of_the_baseline_hazard_is_its_derivative() -> None:
    x, time, event = cohort(4, 0.001)
    beta, times, h = np.array([0.5, -0.3, 0.1, 0.0, 0.2]), np.array([5.0, 20.0]), 1e-5
    found = baseline_hazard(x, time, event, beta, times).gradient
    for j in range(5):
        shift = h * np.eye(5)[j]
        up = baseline_hazard(x, time, event, beta + shift, times).hazard
        down = baseline_hazard(x, time, event, beta - shift, times).hazard
        np.testing.assert_allclose(found[:, j], -(up - down) / (2 * h), rtol=1e-5, atol=1e-8)


def test_infinite_penalty_leaves_all_covariates_out() -> None:
    x, time, event = cohort(5, 0.001)
    fit = fit_cox(x, time, event, np.inf)
    assert not fit.beta.any()
    assert fit.log_likelihood == pytest.approx(log_partial_likelihood(x, time, event, np.zeros(5)))


def test_cross_validated_likelihood_prefers_no_covariates_for_noise_and_some_for_signal() -> None:
    x, time, event = cohort(6, 0.001)
    folds = np.array_split(np.random.default_rng(0).permutation(120), 5)

    def score(columns: np.ndarray, alpha: float) -> float:
        return cross_validated_likelihood(columns, time, event, alpha, folds)

    assert score(x, 3.0) > score(x, np.inf)
    noise = np.random.default_rng(1).normal(size=(120, 20))
    assert score(noise, 1.0) < score(noise, np.inf)


def test_fit_survives_collinear_and_extreme_covariates() -> None:
    x, time, event = cohort(7, 0.001)
    wide = np.column_stack((x, x[:, 0], 1000 * x[:, 1]))
    assert np.isfinite(fit_cox(wide, time, event, 1.0).beta).all()


def test_no_events_is_an_error() -> None:
    x, time, event = cohort(8, 0.001)
    with pytest.raises(ModelError, match="without events"):
        fit_cox(x, time, np.zeros_like(event), 1.0)
