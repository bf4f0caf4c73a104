"""Attention over the slice that a network saw, as a picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.results import FloatArray, Mask, Voxels

_SIDE = 384
_STRONGEST = 0.65
"""Opacity of the colour where attention is highest."""


def attention_picture(images: Voxels, acquired: Mask, relevance: FloatArray) -> npt.NDArray[np.uint8]:
    """Return arterial and portal venous phase side by side, attention in yellow to red.

    Parameters
    ----------
    images : array, (2, side, side)
        -1 to 1.
    acquired : array of bool, (2,)
        A phase that was not acquired is black.
    relevance : array, (2, grid, grid)
        One scale for both phases: white to yellow to red is none to the highest.

    Returns
    -------
    array of uint8, (384, 768, 3)
    """
    highest = float(relevance[acquired].max(initial=0.0)) or 1.0
    lowest = float(relevance[acquired].min(initial=highest))
    span = max(highest - lowest, 1e-12)
    panels = [
        _panel(image, np.clip((map_ - lowest) / span, 0.0, 1.0))
        if seen
        else np.zeros((_SIDE, _SIDE, 3), np.uint8)
        for image, map_, seen in zip(images, relevance, acquired, strict=True)
    ]
    return np.concatenate(panels, axis=1)


def _panel(image: Voxels, share: FloatArray) -> npt.NDArray[np.uint8]:
    grey = 255.0 * (_sized(image) + 1.0) / 2.0
    heat = np.clip(_sized(share), 0.0, 1.0)
    colour = np.stack([np.full_like(heat, 255.0), 220.0 * (1.0 - heat), np.zeros_like(heat)], axis=-1)
    opacity = (_STRONGEST * heat)[..., None]
    mixed = grey[..., None] * (1.0 - opacity) + colour * opacity
    return np.asarray(np.clip(np.rint(mixed), 0, 255), dtype=np.uint8)


def _sized(values: npt.NDArray[np.floating]) -> FloatArray:
    """Return values as a square of the picture's side, linearly between the centres of pixels."""
    n = values.shape[0]
    place = np.clip((np.arange(_SIDE) + 0.5) * n / _SIDE - 0.5, 0.0, n - 1.0)
    grid = np.stack(np.meshgrid(place, place, indexing="ij"))
    return np.asarray(ndimage.map_coordinates(np.asarray(values, np.float64), grid, order=1, mode="nearest"))
