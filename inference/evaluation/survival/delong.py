"""DeLong's comparison of two areas under the ROC curve, of the same patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from inference.evaluation.bootstrap import CONFIDENCE
from inference.evaluation.metrics import BoolArray
from inference.results import FloatArray


@dataclass(frozen=True, slots=True)
class PairedAuc:
    """Two areas, their covariance and the test of their difference.

    Attributes
    ----------
    first, second : float
    covariance : array, (2, 2)
    difference, lower, upper : float
        ``first - second`` with its 95 % limits.
    z, p : float
        Two-sided; 0 and 1 where the scores rank all patients alike.
    """

    first: float
    second: float
    covariance: FloatArray
    difference: float
    lower: float
    upper: float
    z: float
    p: float


def delong(positive: BoolArray, first: npt.ArrayLike, second: npt.ArrayLike) -> PairedAuc:
    """Compare the areas of two scores; ties count a half.

    It is for an outcome known of every patient, such as response. For survival at a time with censored
    patients, take the paired bootstrap of `dynamic_auc_of`.

    Parameters
    ----------
    positive : array of bool, (n,)
        At least two patients of each kind.
    first, second : array, (n,)
        Higher for positive.

    Raises
    ------
    ValueError
        Fewer than two patients of a kind, a score that is NaN, or lengths that differ.

    References
    ----------
    DeLong et al. 1988, Biometrics 44:837; by ranks: Sun & Xu 2014, IEEE Signal Process Lett 21:1389.
    """
    yes = np.asarray(positive).astype(np.bool_)
    scores = np.stack([np.asarray(s, dtype=np.float64) for s in (first, second)])
    if scores.shape[1:] != yes.shape or not np.isfinite(scores).all():
        raise ValueError("there must be one finite score of each kind for each patient")
    m, n = int(yes.sum()), int((~yes).sum())
    if min(m, n) < 2:
        raise ValueError("DeLong's test needs at least two patients with the outcome and two without")
    among_all = stats.rankdata(scores, axis=1)
    # A patient's share of pairs won is the rank among all less the rank among its own kind.
    wins = (among_all[:, yes] - stats.rankdata(scores[:, yes], axis=1)) / n
    losses = 1.0 - (among_all[:, ~yes] - stats.rankdata(scores[:, ~yes], axis=1)) / m
    auc = wins.mean(axis=1)
    covariance = np.cov(wins) / m + np.cov(losses) / n
    difference = float(auc[0] - auc[1])
    error = float(np.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0.0)))
    z = difference / error if error > 1e-12 else 0.0
    reach = error * float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    return PairedAuc(
        float(auc[0]),
        float(auc[1]),
        np.asarray(covariance),
        difference,
        difference - reach,
        difference + reach,
        z,
        float(2 * stats.norm.sf(abs(z))),
    )
