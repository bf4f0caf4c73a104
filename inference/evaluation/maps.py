"""Lesions, diameters and mRECIST on the crops of a cohort."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.clinical.response import MEASURABLE_MM, Target, mrecist_category, select_targets
from inference.imaging.measurement import lesion_id, measure_lesions
from inference.results import Labels, Mask, ResponseCategory
from inference.training.cohort import SPACING_MM
from inference.training.crop_study import HALF, crop_grid, crop_tissue

SMALLEST_NEW_ML = 0.5
"""A part that touches no lesion of the baseline and is smaller than this (a ball of 10 mm) is not new."""

_TOUCHING = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True, slots=True)
class TargetLesions:
    """The targets of a patient, chosen once at baseline.

    Attributes
    ----------
    numbers : tuple of int
        Lesion numbers; empty when nothing is measurable.
    sum_mm : float
        Sum of their viable diameters at baseline.
    known : tuple of int
        All lesions of the baseline.
    """

    numbers: tuple[int, ...]
    sum_mm: float
    known: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MapResponse:
    """What was measured on one follow-up map; NaN and NE where nothing is measurable."""

    viable_mm: float
    mrecist: ResponseCategory


@dataclass(frozen=True, slots=True)
class BaselineLesions:
    """What the lesions of follow-ups are numbered by; computed once for all samples of a patient.

    Attributes
    ----------
    nearest : array of uint8, (z, y, x)
        Number of the nearest lesion of the baseline; zero everywhere without lesions.
    reached : array of bool, (z, y, x)
        Lesions of the baseline and the voxels that touch them.
    """

    nearest: Labels
    reached: Mask

    @classmethod
    def of(cls, lesion: Labels) -> BaselineLesions:
        """Return those of a map of lesion numbers, (z, y, x)."""
        if not lesion.any():
            return cls(np.zeros_like(lesion), np.zeros(lesion.shape, dtype=bool))
        where = ndimage.distance_transform_edt(lesion == 0, return_distances=False, return_indices=True)
        return cls(lesion[tuple(where)], ndimage.binary_dilation(lesion > 0, structure=_TOUCHING))

    def numbered(self, fractions: Labels) -> Labels:
        """Return the lesions of a follow-up, numbered by those of the baseline.

        Each part belongs to the lesions of the baseline that it touches, its voxels to the nearest; a part
        that touches none is a new lesion if it is large enough, else it belongs to the nearest one too.

        Parameters
        ----------
        fractions : array of uint8, (3, z, y, x)

        Returns
        -------
        array of uint8, (z, y, x)
        """
        tumour = fractions.sum(axis=0, dtype=np.int32) >= HALF
        labelled, _ = ndimage.label(tumour, structure=_TOUCHING)
        if not self.reached.any():
            return np.asarray(np.minimum(labelled, 255), dtype=np.uint8)
        result = np.where(tumour, self.nearest, 0).astype(np.uint8)
        following = int(self.nearest.max()) + 1
        for part in self._new_parts(labelled):
            result[part] = min(following, 255)
            following += 1
        return result

    def _new_parts(self, labelled: npt.NDArray[np.int32]) -> list[Mask]:
        touching = set(np.unique(labelled[self.reached]).tolist())
        sizes = np.bincount(labelled.ravel())
        least = SMALLEST_NEW_ML * 1000.0 / SPACING_MM**3
        return [labelled == n for n in range(1, len(sizes)) if n not in touching and sizes[n] >= least]


def targets_at_baseline(fractions: Labels, lesion: Labels, liver: Labels) -> TargetLesions:
    """Choose the target lesions: the two largest of at least 10 mm of viable diameter."""
    diameters = _diameters(fractions, lesion, liver)
    candidates = [Target(lesion_id(n), d) for n, d in diameters.items() if d >= MEASURABLE_MM]
    wanted = {t.lesion_id for t in select_targets(candidates)}
    chosen = tuple(n for n in diameters if lesion_id(n) in wanted)
    return TargetLesions(chosen, sum(diameters[n] for n in chosen), tuple(diameters))


def response_on_map(targets: TargetLesions, fractions: Labels, lesion: Labels, liver: Labels) -> MapResponse:
    """Measure a follow-up map and classify it against the baseline alone (no earlier nadir is known)."""
    if not targets.numbers:
        return MapResponse(float("nan"), ResponseCategory.NE)
    now = _diameters(fractions, lesion, liver)
    total = sum(now.get(n, 0.0) for n in targets.numbers)
    fresh = any(d >= MEASURABLE_MM for n, d in now.items() if n not in targets.known)
    return MapResponse(total, mrecist_category(targets.sum_mm, total, None, fresh))


def _diameters(fractions: Labels, lesion: Labels, liver: Labels) -> dict[int, float]:
    labels = crop_tissue(fractions, lesion, liver)
    z, y, x = lesion.shape
    measured = measure_lesions(labels, crop_grid((z, y, x)))
    return {
        int(m.lesion_id[1:]): 0.0 if m.viable_long_axis is None else m.viable_long_axis.length_mm
        for m in measured
    }
