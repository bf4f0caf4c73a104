"""Volumes of the lesions of a crop."""

from __future__ import annotations

import numpy as np
import pytest

from inference.models.outcome.crops import SPACING_MM, VOXEL_ML, lesion_volumes
from inference.results import Labels, Voxels

_FINE = 6
"""Sub-voxels along each axis from which shares of voxels are counted."""


def ball(centre: tuple[float, float, float], radius_mm: float, side: int = 24) -> Voxels:
    """Return the share of each voxel (z, y, x) that lies in a ball; its centre is in voxels."""
    place = (np.arange(side * _FINE) + 0.5) / _FINE - 0.5
    z, y, x = np.meshgrid(*[(place - c) * SPACING_MM for c in centre], indexing="ij")
    inside = (z**2 + y**2 + x**2 <= radius_mm**2).astype(np.float32)
    return inside.reshape(side, _FINE, side, _FINE, side, _FINE).mean(axis=(1, 3, 5))


def numbered(*lesions: Voxels) -> Labels:
    """Return lesion numbers where a lesion fills most of the voxel, as crops have them."""
    number = np.zeros(lesions[0].shape, np.uint8)
    for k, share in enumerate(lesions, 1):
        number[share >= 0.5] = k
    return number


@pytest.mark.parametrize("radius_mm", [6.0, 10.0, 20.0])
def test_a_lesion_has_the_volume_of_its_shape(radius_mm: float) -> None:
    share = ball((11.3, 12.1, 11.8), radius_mm)
    fractions = np.stack([share, 0 * share, 0 * share])
    found = lesion_volumes(fractions, numbered(share))
    assert found[1, 0] == pytest.approx(4 / 3 * np.pi * radius_mm**3 / 1000, rel=0.01)
    assert found.sum() == found[1, 0]


def test_border_voxels_belong_to_the_nearest_lesion_and_all_add_up() -> None:
    first, second = ball((8.0, 8.0, 8.0), 9.0), ball((15.4, 15.0, 15.2), 7.0)
    fractions = np.stack([first, 0.7 * second, 0.3 * second])
    found = lesion_volumes(fractions, numbered(first, second))
    assert found[1] == pytest.approx([first.sum() * VOXEL_ML, 0.0, 0.0])
    assert found[2] == pytest.approx([share * second.sum() * VOXEL_ML for share in (0.0, 0.7, 0.3)])
    assert found.sum() == pytest.approx(fractions.sum() * VOXEL_ML)


def test_without_a_lesion_number_there_is_no_volume() -> None:
    faint = 0.3 * ball((12.0, 12.0, 12.0), 5.0)
    fractions = np.stack([faint, 0 * faint, 0 * faint])
    assert not lesion_volumes(fractions, np.zeros(faint.shape, np.uint8)).any()
    assert not lesion_volumes(0 * fractions, np.zeros(faint.shape, np.uint8)).any()
