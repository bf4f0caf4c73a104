"""Concordance, dynamic AUC and DeLong against scikit-survival, lifelines and slow direct computation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sksurv import metrics as judge

from inference.evaluation.bootstrap import patient_weights
from inference.evaluation.survival.concordance import harrell_c, harrell_of, uno_c, uno_of
from inference.evaluation.survival.delong import delong
from inference.evaluation.survival.dynamic_auc import dynamic_auc, dynamic_auc_of
from inference.evaluation.survival.follow_up import FollowUp
from tests.inference.evaluation.survival.survival_samples import SEEDS, Sample, draw, sample, surv

TOLERANCE = 1e-5


@pytest.fixture(params=SEEDS)
def data(request: pytest.FixtureRequest) -> Sample:
    return sample(request.param)


def test_harrell_equals_the_judge(data: Sample) -> None:
    expected = judge.concordance_index_censored(data.test.event, data.test.time, data.risk)[0]
    assert harrell_c(data.test, data.risk) == pytest.approx(expected, abs=TOLERANCE)


def test_uno_equals_the_judge(data: Sample) -> None:
    tau = float(data.times[-1])
    expected = judge.concordance_index_ipcw(surv(data.train), surv(data.test), data.risk, tau)[0]
    assert uno_c(data.train, data.test, data.risk, tau) == pytest.approx(expected, abs=TOLERANCE)


def test_dynamic_auc_equals_the_judge(data: Sample) -> None:
    expected, mean = judge.cumulative_dynamic_auc(surv(data.train), surv(data.test), data.risk, data.times)
    found = dynamic_auc(data.train, data.test, data.risk, data.times)
    np.testing.assert_allclose(found.auc, expected, atol=TOLERANCE)
    assert found.mean == pytest.approx(mean, abs=TOLERANCE)


def test_dynamic_auc_with_a_risk_for_each_time(data: Sample) -> None:
    risk = 1 - data.survival() + 0.1 * np.sin(data.risk[:, None] * np.arange(len(data.times)))
    expected, _ = judge.cumulative_dynamic_auc(surv(data.train), surv(data.test), risk, data.times)
    np.testing.assert_allclose(
        dynamic_auc(data.train, data.test, risk, data.times).auc, expected, atol=TOLERANCE
    )


def test_weights_are_copies_of_patients(data: Sample) -> None:
    """A draw by weights is the judge's figure of the same patients written out, ties and all."""
    weights = patient_weights(len(data.test), 5, np.random.default_rng(1))
    tau, middle = float(data.times[-1]), float(data.times[4])
    c = harrell_of(data.test, data.risk)(weights)
    uno = uno_of(data.train, data.test, data.risk, tau)(weights)
    auc = dynamic_auc_of(data.train, data.test, data.risk, middle)(weights)
    for i, row in enumerate(weights):
        drawn = np.repeat(np.arange(len(data.test)), row.astype(int))
        copies, risk = data.test.of(drawn), data.risk[drawn]
        assert c[i] == pytest.approx(
            judge.concordance_index_censored(copies.event, copies.time, risk)[0], abs=1e-9
        )
        expected = judge.concordance_index_ipcw(surv(data.train), surv(copies), risk, tau)[0]
        assert uno[i] == pytest.approx(expected, abs=TOLERANCE)
        expected = judge.cumulative_dynamic_auc(surv(data.train), surv(copies), risk, [middle])[0][0]
        assert auc[i] == pytest.approx(expected, abs=TOLERANCE)


def test_a_draw_estimates_censoring_anew_where_patients_are_their_own_reference(data: Sample) -> None:
    weights = patient_weights(len(data.test), 4, np.random.default_rng(2))
    tau, middle = float(data.times[-2]), float(data.times[3])
    uno = uno_of(data.test, data.test, data.risk, tau)(weights)
    auc = dynamic_auc_of(data.test, data.test, data.risk, middle)(weights)
    for i, row in enumerate(weights):
        drawn = np.repeat(np.arange(len(data.test)), row.astype(int))
        copies, risk = surv(data.test.of(drawn)), data.risk[drawn]
        expected = judge.concordance_index_ipcw(copies, copies, risk, tau)[0]
        assert uno[i] == pytest.approx(expected, abs=TOLERANCE)
        expected = judge.cumulative_dynamic_auc(copies, copies, risk, [middle])[0][0]
        assert auc[i] == pytest.approx(expected, abs=TOLERANCE)


