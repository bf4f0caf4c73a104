"""Diameters and chords of a region of square pixels in one slice.

Points are (row, column) in continuous pixel indices, 0 at the centre of the first pixel; `spacing` is
(row, column) in mm, and all distances are in mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.results import FloatArray, Mask

SAMPLE_PIXELS = 0.5
"""Distance between the samples that follow a chord across pixels, in pixels."""

BOUNDARY_POINTS = 128
"""Most boundary points that are paired when the plain diameter crosses what it must not."""

PAIRS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Segment2D:
    """A straight line between two points."""

    ends: tuple[tuple[float, float], tuple[float, float]]
    length_mm: float


def corner_points(region: Mask) -> FloatArray:
    """Return the pixel corners that can lie on the convex outline, (n, 2), ascending by row and column.

    On each line between two rows only the outermost corners of the adjoining pixels can.
    """
    rows = np.flatnonzero(region.any(axis=1))
    first = region[rows].argmax(axis=1) - 0.5
    last = region.shape[1] - region[rows, ::-1].argmax(axis=1) - 0.5
    lines = np.concatenate([rows - 0.5, rows + 0.5])
    order = np.argsort(lines, kind="stable")
    lines, first, last = lines[order], np.tile(first, 2)[order], np.tile(last, 2)[order]
    starts = np.flatnonzero(np.r_[True, np.diff(lines) > 0])
    left = np.minimum.reduceat(first, starts)
    right = np.maximum.reduceat(last, starts)
    points = np.stack([np.repeat(lines[starts], 2), np.stack([left, right], axis=1).ravel()], axis=1)
    return np.asarray(points, dtype=np.float64)


def upper_bound(region: Mask, spacing: FloatArray) -> float:
    """Return a length in mm that no diameter of the region exceeds: the diagonal of its box."""
    return float(np.hypot(region.shape[0] * spacing[0], region.shape[1] * spacing[1]))


def convex_hull(points: FloatArray) -> FloatArray:
    """Return the convex outline of points sorted by row and column, counter-clockwise in (row, column).

    References
    ----------
    Andrew 1979, Inf Process Lett 9:216 (monotone chain).
    """
    listed = [(float(r), float(c)) for r, c in points]
    return np.array(_chain(listed)[:-1] + _chain(listed[::-1])[:-1])


def _chain(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    chain: list[tuple[float, float]] = []
    for p in points:
        while len(chain) >= 2 and _turn(chain[-2], chain[-1], p) <= 0:
            chain.pop()
        chain.append(p)
    return chain


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def longest_segment(points: FloatArray, spacing: FloatArray) -> Segment2D:
    """Return the longest line between two of the points; of equal ones the first in their order."""
    mm = points * spacing
    squared = ((mm[:, None] - mm[None]) ** 2).sum(axis=2)
    longest = squared.max()
    i, j = np.argwhere(squared >= longest * (1 - 1e-12))[0]
    return segment_between(points[i], points[j], spacing)


def segment_between(a: FloatArray, b: FloatArray, spacing: FloatArray) -> Segment2D:
    """Return the line between two points."""
    length = float(np.linalg.norm((np.asarray(a) - b) * spacing))
    return Segment2D(((float(a[0]), float(a[1])), (float(b[0]), float(b[1]))), length)


def perpendicular_chord(hull: FloatArray, spacing: FloatArray, axis: Segment2D) -> Segment2D:
    """Return the longest chord of a convex outline that is perpendicular to `axis`.

    The length of a chord changes linearly between the vertices, so the longest one passes through a
    vertex, and only those are looked at.
    """
    mm = hull * spacing
    start = np.array(axis.ends[0]) * spacing
    along = (np.array(axis.ends[1]) * spacing - start) / axis.length_mm
    across = np.array([-along[1], along[0]])
    t, u = (mm - start) @ along, (mm - start) @ across
    best, best_width = (0.0, 0.0, 0.0), -1.0
    for at in np.unique(np.round(t, 9)):
        low, high = _crossings(t, u, float(at))
        if high - low > best_width + 1e-9:
            best, best_width = (float(at), low, high), high - low
    at, low, high = best
    ends = [(start + at * along + side * across) / spacing for side in (low, high)]
    return segment_between(ends[0], ends[1], spacing)


def _crossings(t: FloatArray, u: FloatArray, at: float) -> tuple[float, float]:
    """Return the lowest and highest u at which a polygon crosses the line t = at."""
    t2, u2 = np.roll(t, -1), np.roll(u, -1)
    touches = (np.minimum(t, t2) <= at + 1e-9) & (np.maximum(t, t2) >= at - 1e-9)
    rise = np.where(np.abs(t2 - t) > 1e-9, t2 - t, np.inf)
    level = np.abs(t2 - t) <= 1e-9
    share = np.clip((at - t) / rise, 0, 1)
    crossing = u + share * (u2 - u)
    values = np.concatenate([crossing[touches], u[touches & level], u2[touches & level]])
    return float(values.min()), float(values.max())


# ------------------------------------------------------------------ chords that keep inside


def longest_chord_within(
    region: Mask, spacing: FloatArray, gap_mm: float, at_least_mm: float
) -> Segment2D | None:
    """Return the longest line between boundary points that never leaves the region for `gap_mm` or more.

    Parameters
    ----------
    at_least_mm : float
        Shorter lines are not looked for.

    Returns
    -------
    Segment2D or None
        None when no line is longer than `at_least_mm`. Where the plain diameter does not qualify, at
        most `BOUNDARY_POINTS` points of the boundary, evenly spread, are paired.
    """
    plain = longest_segment(convex_hull(corner_points(region)), spacing)
    if plain.length_mm <= at_least_mm:
        return None
    ends = np.array([plain.ends])
    if _longest_gaps(region, ends, spacing)[0] < gap_mm:
        return plain
    return _paired(region, _boundary(region), spacing, gap_mm, at_least_mm)


def _boundary(region: Mask) -> FloatArray:
    """Return corners of pixels where region and outside meet, thinned, ascending by row and column."""
    padded = np.pad(region, 1)
    around = sum(
        padded[r : r + region.shape[0] + 1, c : c + region.shape[1] + 1].astype(int)
        for r in (0, 1)
        for c in (0, 1)
    )
    corners = np.argwhere((around > 0) & (around < 4)) - 0.5
    step = max(1, -(-len(corners) // BOUNDARY_POINTS))
    return np.asarray(corners[::step], dtype=np.float64)


def _paired(
    region: Mask, points: FloatArray, spacing: FloatArray, gap_mm: float, at_least_mm: float
) -> Segment2D | None:
    i, j = np.triu_indices(len(points), 1)
    lengths = np.linalg.norm((points[i] - points[j]) * spacing, axis=1)
    order = np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > at_least_mm]
    order = order[~_crosses_a_disc(region, points[i[order]], points[j[order]], spacing, gap_mm)]
    for first in range(0, len(order), PAIRS_AT_ONCE):
        chunk = order[first : first + PAIRS_AT_ONCE]
        ends = np.stack([points[i[chunk]], points[j[chunk]]], axis=1)
        good = np.flatnonzero(_longest_gaps(region, ends, spacing) < gap_mm)
        if len(good):
            return segment_between(ends[good[0], 0], ends[good[0], 1], spacing)
    return None


def _crosses_a_disc(
    region: Mask, starts: FloatArray, stops: FloatArray, spacing: FloatArray, gap_mm: float
) -> Mask:
    """Tell lines that surely leave the region for `gap_mm`, from a few samples of each, the middle first.

    Around a sample that is `d` away from the region, the line is outside for at least 2 `d`.
    """
    away = ndimage.distance_transform_edt(~region, sampling=spacing)
    pixel = float(np.linalg.norm(spacing))
    extent = upper_bound(region, spacing)
    samples = max(2, int(np.ceil(3 * extent / gap_mm)))
    shares = (np.arange(samples) + 0.5) / samples
    limits = np.array(region.shape) - 1
    crosses = np.zeros(len(starts), dtype=bool)
    open_ = np.arange(len(starts))
    for share in shares[np.argsort(np.abs(shares - 0.5), kind="stable")]:
        points = starts[open_] + share * (stops[open_] - starts[open_])
        index = np.minimum((points + 0.5).astype(np.intp), limits)
        hit = away[index[:, 0], index[:, 1]] >= gap_mm / 2 + pixel
        crosses[open_[hit]] = True
        open_ = open_[~hit]
    return crosses


def _longest_gaps(region: Mask, ends: FloatArray, spacing: FloatArray) -> FloatArray:
    """Return the longest run outside the region on each line, in mm; `ends` is (lines, 2, 2)."""
    extent = np.abs(ends[:, 1] - ends[:, 0]).max()
    samples = max(2, int(np.ceil(extent / SAMPLE_PIXELS)))
    share = (np.arange(samples) + 0.5) / samples
    points = ends[:, :1] + share[None, :, None] * (ends[:, 1:] - ends[:, :1])
    index = np.clip(np.rint(points).astype(np.intp), 0, np.array(region.shape) - 1)
    outside = ~region[index[..., 0], index[..., 1]]
    lengths = np.linalg.norm((ends[:, 1] - ends[:, 0]) * spacing, axis=1)
    return np.asarray(longest_runs(outside) * lengths / samples)


def longest_runs(flags: Mask) -> FloatArray:
    """Return the length of the longest run of true values in each row of a two-dimensional array."""
    count = np.arange(1, flags.shape[1] + 1)
    last_false = np.maximum.accumulate(np.where(flags, 0, count), axis=1)
    return np.asarray((count - last_false).max(axis=1), dtype=np.float64)


def perpendicular_chord_within(
    region: Mask, spacing: FloatArray, gap_mm: float, axis: Segment2D
) -> Segment2D | None:
    """Return the longest chord at right angles to `axis` that never leaves the region for `gap_mm`.

    Chords are sampled every half pixel; their ends are exact to half a pixel.
    """
    start = np.array(axis.ends[0]) * spacing
    along = (np.array(axis.ends[1]) * spacing - start) / axis.length_mm
    across = np.array([-along[1], along[0]])
    step = SAMPLE_PIXELS * float(spacing.min())
    half = int(np.ceil(upper_bound(region, spacing) / step))
    t = np.arange(step / 2, axis.length_mm, step)
    u = (np.arange(2 * half) - half + 0.5) * step
    mm = start + t[:, None, None] * along + u[None, :, None] * across
    index = np.rint(mm / spacing).astype(np.intp)
    inside = ((index >= 0) & (index < np.array(region.shape))).all(axis=2)
    index = np.where(inside[..., None], index, 0)
    on = inside & region[index[..., 0], index[..., 1]]
    best: tuple[float, float, float] | None = None
    for k in range(len(t)):
        found = _run_across(on[k], half, int(np.ceil(gap_mm / step)))
        if found is not None and (best is None or found[1] - found[0] > (best[2] - best[1]) / step + 1e-9):
            best = float(t[k]), (found[0] - half) * step, (found[1] - half) * step
    if best is None:
        return None
    ends = [(start + best[0] * along + side * across) / spacing for side in best[1:]]
    return segment_between(ends[0], ends[1], spacing)


def _run_across(on: Mask, middle: int, gap: int) -> tuple[int, int] | None:
    """Return the half-open run of samples around `middle`, gaps shorter than `gap` included."""
    hits = np.flatnonzero(on)
    if not len(hits):
        return None
    breaks = np.flatnonzero(np.diff(hits) > gap)
    starts = hits[np.r_[0, breaks + 1]]
    stops = hits[np.r_[breaks, len(hits) - 1]] + 1
    around = np.flatnonzero((starts <= middle) & (stops >= middle))
    if not len(around):
        return None
    return int(starts[around[0]]), int(stops[around[0]])
