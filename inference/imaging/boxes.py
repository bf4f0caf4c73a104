"""Boxes around masks."""

from __future__ import annotations

import numpy as np

from inference.results import Box, Mask


def box_of(mask: Mask, margin: int) -> Box:
    """Return the smallest box around a mask that is not empty, wider by `margin` where there is room."""
    start: list[int] = []
    stop: list[int] = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        on = np.flatnonzero(mask.any(axis=others))
        start.append(max(0, int(on[0]) - margin))
        stop.append(min(mask.shape[axis], int(on[-1]) + 1 + margin))
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def cropped(mask: Mask, box: Box) -> Mask:
    """Return a copy of the part of a mask inside a box."""
    return mask[box.slices].copy()
