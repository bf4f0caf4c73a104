"""Measures of a forecast of one follow-up, each a pure function of arrays.

Functions named ``*_of`` return a `Statistic`: the measure as a function of bootstrap weights.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pandas as pd

from inference.evaluation.bootstrap import Statistic
from inference.evaluation.metrics import BoolArray
from inference.results import FloatArray

IntArray = npt.NDArray[np.intp]

INTERVAL_SHARE = 0.80


class Sampling(StrEnum):
    """How samples were drawn; it decides which quantiles an interval is made of."""

    INDEPENDENT = "independent"
    STRATIFIED = "stratified"


_QUANTILE_METHOD = {Sampling.INDEPENDENT: "weibull", Sampling.STRATIFIED: "hazen"}


def crps(samples: npt.ArrayLike, truth: npt.ArrayLike) -> FloatArray:
    """Continuous ranked probability score of samples, by the exact formula of their empirical CDF.

    ``mean |x_i - y| - sum_ij |x_i - x_j| / (2 m^2)`` (Gneiting & Raftery 2007, J Am Stat Assoc 102:359,
    eq. 21). It is not the fair formula, which divides by m (m - 1) and is wrong for stratified samples.

    Parameters
    ----------
    samples : array, (m, ...)
    truth : array, (...)

    Returns
    -------
    array, (...)
        In the unit of the samples; lower is better, and the absolute error for one sample.
    """
    x = np.sort(np.asarray(samples, dtype=np.float64), axis=0)
    m = len(x)
    rank = (2 * np.arange(1, m + 1) - m - 1).reshape(-1, *([1] * (x.ndim - 1)))
    spread = (rank * x).sum(axis=0) / m**2
    return np.asarray(np.abs(x - np.asarray(truth)).mean(axis=0) - spread)


def central_interval(samples: FloatArray, sampling: Sampling) -> tuple[float, float]:
    """Return the central 80 % interval of samples, (m,).

    Quantiles are placed so that a calibrated forecast is covered at the nominal rate: the i-th of m
    independent samples at i / (m + 1), the i-th of m stratified ones at (i - 0.5) / m. The usual linear
    rule would cover .62 with 8 independent samples. With fewer than 9 the range of independent samples
    itself covers less: (m - 1) / (m + 1).
    """
    tail = (1 - INTERVAL_SHARE) / 2
    method = _QUANTILE_METHOD[sampling]
    low, high = np.quantile(samples, [tail, 1 - tail], method=method)  # type: ignore[call-overload]
    return float(low), float(high)


def mean_of(values: npt.ArrayLike) -> Statistic:
    """Mean over patients; patients whose value is NaN are left out."""
    v = np.asarray(values, dtype=np.float64)
    seen = np.isfinite(v)
    filled = np.where(seen, v, 0.0)

    def statistic(weights: FloatArray) -> FloatArray:
        return _ratio(weights @ filled, weights @ seen.astype(np.float64))

    return statistic


def _ratio(top: FloatArray, bottom: FloatArray) -> FloatArray:
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom != 0)


# ------------------------------------------------------------------ classes


def confusion(truth: IntArray, predicted: IntArray, classes: int, weights: FloatArray) -> FloatArray:
    """Return weighted confusion matrices, (draws, true class, predicted class).

    A negative class is one that is not known: the patient is left out.
    """
    seen = (truth >= 0) & (predicted >= 0)
    cell = np.where(seen, truth * classes + predicted, 0)
    indicator = np.zeros((len(truth), classes**2))
    indicator[np.arange(len(truth)), cell] = seen
    return np.asarray((weights @ indicator).reshape(-1, classes, classes))


def kappa_of(truth: IntArray, predicted: IntArray, classes: int, power: int) -> Statistic:
    """Weighted kappa (Cohen 1968, Psychol Bull 70:213); NaN where nothing could disagree.

    Parameters
    ----------
    truth, predicted : array of int, (patients,)
        Classes in their order, 0 to ``classes - 1``.
    power : int
        1 for linear, 2 for quadratic weights.
    """
    index = np.arange(classes)
    cost = np.abs(index[:, None] - index[None, :]).astype(np.float64) ** power

    def statistic(weights: FloatArray) -> FloatArray:
        table = confusion(truth, predicted, classes, weights)
        total = table.sum(axis=(1, 2))
        expected = table.sum(axis=2)[:, :, None] * table.sum(axis=1)[:, None, :]
        by_chance = _ratio((expected * cost).sum(axis=(1, 2)), total)
        return 1.0 - _ratio((table * cost).sum(axis=(1, 2)), by_chance)

    return statistic


def macro_f1_of(truth: IntArray, predicted: IntArray, classes: int) -> Statistic:
    """Mean F1 over the classes that occur, in the truth or in the prediction."""

    def statistic(weights: FloatArray) -> FloatArray:
        table = confusion(truth, predicted, classes, weights)
        hits = np.diagonal(table, axis1=1, axis2=2)
        both = table.sum(axis=1) + table.sum(axis=2)
        occurs = both > 0
        f1 = np.divide(2 * hits, both, out=np.zeros_like(both), where=occurs)
        return _ratio(f1.sum(axis=1), occurs.sum(axis=1).astype(np.float64))

    return statistic


def most_probable(samples: IntArray, classes: int) -> int:
    """Return the most frequent class; among equals the one nearest to the mean of the samples.

    Negative classes are not known and not counted; -1 where no sample is known.
    """
    known = samples[samples >= 0]
    if len(known) == 0:
        return -1
    counts = np.bincount(known, minlength=classes)
    tied = np.flatnonzero(counts == counts.max())
    return int(tied[np.argmin(np.abs(tied - known.mean()))])


# ------------------------------------------------------------------ discrimination


def auroc(positive: FloatArray, score: FloatArray) -> float:
    """Area under the ROC curve, ties counting a half; NaN where all patients are alike.

    Parameters
    ----------
    positive : array, (patients,)
        1 where positive, 0 where not; a patient of whom it is not known (NaN) is left out.
    score : array, (patients,)
        Higher for positive.
    """
    known = np.isfinite(positive)
    s, yes = score[known], positive[known] > 0.5
    if yes.all() or not yes.any():
        return float("nan")
    rank = pd.Series(s).rank().to_numpy()
    count = int(yes.sum())
    return float((rank[yes].sum() - count * (count + 1) / 2) / (count * int((~yes).sum())))


def auroc_of(positive: BoolArray, score: FloatArray, known: BoolArray | None = None) -> Statistic:
    """Area under the ROC curve, ties counting a half (Hanley & McNeil 1982, Radiology 143:29).

    Parameters
    ----------
    positive : array of bool, (patients,)
    score : array, (patients,)
        Higher for positive; a patient whose score is NaN is left out.
    known : array of bool, (patients,), optional
        Whether it is known if the patient is positive.
    """
    usable = np.isfinite(score) if known is None else np.isfinite(score) & known
    yes, no = np.flatnonzero(usable & positive), np.flatnonzero(usable & ~positive)
    gap = score[yes][:, None] - score[no][None, :]
    wins = (gap > 0) + 0.5 * (gap == 0)

    def statistic(weights: FloatArray) -> FloatArray:
        up, down = weights[:, yes], weights[:, no]
        return _ratio(((up @ wins) * down).sum(axis=1), up.sum(axis=1) * down.sum(axis=1))

    return statistic
