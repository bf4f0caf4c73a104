"""Room for a burned-in marker: one rectangle that lies in air outside the body on every slice.

What is not air on any slice is taken together, so that the rectangle is the same for the whole series.
Air that is enclosed by the body on that sum (lung, bowel gas) is body. The table, tubes and clothing
are not air either and stay visible.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.results import Mask, SeriesVolume

AIR_BELOW_HU = -400.0
"""CT: between air and fat, far from both."""

MR_AIR_SHARE = 0.1
"""MR: air has less than this share of the 99th percentile of the signal."""

CLEARANCE_PIXELS = 3
"""Pixels between the rectangle and anything that is not air."""

PixelBox = tuple[int, int, int, int]
"""(first row, first column, row after the last, column after the last)."""


def find_common_marker_box(volumes: Sequence[SeriesVolume], size: tuple[int, int]) -> PixelBox | None:
    """Return a rectangle of `size` (rows, columns) in air on every slice of volumes that share one grid.

    The rectangle nearest to a corner of the image is taken; of equal ones the upper, then the left. None
    when there is no room.
    """
    rows, columns = size
    outside = np.logical_and.reduce([air_outside(volume) for volume in volumes])
    if rows < 1 or columns < 1 or rows > outside.shape[0] or columns > outside.shape[1]:
        return None
    free = _all_free(outside, rows, columns)
    if not free.any():
        return None
    row, column = np.unravel_index(
        np.argmin(np.where(free, _corner_distance(free.shape), np.inf)), free.shape
    )
    return int(row), int(column), int(row) + rows, int(column) + columns


def air_outside(volume: SeriesVolume) -> Mask:
    """Return pixels, (rows, columns), that are air outside the body on every slice, with clearance."""
    occupied = _OCCUPIED[volume.modality](volume)
    grown = ndimage.binary_dilation(occupied, structure=np.ones((3, 3)), iterations=CLEARANCE_PIXELS)
    labelled, _ = ndimage.label(~grown)
    border = np.concatenate([labelled[0], labelled[-1], labelled[:, 0], labelled[:, -1]])
    return np.isin(labelled, np.unique(border[border > 0]))


def _projection(volume: SeriesVolume) -> npt.NDArray[np.float64]:
    """Return the highest value at each pixel over all slices."""
    highest = np.full(volume.grid.shape[1:], -np.inf)
    for k in range(volume.grid.shape[0]):
        np.maximum(highest, volume.slope[k] * volume.stored[k] + volume.intercept[k], out=highest)
    return highest


def _occupied_ct(volume: SeriesVolume) -> Mask:
    return np.asarray(_projection(volume) >= AIR_BELOW_HU)


def _occupied_mr(volume: SeriesVolume) -> Mask:
    """Smooth each slice a little first: noise in air is not body."""
    limit = MR_AIR_SHARE * float(np.percentile(volume.values(), 99))
    occupied = np.zeros(volume.grid.shape[1:], dtype=bool)
    for values in volume.values():
        occupied |= ndimage.uniform_filter(values, 3) >= limit
    return occupied


_OCCUPIED: Mapping[str, Callable[[SeriesVolume], Mask]] = {"CT": _occupied_ct, "MR": _occupied_mr}


def _all_free(outside: Mask, rows: int, columns: int) -> Mask:
    """Return, for each upper left corner, whether a whole rectangle is free (summed-area table)."""
    table = np.zeros((outside.shape[0] + 1, outside.shape[1] + 1), dtype=np.int64)
    table[1:, 1:] = outside.cumsum(axis=0).cumsum(axis=1)
    total = (
        table[rows:, columns:] - table[:-rows, columns:] - table[rows:, :-columns] + table[:-rows, :-columns]
    )
    return np.asarray(total == rows * columns)


def _corner_distance(shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    row, column = np.ogrid[: shape[0], : shape[1]]
    near_row = np.minimum(row, shape[0] - 1 - row)
    near_column = np.minimum(column, shape[1] - 1 - column)
    return np.asarray(near_row + near_column)
