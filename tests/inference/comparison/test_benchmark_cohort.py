import numpy as np
import pytest

from inference.comparison.benchmark_cohort import (
    benchmark_digest,
    draw_replicate,
    frozen_benchmark_digest,
    load_benchmark,
)
from inference.comparison.cohort import ComparisonCohort
from inference.randomness import RandomStreams

PARAMETERS = load_benchmark()


def drawn(scenario: str, number: int = 0):
    return draw_replicate(PARAMETERS, scenario, RandomStreams(777), number)


def test_the_generator_is_as_it_was_frozen():
    assert benchmark_digest() == frozen_benchmark_digest()


def test_the_patients_of_one_seed_stay_the_same():
    cohort = drawn("heterogeneous").cohort
    assert cohort.months.sum() == pytest.approx(10621.34620218173, rel=1e-9)
    assert int(cohort.event.sum()) == 434


def test_true_medians_are_equal_where_no_regimen_differs():
    for scenario in ("no_difference", "hidden_confounder_no_difference"):
        truth = drawn(scenario).true_medians
        np.testing.assert_array_equal(truth, truth[:, :1] * np.ones(3))


@pytest.mark.parametrize("scenario", PARAMETERS.scenarios)
def test_a_scenario_is_plausible(scenario):
    cohorts = [drawn(scenario, k) for k in range(4)]
    share = np.mean([r.cohort.event.mean() for r in cohorts])
    medians = np.median(np.concatenate([r.true_medians for r in cohorts]), axis=0)
    assert 0.5 < share < 0.7
    assert ((medians > 10) & (medians < 30)).all()
    assert all(len(r.cohort.months) == 757 for r in cohorts)


def test_half_of_the_patients_outlive_the_true_median():
    parameters = PARAMETERS.model_copy(
        update={
            "patients": 20_000,
            "prognosis": {"intercept": 2.95},
            "censoring": PARAMETERS.censoring.model_copy(
                update={"shortest": 1e4, "longest": 2e4, "lost_per_month": 0.0}
            ),
        }
    )
    replicate = draw_replicate(parameters, "no_difference", RandomStreams(5), 0)
    assert replicate.cohort.event.all()
    np.testing.assert_allclose(replicate.true_medians, np.exp(2.95))
    assert np.median(replicate.cohort.months) == pytest.approx(np.exp(2.95), rel=0.03)


def test_the_regimens_are_confounded():
    cohort = drawn("no_difference").cohort
    thrombus = cohort.covariates[:, cohort.names.index("thrombus")]
    treated = [thrombus[cohort.regimen == arm].mean() for arm in (0, 1)]
    assert treated[1] > treated[0] + 0.08


def test_a_cohort_with_a_missing_value_names_the_column():
    cohort = drawn("no_difference").cohort
    covariates = cohort.covariates.copy()
    covariates[3, 1] = np.nan
    with pytest.raises(ValueError, match="log_afp"):
        ComparisonCohort(
            cohort.names, covariates, cohort.regimens, cohort.regimen, cohort.months, cohort.event
        )
