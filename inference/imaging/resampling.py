"""Resampling between grids, straight or through a displacement, by averages over each target voxel.

Coordinates are LPS in mm. An aligned grid has its axes along z (towards the head), y (towards the back)
and x (towards the patient's left). Source grids may be oblique or sheared (gantry tilt).
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.results import FloatArray, Grid, Labels, Mask, Voxels

MOST_SAMPLES = 4
"""Sub-samples of a target voxel along one axis, at most."""


def aligned_grid(
    centre_mm: npt.ArrayLike, shape: tuple[int, int, int], spacing_mm: float, frame_of_reference_uid: str
) -> Grid:
    """Return an isotropic grid along the axes of the patient.

    Parameters
    ----------
    centre_mm : (x, y, z)
        Centre of the grid in LPS.
    shape : (z, y, x)
    """
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[1, 1] = affine[0, 2] = spacing_mm
    affine[3, 3] = 1.0
    half = (np.array(shape[::-1]) - 1) / 2.0 * spacing_mm
    affine[:3, 3] = np.asarray(centre_mm, dtype=np.float64) - half
    return Grid(shape, affine, frame_of_reference_uid)


def points_of(grid: Grid) -> FloatArray:
    """Return the centres of all voxels, (3, z, y, x), components (x, y, z) in mm."""
    index = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float64) for n in grid.shape], indexing="ij"))
    moved = np.tensordot(grid.affine[:3, :3], index, axes=1)
    return np.asarray(moved + grid.affine[:3, 3].reshape(3, 1, 1, 1))


def to_index(points_mm: FloatArray, grid: Grid) -> FloatArray:
    """Map (3, ...) LPS coordinates to (3, ...) indices (slice, row, column)."""
    inverse = np.linalg.inv(grid.affine)
    offset = inverse[:3, 3].reshape((3,) + (1,) * (points_mm.ndim - 1))
    return np.asarray(np.tensordot(inverse[:3, :3], points_mm, axes=1) + offset)


def resampled(values: Voxels, source: Grid, target: Grid, mapped_mm: FloatArray | None = None) -> Voxels:
    """Return the mean value over each voxel of the target; NaN where a part of it lies outside.

    Parameters
    ----------
    values : array of float32, shape of the source
    mapped_mm : array, (3, z, y, x), optional
        Where the centre of each target voxel lies in the source's space, components (x, y, z); the
        same place when absent.
    """
    mapped = points_of(target) if mapped_mm is None else mapped_mm
    index = to_index(mapped, source)
    # Where a voxel's own axes lead to in the source: what lies between its centre and its corners.
    slopes = [np.stack([np.gradient(c, axis=a) for c in index]) for a in range(3)]
    total = np.zeros(target.shape, dtype=np.float64)
    for offset in _offsets(source, target):
        where = index + sum(o * s for o, s in zip(offset, slopes, strict=True))
        total += _linear(values, where)
    return np.asarray(total / len(_offsets(source, target)), dtype=np.float32)


def _offsets(source: Grid, target: Grid) -> list[tuple[float, float, float]]:
    """Sub-samples of a target voxel, as shares of it: as many as there are source voxels in it."""
    scale = np.linalg.inv(source.affine[:3, :3]) @ target.affine[:3, :3]
    counts = [min(MOST_SAMPLES, max(1, math.ceil(float(n)))) for n in np.abs(scale).max(axis=0) - 1e-6]
    axes = [[(k + 0.5) / n - 0.5 for k in range(n)] for n in counts]
    return [(a, b, c) for a, b, c in itertools.product(*axes)]


def _linear(values: Voxels, index: FloatArray) -> FloatArray:
    """Interpolate linearly; NaN beyond half a voxel outside the outermost centres."""
    limits = np.array(values.shape, dtype=np.float64).reshape(3, 1, 1, 1)
    outside = ((index < -0.5) | (index > limits - 0.5)).any(axis=0)
    found = ndimage.map_coordinates(values, index, order=1, mode="nearest", output=np.float64)
    found[outside] = np.nan
    return np.asarray(found)


def share_of(mask: Mask, source: Grid, target: Grid, mapped_mm: FloatArray | None = None) -> Voxels:
    """Return the share of each target voxel that a mask covers, 0 to 1; nothing is outside the source."""
    share = resampled(mask.astype(np.float32), source, target, mapped_mm)
    return np.asarray(np.nan_to_num(share, nan=0.0), dtype=np.float32)


def nearest_label(labels: Labels, source: Grid, target: Grid, mapped_mm: FloatArray | None = None) -> Labels:
    """Return, for each target voxel, the label of the nearest labelled voxel of the source.

    All zero where the source has no label. Used with a share that says how much of a voxel is labelled.
    """
    if not labels.any():
        return np.zeros(target.shape, dtype=np.uint8)
    nearest = ndimage.distance_transform_edt(
        labels == 0, sampling=source.spacing_mm, return_distances=False, return_indices=True
    )
    filled = labels[tuple(nearest)]
    index = to_index(points_of(target) if mapped_mm is None else mapped_mm, source)
    found = ndimage.map_coordinates(filled, index, order=0, mode="nearest")
    return np.asarray(found, dtype=np.uint8)


def as_bytes(share: Voxels) -> Labels:
    """Return shares of 0 to 1 as 0 to 255."""
    return np.asarray(np.rint(np.clip(share, 0.0, 1.0) * 255.0), dtype=np.uint8)
