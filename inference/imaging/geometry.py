"""Planes in patient space: from the headers of single slices to one regular grid, or a refusal.

Indices are (slice, row, column). Slices are ordered along the normal of the image plane, the cross
product of the row and column direction cosines (PS3.3 C.7.6.2.1.1). The step from slice to slice
need not be parallel to that normal: under gantry tilt the affine is sheared, and distances in a
slice and volumes are still right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from inference.errors import GeometryError
from inference.imaging.attributes import numbers
from inference.results import FloatArray

SAME_DIRECTION = 1e-3
"""Largest difference of a direction cosine between slices that count as parallel (0.06 degrees)."""

SAME_SPACING = 1e-3
"""Largest relative difference of pixel spacing between slices of one volume."""

SAME_POSITION_MM = 1e-2
"""Slices nearer to each other than this lie at one position."""

REGULAR_SHARE = 0.1
"""Largest distance of a slice from its regular position, as a share of the slice spacing."""

REGULAR_MM = 0.1
"""The same in mm, for thin slices whose positions were rounded; the larger of both applies."""

TILT_DEGREES = 0.5
"""A slice step leaning further than this from the normal is reported as gantry tilt."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One slice in patient space.

    Attributes
    ----------
    position : array, (3,)
        Centre of the first pixel, LPS in mm.
    row_cosines, column_cosines : array, (3,)
        Directions of increasing column and of increasing row index.
    spacing : (row spacing, column spacing) in mm
    shape : (rows, columns)
    """

    position: FloatArray
    row_cosines: FloatArray
    column_cosines: FloatArray
    spacing: tuple[float, float]
    shape: tuple[int, int]

    @property
    def normal(self) -> FloatArray:
        """Unit normal of the plane."""
        return np.asarray(np.cross(self.row_cosines, self.column_cosines))


def plane_of(header: Dataset) -> Plane:
    """Return the plane of one slice.

    Raises
    ------
    GeometryError
        Position, orientation or spacing is missing or impossible; none of them is ever guessed.
    """
    position = numbers(header, "ImagePositionPatient", 3)
    orientation = numbers(header, "ImageOrientationPatient", 6)
    spacing = numbers(header, "PixelSpacing", 2)
    if orientation is None:
        raise GeometryError("a slice has no Image Orientation (Patient), so left and right are unknown")
    if position is None:
        raise GeometryError("a slice has no Image Position (Patient)")
    if spacing is None or min(spacing) <= 0 or not np.isfinite(spacing).all():
        raise GeometryError("a slice has no usable Pixel Spacing")
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    if not np.isfinite(position).all():
        raise GeometryError("a slice has no usable Image Position (Patient)")
    _check_cosines(row, column)
    return Plane(
        position=np.array(position),
        row_cosines=row / np.linalg.norm(row),
        column_cosines=column / np.linalg.norm(column),
        spacing=(spacing[0], spacing[1]),
        shape=(int(header.get("Rows", 0)), int(header.get("Columns", 0))),
    )


def _check_cosines(row: FloatArray, column: FloatArray) -> None:
    lengths = np.array([np.linalg.norm(row), np.linalg.norm(column)])
    if not np.isfinite(lengths).all() or (np.abs(lengths - 1) > 0.01).any() or abs(row @ column) > 0.01:
        raise GeometryError("the direction cosines of a slice are not perpendicular unit vectors")


def check_parallel(planes: Sequence[Plane]) -> None:
    """Refuse slices that differ in orientation, spacing or size."""
    first = planes[0]
    turned = sum(not _parallel(first, p) for p in planes)
    if turned:
        raise GeometryError(
            f"the orientations are mixed: {turned} of {len(planes)} slices are not parallel to the first"
        )
    scaled = sum(not np.allclose(first.spacing, p.spacing, rtol=SAME_SPACING, atol=0) for p in planes)
    if scaled:
        raise GeometryError(f"the pixel spacing differs in {scaled} of {len(planes)} slices")
    resized = sum(first.shape != p.shape for p in planes)
    if resized:
        raise GeometryError(f"rows or columns differ in {resized} of {len(planes)} slices")


def _parallel(a: Plane, b: Plane) -> bool:
    return bool(
        np.allclose(a.row_cosines, b.row_cosines, rtol=0, atol=SAME_DIRECTION)
        and np.allclose(a.column_cosines, b.column_cosines, rtol=0, atol=SAME_DIRECTION)
    )


def depths(planes: Sequence[Plane]) -> FloatArray:
    """Return the distance of each plane along the first plane's normal, in mm."""
    normal = planes[0].normal
    return np.array([float(p.position @ normal) for p in planes])


