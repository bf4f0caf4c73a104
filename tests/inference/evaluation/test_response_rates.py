"""Response rates of a cohort against counts by hand."""

from __future__ import annotations

import numpy as np
import pytest

from inference.evaluation.bootstrap import patient_weights
from inference.evaluation.response_rates import response_rates
from inference.randomness import RandomStreams

# CR 0, PR 1, SD 2, PD 3, not evaluable -1
TRUTH = np.array([0, 1, 1, 2, 2, 3, 3, 3, -1, 1])
SAID = np.array([1, 1, 2, 2, 0, 3, 2, -1, 0, 3])
REGIMENS = ["tace"] * 5 + ["haic"] * 5
WEIGHTS = patient_weights(10, 400, RandomStreams(0).derive("bootstrap"))


def rates(truth=TRUTH, said=SAID):
    return {r.regimen_id: r for r in response_rates(truth, {"model": said}, REGIMENS, WEIGHTS)}


def test_rates_are_of_patients_that_are_evaluable_on_both_sides():
    found = rates()[""]
    assert (found.objective_response.forecast.successes, found.objective_response.forecast.n) == (3, 8)
    assert (found.objective_response.true.successes, found.objective_response.true.n) == (4, 8)
    assert (found.disease_control.forecast.successes, found.disease_control.true.successes) == (6, 6)
    assert found.objective_response.difference.value == pytest.approx(-1 / 8)
    assert found.objective_response.difference.lower < 0 < found.objective_response.difference.upper


def test_limits_are_exact():
    """Clopper-Pearson of 3 of 8, by the F distribution: .0852 and .7551."""
    rate = rates()[""].objective_response.forecast
    assert (rate.lower, rate.upper) == pytest.approx((0.0852, 0.7551), abs=5e-5)


def test_rates_by_regimen():
    found = rates()
    assert set(found) == {"", "tace", "haic"}
    assert (found["tace"].objective_response.forecast.successes, found["tace"].objective_response.true.n) == (
        3,
        5,
    )
    assert (
        found["haic"].disease_control.forecast.successes,
        found["haic"].disease_control.true.successes,
    ) == (1, 1)


def test_a_forecast_that_is_the_truth_differs_in_nothing():
    found = rates(said=TRUTH)[""]
    assert found.objective_response.forecast == found.objective_response.true
    assert (found.disease_control.difference.lower, found.disease_control.difference.upper) == (0.0, 0.0)


def test_where_nobody_is_evaluable_there_is_no_rate():
    assert response_rates(TRUTH, {"model": np.full(10, -1)}, REGIMENS, WEIGHTS) == ()
