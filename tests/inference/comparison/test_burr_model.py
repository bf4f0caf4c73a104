import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import kstest

from inference.comparison import burr
from inference.comparison.burr import SurvivalRows
from inference.errors import ModelError


def rows(n: int = 60, seed: int = 0) -> SurvivalRows:
    rng = np.random.default_rng(seed)
    design = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    log_months = design @ [2.5, 0.4, -0.3] + 0.7 * rng.normal(size=n)
    return SurvivalRows(design, log_months, (rng.random(n) < 0.6).astype(float), rng.uniform(0.5, 1.5, n))


@pytest.mark.parametrize("shape", [1e-3, 0.5, 1.0, 2.0])
def test_scores_and_curvature_are_derivatives(shape):
    data, theta = rows(), np.array([2.3, 0.2, -0.1, np.log(0.8)])
    gradient = approx_fprime(theta, lambda t: burr.log_likelihood(t, data, shape), 1e-6)
    np.testing.assert_allclose(burr.scores(theta, data, shape).sum(0), gradient, atol=1e-3)
    hessian = approx_fprime(theta, lambda t: burr.scores(t, data, shape).sum(0), 1e-6)
    np.testing.assert_allclose(-burr.curvature(theta, data, shape), hessian, atol=1e-3)


def test_the_fit_is_a_maximum_with_the_known_weibull_likelihood():
    data = rows(400)
    plain = SurvivalRows(data.design, data.log_months, data.died, np.ones(400))
    fitted = burr.fit(plain, 1e-6, [np.inf] * 3, burr.first_guess(plain))
    np.testing.assert_allclose(burr.scores(fitted.theta, plain, 1e-6).sum(0), 0, atol=1e-3)
    # Weibull written in its own words: log f and log S of months, plus the Jacobian of the logarithm.
    months, power = np.exp(plain.log_months), np.exp(-fitted.theta[-1])
    rate = np.exp(-(plain.design @ fitted.theta[:-1]))
    log_f = np.log(power * rate) + (power - 1) * np.log(rate * months) - (rate * months) ** power
    log_s = -((rate * months) ** power)
    own = np.where(plain.died == 1, log_f + plain.log_months, log_s).sum()
    assert fitted.log_likelihood == pytest.approx(own, rel=1e-5)


def test_the_median_halves_survival_and_draws_follow_the_curve():
    scale, location = 0.8, 2.7
    for shape in (1e-3, 0.5, 2.0):
        offset = burr.log_median_offset(np.array(shape), np.array(scale))
        half = burr.survival(location + offset, np.array(location), np.array(scale), np.array(shape))
        assert half == pytest.approx(0.5)
    rng = np.random.default_rng(3)
    frailty = rng.gamma(1 / 0.5, 0.5, 4000)
    months = location + scale * np.log(rng.exponential(size=4000) / frailty)
    alive = burr.survival(months, np.array(location), np.array(scale), np.array(0.5))
    assert kstest(alive, "uniform").pvalue > 0.01


def test_collinear_terms_without_a_prior_are_refused():
    data = rows()
    doubled = np.column_stack([data.design, data.design[:, 1]])
    collinear = SurvivalRows(doubled, data.log_months, np.zeros(60), data.weights)
    start = np.append(burr.first_guess(data)[:3], [0.0, 0.0])
    with pytest.raises((ModelError, np.linalg.LinAlgError)):
        burr.fit(collinear, 0.5, [np.inf] * 4, start)
