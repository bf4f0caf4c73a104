"""Signed distances of simple shapes, and vessel trees: the vocabulary of the simulated abdomen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.models.mechanistic.sampling import resample, smooth_noise
from inference.results import FloatArray, Mask, Voxels

Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Field:
    """Coordinates of voxel centres in mm: z upwards, y to the back, x to the patient's left.

    Attributes
    ----------
    z, y, x : arrays of float32 that broadcast to (slices, rows, columns)
    """

    z: Voxels
    y: Voxels
    x: Voxels

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape that the coordinates broadcast to."""
        return np.broadcast_shapes(self.z.shape, self.y.shape, self.x.shape)

    def warped(
        self, rng: np.random.Generator, amplitude_mm: float, length_mm: float, step_mm: Point
    ) -> Field:
        """Return the coordinates displaced by smooth noise, so that no organ is an ellipsoid."""
        return Field(
            *(
                (axis + coarse_noise(rng, self.shape, length_mm, step_mm) * np.float32(amplitude_mm))
                for axis in (self.z, self.y, self.x)
            )
        )


def coarse_noise(
    rng: np.random.Generator, shape: tuple[int, ...], length_mm: float, step_mm: Point
) -> Voxels:
    """Smooth noise of mean 0 and deviation 1, made on a coarse grid and interpolated."""
    factor = [max(length_mm / (2.0 * s), 1.0) for s in step_mm]
    coarse = tuple(int(math.ceil(n / f)) + 2 for n, f in zip(shape, factor, strict=True))
    noise = smooth_noise(
        rng, coarse, [max(length_mm / (s * f), 0.5) for s, f in zip(step_mm, factor, strict=True)]
    )
    z, y, x = (np.arange(n) / f for n, f in zip(shape, factor, strict=True))
    return resample(noise, (z, y, x))


def ellipsoid(field: Field, centre: Point, radii: Point, turn: float = 0.0) -> Voxels:
    """Approximate signed distance (mm, negative inside) of an ellipsoid turned about z by `turn` rad."""
    c, s = math.cos(turn), math.sin(turn)
    dz, dy, dx = field.z - centre[0], field.y - centre[1], field.x - centre[2]
    u, v = (c * dx + s * dy) / radii[2], (c * dy - s * dx) / radii[1]
    q = np.sqrt((dz / radii[0]) ** 2 + u * u + v * v)
    return np.asarray((q - 1.0) * min(radii), dtype=np.float32)


def cylinder(field: Field, centre: tuple[float, float], radii: tuple[float, float]) -> Voxels:
    """Approximate signed distance of an elliptic cylinder along z; centre and radii are (y, x)."""
    q = np.hypot((field.y - centre[0]) / radii[0], (field.x - centre[1]) / radii[1])
    return np.asarray((q - 1.0) * min(radii), dtype=np.float32)


