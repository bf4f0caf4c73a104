"""Texture matrices in three dimensions, merged over the 13 directions.

Grey levels are whole numbers from 1; 0 is outside the region. Definitions and letter codes: Image
Biomarker Standardisation Initiative, reference manual (arXiv:1612.07003), chapters 3.6 to 3.10.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.results import FloatArray, Mask

Levels = npt.NDArray[np.int32]

DIRECTIONS: tuple[tuple[int, int, int], ...] = tuple(
    (z, y, x) for z in (0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1) if z > 0 or y > 0 or (y == 0 and x > 0)
)
_ALL = np.ones((3, 3, 3), dtype=bool)


def co_occurrence(levels: Levels, count: int) -> FloatArray:
    """Return the symmetric co-occurrence matrix of neighbours, (levels, levels), as numbers of pairs."""
    total = np.zeros(count * count, dtype=np.int64)
    for direction in DIRECTIONS:
        first, second = _pairs(levels, direction)
        both = (first > 0) & (second > 0)
        codes = (first[both] - 1) * count + (second[both] - 1)
        total += np.bincount(codes, minlength=count * count)
    matrix = total.reshape(count, count).astype(np.float64)
    return matrix + matrix.T


def _pairs(levels: Levels, direction: tuple[int, int, int]) -> tuple[Levels, Levels]:
    here = tuple(slice(max(-d, 0), n - max(d, 0)) for d, n in zip(direction, levels.shape, strict=True))
    there = tuple(slice(max(d, 0), n - max(-d, 0)) for d, n in zip(direction, levels.shape, strict=True))
    return levels[here], levels[there]


def run_lengths(levels: Levels, count: int) -> FloatArray:
    """Return the matrix of runs of one grey level along the directions, (levels, longest run)."""
    longest = max(levels.shape)
    total = np.zeros(count * longest, dtype=np.int64)
    for direction in DIRECTIONS:
        total += np.bincount(_runs(levels, direction, longest), minlength=count * longest)
    matrix = total.reshape(count, longest).astype(np.float64)
    used = int(np.flatnonzero(matrix.sum(axis=0))[-1]) + 1
    return matrix[:, :used]


def _runs(levels: Levels, direction: tuple[int, int, int], longest: int) -> npt.NDArray[np.int64]:
    """Return (level - 1) * longest + length - 1 of every run along a direction."""
    padded = np.pad(levels, 1)
    step = int(np.dot(direction, [padded.shape[1] * padded.shape[2], padded.shape[2], 1]))
    flat = padded.ravel()
    inside = np.flatnonzero(flat)
    starts = inside[flat[inside - step] != flat[inside]]
    level = flat[starts].astype(np.int64)
    length = np.ones(len(starts), dtype=np.int64)
    growing = np.arange(len(starts))
    place = starts + step
    while growing.size:
        same = flat[place] == level[growing]
        growing = growing[same]
        length[growing] += 1
        place = place[same] + step
    return np.asarray((level - 1) * longest + length - 1)


@dataclass(frozen=True, slots=True)
class Zones:
    """Connected voxels of one grey level.

    Attributes
    ----------
    level : array of int, (zones,)
    size : array of int, (zones,)
        Voxels.
    distance : array of int, (zones,)
        Fewest steps from a voxel of the zone to the outside of the region, at least 1.
    """

    level: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    distance: npt.NDArray[np.int64]


def zones(levels: Levels, region: Mask) -> Zones:
    """Return the zones of neighbours (26) of one grey level.

    Parameters
    ----------
    region : array of bool, (z, y, x)
        To whose border distances are measured, by steps through the six faces.
    """
    border = ndimage.distance_transform_cdt(np.pad(region, 1), metric="taxicab")[1:-1, 1:-1, 1:-1]
    found: list[tuple[npt.NDArray[np.int64], ...]] = []
    for number, part in enumerate(ndimage.find_objects(levels), start=1):
        if part is None:
            continue
        labelled, n = ndimage.label(levels[part] == number, structure=_ALL)
        inside = labelled > 0
        names = labelled[inside]
        nearest = np.full(n + 1, np.iinfo(np.int64).max, dtype=np.int64)
        np.minimum.at(nearest, names, border[part][inside].astype(np.int64))
        sizes = np.bincount(names, minlength=n + 1)[1:]
        found.append((np.full(n, number, dtype=np.int64), sizes.astype(np.int64), nearest[1:]))
    level, size, distance = (np.concatenate(column) for column in zip(*found, strict=True))
    return Zones(level, size, distance)


def tally(level: npt.NDArray[np.int64], size: npt.NDArray[np.int64], count: int) -> FloatArray:
    """Return the matrix of numbers of zones by grey level and size or distance, both from 1."""
    width = int(size.max())
    total = np.bincount((level - 1) * width + size - 1, minlength=count * width)
    return total.reshape(count, width).astype(np.float64)


@dataclass(frozen=True, slots=True)
class ToneDifferences:
    """Neighbourhood grey tone differences by grey level: voxels and summed differences, (levels,)."""

    voxels: FloatArray
    differences: FloatArray


def tone_differences(levels: Levels, count: int) -> ToneDifferences:
    """Return how far voxels lie from the mean of their neighbours (26) in the region, by grey level."""
    kernel = _ALL.astype(np.float64)
    kernel[1, 1, 1] = 0.0
    inside = levels > 0
    total = ndimage.convolve(levels.astype(np.float64), kernel, mode="constant")
    neighbours = np.rint(ndimage.convolve(inside.astype(np.float64), kernel, mode="constant"))
    used = inside & (neighbours > 0)
    level = levels[used].astype(np.int64)
    difference = np.abs(level - total[used] / neighbours[used])
    return ToneDifferences(
        np.bincount(level, minlength=count + 1)[1:].astype(np.float64),
        np.bincount(level, weights=difference, minlength=count + 1)[1:].astype(np.float64),
    )
