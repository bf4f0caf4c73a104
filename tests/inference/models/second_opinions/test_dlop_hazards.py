from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from inference.case import ClinicalRecord, ClinicalValue
from inference.models.second_opinions.dlop import (
    DlopFile,
    FactorScale,
    factor_inputs,
    log_rates_of,
    log_risk,
)
from inference.models.second_opinions.dlop_factors import FACTORS, RESPONSE, clinical_factors
from inference.models.survival.hazards import survival_at
from tests.builders.seed_cohorts import TINY

FILE = DlopFile(residual=TINY, landmark_months=3.0, factors=(FactorScale(name=RESPONSE, mean=0.4, sd=0.5),))


def test_three_year_survival_is_the_product_of_the_first_three_years() -> None:
    yearly = np.array([0.9, 0.8, 0.5, 0.7])
    log_odds = torch.from_numpy(np.log(yearly / (1 - yearly)))[None]
    rates = log_rates_of(log_odds, FILE.grid.widths).numpy()[0]
    survival = survival_at(FILE.grid, rates, np.array([9.0, 21.0, 33.0, 45.0]))
    np.testing.assert_allclose(survival, np.cumprod(yearly), rtol=1e-9)
    assert log_risk(rates, FILE.grid, 3.0) == pytest.approx(math.log(-math.log(0.9 * 0.8 * 0.5)))


def test_intervals_begin_at_the_landmark_and_end_with_the_years() -> None:
    assert FILE.grid.nodes.tolist() == [0.0, 9.0, 21.0, 33.0, 45.0]


def test_a_missing_factor_is_average_and_said_to_be_missing() -> None:
    assert factor_inputs(FILE.factors, {RESPONSE: 0.9}).tolist() == [1.0, 1.0]
    assert factor_inputs(FILE.factors, {RESPONSE: float("nan")}).tolist() == [0.0, 0.0]


def test_factors_of_a_record() -> None:
    given = {
        "age": 60.0,
        "sex": "M",
        "albumin": 40.0,
        "bilirubin": 10.0,
        "afp": 99.0,
        "tumour_number": 3.0,
        "child_pugh_class": "B",
    }
    found = clinical_factors(ClinicalRecord({k: ClinicalValue(k, v) for k, v in given.items()}), 1.0)
    assert set(found) == {*FACTORS, RESPONSE}
    assert found["male"] == 1.0
    assert found["over_2_tumours"] == 1.0
    assert found["child_pugh_b_or_c"] == 1.0
    assert found["log_afp"] == pytest.approx(math.log(100.0))
    assert found["albi"] == pytest.approx(0.66 - 0.085 * 40.0)
    assert found[RESPONSE] == 1.0
    assert math.isnan(found["bolondi"])
    assert math.isnan(found["cirrhosis"])