def union(a: Voxels, b: Voxels, blend_mm: float) -> Voxels:
    """Union of two shapes with a fillet of the given size."""
    h = np.clip(0.5 + 0.5 * (b - a) / blend_mm, 0.0, 1.0)
    return np.asarray(b + (a - b) * h - blend_mm * h * (1.0 - h), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Vessel:
    """One straight piece of a vessel; points are (z, y, x) in mm."""

    start: FloatArray
    end: FloatArray
    radius_mm: float


def tree(
    rng: np.random.Generator, targets: FloatArray, root: Point, radius_mm: float, least_mm: float
) -> list[Vessel]:
    """Grow a tree that supplies points of a region.

    Each branch goes towards the middle of the points it supplies and splits them in two; the radii
    obey Murray's law, r^3 = r1^3 + r2^3, with a flow proportional to the number of points.

    Parameters
    ----------
    targets : array, (n, 3)
        Points (z, y, x) in mm.

    References
    ----------
    Murray 1926, PNAS 12:207.
    """
    vessels: list[Vessel] = []
    open_ends = [(np.asarray(root, dtype=np.float64), targets, radius_mm)]
    while open_ends:
        start, points, radius = open_ends.pop()
        if len(points) < 3 or radius < least_mm:
            continue
        way = points.mean(axis=0) - start
        end = start + way * rng.uniform(0.4, 0.6)
        middle = (start + end) / 2.0 + rng.normal(0.0, 0.07 * float(np.linalg.norm(end - start)), 3)
        vessels += [Vessel(start, middle, radius), Vessel(middle, end, radius * 0.95)]
        centred = points - points.mean(axis=0)
        along = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
        lower = along < np.quantile(along, rng.uniform(0.35, 0.65))
        if not lower.any():
            continue  # points that lie in one plane across cannot be split
        halves = (points[lower], points[~lower])
        open_ends += [(end, part, radius * (len(part) / len(points)) ** (1.0 / 3.0)) for part in halves]
    return vessels


def coverage(vessels: Sequence[Vessel], field: Field, step_mm: Point, shift_mm: Point = (0, 0, 0)) -> Voxels:
    """Return how far each voxel is covered by vessels (0 to 1), thin ones in part."""
    shape = (field.z.shape[0], field.y.shape[1], field.x.shape[2])
    origin = np.array([field.z.flat[0], field.y.flat[0], field.x.flat[0]])
    out = np.zeros(shape, np.float32)
    step = np.asarray(step_mm)
    for vessel in vessels:
        a, b = vessel.start + shift_mm, vessel.end + shift_mm
        reach = vessel.radius_mm + 3.0
        low = np.maximum(np.floor((np.minimum(a, b) - reach - origin) / step).astype(int), 0)
        high = np.minimum(np.ceil((np.maximum(a, b) + reach - origin) / step).astype(int) + 1, shape)
        if np.any(high <= low):
            continue
        box = tuple(slice(i, j) for i, j in zip(low, high, strict=True))
        distance = _to_segment(field, box, a, b) - vessel.radius_mm
        # A linear ramp of one voxel keeps the contrast of vessels thinner than a voxel.
        inside = np.clip(0.5 - distance / step_mm[2], 0.0, 1.0)
        out[box] = np.maximum(out[box], inside)
    return out


def _to_segment(field: Field, box: tuple[slice, ...], a: FloatArray, b: FloatArray) -> Voxels:
    dz = field.z[box[0]] - a[0]
    dy = field.y[:, box[1]] - a[1]
    dx = field.x[:, :, box[2]] - a[2]
    way = b - a
    t = np.clip((dz * way[0] + dy * way[1] + dx * way[2]) / max(float(way @ way), 1e-9), 0.0, 1.0)
    return np.asarray(np.sqrt((dz - t * way[0]) ** 2 + (dy - t * way[1]) ** 2 + (dx - t * way[2]) ** 2))


def random_points(rng: np.random.Generator, mask: Mask, field: Field, count: int) -> FloatArray:
    """Return points (n, 3) in mm, (z, y, x), spread over a mask."""
    index = np.flatnonzero(mask)
    chosen = np.unravel_index(rng.choice(index, size=min(count, len(index)), replace=False), mask.shape)
    z, y, x = field.z.ravel()[chosen[0]], field.y.ravel()[chosen[1]], field.x.ravel()[chosen[2]]
    return np.stack([z, y, x], axis=1).astype(np.float64)


def filling(vessels: Sequence[Vessel], field: Field, step_mm: Point) -> Voxels:
    """Return the share of each voxel that vessels hold; those thinner than a voxel fill a part of it."""
    width = float(np.prod(step_mm)) ** (1.0 / 3.0)
    out = np.zeros((field.z.shape[0], field.y.shape[1], field.x.shape[2]), np.float32)
    for radius in sorted({round(v.radius_mm, 1) for v in vessels}):
        group = [v for v in vessels if round(v.radius_mm, 1) == radius]
        # Cross-section of the vessel over the face of a voxel.
        most = min(1.0, math.pi * max(radius, 0.1) ** 2 / width**2)
        cover = coverage(group, field, step_mm)
        np.maximum(out, np.float32(most) * cover, out=out)
    return out
