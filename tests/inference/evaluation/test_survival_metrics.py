"""Metrics against scikit-survival, and by hand where it has no equivalent."""

from __future__ import annotations

import numpy as np
import pytest
from sksurv import metrics as judge
from sksurv.nonparametric import CensoringDistributionEstimator, kaplan_meier_estimator
from sksurv.util import Surv

from inference.evaluation import metrics
from inference.evaluation.splits import stratified_folds

TOLERANCE = 1e-5


class Sample:
    """A training half and a test half; odd seeds have many ties in time and in risk."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        step = 1.0 if seed % 2 else 0.01
        self.risk = np.round(rng.normal(size=160), 1 if seed % 2 else 6)
        died = rng.exponential(20 * np.exp(-0.7 * self.risk))
        left = rng.exponential(30, size=160)
        self.time = np.ceil(np.minimum(died, left) / step) * step
        self.event = died <= left
        self.train, self.test = slice(0, 90), slice(90, 160)
        # The judge wants test times inside the training times, and evaluation times inside the test's.
        inside = self.time[self.test] < self.time[self.train].max()
        self.keep = np.flatnonzero(inside) + 90
        kept = self.time[self.keep]
        self.times = np.unique(np.linspace(kept.min(), 0.8 * kept.max(), 12))

    def surv(self, part) -> np.ndarray:
        return Surv.from_arrays(self.event[part], self.time[part])

    def of(self, part) -> tuple[np.ndarray, np.ndarray]:
        return self.time[part], self.event[part]


@pytest.fixture(params=range(6))
def sample(request: pytest.FixtureRequest) -> Sample:
    return Sample(request.param)


def test_harrell_c(sample: Sample) -> None:
    expected = judge.concordance_index_censored(sample.event, sample.time, sample.risk)[0]
    assert metrics.harrell_c(sample.time, sample.event, sample.risk) == pytest.approx(expected, abs=TOLERANCE)


def test_uno_c(sample: Sample) -> None:
    k, tau = sample.keep, float(sample.times[-1])
    expected = judge.concordance_index_ipcw(sample.surv(sample.train), sample.surv(k), sample.risk[k], tau)[0]
    found = metrics.uno_c(*sample.of(sample.train), *sample.of(k), sample.risk[k], tau)
    assert found == pytest.approx(expected, abs=TOLERANCE)


def test_brier_scores(sample: Sample) -> None:
    k = sample.keep
    survival = np.exp(-np.exp(0.5 * sample.risk[k])[:, None] * sample.times[None, :] / 20)
    train, test = sample.surv(sample.train), sample.surv(k)
    _, expected = judge.brier_score(train, test, survival, sample.times)
    found = metrics.brier_score(*sample.of(sample.train), *sample.of(k), survival, sample.times)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    integrated = judge.integrated_brier_score(train, test, survival, sample.times)
    assert metrics.integrated_brier_score(found, sample.times) == pytest.approx(integrated, abs=TOLERANCE)


def test_kaplan_meier(sample: Sample) -> None:
    times, expected = kaplan_meier_estimator(sample.event, sample.time)
    curve = metrics.kaplan_meier(sample.time, sample.event)
    np.testing.assert_allclose(curve(times), expected, atol=TOLERANCE)
    assert curve(0.0) == 1.0


def test_censoring_distribution(sample: Sample) -> None:
    expected = CensoringDistributionEstimator().fit(sample.surv(slice(None)))
    times = np.unique(sample.time)[:-1]
    found = metrics.censoring_survival(sample.time, sample.event)(times)
    np.testing.assert_allclose(found, expected.predict_proba(times), atol=TOLERANCE)


def test_nothing_to_compare_is_an_error() -> None:
    time, event = np.array([1.0, 2.0]), np.array([False, False])
    with pytest.raises(ValueError, match="no pair"):
        metrics.harrell_c(time, event, np.array([0.0, 1.0]))


def test_weights_beyond_the_last_training_patient_are_an_error() -> None:
    train = (np.array([1.0, 2.0]), np.array([True, False]))
    with pytest.raises(ValueError, match="censored"):
        metrics.uno_c(*train, np.array([3.0, 5.0]), np.array([True, True]), np.array([1.0, 0.0]), 10.0)


def test_calibration_groups_compare_with_kaplan_meier() -> None:
    time = np.arange(1.0, 31.0)
    event = np.ones(30, dtype=bool)
    survival = np.linspace(0.2, 0.8, 30)
    groups = metrics.calibration_groups(time, event, survival, at=15.0, groups=3)
    assert [g.n for g in groups] == [10, 10, 10]
    assert [g.observed for g in groups] == pytest.approx([0.0, 0.5, 1.0])
    assert groups[0].predicted == pytest.approx(survival[:10].mean())


@pytest.mark.parametrize("seed", range(5))
def test_folds_share_events_and_times(seed: int) -> None:
    sample = Sample(0)
    folds = stratified_folds(sample.time, sample.event, 5, np.random.default_rng(seed))
    assert sorted(np.concatenate(folds).tolist()) == list(range(160))
    early = sample.time <= np.quantile(sample.time, 1 / 3)
    for flag in (sample.event, early, early & sample.event):
        counts = [int(flag[fold].sum()) for fold in folds]
        assert max(counts) - min(counts) <= 2
    again = stratified_folds(sample.time, sample.event, 5, np.random.default_rng(seed))
    assert all(np.array_equal(a, b) for a, b in zip(folds, again, strict=True))
