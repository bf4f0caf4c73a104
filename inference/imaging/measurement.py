"""Diameters, volumes and centres of lesions on the grid of the primary series.

Convention: a pixel is the square around its centre, so a lesion is a union of squares, and a diameter
is the largest distance between two points of that union. A single pixel of 1 mm thus measures its
diagonal, 1.41 mm, not 0. End points are corners of pixels, half way between pixel indices.

Diameters are measured in the slice, at the real pixel spacing, within one connected part of the
lesion on that slice (pixels touching by edge or corner): a reader's caliper does not jump from one
part to another.

The long axis is the longest such diameter on any slice; the short axis is the longest chord
perpendicular to it, of the convex outline of the same part (RECIST 1.1: Eisenhauer et al. 2009,
Eur J Cancer 45:228).

The viable axes follow mRECIST (Lencioni & Llovet 2010, Semin Liver Dis 30:52): the longest diameter
of viable tumour that crosses no major intervening necrosis. Major is a run of `MAJOR_NECROSIS_MM` or
more along the diameter; the paper gives no figure, and the size from which RECIST measures a lesion
is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.imaging.chords import (
    Segment2D,
    convex_hull,
    corner_points,
    longest_chord_within,
    longest_segment,
    perpendicular_chord,
    perpendicular_chord_within,
    upper_bound,
)
from inference.results import Axis, FloatArray, Grid, LesionMeasurement, Mask, Tissue, TissueMap

MAJOR_NECROSIS_MM = 10.0
"""A run of tissue that is not viable, this long on a diameter, ends the diameter."""

_TOUCHING = np.ones((3, 3), dtype=bool)


def lesion_id(number: int) -> str:
    """Return the identifier of a lesion number, the same at every time point."""
    return f"L{number}"


def lesion_numbers(labels: TissueMap) -> tuple[int, ...]:
    """Return the lesion numbers that a tissue map holds, ascending."""
    counts = np.bincount(labels.lesion.ravel(), minlength=256)
    return tuple(int(n) for n in np.flatnonzero(counts[1:]) + 1)


def measure_lesions(
    labels: TissueMap, grid: Grid, numbers: Iterable[int] = ()
) -> tuple[LesionMeasurement, ...]:
    """Measure every lesion of a tissue map.

    Parameters
    ----------
    labels : TissueMap
    grid : Grid
        Of the primary series.
    numbers : iterable of int
        Lesions to report even when nothing of them is left, beside those that are there.

    Returns
    -------
    tuple of LesionMeasurement
        In the order of the lesion numbers.
    """
    boxes = ndimage.find_objects(labels.lesion)
    wanted = sorted(set(numbers) | set(lesion_numbers(labels)))
    return tuple(_measure(labels, grid, n, boxes[n - 1] if n <= len(boxes) else None) for n in wanted)


def viable_ml(labels: TissueMap, grid: Grid) -> float:
    """Return the volume of viable tumour in ml."""
    return float(np.count_nonzero(labels.tissue == Tissue.VIABLE)) * grid.voxel_ml


def liver_ml(labels: TissueMap, grid: Grid) -> float:
    """Return the volume of the liver with its lesions in ml."""
    return float(np.count_nonzero(labels.tissue)) * grid.voxel_ml


def _measure(
    labels: TissueMap, grid: Grid, number: int, where: tuple[slice, ...] | None
) -> LesionMeasurement:
    if where is None:
        return LesionMeasurement(lesion_id(number), 0.0, 0.0, None, None, None, None, None)
    whole = labels.lesion[where] == number
    viable = whole & (labels.tissue[where] == Tissue.VIABLE)
    offset = np.array([b + w.start for b, w in zip(labels.box.start, where, strict=True)], dtype=np.float64)
    long_axis, short_axis = _axes(whole, offset, grid, _whole_diameter)
    viable_long, viable_short = _axes(viable, offset, grid, _viable_diameter)
    center = grid.to_patient(np.argwhere(whole).mean(axis=0) + offset)
    return LesionMeasurement(
        lesion_id=lesion_id(number),
        volume_ml=float(whole.sum()) * grid.voxel_ml,
        viable_ml=float(viable.sum()) * grid.voxel_ml,
        long_axis=long_axis,
        short_axis=short_axis,
        viable_long_axis=viable_long,
        viable_short_axis=viable_short,
        center_mm=(float(center[0]), float(center[1]), float(center[2])),
    )


# ------------------------------------------------------------------ axes


@dataclass(frozen=True, slots=True)
class _Part:
    """One connected part of a lesion on one slice; its longest diameter is at most `bound_mm`."""

    slice_index: int
    mask: Mask
    origin: FloatArray
    bound_mm: float


_Diameter = Callable[[Mask, FloatArray, float], Segment2D | None]


def _axes(mask: Mask, offset: FloatArray, grid: Grid, diameter: _Diameter) -> tuple[Axis | None, Axis | None]:
    """Return the long and short axis of a mask; parts that cannot hold a longer one are not looked at."""
    spacing = np.array(grid.spacing_mm[1:])
    best: tuple[_Part, Segment2D] | None = None
    parts = sorted(_parts(mask, spacing), key=lambda p: (-p.bound_mm, p.slice_index, *p.origin))
    for part in parts:
        longest = 0.0 if best is None else best[1].length_mm
        if part.bound_mm <= longest:
            break
        found = diameter(part.mask, spacing, longest)
        if found is not None and found.length_mm > longest:
            best = part, found
    if best is None:
        return None, None
    part, long = best
    short = _short(part.mask, spacing, long, diameter)
    return _axis(long, part, offset, grid), None if short is None else _axis(short, part, offset, grid)


def _parts(mask: Mask, spacing: FloatArray) -> list[_Part]:
    parts = []
    for k in np.flatnonzero(mask.any(axis=(1, 2))).tolist():
        labelled, _ = ndimage.label(mask[k], structure=_TOUCHING)
        for n, where in enumerate(ndimage.find_objects(labelled), 1):
            part = labelled[where] == n
            origin = np.array([where[0].start, where[1].start], dtype=np.float64)
            parts.append(_Part(k, part, origin, upper_bound(part, spacing)))
    return parts


def _whole_diameter(part: Mask, spacing: FloatArray, _at_least: float) -> Segment2D | None:
    return longest_segment(convex_hull(corner_points(part)), spacing)


def _viable_diameter(part: Mask, spacing: FloatArray, at_least: float) -> Segment2D | None:
    return longest_chord_within(part, spacing, MAJOR_NECROSIS_MM, at_least)


def _short(part: Mask, spacing: FloatArray, long: Segment2D, diameter: _Diameter) -> Segment2D | None:
    if diameter is _whole_diameter:
        return perpendicular_chord(convex_hull(corner_points(part)), spacing, long)
    return perpendicular_chord_within(part, spacing, MAJOR_NECROSIS_MM, long)


def _axis(segment: Segment2D, part: _Part, offset: FloatArray, grid: Grid) -> Axis:
    k = part.slice_index + int(offset[0])
    ends = [(p[0] + part.origin[0] + offset[1], p[1] + part.origin[1] + offset[2]) for p in segment.ends]
    in_patient = [grid.to_patient((k, r, c)) for r, c in ends]
    return Axis(
        length_mm=segment.length_mm,
        slice_index=k,
        start_rc=_pair(ends[0]),
        end_rc=_pair(ends[1]),
        start_mm=_triple(in_patient[0]),
        end_mm=_triple(in_patient[1]),
    )


def _pair(values: Sequence[float]) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def _triple(values: FloatArray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
