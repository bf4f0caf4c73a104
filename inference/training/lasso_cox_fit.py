"""Fitting a lasso Cox model: penalty by inner cross-validation, features prepared inside each fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.errors import ModelError
from inference.evaluation.metrics import BoolArray
from inference.models.lasso_cox import CLIP_SD, LassoCox, LassoCoxFile
from inference.results import FloatArray
from inference.training.cox_fit import baseline_hazard
from inference.training.lasso_path import Lasso, Risk, largest_penalty, lasso_path, penalties

_MOST_MISSING = 0.5
_PATIENCE = 8


@dataclass(frozen=True, slots=True)
class Preparation:
    """How features become covariates: which are used, and how they are standardised.

    Attributes
    ----------
    used : array of int
        Features that are known for at least half of the patients and that differ between them.
    mean, sd : array, (used,)
    """

    used: np.ndarray
    mean: FloatArray
    sd: FloatArray

    @classmethod
    def of(cls, features: FloatArray) -> Preparation:
        """Learn from the features of training patients, (n, p), NaN for what is missing."""
        known = np.isfinite(features)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, features, 0.0).sum(axis=0) / count
        variance = np.where(known, (features - mean) ** 2, 0.0).sum(axis=0) / count
        sd = np.sqrt(variance)
        used = np.flatnonzero(
            (known.mean(axis=0) >= _MOST_MISSING) & (sd > 1e-9 * np.maximum(1.0, abs(mean)))
        )
        return cls(used, mean[used], sd[used])

    def apply(self, features: FloatArray) -> FloatArray:
        """Return covariates (n, used); a missing value is the mean, far ones count as five deviations."""
        scaled = (features[:, self.used] - self.mean) / self.sd
        return np.clip(np.nan_to_num(scaled, nan=0.0), -CLIP_SD, CLIP_SD)


def fit_lasso_cox(
    features: FloatArray,
    names: Sequence[str],
    time: FloatArray,
    event: BoolArray,
    rng: np.random.Generator,
    folds: int = 5,
) -> LassoCox:
    """Fit a lasso Cox model; only the patients given are used, for the penalty as well.

    Parameters
    ----------
    features : array, (n, p)
        NaN for what is missing.
    time, event : array, (n,)
        Months, and whether the event was seen.
    rng : Generator
        Draws the inner folds.

    Raises
    ------
    ModelError
        Nobody had an event, or no feature is usable.
    """
    prepared = Preparation.of(features)
    if not len(prepared.used):
        raise ModelError("no feature is known for half of the patients and differs between them")
    x = prepared.apply(features)
    path = penalties(largest_penalty(x, time, event))
    scores = cross_validated(features, time, event, path, rng, folds)
    chosen = int(np.argmax(scores))
    beta = lasso_path(x, time, event, path[: chosen + 1])[-1]
    kept = np.flatnonzero(beta)
    moments = np.unique(time[event])
    baseline = baseline_hazard(x[:, kept], time, event, beta[kept], moments)
    return LassoCox(
        LassoCoxFile(
            names=tuple(names[int(i)] for i in prepared.used[kept]),
            mean=tuple(prepared.mean[kept].tolist()),
            sd=tuple(prepared.sd[kept].tolist()),
            beta=tuple(beta[kept].tolist()),
            times=tuple(moments.tolist()),
            hazard=tuple(baseline.hazard.tolist()),
            penalty=float(path[chosen]),
        )
    )


def cross_validated(
    features: FloatArray,
    time: FloatArray,
    event: BoolArray,
    path: FloatArray,
    rng: np.random.Generator,
    folds: int,
) -> FloatArray:
    """Return the cross-validated log partial likelihood at each penalty (Verweij & van Houwelingen 1993).

    Minus infinity at penalties far below the best one, which are not tried.
    """
    parts = [_Fold.of(features, time, event, f) for f in _folds(event, folds, rng) if event[f].any()]
    total = np.full(len(path), -np.inf)
    for place, penalty in enumerate(path.tolist()):
        total[place] = sum(part.gain(penalty) for part in parts)
        # Weaker penalties only fit noise from here on, and take long.
        if place - int(np.argmax(total)) >= _PATIENCE:
            break
    return total


@dataclass(frozen=True, slots=True)
class _Fold:
    """The patients that are fitted, prepared by themselves, and everybody."""

    inside: FloatArray
    everyone: FloatArray
    part: Risk
    whole: Risk
    lasso: Lasso

    @classmethod
    def of(cls, features: FloatArray, time: FloatArray, event: BoolArray, keep: BoolArray) -> _Fold:
        prepared = Preparation.of(features[keep])
        inside = prepared.apply(features[keep])
        return cls(
            inside,
            prepared.apply(features),
            Risk.of(time[keep], event[keep]),
            Risk.of(time, event),
            Lasso(inside, time[keep], event[keep]),
        )

    def gain(self, penalty: float) -> float:
        """Return the likelihood of everybody less that of the fitted patients."""
        beta = self.lasso.at(penalty)
        everybody = self.whole.likelihood((self.everyone @ beta)[self.whole.order])
        return everybody - self.part.likelihood((self.inside @ beta)[self.part.order])


def _folds(event: BoolArray, folds: int, rng: np.random.Generator) -> list[BoolArray]:
    """Return for each fold who is fitted."""
    fold = _stratified(event, folds, rng)
    return [np.asarray(fold != number) for number in range(folds)]


def _stratified(event: BoolArray, folds: int, rng: np.random.Generator) -> np.ndarray:
    fold = np.zeros(len(event), dtype=int)
    for seen in (True, False):
        members = rng.permutation(np.flatnonzero(event == seen))
        fold[members] = np.arange(len(members)) % folds
    return fold
