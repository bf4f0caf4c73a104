"""Random survival data with heavy censoring, and with ties in time and in risk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sksurv.util import Surv

from inference.evaluation.survival.follow_up import FollowUp

SEEDS = range(8)


@dataclass(frozen=True)
class Sample:
    """A training and a test group; odd seeds have many ties."""

    train: FollowUp
    test: FollowUp
    risk: np.ndarray
    times: np.ndarray

    def survival(self) -> np.ndarray:
        """Predicted survival of the test group, somewhat wrong, (n, m)."""
        return np.exp(-np.exp(0.5 * self.risk)[:, None] * self.times[None, :] / 15)


def draw(n: int, seed: int, slope: float = 0.7, lost_after: float = 15.0, step: float = 0.01) -> tuple:
    """Return follow-up and the log relative hazard of an exponential model of scale 20."""
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=n)
    died = rng.exponential(20 * np.exp(-slope * risk))
    left = rng.exponential(lost_after, size=n)
    time = np.ceil(np.minimum(died, left) / step) * step
    return FollowUp(time, died <= left), risk


def sample(seed: int) -> Sample:
    """Return 120 training and up to 140 test patients, with roughly two thirds censored."""
    train, _ = draw(120, 1000 + seed, step=2.0 if seed % 2 else 0.01)
    test, risk = draw(140, seed, step=2.0 if seed % 2 else 0.01)
    risk = np.round(risk, 1 if seed % 2 else 6)
    # The judge wants the times of the test inside those of the training.
    inside = np.flatnonzero(test.time < train.time[train.time.argmax()])
    test, risk = test.of(inside), risk[inside]
    times = np.unique(np.quantile(test.time, np.linspace(0.1, 0.8, 8)))
    return Sample(train, test, risk, times)


def surv(follow_up: FollowUp) -> np.ndarray:
    """Return follow-up as scikit-survival takes it."""
    return Surv.from_arrays(follow_up.event, follow_up.time)
