from __future__ import annotations

import numpy as np
import pytest

from inference.errors import ModelError
from inference.training.seed_systems.dlop_figures import youden_cut
from inference.training.seed_systems.factor_cox import chosen_factors, fit_factor_cox, log_risks
from inference.training.seed_systems.landmark import Landmarked


def _data(n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(n, 4))
    x[:, 3] = 1.0
    time = rng.exponential(10.0 / np.exp(0.8 * x[:, 0] - 0.5 * x[:, 1]))
    x[rng.random(n) < 0.1, 1] = np.nan
    return x, np.minimum(time, 25.0), time <= 25.0


def test_factors_that_matter_are_chosen_and_others_are_not() -> None:
    x, time, event = _data()
    assert chosen_factors(x, time, event).tolist() == [0, 1]
    # What is always taken is taken; what never differs is not.
    assert chosen_factors(x, time, event, always=(2, 3)).tolist() == [0, 1, 2]


def test_coefficients_are_recovered_and_a_missing_value_is_average() -> None:
    x, time, event = _data(2000)
    names = ("a", "b", "c", "same")
    model = fit_factor_cox(x, names, time, event)
    assert model.file.names == ("a", "b", "c")
    per_unit = np.array(model.file.beta) / np.array(model.file.sd)
    np.testing.assert_allclose(per_unit, [0.8, -0.5, 0.0], atol=0.1)
    risks = log_risks(model, np.array([[model.file.mean[0], np.nan, np.nan, 1.0], [np.nan] * 4]), names)
    np.testing.assert_allclose(risks, 0.0, atol=1e-12)


def test_no_usable_factor_is_refused() -> None:
    with pytest.raises(ModelError, match="no factor"):
        fit_factor_cox(np.ones((5, 2)), ("a", "b"), np.arange(1.0, 6.0), np.ones(5, dtype=bool))


def _followed(months: list[float], event: list[bool]) -> Landmarked:
    n = len(months)
    return Landmarked(
        tuple(map(str, range(n))), np.array(months), np.array(event), np.full(n, np.nan), 0, 0, 0
    )


def test_youdens_cut_parts_those_who_died_from_those_who_did_not() -> None:
    # Dead by 33 months after the landmark; the fifth left before and says nothing.
    followed = _followed([5.0, 20.0, 40.0, 50.0, 3.0, 35.0], [True, True, True, False, False, True])
    survival = np.array([0.2, 0.3, 0.7, 0.6, 0.1, 0.5])
    cut = youden_cut(survival, followed, 3.0)
    assert cut == pytest.approx(0.4)


def test_there_is_no_cut_where_all_died_or_nobody_did() -> None:
    assert youden_cut(np.array([0.2, 0.3]), _followed([5.0, 6.0], [True, True]), 3.0) is None
    assert youden_cut(np.array([0.2, 0.3]), _followed([50.0, 60.0], [True, True]), 3.0) is None
