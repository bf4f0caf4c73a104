"""Resampling between grids keeps volumes, places and what was not acquired."""

from __future__ import annotations

import numpy as np
import pytest

from inference.imaging.resampling import aligned_grid, nearest_label, points_of, resampled, share_of, to_index
from inference.results import Grid


def tilted_grid() -> Grid:
    """Return an oblique grid with gantry tilt, slices of 5 mm and pixels of 0.8 mm."""
    a = np.deg2rad(12.0)
    affine = np.eye(4)
    affine[:3, 2] = np.array([np.cos(a), np.sin(a), 0.0]) * 0.8
    affine[:3, 1] = np.array([-np.sin(a), np.cos(a), 0.0]) * 0.8
    affine[:3, 0] = np.array([0.0, 0.9, 5.0])
    affine[:3, 3] = (-50.0, -60.0, -70.0)
    return Grid((28, 150, 140), affine, "1.2")


def ball(grid: Grid, centre, radius: float) -> np.ndarray:
    offset = points_of(grid) - np.array(centre).reshape(3, 1, 1, 1)
    return np.linalg.norm(offset, axis=0) <= radius


def middle(grid: Grid) -> np.ndarray:
    return grid.to_patient((np.array(grid.shape) - 1) / 2)


def test_index_and_points_are_inverse():
    grid = tilted_grid()
    np.testing.assert_allclose(to_index(points_of(grid), grid), np.indices(grid.shape), atol=1e-9)


def test_aligned_grid_lies_around_its_centre():
    grid = aligned_grid((1.0, 2.0, 3.0), (5, 7, 9), 2.0, "1")
    points = points_of(grid)
    assert points.mean(axis=(1, 2, 3)) == pytest.approx([1.0, 2.0, 3.0])
    assert points[2, 1, 0, 0] - points[2, 0, 0, 0] == 2.0


@pytest.mark.parametrize("radius", [6.0, 15.0])
def test_volume_and_centre_of_a_mask_are_kept(radius):
    source = tilted_grid()
    target = aligned_grid(middle(source), (30, 30, 30), 2.25, "1.2")
    mask = ball(source, middle(source), radius)
    share = share_of(mask, source, target)
    assert share.sum() * target.voxel_ml == pytest.approx(mask.sum() * source.voxel_ml, rel=0.02)
    centre = (points_of(target) * share).sum(axis=(1, 2, 3)) / share.sum()
    assert centre == pytest.approx(source.to_patient(np.argwhere(mask)).mean(axis=0), abs=0.1)


def test_linear_image_is_reproduced_through_a_shift():
    source = tilted_grid()
    values = (points_of(source) * np.array([1.0, 2.0, -3.0]).reshape(3, 1, 1, 1)).sum(axis=0)
    target = aligned_grid(middle(source), (12, 12, 12), 2.25, "1.2")
    shift = np.array([3.0, -2.0, 4.0]).reshape(3, 1, 1, 1)
    mapped = points_of(target) + shift
    found = resampled(values.astype(np.float32), source, target, mapped)
    expected = (mapped * np.array([1.0, 2.0, -3.0]).reshape(3, 1, 1, 1)).sum(axis=0)
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_outside_is_not_a_number():
    source = tilted_grid()
    target = aligned_grid(source.affine[:3, 3], (20, 20, 20), 4.0, "1.2")
    found = resampled(np.ones(source.shape, dtype=np.float32), source, target)
    assert np.isnan(found).any()
    assert (found[np.isfinite(found)] == 1.0).all()


def test_nearest_label_reaches_partly_covered_voxels():
    source = tilted_grid()
    target = aligned_grid(middle(source), (30, 30, 30), 2.25, "1.2")
    labels = np.zeros(source.shape, dtype=np.uint8)
    labels[ball(source, middle(source) + [12.0, 0.0, 0.0], 5.0)] = 3
    labels[ball(source, middle(source) - [12.0, 0.0, 0.0], 5.0)] = 7
    found = nearest_label(labels, source, target)
    covered = share_of(labels > 0, source, target) > 0
    assert set(np.unique(found[covered])) == {3, 7}
    assert (nearest_label(labels * 0, source, target) == 0).all()
