"""Image vectors as terms of a linear predictor.

Images of one kind and month form a slot, such as the virtual portal phase at 6 months. The terms of a
slot are the principal components of its vectors among the training patients; a missing slot adds 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.models.survival.tokens import Images
from inference.results import FloatArray

COMPONENTS = 24
LEAST_OF_SLOT = 30
"""Training patients who have an image of a slot; rarer slots have no terms."""


@dataclass(frozen=True, slots=True)
class ImageTerms:
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

    def __call__(self, images: Images) -> FloatArray:
        """Return the terms of n patients, (n, S * q)."""
        parts = [np.zeros((len(images.known), 0))]
        for slot in range(len(self.kind)):
            vectors, present = _slot(images, int(self.kind[slot]), int(self.month[slot]))
            parts.append(((vectors - self.mean[slot]) @ self.components[slot]) * present[:, None])
        return np.concatenate(parts, axis=1)


def _slot(images: Images, kind: int, month: int) -> tuple[FloatArray, np.ndarray]:
    """Mean vector (n, width) of each patient's images of a slot, and who has one."""
    inside = images.known & (images.kind == kind) & (_whole(images.months) == month)
    count = inside.sum(axis=1)
    features = np.where(inside[:, :, None], images.features, 0.0).astype(np.float64)
    return features.sum(axis=1) / np.maximum(count, 1)[:, None], count > 0


def _whole(months: FloatArray) -> np.ndarray:
    return np.rint(np.clip(np.nan_to_num(months), 0.0, None)).astype(np.intp)


def image_terms(images: Images, *, baseline: bool) -> ImageTerms:
    """Learn terms from the images of training patients: of those at baseline, or of those after it."""
    months = _whole(images.months)
    wanted = images.known & ((months == 0) == baseline)
    slots = sorted(set(zip(images.kind[wanted].tolist(), months[wanted].tolist(), strict=True)))
    found: list[tuple[int, int, FloatArray, FloatArray]] = []
    for kind, month in slots:
        vectors, present = _slot(images, kind, month)
        if present.sum() < LEAST_OF_SLOT:
            continue
        mean = vectors[present].mean(axis=0)
        found.append((kind, month, mean, _components(vectors[present] - mean)))
    width = images.features.shape[2]
    return ImageTerms(
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
