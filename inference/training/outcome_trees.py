"""Grow the boosted trees of an outcome model, and find how much they add to the ridge means.

Gradient boosting of regression trees (Friedman 2001, doi 10.1214/aos/1013203451) with the subsampling of
rows and columns of Friedman 2002 (doi 10.1016/S0167-9473(01)00065-2). Trees see what a line cannot:
that a regimen works by a value that matters under no other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor

from inference.models.outcome.trees import Trees
from inference.results import FloatArray
from inference.settings import Frozen

SHARES = (0.0, 0.25, 0.5, 0.75)
"""Shares of the trees in the mean that are compared on patients that neither part saw."""
_BATCH = 4000


class TreeTraining(Frozen):
    """How trees are grown.

    Chosen by cross-validation within the training patients of a simulated cohort.
    """

    trees: int = 400
    learning_rate: float = 0.03
    depth: int = 4
    rows_share: float = 0.15
    columns_share: float = 0.15
    smallest_leaf: int = 60


@dataclass(frozen=True, slots=True)
class GrownTrees:
    """Trees of all targets, and what they say of rows whose patients they did not see.

    Attributes
    ----------
    out_of_fold : array, (n, targets)
    """

    trees: Trees
    out_of_fold: FloatArray


def grow_trees(
    x: FloatArray, y: FloatArray, fold: np.ndarray, settings: TreeTraining, seed: int
) -> GrownTrees:
    """Grow trees on all rows, and cross-fitted ones that predict each fold from the others.

    Parameters
    ----------
    x : array, (n, features)
    y : array, (n, targets)
    fold : array of int, (n,)
        The rows of a patient are in one fold.
    """
    out_of_fold = np.empty_like(y)
    for k in np.unique(fold):
        held = fold == k
        grown = _grown(x[~held], y[~held], settings, seed) if (~held).any() else _constant(y, settings)
        out_of_fold[held] = in_batches(grown, x[held])
    return GrownTrees(_grown(x, y, settings, seed), out_of_fold)


def in_batches(trees: Trees, x: FloatArray) -> FloatArray:
    """Return `Trees.predict` of many rows in bounded memory."""
    parts = [trees.predict(x[i : i + _BATCH]) for i in range(0, len(x), _BATCH)]
    return np.concatenate(parts) if parts else np.zeros((0, len(trees.start)))


def share_of_trees(ridge: FloatArray, trees: FloatArray, y: FloatArray) -> FloatArray:
    """Return for each target the share of the trees with the least squared error out of fold, (targets,)."""
    errors = [((y - (1.0 - s) * ridge - s * trees) ** 2).mean(axis=0) for s in SHARES]
    best: FloatArray = np.array(SHARES)[np.argmin(np.stack(errors), axis=0)]
    return best


def _grown(x: FloatArray, y: FloatArray, settings: TreeTraining, seed: int) -> Trees:
    parts = [_of_target(x, y[:, t], settings, seed + t) for t in range(y.shape[1])]
    return Trees(
        np.array([p.start[0] for p in parts]),
        np.concatenate([p.feature for p in parts]),
        np.concatenate([p.threshold for p in parts]),
        np.concatenate([p.value for p in parts]),
    )


def _constant(y: FloatArray, settings: TreeTraining) -> Trees:
    inner, targets = 2**settings.depth - 1, y.shape[1]
    nothing = np.zeros((targets, 1, inner))
    return Trees(y.mean(axis=0), nothing, nothing, np.zeros((targets, 1, inner + 1)))


def _of_target(x: FloatArray, y: FloatArray, settings: TreeTraining, seed: int) -> Trees:
    if settings.rows_share * len(y) < 2 * settings.smallest_leaf:
        return _constant(y[:, None], settings)
    boosted = GradientBoostingRegressor(
        n_estimators=settings.trees,
        learning_rate=settings.learning_rate,
        max_depth=settings.depth,
        subsample=settings.rows_share,
        max_features=settings.columns_share,
        min_samples_leaf=settings.smallest_leaf,
        random_state=seed,
    ).fit(x, y)
    inner = 2**settings.depth - 1
    feature = np.zeros((1, settings.trees, inner))
    threshold = np.full((1, settings.trees, inner), np.inf)
    value = np.zeros((1, settings.trees, inner + 1))
    for k, regressor in enumerate(boosted.estimators_[:, 0]):
        grown = regressor.tree_
        _lay_out(grown, 0, 0, feature[0, k], threshold[0, k], value[0, k])
    start = np.array([float(boosted.init_.constant_.ravel()[0])])
    return Trees(start, feature, threshold, settings.learning_rate * value)


def _lay_out(
    grown: object, node: int, place: int, feature: FloatArray, threshold: FloatArray, value: FloatArray
) -> None:
    """Copy a grown tree into the layout of `Trees`, from one of its nodes on."""
    left, right = int(grown.children_left[node]), int(grown.children_right[node])  # type: ignore[attr-defined]
    if left < 0:
        while place < len(feature):
            place = 2 * place + 1
        value[place - len(feature)] = grown.value[node, 0, 0]  # type: ignore[attr-defined]
        return
    feature[place] = grown.feature[node]  # type: ignore[attr-defined]
    threshold[place] = grown.threshold[node]  # type: ignore[attr-defined]
    _lay_out(grown, left, 2 * place + 1, feature, threshold, value)
    _lay_out(grown, right, 2 * place + 2, feature, threshold, value)
