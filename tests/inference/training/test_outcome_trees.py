"""Trees as arrays give what the library that grew them gives; their share is what the data ask for."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingRegressor

from inference.training.outcome_trees import TreeTraining, grow_trees, in_batches, share_of_trees

SETTINGS = TreeTraining(
    trees=30, learning_rate=0.1, depth=3, rows_share=0.5, columns_share=0.5, smallest_leaf=9
)


def _rows(n: int = 900) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(n, 6))
    crossed = np.where(x[:, 0] > 0, 1.5 * x[:, 1], -1.5 * x[:, 1])
    line = x[:, 2] - 0.5 * x[:, 3]
    y = np.stack([crossed, line], axis=1) + 0.3 * rng.normal(size=(n, 2))
    return x, y, np.arange(n) % 5


def test_arrays_predict_what_the_library_predicts() -> None:
    x, y, fold = _rows()
    trees = grow_trees(x, y, fold, SETTINGS, seed=7).trees
    for target in range(2):
        library = GradientBoostingRegressor(
            n_estimators=30, learning_rate=0.1, max_depth=3, subsample=0.5, max_features=0.5,
            min_samples_leaf=9, random_state=7 + target,
        ).fit(x, y[:, target])  # fmt: skip
        assert in_batches(trees, x)[:, target] == pytest.approx(library.predict(x), abs=1e-9)


def test_no_row_is_predicted_by_trees_that_saw_it() -> None:
    x, y, fold = _rows()
    rng = np.random.default_rng(0)
    luck = rng.normal(size=(len(y), 1))
    found = grow_trees(x, luck, fold, SETTINGS, seed=0)
    assert abs(np.corrcoef(found.out_of_fold[:, 0], luck[:, 0])[0, 1]) < 0.15
    assert np.corrcoef(in_batches(found.trees, x)[:, 0], luck[:, 0])[0, 1] > 0.3


def test_trees_have_a_share_where_a_line_does_not_do() -> None:
    x, y, fold = _rows()
    line = np.empty_like(y)
    for k in range(5):
        fit = np.linalg.lstsq(x[fold != k], y[fold != k], rcond=None)[0]
        line[fold == k] = x[fold == k] @ fit
    share = share_of_trees(line, grow_trees(x, y, fold, SETTINGS, seed=0).out_of_fold, y)
    assert share[0] >= 0.5
    assert share[1] <= 0.25


def test_few_rows_grow_no_trees() -> None:
    x, y, fold = _rows(30)
    found = grow_trees(x, y, fold, TreeTraining(), seed=0)
    assert in_batches(found.trees, x) == pytest.approx(np.broadcast_to(y.mean(axis=0), y.shape))
