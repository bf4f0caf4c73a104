"""Crops of a round liver with round tumours, as the learned models see them."""

from __future__ import annotations

import numpy as np

from inference.models.outcome.crops import PatientCrop

Ball = tuple[float, float, float, float]
"""Centre (z, y, x) from the middle of the crop, and radius, in voxels."""


def liver_crop(
    balls: tuple[Ball, ...] = ((0.0, 0.0, -6.0, 5.0), (3.0, 4.0, 8.0, 3.0)),
    side: int = 40,
    arterial_hu: float = 120.0,
    seed: int = 0,
) -> PatientCrop:
    """Return a crop of CT; tumours are viable, bright in the arterial and dark in the portal phase."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[:side, :side, :side] - (side - 1) / 2
    liver = np.sqrt(z**2 + y**2 + x**2) < side / 2 - 3
    images = np.full((2, side, side, side), -100.0)
    images[0, liver], images[1, liver] = 65.0, 110.0
    lesion = np.zeros(liver.shape, dtype=np.uint8)
    for number, (cz, cy, cx, radius) in enumerate(balls, start=1):
        inside = np.sqrt((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2) < radius
        lesion[inside & liver] = number
    images[0, lesion > 0], images[1, lesion > 0] = arterial_hu, 90.0
    images += rng.normal(0.0, 8.0, images.shape)
    fractions = np.zeros((3, side, side, side), dtype=np.float32)
    fractions[0] = lesion > 0
    return PatientCrop(images.astype(np.float32), liver.astype(np.float32), fractions, lesion)
