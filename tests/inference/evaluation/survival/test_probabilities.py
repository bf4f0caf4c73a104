"""Brier scores, calibration, D-calibration, decision curves and R2 against independent programs."""

from __future__ import annotations

import lifelines
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sksurv import metrics as judge
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.nonparametric import kaplan_meier_estimator

from inference.evaluation.bootstrap import estimate, patient_weights
from inference.evaluation.survival import calibration as cal
from inference.evaluation.survival.brier import (
    brier_of,
    brier_score,
    briers_of,
    integrated_brier_of,
    integrated_brier_score,
)
from inference.evaluation.survival.d_calibration import d_calibration
from inference.evaluation.survival.decision import decision_curve, net_benefit_of
from inference.evaluation.survival.explained import nagelkerke_of
from inference.evaluation.survival.follow_up import FollowUp
from inference.evaluation.survival.resampling import differences, estimates, joined
from inference.evaluation.survival.weighted_cox import WeightedCox
from inference.training.cox_fit import fit_cox
from tests.inference.evaluation.survival.survival_samples import SEEDS, Sample, draw, sample, surv

TOLERANCE = 1e-5
AT = 12.0


@pytest.fixture(params=SEEDS)
def data(request: pytest.FixtureRequest) -> Sample:
    return sample(request.param)


def once(n: int) -> np.ndarray:
    return np.ones((1, n))


def true_risk(log_hazard: np.ndarray, at: float = AT) -> np.ndarray:
    """Probability of the event under the model that `draw` draws from."""
    return 1 - np.exp(-np.exp(0.7 * log_hazard) * at / 20)


# ------------------------------------------------------------------ Brier


def test_brier_equals_the_judge(data: Sample) -> None:
    train, test, survival = surv(data.train), surv(data.test), data.survival()
    _, expected = judge.brier_score(train, test, survival, data.times)
    found = brier_score(data.train, data.test, survival, data.times)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    whole = judge.integrated_brier_score(train, test, survival, data.times)
    assert integrated_brier_score(found, data.times) == pytest.approx(whole, abs=TOLERANCE)
    ibs = integrated_brier_of(data.train, data.test, survival, data.times)
    assert ibs(once(len(data.test)))[0] == pytest.approx(whole, abs=TOLERANCE)


def test_brier_of_a_draw_is_that_of_the_copies(data: Sample) -> None:
    weights = patient_weights(len(data.test), 3, np.random.default_rng(0))
    survival, middle = data.survival(), float(data.times[4])
    found = brier_of(data.train, data.test, survival[:, 4], middle)(weights)
    whole = integrated_brier_of(data.train, data.test, survival, data.times)(weights)
    for i, row in enumerate(weights):
        drawn = np.repeat(np.arange(len(row)), row.astype(int))
        copies, s = surv(data.test.of(drawn)), survival[drawn]
        expected = judge.brier_score(surv(data.train), copies, s[:, 4], middle)[1][0]
        assert found[i] == pytest.approx(expected, abs=TOLERANCE)
        expected = judge.integrated_brier_score(surv(data.train), copies, s, data.times)
        assert whole[i] == pytest.approx(expected, abs=TOLERANCE)


def test_a_draw_estimates_censoring_anew_where_patients_are_their_own_reference(data: Sample) -> None:
    weights = patient_weights(len(data.test), 3, np.random.default_rng(5))
    survival = data.survival()
    found = briers_of(data.test, data.test, survival, data.times)(weights)
    for i, row in enumerate(weights):
        drawn = np.repeat(np.arange(len(row)), row.astype(int))
        copies = surv(data.test.of(drawn))
        expected = judge.brier_score(copies, copies, survival[drawn], data.times)[1]
        np.testing.assert_allclose(found[i], expected, atol=TOLERANCE)


def test_bad_input_of_brier() -> None:
    train, test = draw(50, 0)[0], draw(50, 1)[0]
    half = np.full((50, 1), 0.5)
    for wrong, sentence in ((half * np.nan, "missing"), (half * 3, "not a probability")):
        with pytest.raises(ValueError, match=sentence):
            brier_score(train, test, wrong, [5.0])
    with pytest.raises(ValueError, match="beyond the follow-up"):
        brier_score(train, test, half, [test.time.max() + 1])
    with pytest.raises(ValueError, match="column"):
        brier_score(train, test, half, [1.0, 2.0])
    with pytest.raises(ValueError, match="two times"):
        integrated_brier_of(train, test, half, [5.0])
    lost = FollowUp(np.full(50, 100.0), np.zeros(50, dtype=bool))
    assert brier_score(lost, test, half, [5.0]).shape == (1,)


