"""Random fields in the patient's space: the same tissue on every grid it is sampled on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.results import FloatArray, Voxels
from inference.simulation.shapes import Field

_NODES = 48


@dataclass(frozen=True, slots=True)
class Texture:
    """Smooth noise of mean 0 and deviation 1 on a lattice that repeats, far apart.

    Attributes
    ----------
    nodes : array of float32, (n, n, n)
    spacing_mm : distance of the nodes
    """

    nodes: Voxels
    spacing_mm: float

    def on(self, field: Field) -> Voxels:
        """Sample on a grid whose coordinates are those of its axes (not warped)."""
        out = self.nodes
        for axis, along in enumerate((field.z, field.y, field.x)):
            out = self._along(out, axis, along.ravel().astype(np.float64))
        return np.asarray(out, dtype=np.float32)

    def _along(self, values: Voxels, axis: int, place: FloatArray) -> Voxels:
        count = self.nodes.shape[axis]
        at = np.mod(place / self.spacing_mm, count)
        lower = np.minimum(at.astype(np.intp), count - 1)
        shape = [1, 1, 1]
        shape[axis] = -1
        weight = (at - lower).astype(np.float32).reshape(shape)
        first = np.take(values, lower, axis=axis)
        second = np.take(values, (lower + 1) % count, axis=axis)
        return np.asarray(first + weight * (second - first), dtype=np.float32)


def texture(rng: np.random.Generator, length_mm: float) -> Texture:
    """Draw noise that is correlated over `length_mm` (standard deviation of the smoothing)."""
    white = rng.standard_normal((_NODES, _NODES, _NODES), dtype=np.float32)
    smooth = ndimage.gaussian_filter(white, 2.0, mode="wrap", truncate=3.0)
    smooth -= smooth.mean()
    return Texture(np.asarray(smooth / smooth.std(), dtype=np.float32), length_mm / 2.0)


def warped(field: Field, rng: np.random.Generator, amplitude_mm: float, length_mm: float) -> Field:
    """Return the coordinates displaced by smooth noise, so that no organ is an ellipsoid."""
    amplitude = np.float32(amplitude_mm)
    moved = [axis + amplitude * texture(rng, length_mm).on(field) for axis in (field.z, field.y, field.x)]
    return Field(*moved)