def group_by_position(planes: Sequence[Plane]) -> list[list[int]]:
    """Return the indices of the planes at each position, ascending along the normal."""
    depth = depths(planes)
    order = np.argsort(depth, kind="stable")
    groups: list[list[int]] = []
    for i in order.tolist():
        if groups and depth[i] - depth[groups[-1][0]] < SAME_POSITION_MM:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def volume_affine(planes: Sequence[Plane]) -> FloatArray:
    """Return the affine of slices that ascend along their normal, one at each position.

    Returns
    -------
    array, (4, 4)
        Maps (slice, row, column, 1) to LPS in mm.

    Raises
    ------
    GeometryError
        Fewer than two slices, missing slices, irregular positions, or slices shifted sideways.
    """
    if len(planes) < 2:
        raise GeometryError("one slice alone is no volume")
    _check_gaps(planes)
    positions = np.array([p.position for p in planes])
    step = (positions[-1] - positions[0]) / (len(planes) - 1)
    _check_regular(positions, step, planes[0].normal)
    first = planes[0]
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = first.column_cosines * first.spacing[0]
    affine[:3, 2] = first.row_cosines * first.spacing[1]
    affine[:3, 3] = first.position
    return affine


def _check_gaps(planes: Sequence[Plane]) -> None:
    depth = depths(planes)
    steps = np.diff(depth)
    nominal = float(np.median(steps))
    wide = np.flatnonzero(steps > 1.5 * nominal)
    if not len(wide):
        return
    missing = int(np.rint(steps[wide] / nominal - 1).sum())
    where = ", ".join(f"{depth[i]:.1f} and {depth[i + 1]:.1f} mm" for i in wide[:3])
    more = " and elsewhere" if len(wide) > 3 else ""
    noun = "slice is" if missing == 1 else "slices are"
    raise GeometryError(
        f"{missing} {noun} missing: there is none between {where}{more} "
        f"at a slice spacing of {nominal:.2f} mm (positions along the slice normal)"
    )


def _check_regular(positions: FloatArray, step: FloatArray, normal: FloatArray) -> None:
    regular = positions[0] + np.arange(len(positions))[:, None] * step
    off = positions - regular
    allowed = max(REGULAR_MM, REGULAR_SHARE * abs(float(step @ normal)))
    along = np.abs(off @ normal)
    if along.max() > allowed:
        raise GeometryError(
            f"the slice spacing is irregular: a slice is {along.max():.2f} mm from its regular position"
        )
    sideways = np.linalg.norm(off - np.outer(off @ normal, normal), axis=1)
    if sideways.max() > allowed:
        raise GeometryError(
            f"slices are shifted sideways against each other, by up to {sideways.max():.2f} mm"
        )


def tilt_degrees(affine: FloatArray) -> float:
    """Return the angle between the slice step and the slice normal (gantry tilt), in degrees."""
    normal = np.cross(affine[:3, 2], affine[:3, 1])
    cosine = abs(float(affine[:3, 0] @ normal)) / float(
        np.linalg.norm(affine[:3, 0]) * np.linalg.norm(normal)
    )
    return float(np.degrees(np.arccos(min(1.0, cosine))))


def slice_distance_mm(affine: FloatArray) -> float:
    """Return the distance between slices perpendicular to them, in mm (not along a tilted step)."""
    normal = np.cross(affine[:3, 2], affine[:3, 1])
    return abs(float(affine[:3, 0] @ normal)) / float(np.linalg.norm(normal))


def same_grid(a: FloatArray, a_shape: tuple[int, ...], b: FloatArray, b_shape: tuple[int, ...]) -> bool:
    """Whether two grids put every voxel within a tenth of a voxel of each other."""
    if a_shape != b_shape:
        return False
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in a_shape], indexing="ij")).reshape(3, -1).T
    far = np.abs(corners @ (a[:3, :3] - b[:3, :3]).T + (a[:3, 3] - b[:3, 3])).max()
    return bool(far <= 0.1 * np.linalg.norm(a[:3, :3], axis=0).min())
