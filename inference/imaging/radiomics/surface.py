"""Surface and volume of a binary mask by marching cubes, from counts of the 256 configurations.

Vertices of the surface of a binary mask always lie in the middle of an edge between two voxel centres.
So each of the 256 configurations of a cube of eight voxels has one area and one share of the volume, and
a mask needs no mesh: it needs the number of cubes of each configuration, and the sum of their places.
Where the inside voxels of a face lie across from each other, they are held apart (Lorensen & Cline 1987,
Comput Graph 21:163, without its holes: both cubes at a face decide alike).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from inference.results import FloatArray, Mask

_CORNERS = np.array([[z, y, x] for z in (0, 1) for y in (0, 1) for x in (0, 1)], dtype=np.float64)
# Corners of each face, in order around it.
_FACES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))

Edge = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Surface:
    """Area in mm2 and enclosed volume in mm3 of a mask."""

    area_mm2: float
    volume_mm3: float


@dataclass(frozen=True, slots=True)
class _Configuration:
    """Triangles of one configuration and how much each counts.

    Attributes
    ----------
    triangles : array, (n, 3 vertices, 3 axes)
        In voxels, normals to the outside.
    weights : array, (n,)
    """

    triangles: FloatArray
    weights: FloatArray


def surface(mask: Mask, spacing_mm: tuple[float, float, float]) -> Surface:
    """Return area and volume of the surface halfway between inside and outside voxels.

    Parameters
    ----------
    mask : array of bool, (z, y, x)
    spacing_mm : along the same axes

    References
    ----------
    Image Biomarker Standardisation Initiative, reference manual (arXiv:1612.07003), codes RNU0 and C0JK.
    """
    padded = np.pad(mask, 1).astype(np.uint8)
    index = np.zeros([n - 1 for n in padded.shape], dtype=np.uint8)
    for bit, (z, y, x) in enumerate(_CORNERS.astype(int)):
        index |= padded[z : z + index.shape[0], y : y + index.shape[1], x : x + index.shape[2]] << bit
    mixed = np.flatnonzero((index > 0) & (index < 255))
    cases = index.ravel()[mixed]
    counts = np.bincount(cases, minlength=256).astype(np.float64)
    plane = mixed // (index.shape[1] * index.shape[2])
    places = np.bincount(cases, weights=plane, minlength=256)
    scale = np.array(spacing_mm, dtype=np.float64)
    area = volume = 0.0
    for case in np.flatnonzero(counts).tolist():
        kind = _configuration(case)
        corners = kind.triangles * scale
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2.0
        normal *= kind.weights[:, None]
        area += counts[case] * float(np.linalg.norm(normal, axis=1).sum())
        # Gauss: the volume is the flow of (z, 0, 0) through the surface.
        local = float((corners[:, :, 0].mean(axis=1) * normal[:, 0]).sum())
        volume += counts[case] * local + places[case] * scale[0] * float(normal[:, 0].sum())
    return Surface(float(area), float(volume))


@cache
def _configuration(case: int) -> _Configuration:
    inside = [bool(case >> bit & 1) for bit in range(8)]
    following: dict[Edge, list[Edge]] = {}
    for face in _FACES:
        for start, end in _segments(face, inside):
            following.setdefault(start, []).append(end)
    found = [part for loop in _loops(following) for part in _fans(loop, inside)]
    triangles = np.array([triangle for triangle, _weight in found], dtype=np.float64)
    weights = np.array([weight for _triangle, weight in found], dtype=np.float64)
    return _Configuration(triangles.reshape(-1, 3, 3), weights)


def _segments(face: tuple[int, ...], inside: list[bool]) -> list[tuple[Edge, Edge]]:
    """Return the lines of the surface on a face: each cuts off one run of inside corners."""
    found = []
    for i in range(4):
        before, corner = face[i - 1], face[i]
        if inside[corner] and not inside[before]:
            last = i
            while inside[face[(last + 1) % 4]]:
                last += 1
            entered, left = _edge(before, corner), _edge(face[last % 4], face[(last + 1) % 4])
            found.append((entered, left))
    return found


def _edge(a: int, b: int) -> Edge:
    return (a, b) if a < b else (b, a)


def _loops(following: dict[Edge, list[Edge]]) -> list[list[Edge]]:
    """Return the closed polygons of directed segments; each edge of the cube is entered once."""
    open_ends = {start: list(ends) for start, ends in following.items()}
    loops = []
    while open_ends:
        first = min(open_ends)
        loop, place = [], first
        while place in open_ends:
            loop.append(place)
            ends = open_ends[place]
            follower = ends.pop()
            if not ends:
                del open_ends[place]
            place = follower
        loops.append(loop)
    return loops


def _fans(loop: list[Edge], inside: list[bool]) -> list[tuple[FloatArray, float]]:
    """Return triangles with their weights: the mean of the fans from each corner of a polygon.

    Polygons of more than three corners are not flat. The mean over all fans is the same however the cube
    is turned, and close to what meshes with either diagonal have.
    """
    count = len(loop)
    points = np.array([(_CORNERS[a] + _CORNERS[b]) / 2.0 for a, b in loop])
    fans = [np.roll(points, -start, axis=0) for start in range(count)]
    triangles = [np.stack([p[0], p[i], p[i + 1]]) for p in fans for i in range(1, count - 1)]
    normal = np.sum([np.cross(t[1] - t[0], t[2] - t[0]) for t in triangles], axis=0)
    outward = np.sum(
        [_CORNERS[b] - _CORNERS[a] if inside[a] else _CORNERS[a] - _CORNERS[b] for a, b in loop], axis=0
    )
    if float(np.dot(normal, outward)) < 0:
        triangles = [t[::-1] for t in triangles]
    return [(t, 1.0 / count) for t in triangles]
