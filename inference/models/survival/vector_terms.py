"""Vectors of images, texts and angiographies as terms of a linear predictor.

Vectors of one kind and month form a slot, such as the virtual portal phase at 6 months. The terms of a
slot are the principal components of its vectors among the training patients; a missing slot adds 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.models.survival.tokens import DatedTokens
from inference.results import FloatArray

COMPONENTS = 24
LEAST_OF_SLOT = 30
"""Training patients who have a vector of a slot; rarer slots have no terms."""


@dataclass(frozen=True, slots=True)
class VectorTerms:
    """Terms of S slots.

    Attributes
    ----------
    kind, month : array of int, (S,)
    mean : array, (S, width)
    components : array, (S, width, q)
        Orthogonal; scaled so that the first of each slot has variance 1, the others less.
    """

    kind: np.ndarray
    month: np.ndarray
    mean: FloatArray
    components: FloatArray

    def __call__(self, tokens: DatedTokens) -> FloatArray:
        """Return the terms of n patients, (n, S * q)."""
        parts = [np.zeros((len(tokens.known), 0))]
        for slot in range(len(self.kind)):
            vectors, present = _slot(tokens, int(self.kind[slot]), int(self.month[slot]))
            parts.append(((vectors - self.mean[slot]) @ self.components[slot]) * present[:, None])
        return np.concatenate(parts, axis=1)


def _slot(tokens: DatedTokens, kind: int, month: int) -> tuple[FloatArray, np.ndarray]:
    """Mean vector (n, width) of each patient's tokens of a slot, and who has one."""
    inside = tokens.known & (tokens.kind == kind) & (_whole(tokens.months) == month)
    count = inside.sum(axis=1)
    features = np.where(inside[:, :, None], tokens.features, 0.0).astype(np.float64)
    return features.sum(axis=1) / np.maximum(count, 1)[:, None], count > 0


def _whole(months: FloatArray) -> np.ndarray:
    return np.rint(np.clip(np.nan_to_num(months), 0.0, None)).astype(np.intp)


def vector_terms(tokens: DatedTokens, *, baseline: bool) -> VectorTerms:
    """Learn terms from vectors of training patients: of those from before treatment, or of those after it."""
    months = _whole(tokens.months)
    wanted = tokens.known & ((months == 0) == baseline)
    slots = sorted(set(zip(tokens.kind[wanted].tolist(), months[wanted].tolist(), strict=True)))
    found: list[tuple[int, int, FloatArray, FloatArray]] = []
    for kind, month in slots:
        vectors, present = _slot(tokens, kind, month)
        if present.sum() < LEAST_OF_SLOT:
            continue
        mean = vectors[present].mean(axis=0)
        found.append((kind, month, mean, _components(vectors[present] - mean)))
    width = tokens.features.shape[2]
    return VectorTerms(
        kind=np.array([f[0] for f in found], dtype=np.intp),
        month=np.array([f[1] for f in found], dtype=np.intp),
        mean=np.array([f[2] for f in found]).reshape(len(found), width),
        components=np.array([f[3] for f in found]).reshape(len(found), width, -1)
        if found
        else np.zeros((0, width, 0)),
    )


def _components(centred: FloatArray) -> FloatArray:
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    spread = max(float(values[0]) / np.sqrt(len(centred)), 1e-12)
    width = centred.shape[1]
    kept = np.zeros((width, min(COMPONENTS, width)))
    count = min(kept.shape[1], len(values))
    kept[:, :count] = axes[:count].T / spread
    return kept
