from __future__ import annotations

import numpy as np
import pytest

from inference.errors import ModelError
from inference.models.lasso_cox import LassoCox
from inference.training.lasso_cox_fit import Preparation, fit_lasso_cox
from inference.training.lasso_path import Risk, largest_penalty, lasso_path, penalties


def _patients(n: int = 160, p: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p))
    x[:, 1] = 0.8 * x[:, 0] + 0.6 * x[:, 1]
    died = rng.exponential(10.0 * np.exp(-(0.9 * x[:, 0] - 0.6 * x[:, 3])))
    left = rng.uniform(2, 40, n)
    return x, np.minimum(died, left), died <= left


def _standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=0)) / x.std(axis=0)


@pytest.mark.parametrize("ties", ["none", "months"])
def test_coefficients_are_those_of_scikit_survival(ties: str) -> None:
    from sksurv.linear_model import CoxnetSurvivalAnalysis
    from sksurv.util import Surv

    x, time, event = _patients()
    if ties == "months":
        time = np.ceil(time)
    x = _standardised(x)
    path = penalties(largest_penalty(x, time, event), 12, 0.02)
    judge = CoxnetSurvivalAnalysis(l1_ratio=1.0, alphas=path, tol=1e-12, max_iter=1_000_000)
    judge.fit(x, Surv.from_arrays(event, time))
    assert lasso_path(x, time, event, path) == pytest.approx(judge.coef_.T, abs=1e-5)


def test_gradient_and_curvature_are_those_of_the_likelihood() -> None:
    _x, time, event = _patients(25)
    risk = Risk.of(np.ceil(time), event)
    linear = np.random.default_rng(1).standard_normal(25)
    gradient, curvature = risk.derivatives(linear)
    for i in range(25):
        step = np.zeros(25)
        step[i] = 1e-4
        up, down = risk.likelihood(linear + step), risk.likelihood(linear - step)
        assert (up - down) / 2e-4 == pytest.approx(gradient[i], abs=1e-6)
        assert -(up + down - 2 * risk.likelihood(linear)) / 1e-8 == pytest.approx(curvature[i], abs=1e-4)


def test_at_the_largest_penalty_nothing_is_chosen_and_below_it_something_is() -> None:
    x, time, event = _patients()
    x = _standardised(x)
    largest = largest_penalty(x, time, event)
    beta = lasso_path(x, time, event, np.array([largest * 1.0001, largest * 0.95]))
    assert not beta[0].any()
    assert np.count_nonzero(beta[1]) == 1


def test_the_fit_finds_what_matters_and_ranks_new_patients() -> None:
    features, time, event = _patients(300, 40)
    features[::7, 5] = np.nan
    features[:, 6] = 3.0
    names = [f"f{i}" for i in range(40)]
    model = fit_lasso_cox(features, names, time, event, np.random.default_rng(2))
    assert {"f0", "f3"} <= set(model.file.names)
    assert "f6" not in model.file.names
    assert len(model.file.names) < 25
    beta = dict(zip(model.file.names, model.file.beta, strict=True))
    assert beta["f0"] > 0.3 > 0 > -0.2 > beta["f3"]
    ill = model.log_risk({"f0": 2.0, "f3": -2.0})
    assert ill > model.log_risk({"f0": np.nan, "f3": 0.0}) > model.log_risk({"f0": -2.0, "f3": 2.0})


def test_survival_agrees_with_the_share_that_lives() -> None:
    features, time, event = _patients(400, 8)
    model = fit_lasso_cox(features, [f"f{i}" for i in range(8)], time, event, np.random.default_rng(2))
    curves = np.stack(
        [
            model.survival(
                dict(zip((f"f{i}" for i in range(8)), row, strict=True)), np.array([0.0, 6.0, 12.0])
            )
            for row in features
        ]
    )
    assert (curves[:, 0] == 1.0).all()
    from lifelines import KaplanMeierFitter

    alive = KaplanMeierFitter().fit(time, event).survival_function_at_times([6.0, 12.0]).to_numpy()
    assert curves.mean(axis=0)[1:] == pytest.approx(alive, abs=0.03)


def test_noise_alone_chooses_next_to_nothing() -> None:
    rng = np.random.default_rng(5)
    features = rng.standard_normal((200, 30))
    time, event = rng.exponential(10, 200), rng.random(200) < 0.6
    model = fit_lasso_cox(features, [f"f{i}" for i in range(30)], time, event, rng)
    assert len(model.file.names) <= 6


def test_a_feature_that_is_mostly_missing_is_not_used() -> None:
    features = np.random.default_rng(0).standard_normal((50, 3))
    features[:30, 1] = np.nan
    prepared = Preparation.of(features)
    assert prepared.used.tolist() == [0, 2]
    assert np.isfinite(prepared.apply(features)).all()


def test_errors(tmp_path) -> None:
    x, time, event = _patients(80)
    rng = np.random.default_rng(0)
    with pytest.raises(ModelError, match="without events"):
        fit_lasso_cox(x, [str(i) for i in range(12)], time, np.zeros(80, dtype=bool), rng)
    with pytest.raises(ModelError, match="no feature"):
        fit_lasso_cox(np.ones((80, 2)), ["a", "b"], time, event, rng)
    model = fit_lasso_cox(x, [f"f{i}" for i in range(12)], time, event, rng)
    if model.file.names:
        with pytest.raises(ModelError, match="none of the features"):
            model.log_risk({})
    model.write(tmp_path)
    assert LassoCox.read(tmp_path) == model
    (tmp_path / "lasso_cox.json").write_text("{}")
    with pytest.raises(ModelError, match="not valid"):
        LassoCox.read(tmp_path)
