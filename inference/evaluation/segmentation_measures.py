"""Lesions of a segmentation against those of a reference, counted one by one.

Masks are (z, y, x) with spacing in mm in the same order. How well two masks agree as a whole is measured
in `inference.imaging.overlap`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.imaging.overlap import Spacing as Spacing
from inference.results import Mask

SMALLEST_LESION_ML = 0.05
"""Connected parts smaller than this (a ball of 4.6 mm) are not counted as lesions."""

LESION_FOUND_DICE = 0.1
"""A lesion is found when a predicted part overlaps it by at least this Dice."""

_TOUCHING = np.ones((3, 3, 3), dtype=bool)


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
