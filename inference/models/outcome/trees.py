"""Boosted regression trees as arrays: what is served does not depend on the library that grew them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.results import FloatArray


@dataclass(frozen=True, slots=True)
class Trees:
    """Sums of complete binary trees, one sum for each target (t targets, k trees, depth d).

    A row goes right in a node where its feature exceeds the threshold. The children of node `i` are
    `2 i + 1` and `2 i + 2`; a tree that ends earlier sends every row left from there on.

    Attributes
    ----------
    start : array, (t,)
        What the trees add to.
    feature, threshold : array, (t, k, 2^d - 1)
    value : array, (t, k, 2^d)
        What each leaf adds.
    """

    start: FloatArray
    feature: FloatArray
    threshold: FloatArray
    value: FloatArray

    def predict(self, x: FloatArray) -> FloatArray:
        """Return the sums for rows of features, (rows, features), as (rows, t)."""
        targets, count, inner = self.feature.shape
        feature = self.feature.astype(np.intp).reshape(-1, inner)
        threshold, value = self.threshold.reshape(-1, inner), self.value.reshape(-1, inner + 1)
        tree = np.arange(targets * count)[None]
        node = np.zeros((len(x), targets * count), dtype=np.intp)
        row = np.arange(len(x))[:, None]
        for _ in range((inner + 1).bit_length() - 1):
            node = 2 * node + 1 + (x[row, feature[tree, node]] > threshold[tree, node])
        leaves = value[tree, node - inner].reshape(len(x), targets, count)
        return np.asarray(self.start + leaves.sum(axis=2))
