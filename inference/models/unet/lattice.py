"""Axis-aligned lattices in patient space, and the way to them and back.

Networks see every patient alike: axes (z, y, x) towards the head, the back and the patient's left,
isotropic voxels. Resampling is linear, after averaging whole voxels where the lattice is coarser.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from inference.results import Box, FloatArray, Grid, Voxels


@dataclass(frozen=True, slots=True)
class Lattice:
    """An isotropic, axis-aligned sampling of patient space.

    Attributes
    ----------
    origin_mm : (z, y, x) of the first voxel's centre, LPS
    shape : (z, y, x)
    """

    origin_mm: tuple[float, float, float]
    spacing_mm: float
    shape: tuple[int, int, int]

    def shifted(self, by_mm: float) -> Lattice:
        """Return the lattice moved by the same distance along each axis."""
        z, y, x = self.origin_mm
        return Lattice((z + by_mm, y + by_mm, x + by_mm), self.spacing_mm, self.shape)


def covering(grid: Grid, spacing_mm: float) -> Lattice:
    """Return the lattice that covers all of a grid."""
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in grid.shape], indexing="ij")).reshape(3, -1)
    return _between(grid.to_patient(corners.T)[:, ::-1], spacing_mm)


def around(lattice: Lattice, box: Box, margin_mm: float, spacing_mm: float) -> Lattice:
    """Return a lattice of another spacing over a box of one, with a margin inside its bounds."""
    edge = np.array(lattice.origin_mm) - lattice.spacing_mm / 2.0
    low = np.maximum(np.array(box.start) * lattice.spacing_mm - margin_mm, 0.0)
    high = np.minimum(
        np.array(box.stop) * lattice.spacing_mm + margin_mm, np.array(lattice.shape) * lattice.spacing_mm
    )
    return _between(np.stack([edge + low, edge + high]), spacing_mm)


def within(grid: Grid, box: Box, margin_mm: float, spacing_mm: float) -> Lattice:
    """Return a lattice over a box of a grid, with a margin that stays in the grid."""
    steps = margin_mm / np.array(grid.spacing_mm)
    low = np.maximum(np.array(box.start) - steps, 0.0) - 0.5
    high = np.minimum(np.array(box.stop) + steps, grid.shape) - 0.5
    corners = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, -1)
    return _between(grid.to_patient(corners.T)[:, ::-1], spacing_mm)


def _between(points_zyx: FloatArray, spacing_mm: float) -> Lattice:
    low, high = points_zyx.min(axis=0), points_zyx.max(axis=0)
    count = np.maximum(np.ceil((high - low) / spacing_mm).astype(int), 1)
    first = (low + high) / 2.0 - (count - 1) / 2.0 * spacing_mm
    return Lattice(
        (float(first[0]), float(first[1]), float(first[2])),
        spacing_mm,
        (int(count[0]), int(count[1]), int(count[2])),
    )


def to_lattice(values: Voxels, grid: Grid, lattice: Lattice, outside: float) -> Voxels:
    """Return values (slices, rows, columns) of a grid on a lattice; `outside` beyond the grid."""
    pooled, affine = _pooled(values, grid, lattice.spacing_mm)
    return _resample(_image(pooled, affine), _reference(lattice), outside)


def from_lattice(values: Voxels, lattice: Lattice, grid: Grid, box: Box) -> Voxels:
    """Return values of a lattice in a box of a grid; 0 beyond the lattice."""
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(_reference(lattice))
    part = grid.part(box)
    return _resample(image, _empty(part.shape, part.affine), 0.0)


def between_lattices(values: Voxels, source: Lattice, target: Lattice, outside: float) -> Voxels:
    """Return values of one lattice on another."""
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(_reference(source))
    return _resample(image, _reference(target), outside)


def box_on_grid(lattice: Lattice, box: Box, grid: Grid) -> Box | None:
    """Return the voxels of a grid that a box of a lattice reaches, or None where there are none."""
    corners = np.array(np.meshgrid(*zip(box.start, box.stop, strict=True), indexing="ij")).reshape(3, -1).T
    points = np.array(lattice.origin_mm) + (corners - 0.5) * lattice.spacing_mm
    index = (points[:, ::-1] - grid.affine[:3, 3]) @ np.linalg.inv(grid.affine[:3, :3]).T
    low = np.maximum(np.floor(index.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(index.max(axis=0)).astype(int) + 1, grid.shape)
    if np.any(high <= low):
        return None
    return Box((int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2])))


def _pooled(values: Voxels, grid: Grid, spacing_mm: float) -> tuple[Voxels, FloatArray]:
    """Average whole voxels so far as they are finer than the lattice."""
    factors = [max(int(spacing_mm / s), 1) for s in grid.spacing_mm]
    factors = [min(f, n) for f, n in zip(factors, grid.shape, strict=True)]
    kept = [n // f for n, f in zip(grid.shape, factors, strict=True)]
    cut = values[tuple(slice(0, k * f) for k, f in zip(kept, factors, strict=True))]
    z, y, x = factors
    pooled = cut.reshape(kept[0], z, kept[1], y, kept[2], x).mean(axis=(1, 3, 5), dtype=np.float32)
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_patient([(f - 1) / 2.0 for f in factors])
    affine[:3, :3] = affine[:3, :3] * np.array(factors)
    return np.asarray(pooled, dtype=np.float32), affine


def _image(values: Voxels, affine: FloatArray) -> sitk.Image:
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(_empty(values.shape, affine))
    return image


def _empty(shape: tuple[int, ...], affine: FloatArray) -> sitk.Image:
    image = sitk.Image([int(n) for n in shape[::-1]], sitk.sitkUInt8)
    axes = affine[:3, [2, 1, 0]]
    spacing = np.linalg.norm(axes, axis=0)
    image.SetSpacing([float(s) for s in spacing])
    image.SetOrigin([float(v) for v in affine[:3, 3]])
    image.SetDirection([float(v) for v in (axes / spacing).ravel()])
    return image


def _reference(lattice: Lattice) -> sitk.Image:
    image = sitk.Image([int(n) for n in lattice.shape[::-1]], sitk.sitkUInt8)
    image.SetSpacing([lattice.spacing_mm] * 3)
    image.SetOrigin([float(v) for v in lattice.origin_mm[::-1]])
    return image


def _resample(image: sitk.Image, reference: sitk.Image, outside: float) -> Voxels:
    moved = sitk.Resample(
        image, reference, sitk.Transform(), sitk.sitkLinear, float(outside), sitk.sitkFloat32
    )
    return np.asarray(sitk.GetArrayFromImage(moved), dtype=np.float32)