# ------------------------------------------------------------------ Cox regression by weights


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_weighted_cox_equals_the_judge_on_the_copies(seed: int) -> None:
    follow_up, risk = draw(150, seed, step=2.0 if seed % 2 else 0.01)
    x = np.stack([risk, np.random.default_rng(seed + 50).normal(size=150)], axis=1)
    weights = np.concatenate((once(150), patient_weights(150, 3, np.random.default_rng(seed))))
    model = WeightedCox.of(x, follow_up, weights)
    fits = model.fit()
    hazard = model.baseline_hazard(fits.beta, AT)
    for i, row in enumerate(weights):
        drawn = np.repeat(np.arange(150), row.astype(int))
        fitted = CoxPHSurvivalAnalysis(ties="breslow", tol=1e-12).fit(x[drawn], surv(follow_up.of(drawn)))
        np.testing.assert_allclose(fits.beta[i], fitted.coef_, atol=TOLERANCE)
        expected = fitted.predict_cumulative_hazard_function(np.zeros((1, 2)))[0](AT)
        assert hazard[i] == pytest.approx(expected, abs=TOLERANCE)


def test_weighted_cox_without_ties_is_the_fit_of_models() -> None:
    follow_up, risk = draw(200, 5, step=1e-9)
    fitted = fit_cox(risk[:, None], follow_up.time, follow_up.event, alpha=0.0)
    fits = WeightedCox.of(risk[:, None], follow_up, once(200)).fit()
    assert fits.beta[0, 0] == pytest.approx(fitted.beta[0], abs=1e-7)
    assert fits.log_likelihood[0] == pytest.approx(fitted.log_likelihood, abs=1e-7)


def test_a_draw_without_events_is_not_a_number_and_spoils_no_other() -> None:
    """In the first draw risk and time agree perfectly: the fit ends where the likelihood is flat."""
    follow_up = FollowUp(np.arange(1.0, 7.0), np.array([True, True, False, False, False, True]))
    x = np.array([[3.0], [2.0], [1.0], [0.5], [0.2], [2.5]])
    weights = np.array([[1.0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 0], [1, 1, 1, 1, 1, 3]])
    found = WeightedCox.of(x, follow_up, weights).fit()
    assert found.log_likelihood[0] == pytest.approx(0.0, abs=1e-6)
    assert np.isnan(found.beta[1, 0])
    assert np.isnan(found.log_likelihood[1])
    assert np.isfinite(found.beta[2, 0])


# ------------------------------------------------------------------ calibration


def _judged_curve(follow_up: FollowUp, risk: np.ndarray, at: float) -> np.ndarray:
    """The same curve by scikit-survival, on a truncated power basis written anew."""
    v = np.log(-np.log(1 - risk))
    a, b, c = np.quantile(v, [0.1, 0.5, 0.9])
    plus = lambda k: np.clip(v - k, 0, None) ** 3  # noqa: E731
    bend = plus(a) - plus(b) * (c - a) / (c - b) + plus(c) * (b - a) / (c - b)
    x = np.stack([v, bend / (c - a) ** 2], axis=1)
    fitted = CoxPHSurvivalAnalysis(ties="breslow", tol=1e-13, n_iter=200).fit(x, surv(follow_up))
    return np.array([1 - s(at) for s in fitted.predict_survival_function(x)])


@pytest.mark.parametrize("seed", range(5))
def test_calibration_errors_equal_the_judge(seed: int) -> None:
    follow_up, log_hazard = draw(300, seed, step=1.0 if seed % 2 else 0.01)
    risk = np.clip(true_risk(1.5 * log_hazard), 0.001, 0.999)
    curve = _judged_curve(follow_up, risk, AT)
    found = cal.observed_of(follow_up, risk, AT, risk)(once(300))[0]
    np.testing.assert_allclose(found, curve, atol=TOLERANCE)
    distance = np.sort(np.abs(curve - risk))
    expected = [distance.mean(), distance[149], distance[269]]
    np.testing.assert_allclose(
        cal.calibration_errors_of(follow_up, risk, AT)(once(300))[0], expected, atol=TOLERANCE
    )


