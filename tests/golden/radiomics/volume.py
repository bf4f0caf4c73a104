"""The made-up region that both programs measure: a lump with two holes and smooth texture."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

SHAPE = (22, 26, 24)


def region() -> tuple[np.ndarray, np.ndarray]:
    """Return values in HU, whole numbers, and the mask."""
    rng = np.random.default_rng(20)
    noise = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1.2)
    values = np.rint(70 + 120 * noise / noise.std() / 2 + rng.normal(0, 10, SHAPE)).astype(np.float32)
    z, y, x = (np.indices(SHAPE).T - (np.array(SHAPE) - 1) / 2).T
    mask = (z / 8) ** 2 + (y / 10) ** 2 + (x / 7) ** 2 < 1 + 0.25 * np.sin(y) * np.cos(x)
    mask &= (z - 2) ** 2 + (y + 3) ** 2 + x**2 > 6
    mask[11, 17, 12] = False
    return values, mask
