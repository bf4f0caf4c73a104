"""Between a study on its own grid and the crop that the models see."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.case import Phase
from inference.imaging.resampling import aligned_grid, nearest_label, points_of, resampled, share_of, to_index
from inference.models.mechanistic.sampling import resample
from inference.models.outcome.crops import SIZE, SPACING_MM, PatientCrop
from inference.results import (
    Baseline,
    Box,
    FloatArray,
    Grid,
    Labels,
    Mask,
    Segmentation,
    SeriesVolume,
    Tissue,
    Voxels,
)

CHANNELS: tuple[tuple[Phase, ...], ...] = (
    (Phase.ARTERIAL, Phase.T1_ARTERIAL),
    (Phase.PORTAL_VENOUS, Phase.T1_PORTAL_VENOUS),
)
"""Phases of each channel of a crop, in the order of preference."""
SUBSTITUTES = (Phase.DELAYED, Phase.UNKNOWN)
"""Read in place of the portal venous phase where a study has neither channel."""

_MULTIPLE = 16
_MARGIN_MM = 12.0
_TUMOUR = (Tissue.VIABLE, Tissue.NECROSIS, Tissue.LIPIODOL)


def channel_of(phase: Phase) -> int | None:
    """Return the channel that shows a phase, None where the network does not draw it."""
    return next((c for c, phases in enumerate(CHANNELS) if phase in phases), None)


def channel_volumes(baseline: Baseline) -> tuple[SeriesVolume | None, SeriesVolume | None]:
    """Return the series of each channel; one that was not acquired is None."""
    found = [
        next((v for phase in phases for v in baseline.volumes if v.phase is phase), None)
        for phases in CHANNELS
    ]
    if not any(found):
        found[1] = next((v for v in baseline.volumes if v.phase in SUBSTITUTES), None)
    return found[0], found[1]


def intensity_scale(volume: SeriesVolume, liver: Mask, box: Box) -> float:
    """Return what a value is multiplied with in the crop: 1 in CT, 1000 over the liver's median in MR."""
    if volume.modality == "CT":
        return 1.0
    values = values_in(volume, box)[liver]
    middle = float(np.median(values)) if values.size else 0.0
    return 1000.0 / middle if middle > 0 else 1.0


def values_in(volume: SeriesVolume, box: Box) -> Voxels:
    """Return the rescaled values in a box, float32."""
    z = slice(box.start[0], box.stop[0])
    stored = volume.stored[box.slices]
    shape = (-1, 1, 1)
    return np.asarray(
        stored * volume.slope[z].reshape(shape) + volume.intercept[z].reshape(shape), dtype=np.float32
    )


@dataclass(frozen=True, slots=True)
class StudyCrop:
    """The crop of a study.

    Attributes
    ----------
    grid : Grid
        Of the crop, along the axes of the patient.
    crop : PatientCrop
    scale : dict of series UID to float
        See `intensity_scale`.
    """

    primary: Grid
    grid: Grid
    crop: PatientCrop
    scale: dict[str, float]

    def to_primary(self, fields: Voxels, box: Box) -> Voxels:
        """Bring fields of the crop, (n, z, y, x), to the voxels of a box of the primary grid, linearly."""
        coordinates = self._product(box)
        if coordinates is not None:
            axes, order = coordinates
            turned = fields.transpose(0, *(1 + o for o in order))
            return np.stack([resample(np.ascontiguousarray(f), axes) for f in turned])
        index = self._index(box)
        return np.stack([ndimage.map_coordinates(f, index, order=1, mode="nearest") for f in fields])

    def labels_to_primary(self, labels: Labels, box: Box) -> Labels:
        """Bring labels of the crop to the voxels of a box of the primary grid: the nearest voxel's."""
        coordinates = self._product(box)
        if coordinates is not None:
            axes, order = coordinates
            turned = labels.transpose(order)
            nearest = [
                np.clip(np.rint(a).astype(int), 0, n - 1) for a, n in zip(axes, turned.shape, strict=True)
            ]
            return np.ascontiguousarray(turned[np.ix_(*nearest)])
        index = np.rint(self._index(box)).astype(int)
        limits = np.array(labels.shape).reshape(3, 1, 1, 1) - 1
        return np.asarray(labels[tuple(np.clip(index, 0, limits))])

    def primary_box(self, box: tuple[slice, slice, slice], within: Box) -> Box | None:
        """Return the box of the primary grid that holds a box of the crop, None where they do not meet."""
        corners = np.array(
            np.meshgrid(*[(s.start - 0.5, s.stop - 0.5) for s in box], indexing="ij"), dtype=np.float64
        ).reshape(3, -1)
        points = self.grid.to_patient(corners.T).T
        index = to_index(points, self.primary)
        start = np.maximum(np.floor(index.min(axis=1)).astype(int), within.start)
        stop = np.minimum(np.ceil(index.max(axis=1)).astype(int) + 1, within.stop)
        if (start >= stop).any():
            return None
        return Box((int(start[0]), int(start[1]), int(start[2])), (int(stop[0]), int(stop[1]), int(stop[2])))

    def _index(self, box: Box) -> FloatArray:
        return to_index(points_of(self.primary.part(box)), self.grid)

    def _product(
        self, box: Box
    ) -> tuple[tuple[FloatArray, FloatArray, FloatArray], tuple[int, int, int]] | None:
        """Return crop indices along each axis of the primary grid, and the crop's axis of each; or None."""
        matrix = np.linalg.inv(self.grid.affine[:3, :3]) @ self.primary.affine[:3, :3]
        size = np.abs(matrix)
        order = size.argmax(axis=0)
        rest = size.sum() - size[order, range(3)].sum()
        if len(set(order.tolist())) < 3 or rest > 1e-4:
            return None
        origin = to_index(self.primary.affine[:3, 3].reshape(3, 1), self.grid)[:, 0]
        axes = [
            origin[o] + matrix[o, a] * np.arange(box.start[a], box.stop[a], dtype=np.float64)
            for a, o in enumerate(order.tolist())
        ]
        o = order.tolist()
        return (axes[0], axes[1], axes[2]), (int(o[0]), int(o[1]), int(o[2]))