@pytest.mark.parametrize("distort", [1.0, 2.0, -0.3])
def test_calibration_agrees_with_kaplan_meier_quintiles(distort: float) -> None:
    """Right, overconfident and inverted predictions: the curve meets Kaplan-Meier in each fifth."""
    follow_up, log_hazard = draw(4000, 11, lost_after=25.0)
    risk = true_risk(distort * log_hazard)
    curve = cal.observed_of(follow_up, risk, AT, risk)(once(4000))[0]
    order = np.argsort(1 - risk, kind="stable")
    groups = cal.calibration_groups(follow_up, 1 - risk, AT, 5)
    for part, group in zip(np.array_split(order, 5), groups, strict=True):
        assert curve[part].mean() == pytest.approx(1 - group.observed, abs=0.025)
    by_groups = np.mean([abs(g.predicted - g.observed) for g in groups])
    ici = cal.calibration_errors_of(follow_up, risk, AT)(once(4000))[0, 0]
    assert ici == pytest.approx(by_groups, abs=0.015)


def test_calibration_of_the_truth_is_near_zero_and_of_a_wrong_level_is_not() -> None:
    follow_up, log_hazard = draw(4000, 12, lost_after=25.0)
    right = true_risk(log_hazard)
    ici, e50, e90 = cal.calibration_errors_of(follow_up, right, AT)(once(4000))[0]
    assert ici < 0.015
    assert e50 <= e90 < 0.04
    low = 0.5 * right
    ici = cal.calibration_errors_of(follow_up, low, AT)(once(4000))[0, 0]
    assert ici == pytest.approx(0.5 * right.mean(), abs=0.02)
    observed, mean, gap = cal.calibration_in_the_large_of(follow_up, low, AT)(once(4000))[0]
    assert observed == pytest.approx(right.mean(), abs=0.025)
    assert (mean, gap) == pytest.approx((low.mean(), observed - low.mean()))


@pytest.mark.parametrize("knots", [3, 4, 5])
def test_few_distinct_predictions_are_a_straight_line(knots: int) -> None:
    follow_up, log_hazard = draw(400, 13)
    two = np.where(log_hazard > 0, 0.6, 0.3)
    observed = cal.observed_of(follow_up, two, AT, [0.3, 0.6], knots)(once(400))[0]
    x = (log_hazard > 0).astype(float)[:, None]
    fitted = CoxPHSurvivalAnalysis(ties="breslow", tol=1e-12).fit(x, surv(follow_up))
    expected = [1 - s(AT) for s in fitted.predict_survival_function(np.array([[0.0], [1.0]]))]
    np.testing.assert_allclose(observed, expected, atol=TOLERANCE)


def test_the_same_prediction_for_all_is_compared_with_the_whole_group() -> None:
    follow_up, _ = draw(400, 14)
    same = np.full(400, 0.5)
    expected = lifelines.NelsonAalenFitter(nelson_aalen_smoothing=False).fit(follow_up.time, follow_up.event)
    hazard = float(expected.predict(AT))
    ici, e50, e90 = cal.calibration_errors_of(follow_up, same, AT)(once(400))[0]
    assert (ici, e50, e90) == pytest.approx((abs(0.5 - (1 - np.exp(-hazard))),) * 3, abs=2e-3)


def test_calibration_curve_has_intervals_and_density() -> None:
    follow_up, log_hazard = draw(250, 15)
    risk = true_risk(log_hazard)
    weights = patient_weights(250, 200, np.random.default_rng(0))
    curve = cal.calibration_curve(follow_up, risk, AT, weights, points=9)
    assert len(curve.observed) == 9
    assert all(e.lower <= e.value <= e.upper for e in curve.observed)
    assert (curve.density * np.diff(curve.edges)).sum() == pytest.approx(1.0)
    inside = [e.lower <= p <= e.upper for p, e in zip(curve.predicted, curve.observed, strict=True)]
    assert sum(inside) >= 6


