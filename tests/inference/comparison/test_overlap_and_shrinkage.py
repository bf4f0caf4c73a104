import numpy as np
import pytest

from inference.comparison.benchmark import (
    ConfidencePairs,
    ReplicateScore,
    learned_map,
    rate_of,
    summarise,
    tuning_tasks,
)
from inference.comparison.confidence import (
    ConfidenceMap,
    isotonic,
    learn_confidence_map,
    load_confidence_map,
    write_confidence_map,
)
from inference.comparison.overlap import fit_neighbourhood, fit_propensity, overlap_weights
from inference.comparison.rule import ComparisonRule
from inference.comparison.sensitivity import e_value, e_value_of, hidden_confounding
from inference.comparison.shrinkage import draw_horseshoe
from inference.errors import ModelError


def assigned(n: int = 6000):
    rng = np.random.default_rng(1)
    z = rng.normal(size=(n, 2))
    logits = np.column_stack([np.zeros(n), 0.3 + 0.8 * z[:, 0], -0.2 - 0.5 * z[:, 1]])
    return z, np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)


def test_propensity_finds_the_coefficients():
    z, regimen = assigned()
    fitted = fit_propensity(z, regimen, 3)
    truth = np.array([[0.3, -0.2], [0.8, 0.0], [0.0, -0.5]])
    np.testing.assert_allclose(fitted.coefficients, truth, atol=0.12)
    np.testing.assert_allclose(fitted.of(z).sum(1), 1.0)


def test_overlap_weights_balance_the_covariates():
    z, regimen = assigned()
    weights = overlap_weights(fit_propensity(z, regimen, 3).of(z), regimen)
    plain = np.array([z[regimen == k].mean(0) for k in range(3)])
    balanced = np.array(
        [np.average(z[regimen == k], axis=0, weights=weights[regimen == k]) for k in range(3)]
    )
    assert np.ptp(plain, axis=0).max() > 0.4
    assert np.ptp(balanced, axis=0).max() < 0.05


def test_a_separated_covariate_does_not_make_the_propensity_fail():
    z = np.linspace(-2, 2, 80)[:, None]
    chance = fit_propensity(z, (z[:, 0] > 0).astype(np.intp), 2).of(np.array([[-2.0], [2.0]]))
    assert chance[0, 1] < 0.1
    assert chance[1, 1] > 0.9


def test_a_patient_far_away_is_outside_the_neighbourhood():
    z = np.random.default_rng(2).normal(size=(500, 3))
    near = fit_neighbourhood(z, 0.99)
    assert (near.distances(z) > near.limit).mean() == pytest.approx(0.01, abs=0.003)
    assert near.distances(np.array([[5.0, 0, 0]]))[0] > near.limit > near.distances(np.zeros((1, 3)))[0]


def test_the_horseshoe_keeps_large_effects_and_shrinks_small_ones():
    mean = np.array([0.5, 0.08, -0.05, 0.02, 0.06])
    precision = np.eye(5) / 0.08**2
    drawn = draw_horseshoe(mean, precision, 1500, np.random.default_rng(0)).mean(0)
    assert drawn[0] == pytest.approx(0.5, abs=0.03)
    assert (np.abs(drawn[1:]) < 0.7 * np.abs(mean[1:])).all()


def test_draws_are_of_the_likelihood_where_data_are_many():
    mean, precision = np.array([0.3, -0.2]), 200 * np.array([[40.0, 10.0], [10.0, 30.0]])
    drawn = draw_horseshoe(mean, precision, 2000, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(0), mean, atol=0.003)
    covariance = np.linalg.inv(precision)
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.15 * covariance.max())


@pytest.mark.parametrize(("ratio", "expected"), [(3.9, 7.26), (0.80, 1.81), (1.0, 1.0)])
def test_e_values_of_the_paper(ratio, expected):
    """VanderWeele & Ding 2017: 3.9 gives 7.26 (smoking and lung cancer aside), 0.80 gives 1.81."""
    assert e_value(ratio) == pytest.approx(expected, abs=0.01)


def test_the_limit_is_one_when_the_interval_holds_no_effect():
    ratios = np.exp(np.random.default_rng(0).normal(-0.2, 0.3, 2000))
    found = e_value_of(ratios)
    assert found.of_limit == 1.0
    assert found.of_estimate > 1.5


