"""Agreement of readers on a scale, each a pure function of a table of scores.

Scores are an array of float (items, readers); NaN where a reader gave none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import f as f_distribution

from inference.results import FloatArray


def fleiss_kappa(scores: FloatArray) -> float:
    """Agreement above chance of several readers on nominal categories (Fleiss 1971, Psychol Bull 76:378).

    Items that not every reader scored are left out; NaN without items or where all scores are equal.
    """
    whole = scores[np.isfinite(scores).all(axis=1)]
    items, readers = whole.shape
    if items == 0 or readers < 2:
        return float("nan")
    counts = np.stack([(whole == c).sum(axis=1) for c in np.unique(whole)], axis=1)
    agreement = ((counts**2).sum(axis=1) - readers) / (readers * (readers - 1))
    by_chance = float(((counts.sum(axis=0) / (items * readers)) ** 2).sum())
    return float((agreement.mean() - by_chance) / (1 - by_chance)) if by_chance < 1 else float("nan")


@dataclass(frozen=True, slots=True)
class Reliability:
    """An intraclass correlation with its 95 % limits."""

    value: float
    lower: float
    upper: float


def icc_2_1(scores: FloatArray, confidence: float = 0.95) -> Reliability:
    """ICC(2,1): two-way random effects, absolute agreement, one reader (Shrout & Fleiss 1979).

    Limits by McGraw & Wong 1996, Psychol Methods 1:30, table 7, case 2A. Items that not every reader
    scored are left out.
    """
    whole = scores[np.isfinite(scores).all(axis=1)]
    n, k = whole.shape
    nan = float("nan")
    if n < 2 or k < 2:
        return Reliability(nan, nan, nan)
    mean = whole.mean()
    between_items = k * ((whole.mean(axis=1) - mean) ** 2).sum() / (n - 1)
    between_readers = n * ((whole.mean(axis=0) - mean) ** 2).sum() / (k - 1)
    residual = whole - whole.mean(axis=1, keepdims=True) - whole.mean(axis=0) + mean
    error = (residual**2).sum() / ((n - 1) * (k - 1))
    bottom = between_items + (k - 1) * error + k * (between_readers - error) / n
    if bottom <= 0 or error <= 0:
        return Reliability(1.0 if error <= 0 < between_items and between_readers == 0 else nan, nan, nan)
    icc = float((between_items - error) / bottom)
    lower, upper = _limits(icc, (between_items, between_readers, error), (n, k), confidence)
    return Reliability(icc, lower, upper)


def _limits(
    icc: float, squares: tuple[float, float, float], size: tuple[int, int], confidence: float
) -> tuple[float, float]:
    items, readers, error = squares
    n, k = size
    a = k * icc / (n * (1 - icc))
    b = 1 + k * icc * (n - 1) / (n * (1 - icc))
    freedom = (a * readers + b * error) ** 2 / (
        (a * readers) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1))
    )
    tail = 1 - (1 - confidence) / 2
    down = float(f_distribution.ppf(tail, n - 1, freedom))
    up = float(f_distribution.ppf(tail, freedom, n - 1))
    rest = k * readers + (k * n - k - n) * error
    lower = n * (items - down * error) / (down * rest + n * items)
    upper = n * (up * items - error) / (rest + n * up * items)
    return float(lower), float(upper)


def krippendorff_alpha(scores: FloatArray) -> float:
    """Krippendorff's alpha for ordinal scores; items with one score or none are left out.

    Krippendorff 2011, Computing Krippendorff's alpha-reliability; ordinal differences are the number of
    scores between two values, each end counted a half. NaN where all scores are equal.
    """
    present = np.isfinite(scores)
    values = np.unique(scores[present])
    counts = (
        np.stack([((scores == v) & present).sum(axis=1) for v in values], axis=1) if len(values) else None
    )
    if counts is None:
        return float("nan")
    counts = counts[counts.sum(axis=1) >= 2].astype(np.float64)
    if len(counts) == 0:
        return float("nan")
    of_item = counts.sum(axis=1)
    pairs = counts.T @ (counts / (of_item - 1)[:, None]) - np.diag(
        (counts / (of_item - 1)[:, None]).sum(axis=0)
    )
    marginal = pairs.sum(axis=1)
    distance = _ordinal_distance(marginal)
    total = marginal.sum()
    expected = (np.outer(marginal, marginal) * distance).sum() / (total - 1)
    return float(1 - (pairs * distance).sum() / expected) if expected > 0 else float("nan")


def _ordinal_distance(marginal: FloatArray) -> FloatArray:
    running = np.cumsum(marginal)
    middle = running - marginal / 2
    return np.asarray((middle[:, None] - middle[None, :]) ** 2)
