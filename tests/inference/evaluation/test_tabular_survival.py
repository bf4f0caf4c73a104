from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from inference.evaluation.survival.concordance import harrell_c
from inference.evaluation.survival.follow_up import FollowUp
from inference.evaluation.tables.comparators import CoxRidge
from inference.evaluation.tabular import (
    NotFitted,
    TabularSettings,
    TabularSurvivalModel,
    survival_model,
)
from inference.models.survival.network import NetworkSize
from inference.training.survival.networks import NetworkSettings
from tests.builders.survival_rows import planted_table

SMALL = NetworkSettings(
    size=NetworkSize(width=8, heads=2),
    networks=2,
    steps=20,
    note_every=10,
    batch=64,
    shares=(0.5,),
    needed_gain=-1e9,
)
"""So small that it learns little, and kept all the same, so that every part is at work."""
SETTINGS = TabularSettings(intervals=20, networks=SMALL)


@pytest.fixture(scope="module")
def table() -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    return planted_table(360, seed=1)


@pytest.fixture(scope="module")
def model(table: tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]) -> TabularSurvivalModel:
    covariates, time, event, _ = table
    return survival_model(0, SETTINGS).fit(covariates[:240], time[:240], event[:240])


def _c(risk: np.ndarray, time: np.ndarray, event: np.ndarray) -> float:
    return harrell_c(FollowUp(time, event), risk)


def test_a_curved_effect_is_found_that_a_linear_model_misses(
    table: tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray], model: TabularSurvivalModel
) -> None:
    covariates, time, event, _ = table
    risk, _ = model.predict(covariates[240:], [12.0])
    cox, _ = CoxRidge(0).fit(covariates[:240], time[:240], event[:240]).predict(covariates[240:], [12.0])

    assert _c(risk, time[240:], event[240:]) > _c(cox, time[240:], event[240:]) + 0.03


def test_survival_falls_from_1_and_agrees_with_the_truth_on_average(
    table: tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray], model: TabularSurvivalModel
) -> None:
    covariates, _, _, log_hazard = table
    times = np.array([0.0, 6.0, 12.0, 24.0, 500.0])

    risk, survival = model.predict(covariates[240:], times)

    assert risk.shape == (120,)
    assert survival.shape == (120, 5)
    np.testing.assert_allclose(survival[:, 0], 1.0)
    assert (np.diff(survival, axis=1) <= 0).all()
    truth = np.exp(-np.exp(log_hazard[240:, None]) * times[1:4] / 30.0).mean(axis=0)
    np.testing.assert_allclose(survival[:, 1:4].mean(axis=0), truth, atol=0.08)


def test_the_same_seed_gives_the_same_forecasts(
    table: tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray], model: TabularSurvivalModel
) -> None:
    covariates, time, event, _ = table
    again = survival_model(0, SETTINGS).fit(covariates[:240], time[:240], event[:240])

    np.testing.assert_array_equal(
        again.predict(covariates[240:], [9.0])[1], model.predict(covariates[240:], [9.0])[1]
    )


def test_the_unit_of_time_does_not_matter(
    table: tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray], model: TabularSurvivalModel
) -> None:
    covariates, time, event, _ = table
    days = survival_model(0, SETTINGS).fit(covariates[:240], time[:240] * 30.4375, event[:240])

    _, in_days = days.predict(covariates[240:], [12.0 * 30.4375])
    _, in_months = model.predict(covariates[240:], [12.0])

    np.testing.assert_allclose(in_days, in_months, atol=0.02)


def test_unseen_categories_missing_values_and_another_order_of_columns_are_taken(
    table: tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray], model: TabularSurvivalModel
) -> None:
    covariates = table[0][240:250]
    _, before = model.predict(covariates, [12.0])
    _, shuffled = model.predict(covariates[covariates.columns[::-1]], [12.0])
    odd = covariates.astype({"grade": object}).assign(grade="never seen", curved=np.nan)

    np.testing.assert_array_equal(shuffled, before)
    assert np.isfinite(model.predict(odd, [12.0])[1]).all()


def test_a_table_of_noise_keeps_nothing() -> None:
    rng = np.random.default_rng(0)
    noise = pd.DataFrame(rng.normal(size=(150, 6)), columns=list("abcdef"))
    time, event = rng.exponential(10.0, 150), rng.random(150) < 0.7
    settings = TabularSettings(networks=NetworkSettings(size=SMALL.size, networks=1, steps=20, batch=64))

    model = survival_model(0, settings).fit(noise, time, event)
    _, survival = model.predict(noise, [float(np.median(time))])

    assert survival.std() < 0.08
    assert model.network_share <= 0.5


def test_wrong_input_is_one_sentence() -> None:
    model = survival_model(0)
    covariates = pd.DataFrame({"a": [1.0, 2.0, 3.0]})

    with pytest.raises(NotFitted):
        model.predict(covariates, [1.0])
    with pytest.raises(ValueError, match="one time and one event"):
        model.fit(covariates, [1.0, 2.0], [1, 0])
    with pytest.raises(ValueError, match="missing, infinite or negative"):
        model.fit(covariates, [1.0, -2.0, 3.0], [1, 0, 1])
    with pytest.raises(ValueError, match="needs an event"):
        model.fit(covariates, [1.0, 2.0, 3.0], [0, 0, 0])
