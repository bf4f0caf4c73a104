"""A series on another grid, brought onto that of the primary series.

What is generated, measured and written lies on one grid, that of the primary. A second phase of the
same space that was reconstructed with other slices, or acquired with another field of view, is
interpolated once, here, and says so; the files it came from stay its sources.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from scipy import ndimage

from inference.results import FloatArray, Grid, Mask, Resampled, SeriesVolume, StoredValues, Voxels

_PLACE = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "Rows",
    "Columns",
)
"""Taken from the primary's slice: the image lies there now."""
_GONE = (
    "SliceLocation",
    "SpacingBetweenSlices",
    "PixelPaddingValue",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
)
_EDGE = 0.5
"""A voxel is covered to half a voxel beyond the outermost centres."""


def overlap(source: Grid, target: Grid) -> float:
    """Return the share of the target grid that the source covers."""
    total = sum(int(np.count_nonzero(part)) for part in _covered_slices(source, target))
    return total / float(np.prod(target.shape))


def regridded(volume: SeriesVolume, primary: SeriesVolume) -> SeriesVolume:
    """Return a series interpolated on the primary's grid, linearly, with means over thinner voxels.

    What the series does not cover has its least value; `SeriesVolume.resampled` says where. Headers are
    those of the nearest source slice, placed where the primary's slice lies.
    """
    target = primary.grid
    matrix, offset = _to_source(volume.grid, target)
    smooth = _averaged(volume.values(), matrix)
    values = ndimage.affine_transform(
        smooth, matrix, offset, output_shape=target.shape, output=np.float32, order=1, mode="nearest"
    )
    covered = np.stack(list(_covered_slices(volume.grid, target)))
    slope, intercept = float(volume.slope[0]), float(volume.intercept[0])
    stored = _stored(values, covered, volume, slope, intercept)
    nearest = _nearest_slices(volume, target, matrix, offset)
    headers = tuple(
        _placed(volume.headers[k], primary.headers[n], slope, intercept) for n, k in enumerate(nearest)
    )
    count = target.shape[0]
    return SeriesVolume(
        series_instance_uid=volume.series_instance_uid,
        modality=volume.modality,
        phase=volume.phase,
        phase_evidence=volume.phase_evidence,
        grid=target,
        stored=stored,
        slope=np.full(count, slope),
        intercept=np.full(count, intercept),
        headers=headers,
        resampled=Resampled(volume.grid, covered),
    )


def _to_source(source: Grid, target: Grid) -> tuple[FloatArray, FloatArray]:
    """Return matrix and offset from target to source indices (slice, row, column)."""
    both = np.linalg.inv(source.affine) @ target.affine
    return both[:3, :3], both[:3, 3]


def _averaged(values: Voxels, matrix: FloatArray) -> Voxels:
    """Return means over as many source voxels as a target voxel holds along each axis."""
    out = values
    for axis, steps in enumerate(np.abs(matrix).max(axis=1)):
        size = round(float(steps))
        if size > 1:
            out = ndimage.uniform_filter1d(out, size, axis=axis, mode="nearest")
    return out


def _covered_slices(source: Grid, target: Grid) -> Iterator[Mask]:
    """Yield, for each slice of the target, which of its voxels lie in the source."""
    matrix, offset = _to_source(source, target)
    _, rows, columns = target.shape
    i, j = np.arange(rows)[:, None], np.arange(columns)[None, :]
    for k in range(target.shape[0]):
        inside = np.ones((rows, columns), dtype=bool)
        for axis in range(3):
            at = matrix[axis, 0] * k + matrix[axis, 1] * i + matrix[axis, 2] * j + offset[axis]
            inside &= (at >= -_EDGE) & (at <= source.shape[axis] - 1 + _EDGE)
        yield inside


def _stored(
    values: Voxels, covered: Mask, volume: SeriesVolume, slope: float, intercept: float
) -> StoredValues:
    stored: StoredValues = np.rint((values - intercept) / slope).astype(np.int32)
    low, high = int(volume.stored.min()), int(volume.stored.max())
    np.clip(stored, low, high, out=stored)
    stored[~covered] = low if slope > 0 else high
    stored.setflags(write=False)
    return stored


@dataclass(frozen=True, slots=True)
class _Middle:
    """Index of the middle of a slice, (row, column)."""

    row: float
    column: float


def _nearest_slices(volume: SeriesVolume, target: Grid, matrix: FloatArray, offset: FloatArray) -> list[int]:
    middle = _Middle((target.shape[1] - 1) / 2.0, (target.shape[2] - 1) / 2.0)
    depth = [
        matrix[0, 0] * k + matrix[0, 1] * middle.row + matrix[0, 2] * middle.column + offset[0]
        for k in range(target.shape[0])
    ]
    return [int(np.clip(round(float(d)), 0, len(volume.headers) - 1)) for d in depth]


def _placed(header: Dataset, place: Dataset, slope: float, intercept: float) -> Dataset:
    """Return a header whose geometry is that of another, without the attributes that no longer hold."""
    ds = Dataset()
    ds.update({e.tag: e for e in header})
    for keyword in (*_PLACE, *_GONE):
        if keyword in ds:
            del ds[keyword]
        if keyword in _PLACE and keyword in place:
            ds.add(deepcopy(place[keyword]))
    if "RescaleSlope" in ds:
        ds.add_new("RescaleSlope", "DS", f"{slope:.12g}"[:16])
        ds.add_new("RescaleIntercept", "DS", f"{intercept:.12g}"[:16])
    return ds
