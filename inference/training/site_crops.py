"""From a study on its own grid to the crops of a prepared cohort."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.case import Phase
from inference.errors import TrainingDataError
from inference.imaging.resampling import aligned_grid, as_bytes, nearest_label, resampled, share_of
from inference.results import FloatArray, Grid, Labels, Mask, SeriesVolume, Tissue, Voxels
from inference.training.cohort import CROP, NO_VALUE, SPACING_MM, HalfPrecision
from inference.training.site_reading import ReadStudy, acquired_values

TISSUES = (Tissue.VIABLE, Tissue.NECROSIS, Tissue.LIPIODOL)

MR_SCALE = 1000.0

LESION_IN_CROP = 0.99
"""Share of the baseline's tumour that a crop must hold."""


@dataclass(frozen=True, slots=True)
class Crop:
    """The arrays of one time point; see `inference.training.cohort.FollowUpImages`."""

    images: HalfPrecision
    fractions: Labels
    lesion: Labels


def crop_grid(study: ReadStudy) -> Grid:
    """Return the crop around the liver, moved only as far as the tumours need.

    Raises
    ------
    TrainingDataError
        The tumours do not fit into a crop.
    """
    grid = study.baseline.primary.grid
    low, high = _extent(study.organ(), grid)
    centre = (low + high) / 2.0
    lesions = study.lesions_in_full() > 0
    if lesions.any():
        half = (np.array(CROP[::-1]) - 1) / 2.0 * SPACING_MM
        first, last = _extent(lesions, grid)
        if (last - first > 2.0 * half).any():
            raise TrainingDataError(f"the tumours reach over more than the {2 * half.min():.0f} mm of a crop")
        centre = np.clip(centre, last - half, first + half)
    return aligned_grid(centre, CROP, SPACING_MM, grid.frame_of_reference_uid)


def _extent(mask: Mask, grid: Grid) -> tuple[FloatArray, FloatArray]:
    points = grid.to_patient(np.argwhere(mask))
    return points.min(axis=0), points.max(axis=0)


def crop_study(
    study: ReadStudy,
    lesion: Labels,
    phases: Sequence[Phase],
    target: Grid,
    mapped_mm: FloatArray | None = None,
) -> Crop:
    """Resample a study to a crop.

    Parameters
    ----------
    lesion : array of uint8
        Lesion numbers on the grid of the primary series, under the numbers of the patient.
    mapped_mm : array, (3, z, y, x), optional
        Where the voxels of the crop lie in the study; the same place when absent.
    """
    grid = study.baseline.primary.grid
    images = [_phase(study, study.baseline.phase(p), target, mapped_mm) for p in phases]
    shares = [share_of(study.in_full(t), grid, target, mapped_mm) for t in TISSUES]
    fractions = np.stack([as_bytes(s) for s in shares])
    numbers = nearest_label(lesion, grid, target, mapped_mm)
    return Crop(np.stack(images), fractions, np.where(fractions.any(axis=0), numbers, 0).astype(np.uint8))


def _phase(
    study: ReadStudy, volume: SeriesVolume | None, target: Grid, mapped_mm: FloatArray | None
) -> HalfPrecision:
    if volume is None:
        return np.full(target.shape, NO_VALUE, dtype=np.int16)
    values = acquired_values(volume) * np.float32(_scale(study, volume))
    found = resampled(values, volume.grid, target, mapped_mm)
    rounded = np.rint(np.clip(np.nan_to_num(found), NO_VALUE + 1, 32767))
    return np.where(np.isfinite(found), rounded, NO_VALUE).astype(np.int16)


def _scale(study: ReadStudy, volume: SeriesVolume) -> float:
    """Return 1 in CT; in MR what brings the median of the liver to 1000.

    The scale of MR signal is another one in every examination, so each time point has its own.
    """
    if volume.modality != "MR":
        return 1.0
    values: Voxels = acquired_values(volume)[study.in_full(Tissue.LIVER)]
    values = values[np.isfinite(values)]
    median = float(np.median(values)) if values.size else 0.0
    if not median > 0.0:
        raise TrainingDataError("the liver has no signal in an MR series")
    return MR_SCALE / median


def liver_share(study: ReadStudy, target: Grid) -> Labels:
    """Return the share of each voxel of a crop that is liver with its lesions, 0 to 255."""
    return as_bytes(share_of(study.organ(), study.baseline.primary.grid, target))