def test_bad_input_of_calibration() -> None:
    follow_up, log_hazard = draw(60, 16)
    risk = true_risk(log_hazard)
    none = FollowUp(follow_up.time, np.zeros(60, dtype=bool))
    first = float(follow_up.time[follow_up.event].min())
    for who, r, at, knots, sentence in (
        (none, risk, AT, 3, "no event"),
        (follow_up, risk * np.nan, AT, 3, "missing"),
        (follow_up, risk + 1, AT, 3, "not a probability"),
        (follow_up, risk, 1e4, 3, "beyond"),
        (follow_up, risk, first / 2, 3, "no event was seen up to"),
        (follow_up, risk, AT, 6, "knots"),
    ):
        with pytest.raises(ValueError, match=sentence):
            cal.calibration_errors_of(who, r, at, knots)


def test_certain_predictions_are_allowed() -> None:
    follow_up, log_hazard = draw(200, 17)
    risk = np.clip(true_risk(3 * log_hazard), 0.05, 0.9)
    risk[:5], risk[-5:] = 0.0, 1.0
    found = cal.calibration_errors_of(follow_up, risk, AT)(once(200))
    assert np.isfinite(found).all()


# ------------------------------------------------------------------ D-calibration


def _slow_counts(follow_up: FollowUp, survival: np.ndarray, bins: int) -> np.ndarray:
    """The definition, patient by patient, by the share of (0, s) that a bin covers."""
    counts = np.zeros(bins)
    for s, seen in zip(survival, follow_up.event, strict=True):
        for k in range(bins):
            low, high = k / bins, (k + 1) / bins
            if seen:
                counts[k] += low <= s < high or (k == bins - 1 and s == 1)
            elif s > 0:
                counts[k] += max(0.0, min(s, high) - low) / s
            else:
                counts[k] += k == 0
    return counts


@pytest.mark.parametrize("seed", range(4))
def test_d_calibration_equals_the_definition(seed: int) -> None:
    follow_up, log_hazard = draw(200, seed)
    own = np.exp(-np.exp(0.7 * log_hazard) * follow_up.time / (20 if seed % 2 else 12))
    own[0], own[1] = 0.0, 1.0
    expected = _slow_counts(follow_up, own, 10)
    found = d_calibration(follow_up, own)
    np.testing.assert_allclose(found.counts, expected, atol=1e-9)
    assert found.counts.sum() == pytest.approx(200)
    assert found.statistic == pytest.approx(stats.chisquare(expected).statistic)
    assert found.p == pytest.approx(stats.chisquare(expected).pvalue)


def test_d_calibration_tells_right_from_wrong() -> None:
    accepted = rejected = 0
    for seed in range(40):
        follow_up, log_hazard = draw(400, 100 + seed, lost_after=40.0)
        for scale in (20, 12):
            own = np.exp(-np.exp(0.7 * log_hazard) * follow_up.time / scale)
            p = d_calibration(follow_up, own).p
            accepted += scale == 20 and p > 0.05
            rejected += scale == 12 and p < 0.05
    assert accepted >= 36
    assert rejected == 40


def test_bad_input_of_d_calibration() -> None:
    follow_up, _ = draw(20, 0)
    with pytest.raises(ValueError, match="no event"):
        d_calibration(FollowUp(follow_up.time, np.zeros(20, dtype=bool)), np.full(20, 0.5))
    with pytest.raises(ValueError, match="missing"):
        d_calibration(follow_up, np.full(20, np.nan))
    with pytest.raises(ValueError, match="two bins"):
        d_calibration(follow_up, np.full(20, 0.5), bins=1)


# ------------------------------------------------------------------ decision curves


def test_net_benefit_equals_the_definition_by_the_judges_curve(data: Sample) -> None:
    risk, at = 1 - data.survival()[:, 4], float(data.times[4])
    thresholds = np.quantile(risk, [0.1, 0.4, 0.7])
    found = net_benefit_of(data.test, risk, at, thresholds)(once(len(risk)))[0]
    for pt, value in zip(thresholds, found, strict=True):
        treated = risk >= pt
        times, curve = kaplan_meier_estimator(data.test.event[treated], data.test.time[treated])
        died = 1 - np.concatenate(([1.0], curve))[np.searchsorted(times, at, side="right")]
        expected = treated.mean() * (died - (1 - died) * pt / (1 - pt))
        assert value == pytest.approx(expected, abs=1e-12)