def test_a_stronger_confounder_leaves_less():
    rng = np.random.default_rng(0)
    better, worse = np.exp(rng.normal(3.2, 0.1, 1000)), np.exp(rng.normal(2.8, 0.1, 1000))
    found = hidden_confounding(better, worse, 3.0, lambda raw: raw)
    left = {(h.time_ratio, h.imbalance): h for h in found}
    assert left[1.25, 0.1].benefit_months > left[2.0, 0.1].benefit_months > left[2.0, 0.4].benefit_months
    expected = np.median(better * 2.0**-0.4 - worse)
    assert left[2.0, 0.4].benefit_months == pytest.approx(expected)
    assert left[2.0, 0.4].confidence < left[1.25, 0.1].confidence


def test_isotonic_regression_pools_violators():
    np.testing.assert_allclose(isotonic(np.array([1.0, 3.0, 2.0, 4.0]), np.ones(4)), [1, 2.5, 2.5, 4])
    np.testing.assert_allclose(isotonic(np.array([3.0, 1.0]), np.array([1.0, 3.0])), [1.5, 1.5])


def test_the_map_learns_overconfidence_and_is_kept(tmp_path):
    rng = np.random.default_rng(0)
    raw = rng.random(60_000)
    learned = learn_confidence_map(raw, (rng.random(60_000) < 0.1 + 0.8 * raw).astype(float))
    np.testing.assert_allclose(learned.of(np.array([0.2, 0.5, 0.8])), [0.26, 0.5, 0.74], atol=0.03)
    write_confidence_map(learned, tmp_path / "map.yaml", "a test")
    assert "a test" in (tmp_path / "map.yaml").read_text()


def test_the_most_cautious_map_holds_in_every_scenario():
    rng = np.random.default_rng(0)
    raw = rng.random(40_000)
    pairs = [
        ConfidencePairs(name, raw, (rng.random(40_000) < chance).astype(float))
        for name, chance in (("sure", raw), ("unsure", 0.6 * raw), ("odd", 0.2 + 0.6 * raw))
    ]
    learned = learned_map(pairs)
    np.testing.assert_allclose(learned.of(np.array([0.1, 0.5, 0.9])), [0.06, 0.3, 0.54], atol=0.03)


def test_without_a_passed_test_there_is_nothing_to_calibrate():
    with pytest.raises(ModelError, match="poor_overlap"):
        learned_map([ConfidencePairs("poor_overlap", np.zeros(0), np.zeros(0))])


def test_the_map_that_is_shipped_is_learned_and_monotone():
    shipped = load_confidence_map()
    assert len(shipped.raw) > 10
    assert shipped.one(0.99) > 0.9
    assert shipped.one(0.05) < 0.1


@pytest.mark.parametrize(
    "points", [((0.0, 0.0), (0.0, 1.0)), ((0.0, 1.0), (0.6, 0.5)), ((0.0, 1.0), (0.0, 1.2))]
)
def test_a_map_that_descends_is_refused(points):
    with pytest.raises(ValueError, match="must|stays"):
        ConfidenceMap(*points)


def test_tuning_refuses_the_seeds_of_the_report():
    with pytest.raises(ValueError, match="kept for reporting"):
        tuning_tasks(2, 7, ComparisonRule())


def test_rates_are_ratios_of_sums_with_the_error_over_replicates():
    pooled = rate_of([1, 3], [10, 10])
    assert pooled.estimate == pytest.approx(0.2)
    assert pooled.standard_error == pytest.approx(0.1)
    assert rate_of([0, 0], [0, 0]).estimate is None
    assert rate_of([4], [8]).standard_error is None


def test_a_summary_pools_each_scenario():
    scores = [
        ReplicateScore("a", 100, 50, 30, 27, 1, 40, 30, passed, 1, 2, 3, 200, 190) for passed in (True, False)
    ] + [ReplicateScore("b", 100, 0, 0, 0, 0, 10, 0, False, 0, 0, 0, 0, 0)]
    first, second = summarise(scores)
    assert (first.scenario, first.replicates, second.scenario) == ("a", 2, "b")
    assert first.ppv.estimate == pytest.approx(0.9)
    assert first.sensitivity.estimate == pytest.approx(0.54)
    assert first.passed.estimate == pytest.approx(0.5)
    assert second.ppv.estimate is None
    assert second.recommended.estimate == 0