def crop_study(baseline: Baseline, segmentation: Segmentation) -> StudyCrop:
    """Return the crop of a study: 216 mm around the liver, and more where the liver is larger."""
    primary, labels = baseline.primary.grid, segmentation.labels
    liver = labels.tissue > 0
    part = primary.part(labels.box)
    index = np.argwhere(liver)
    corners = np.array([index.min(axis=0), index.max(axis=0)])
    grid_points = np.stack(np.meshgrid(*corners.T, indexing="ij"), axis=-1).reshape(-1, 3)
    points = part.to_patient(grid_points)
    low, high = points.min(axis=0), points.max(axis=0)
    extent = (high - low + 2 * _MARGIN_MM)[::-1] / SPACING_MM
    shape = [max(n, math.ceil(e / _MULTIPLE) * _MULTIPLE) for n, e in zip(SIZE, extent, strict=True)]
    grid = aligned_grid(
        (low + high) / 2.0, (shape[0], shape[1], shape[2]), SPACING_MM, primary.frame_of_reference_uid
    )
    parts = [labels.tissue == t for t in _TUMOUR]
    shares = [_averaged(m.astype(np.float32), part, grid, 0.0) for m in (liver, *parts)]
    scale = {
        v.series_instance_uid: intensity_scale(v, liver & ~np.isin(labels.tissue, _TUMOUR), labels.box)
        for v in baseline.volumes
    }
    images = np.full((2, *grid.shape), np.nan, dtype=np.float32)
    around = _box_of(grid, primary)
    for channel, volume in enumerate(channel_volumes(baseline)):
        if volume is not None and around is not None:
            factor = np.float32(scale[volume.series_instance_uid])
            images[channel] = _averaged(
                values_in(volume, around) * factor, primary.part(around), grid, np.nan
            )
    fractions = np.stack(shares[1:])
    lesion = nearest_label(labels.lesion, part, grid)
    lesion[fractions.sum(axis=0) < 0.5] = 0
    crop = PatientCrop(images, np.clip(shares[0], 0.0, 1.0), np.clip(fractions, 0.0, 1.0), lesion)
    return StudyCrop(primary, grid, crop, scale)


def _box_of(crop: Grid, primary: Grid) -> Box | None:
    corners = np.array(np.meshgrid(*[(-1.0, float(n)) for n in crop.shape], indexing="ij")).reshape(3, -1)
    index = to_index(crop.to_patient(corners.T).T, primary)
    start = np.clip(np.floor(index.min(axis=1)).astype(int), 0, None)
    stop = np.minimum(np.ceil(index.max(axis=1)).astype(int) + 1, primary.shape)
    if (start >= stop).any():
        return None
    return Box((int(start[0]), int(start[1]), int(start[2])), (int(stop[0]), int(stop[1]), int(stop[2])))


def _averaged(values: Voxels, source: Grid, target: Grid, outside: float) -> Voxels:
    """Return the mean over each voxel of an aligned grid; exact and fast where the axes are parallel."""
    matrix = np.linalg.inv(source.affine[:3, :3]) @ target.affine[:3, :3]
    size = np.abs(matrix)
    order = size.argmax(axis=0)
    if len(set(order.tolist())) < 3 or size.sum() - size[order, range(3)].sum() > 1e-4:
        return np.nan_to_num(resampled(values, source, target), nan=outside)
    origin = to_index(target.affine[:3, 3].reshape(3, 1), source)[:, 0]
    out = values.transpose(order)
    known: Mask = np.ones(target.shape, dtype=bool)
    for axis, o in enumerate(order.tolist()):
        step = float(matrix[o, axis])
        centres = float(origin[o]) + step * np.arange(target.shape[axis], dtype=np.float64)
        out = _mean_along(out, axis, centres, max(abs(step), 1.0))
        inside = (centres > -0.5) & (centres < values.shape[o] - 0.5)
        known &= inside.reshape([-1 if a == axis else 1 for a in range(3)])
    return np.where(known, out, np.float32(outside)).astype(np.float32)


def _mean_along(values: Voxels, axis: int, centres: FloatArray, width: float) -> Voxels:
    """Return means of a piecewise linear function over windows of a width, by its integral."""
    n = values.shape[axis]
    # Four samples of a window are as good as the integral for windows of a few voxels.
    count = max(2, min(6, math.ceil(width) + 1)) if width > 1.0 else 1
    offsets = ((np.arange(count) + 0.5) / count - 0.5) * width
    total: Voxels | None = None
    for offset in offsets:
        place = np.clip(centres + offset, 0.0, n - 1.0)
        low = np.minimum(place.astype(np.intp), max(n - 2, 0))
        weight = (place - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        first = np.take(values, low, axis=axis)
        second = np.take(values, np.minimum(low + 1, n - 1), axis=axis)
        part = first + weight * (second - first)
        total = part if total is None else total + part
    assert total is not None  # there is at least one sample
    return np.asarray(total / np.float32(count), dtype=np.float32)


__all__ = ["StudyCrop", "channel_of", "channel_volumes", "crop_study", "share_of", "values_in"]
