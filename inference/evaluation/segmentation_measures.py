"""Measures of a segmentation against a reference, each a pure function of masks.

Masks are (z, y, x) with spacing in mm in the same order. A measure that has no value is NaN: Dice of
two empty masks, a surface distance from or to an empty mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.results import FloatArray, Mask

SMALLEST_LESION_ML = 0.05
"""Connected parts smaller than this (a ball of 4.6 mm) are not counted as lesions."""

LESION_FOUND_DICE = 0.1
"""A lesion is found when a predicted part overlaps it by at least this Dice."""

_TOUCHING = np.ones((3, 3, 3), dtype=bool)
_FACES = ndimage.generate_binary_structure(3, 1)

Spacing = tuple[float, float, float]


def dice(predicted: Mask, truth: Mask) -> float:
    """Twice the overlap over the sum of sizes; NaN when both are empty."""
    total = int(predicted.sum()) + int(truth.sum())
    return 2 * int((predicted & truth).sum()) / total if total else float("nan")


def surface(mask: Mask) -> Mask:
    """Return the voxels of a mask that have a neighbour by face outside it; the border is outside."""
    return np.asarray(mask & ~ndimage.binary_erosion(mask, structure=_FACES))


def surface_distances(predicted: Mask, truth: Mask, spacing_mm: Spacing) -> tuple[FloatArray, FloatArray]:
    """Return distances in mm of each surface voxel to the other surface: from predicted, from truth."""
    where = _around(predicted | truth)
    first, second = surface(np.pad(predicted[where], 1)), surface(np.pad(truth[where], 1))
    to_second = ndimage.distance_transform_edt(~second, sampling=spacing_mm)
    to_first = ndimage.distance_transform_edt(~first, sampling=spacing_mm)
    return np.asarray(to_second[first]), np.asarray(to_first[second])


def _around(mask: Mask) -> tuple[slice, ...]:
    found = ndimage.find_objects(mask.astype(np.uint8))
    return found[0] if found else tuple(slice(0, s) for s in mask.shape)


def hausdorff95_mm(predicted: Mask, truth: Mask, spacing_mm: Spacing) -> float:
    """Return the larger of the two 95th percentiles of the surface distances; NaN when one is empty."""
    if not predicted.any() or not truth.any():
        return float("nan")
    there, back = surface_distances(predicted, truth, spacing_mm)
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def mean_surface_distance_mm(predicted: Mask, truth: Mask, spacing_mm: Spacing) -> float:
    """Return the mean over both surfaces of the distance to the other; NaN when one is empty."""
    if not predicted.any() or not truth.any():
        return float("nan")
    both = np.concatenate(surface_distances(predicted, truth, spacing_mm))
    return float(both.mean())


@dataclass(frozen=True, slots=True)
class LesionDetection:
    """How many lesions are there, how many of them were found, and how many were found that are not."""

    lesions: int
    found: int
    false_positives: int

    @property
    def sensitivity(self) -> float:
        """Share of the lesions that were found; NaN without lesions."""
        return self.found / self.lesions if self.lesions else float("nan")


def detect_lesions(predicted: Mask, truth: Mask, spacing_mm: Spacing) -> LesionDetection:
    """Match connected parts of the prediction with connected parts of the truth.

    A lesion is found when the predicted parts that touch it, taken together, reach a Dice of
    `LESION_FOUND_DICE` with it; a predicted part is false when it overlaps no lesion of any size.
    """
    smallest = SMALLEST_LESION_ML * 1000.0 / float(np.prod(spacing_mm))
    parts, count = ndimage.label(predicted, structure=_TOUCHING)
    lesions, lesion_count = ndimage.label(truth, structure=_TOUCHING)
    overlap = np.zeros((lesion_count + 1, count + 1), dtype=np.int64)
    np.add.at(overlap, (lesions.ravel(), parts.ravel()), 1)
    part_sizes, lesion_sizes = overlap.sum(axis=0), overlap.sum(axis=1)
    counted = [n for n in range(1, lesion_count + 1) if lesion_sizes[n] >= smallest]
    found = sum(_is_found(overlap[n], part_sizes, int(lesion_sizes[n])) for n in counted)
    large = [p for p in range(1, count + 1) if part_sizes[p] >= smallest]
    wrong = sum(not overlap[1:, p].any() for p in large)
    return LesionDetection(len(counted), found, wrong)


def _is_found(overlap: np.ndarray, part_sizes: np.ndarray, size: int) -> bool:
    touching = np.flatnonzero(overlap[1:]) + 1
    together = size + int(part_sizes[touching].sum())
    return bool(2 * int(overlap[touching].sum()) / together >= LESION_FOUND_DICE) if len(touching) else False


def volume_ml(mask: Mask, spacing_mm: Spacing) -> float:
    """Return the volume of a mask in ml."""
    return float(mask.sum()) * float(np.prod(spacing_mm)) / 1000.0