def test_net_benefit_without_censoring_is_that_of_a_binary_outcome() -> None:
    """Vickers & Elkin 2006: true positives less the false ones at the odds of the threshold."""
    _, log_hazard = draw(300, 1)
    time = np.random.default_rng(2).exponential(20 * np.exp(-0.7 * log_hazard))
    follow_up, risk = FollowUp(time, np.ones(300, dtype=bool)), true_risk(log_hazard)
    died = time <= AT
    weights = patient_weights(300, 4, np.random.default_rng(0))
    for pt in (0.2, 0.5, 0.8):
        found = net_benefit_of(follow_up, risk, AT, pt)(weights)[:, 0]
        true = weights @ (died & (risk >= pt)) / 300
        false = weights @ (~died & (risk >= pt)) / 300
        np.testing.assert_allclose(found, true - false * pt / (1 - pt), atol=1e-12)


def test_decision_curve_has_everybody_and_nobody() -> None:
    follow_up, log_hazard = draw(300, 3)
    risk = true_risk(log_hazard)
    weights = patient_weights(300, 100, np.random.default_rng(1))
    curve = decision_curve(follow_up, risk, AT, [0.01, 0.3, 0.999], weights)
    assert curve.model[0].value == pytest.approx(curve.everybody[0].value, abs=5e-3)
    assert curve.model[1].value > max(curve.everybody[1].value, 0.0)
    assert curve.model[1].lower < curve.model[1].value < curve.model[1].upper
    assert curve.model[2].value == 0.0  # nobody reaches this threshold


def test_bad_input_of_decision_curves() -> None:
    follow_up, log_hazard = draw(60, 4)
    risk = true_risk(log_hazard)
    for r, at, pt, sentence in (
        (risk * np.nan, AT, 0.5, "missing"),
        (risk, 1e4, 0.5, "beyond"),
        (risk, AT, 1.0, "thresholds"),
    ):
        with pytest.raises(ValueError, match=sentence):
            net_benefit_of(follow_up, r, at, pt)


# ------------------------------------------------------------------ R2 and several figures at once


@pytest.mark.parametrize("seed", range(3))
def test_nagelkerke_equals_the_formula_on_lifelines_likelihoods(seed: int) -> None:
    follow_up, log_hazard = draw(200, seed, step=1e-6)
    table = pd.DataFrame({"time": follow_up.time, "event": follow_up.event, "risk": log_hazard})
    fitted = lifelines.CoxPHFitter().fit(table, "time", "event", fit_options={"precision": 1e-10})
    ratio = fitted.log_likelihood_ratio_test().test_statistic
    null = fitted.log_likelihood_ - ratio / 2
    expected = (1 - np.exp(-ratio / 200)) / (1 - np.exp(2 * null / 200))
    found = nagelkerke_of(follow_up, 5 * log_hazard + 3)(once(200))[0]
    assert found == pytest.approx(expected, abs=TOLERANCE)


def test_nagelkerke_of_nothing_and_of_no_events() -> None:
    follow_up, log_hazard = draw(100, 1)
    assert nagelkerke_of(follow_up, np.zeros(100))(once(100))[0] == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match="no event"):
        nagelkerke_of(FollowUp(follow_up.time, np.zeros(100, dtype=bool)), log_hazard)


def test_several_figures_keep_their_own_intervals() -> None:
    follow_up, log_hazard = draw(150, 2)
    weights = patient_weights(150, 300, np.random.default_rng(3))
    noise = np.random.default_rng(4).normal(size=150)
    one, two = nagelkerke_of(follow_up, log_hazard), nagelkerke_of(follow_up, noise)
    both = estimates(joined((one, two)), weights)
    assert both == (estimate(one, weights), estimate(two, weights))
    paired = differences(joined((one, two)), joined((two, two)), weights)
    assert paired[0].lower > 0
    assert (paired[1].value, paired[1].lower, paired[1].upper) == (0.0, 0.0, 0.0)