def test_fractional_weights_and_many_blocks() -> None:
    follow_up, risk = draw(900, 3, step=1.0)
    weights = np.random.default_rng(0).uniform(size=(2, 900))
    t, e, r = follow_up.time, follow_up.event, np.round(risk, 1)
    pair = e[:, None] & ((t[:, None] < t) | ((t[:, None] == t) & ~e))
    win = (r[:, None] > r + 1e-8) + 0.5 * (np.abs(r[:, None] - r) <= 1e-8)
    expected = [(np.outer(w, w) * pair * win).sum() / (np.outer(w, w) * pair).sum() for w in weights]
    np.testing.assert_allclose(harrell_of(follow_up, r)(weights), expected, rtol=1e-12)


def test_a_draw_without_pairs_is_not_a_number() -> None:
    follow_up = FollowUp(np.array([1.0, 2.0, 3.0]), np.array([True, False, False]))
    found = harrell_of(follow_up, [3.0, 2.0, 1.0])(np.array([[0.0, 2.0, 1.0], [1.0, 1.0, 1.0]]))
    assert np.isnan(found[0])
    assert found[1] == 1.0


def _slow_delong(positive: np.ndarray, scores: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Structural components, pair by pair: DeLong 1988, eq. 2 to 6."""
    areas, of_cases, of_controls = [], [], []
    for s in scores:
        wins = [[1.0 if x > y else 0.5 if x == y else 0.0 for y in s[~positive]] for x in s[positive]]
        areas.append(np.mean(wins))
        of_cases.append(np.mean(wins, axis=1))
        of_controls.append(np.mean(wins, axis=0))
    m, n = positive.sum(), (~positive).sum()
    return np.array(areas), np.cov(of_cases) / m + np.cov(of_controls) / n


@pytest.mark.parametrize("seed", range(6))
def test_delong_equals_direct_computation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.uniform(size=60) < 0.4
    scores = [np.round(positive * k + rng.normal(size=60), seed % 2) for k in (1.0, 0.6)]
    areas, covariance = _slow_delong(positive, scores)
    found = delong(positive, *scores)
    assert (found.first, found.second) == pytest.approx(tuple(areas), abs=1e-12)
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-12)
    z = (areas[0] - areas[1]) / np.sqrt(np.array([1, -1]) @ covariance @ np.array([1, -1]))
    assert found.z == pytest.approx(z)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(z)))
    assert found.lower < found.difference < found.upper


def test_delong_of_a_score_with_itself() -> None:
    rng = np.random.default_rng(0)
    positive, score = rng.uniform(size=40) < 0.5, rng.normal(size=40)
    found = delong(positive, score, 3 * score + 1)
    assert (found.difference, found.z, found.p) == (0.0, 0.0, 1.0)


def test_delong_keeps_its_level() -> None:
    """Two scores of equal worth differ at the 5 % level in about 5 % of studies."""
    rng = np.random.default_rng(4)
    rejected = 0
    for _ in range(1000):
        positive = rng.uniform(size=120) < 0.5
        shared = positive + rng.normal(size=120)
        first, second = (shared + rng.normal(size=120) for _ in range(2))
        rejected += delong(positive, first, second).p < 0.05
    assert 0.035 < rejected / 1000 < 0.066


def _bad(time: list[float], event: list[bool], risk: list[float]) -> tuple[FollowUp, list[float]]:
    return FollowUp(np.array(time), np.array(event)), risk


def test_bad_input_of_concordance() -> None:
    with pytest.raises(ValueError, match="no event"):
        harrell_c(*_bad([1, 2], [False, False], [0, 1]))
    with pytest.raises(ValueError, match="missing"):
        harrell_c(*_bad([1, 2], [True, False], [np.nan, 1]))
    with pytest.raises(ValueError, match="no pair"):
        harrell_c(*_bad([1, 1], [True, True], [0, 1]))
    with pytest.raises(ValueError, match="each patient"):
        harrell_c(*_bad([1, 2], [True, False], [0]))


def test_bad_input_of_weighted_measures() -> None:
    train = FollowUp(np.array([1.0, 2.0]), np.array([True, False]))
    test, risk = _bad([3.0, 5.0, 6.0], [True, True, False], [1.0, 0.0, 2.0])
    with pytest.raises(ValueError, match="censored before the last event"):
        uno_c(train, test, risk, 10.0)
    with pytest.raises(ValueError, match="no event was seen before tau"):
        uno_c(test, test, risk, 2.0)
    with pytest.raises(ValueError, match="beyond"):
        dynamic_auc(test, test, risk, [4.0, 6.0])
    with pytest.raises(ValueError, match="no event"):
        dynamic_auc(test, test, risk, [2.0])


@pytest.mark.parametrize(
    ("time", "event"),
    [([], []), ([1.0], [True, False]), ([np.nan], [True]), ([-1.0], [True]), ([1.0], [2])],
)
def test_follow_up_refuses(time: list, event: list) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each reason is a sentence of its own
        FollowUp(np.array(time), np.array(event))
