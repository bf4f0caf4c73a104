"""A patient lies and breathes differently at every visit: what registration has to undo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.results import Voxels
from inference.simulation.shapes import Field, Point
from inference.simulation.texture import texture

_ELASTIC_LENGTH_MM = 40.0


@dataclass(frozen=True, slots=True)
class Displacement:
    """Where the body lies at a visit, against the anatomy's own space.

    Attributes
    ----------
    shift_mm : (z, y, x)
    turn_deg : about the body's long axis
    elastic_mm : standard deviation of a smooth deformation, as of another depth of breath
    seed : of the deformation
    """

    shift_mm: Point = (0.0, 0.0, 0.0)
    turn_deg: float = 0.0
    elastic_mm: float = 0.0
    seed: int = 0

    @property
    def is_none(self) -> bool:
        """Whether nothing moves."""
        return not (any(self.shift_mm) or self.turn_deg or self.elastic_mm)


def draw_displacement(rng: np.random.Generator) -> Displacement:
    """Draw what is usual between two visits."""
    shift = (float(rng.normal(0.0, 6.0)), float(rng.normal(0.0, 3.0)), float(rng.normal(0.0, 4.0)))
    return Displacement(shift, float(rng.normal(0.0, 1.5)), 2.0, int(rng.integers(2**31)))


class Motion:
    """A displacement on one grid; applied to images and to masks alike."""

    def __init__(self, displacement: Displacement, field: Field, step_mm: Point) -> None:
        self._displacement = displacement
        if not displacement.is_none:
            self._index = _sources(displacement, field, step_mm)

    def __call__(self, values: Voxels) -> Voxels:
        """Return values (z, y, x) where the displaced body has them; the border is continued."""
        if self._displacement.is_none:
            return values
        found = ndimage.find_objects((values != 0).astype(np.uint8))
        if not found:
            return np.zeros(values.shape, np.float32)
        # A small structure comes from a small part of the grid; the rest stays zero.
        reached = np.ones(values.shape, bool)
        for index, part, count in zip(self._index, found[0], values.shape, strict=True):
            if part.start > 0:
                reached &= index > part.start - 1
            if part.stop < count:
                reached &= index < part.stop
        moved = np.zeros(values.shape, np.float32)
        sources = self._index[:, reached]
        moved[reached] = ndimage.map_coordinates(values, sources, order=1, mode="nearest")
        return moved


def _sources(displacement: Displacement, field: Field, step_mm: Point) -> Voxels:
    """Return the fractional index (3, z, y, x) that each voxel of the visit is taken from."""
    dz, dy, dx = displacement.shift_mm
    turn = np.deg2rad(displacement.turn_deg)
    cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    z, y, x = np.broadcast_arrays(field.z - dz, field.y - dy, field.x - dx)
    places = [z, cosine * y - sine * x, sine * y + cosine * x]
    rng = np.random.default_rng(displacement.seed)
    origin = (field.z.flat[0], field.y.flat[0], field.x.flat[0])
    index = []
    for place, first, step in zip(places, origin, step_mm, strict=True):
        wave = np.float32(displacement.elastic_mm) * texture(rng, _ELASTIC_LENGTH_MM).on(field)
        index.append(((place + wave - first) / step).astype(np.float32))
    return np.stack(index)
