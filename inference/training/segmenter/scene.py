"""The scene that a random abdomen is painted into, its labels, and the shapes that organs are made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from inference.results import Labels, Mask, Voxels
from inference.simulation.shapes import Field, Point, coarse_noise

SPACING_MM = 3.0
SHAPE = (112, 92, 124)
"""Voxels of a label map, (z, y, x)."""

STEP: Point = (SPACING_MM, SPACING_MM, SPACING_MM)


class Label(IntEnum):
    """Values of a label map."""

    AIR = 0
    FAT = 1
    MUSCLE = 2
    CAVITY_FAT = 3
    LUNG = 4
    CORTEX = 5
    MARROW = 6
    HEART = 7
    LIVER = 8
    LESION = 9
    PORTAL_VEIN = 10
    HEPATIC_VEIN = 11
    SPLEEN = 12
    KIDNEY_CORTEX = 13
    KIDNEY_MEDULLA = 14
    STOMACH_WALL = 15
    STOMACH_CONTENT = 16
    GAS = 17
    BOWEL_WALL = 18
    BOWEL_CONTENT = 19
    GALLBLADDER = 20
    PANCREAS = 21
    AORTA = 22
    CAVA = 23
    CANAL = 24
    ASCITES = 25
    COUCH = 26
    NECROSIS = 27
    KIDNEY_SINUS = 28
    COLON_CONTENT = 29
    DISC = 30
    OUTER_VEIN = 31
    ADRENAL = 32


@dataclass(slots=True)
class Scene:
    """What is being painted, and the measures that organs share (mm)."""

    rng: np.random.Generator
    field: Field
    soft: Field
    labels: Labels
    cavity: Voxels
    above: Voxels
    half_width: float
    half_depth: float
    spine_y: float
    dome_right: float
    dome_left: float

    def put(self, mask: Mask, label: Label) -> None:
        """Paint a mask."""
        self.labels[np.broadcast_to(mask, self.labels.shape)] = label

    def between(self, low: float, high: float) -> float:
        """Draw a number."""
        return float(self.rng.uniform(low, high))

    def noise(self, length_mm: float) -> Voxels:
        """Draw a field of smooth noise."""
        return coarse_noise(self.rng, self.labels.shape, length_mm, STEP)


def ellipsoid(field: Field, centre: Point, radii: Point, turn: float = 0.0, tilt: float = 0.0) -> Voxels:
    """Approximate signed distance; `turn` is about z, `tilt` then about y (rad)."""
    z, y, x = field.z - centre[0], field.y - centre[1], field.x - centre[2]
    c, s = np.cos(turn), np.sin(turn)
    x, y = c * x + s * y, c * y - s * x
    c, s = np.cos(tilt), np.sin(tilt)
    x, z = c * x + s * z, c * z - s * x
    q = np.sqrt((z / radii[0]) ** 2 + (y / radii[1]) ** 2 + (x / radii[2]) ** 2)
    return np.asarray((q - 1.0) * min(radii), dtype=np.float32)


def tube(field: Field, points: list[Point], radius: float) -> Voxels:
    """Signed distance of a tube along a chain of points (z, y, x)."""
    best = np.full(field.shape, 99.0, np.float32)
    for first, last in zip(points[:-1], points[1:], strict=True):
        way = np.subtract(last, first)
        dz, dy, dx = field.z - first[0], field.y - first[1], field.x - first[2]
        along = np.clip((dz * way[0] + dy * way[1] + dx * way[2]) / float(way @ way), 0.0, 1.0)
        d = (dz - along * way[0]) ** 2 + (dy - along * way[1]) ** 2 + (dx - along * way[2]) ** 2
        best = np.minimum(best, np.sqrt(d))
    return np.asarray(best - radius, dtype=np.float32)
