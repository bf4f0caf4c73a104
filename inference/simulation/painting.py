"""Painting structures over each other with soft borders."""

from __future__ import annotations

import numpy as np

from inference.results import Labels, Voxels
from inference.simulation.shapes import Field, Point
from inference.simulation.tissues import Structure

Window = tuple[slice, slice, slice]


class Painter:
    """An abdomen in the making: at each voxel the last structure painted, over what lay there.

    Two structures and a share are enough for borders, and let every phase be looked up in a table.

    Attributes
    ----------
    field, soft : coordinates, plain and displaced by smooth noise
    over, under : arrays of uint8, values of `Structure`
    share : array of float32
        Share of the voxel that is `over`.
    """

    def __init__(self, field: Field, soft: Field, step_mm: Point) -> None:
        shape = (field.z.shape[0], field.y.shape[1], field.x.shape[2])
        self.field = field
        self.soft = soft
        self.step_mm = step_mm
        self.over: Labels = np.zeros(shape, np.uint8)
        self.under: Labels = np.zeros(shape, np.uint8)
        self.share: Voxels = np.ones(shape, np.float32)

    def put(self, structure: Structure, distance: Voxels, window: Window | None = None) -> None:
        """Paint where a signed distance (mm) is negative; the border is one voxel wide."""
        at = window or (slice(None), slice(None), slice(None))
        over, under, share = self.over[at], self.under[at], self.share[at]
        cover = np.broadcast_to(np.clip(0.5 - distance / self.step_mm[2], 0.0, 1.0), over.shape)
        touched = cover > 0.0
        before = np.where(share[touched] >= 0.5, over[touched], under[touched])
        under[touched] = before
        over[touched] = structure
        share[touched] = cover[touched]

    def near(self, centre: Point, reach: Point) -> tuple[Window, Field, Field]:
        """Return the part of the grid round a point: its index, and both fields there."""
        axes = (self.field.z.ravel(), self.field.y.ravel(), self.field.x.ravel())
        ends = [
            (int(np.searchsorted(a, c - r - 4.0)), int(np.searchsorted(a, c + r + 4.0)))
            for a, c, r in zip(axes, centre, reach, strict=True)
        ]
        z, y, x = (slice(low, max(high, low)) for low, high in ends)
        plain = Field(self.field.z[z], self.field.y[:, y], self.field.x[:, :, x])
        window = (z, y, x)
        return window, plain, Field(self.soft.z[window], self.soft.y[window], self.soft.x[window])

    def labels(self) -> Labels:
        """Return the structure that holds most of each voxel."""
        return np.asarray(np.where(self.share >= 0.5, self.over, self.under), dtype=np.uint8)

    def share_of(self, structure: Structure) -> Voxels:
        """Return the share of each voxel that is one structure."""
        top = np.where(self.over == structure, self.share, 0.0)
        below = np.where(self.under == structure, 1.0 - self.share, 0.0)
        return np.asarray(top + below, dtype=np.float32)
