"""Division of a cohort into folds."""

from __future__ import annotations

import numpy as np

from inference.evaluation.metrics import BoolArray
from inference.results import FloatArray


def stratified_folds(
    time: FloatArray, event: BoolArray, folds: int, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Divide patients into folds, stratified by event and by tertile of time.

    Returns
    -------
    tuple of array of int
        Indices of the patients of each fold, ascending; every patient is in exactly one.
    """
    tertile = np.searchsorted(np.quantile(time, [1 / 3, 2 / 3]), time, side="left")
    stratum = tertile + 3 * event.astype(np.intp)
    shuffled = rng.permutation(len(time))
    dealt = shuffled[np.argsort(stratum[shuffled], kind="stable")]
    return tuple(np.sort(dealt[fold::folds]) for fold in range(folds))
