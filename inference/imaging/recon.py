"""Which of several reconstructions of one phase to take: an ordered table of preferences."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from inference.case import Series
from inference.imaging.attributes import number, numbers, text

COVERAGE_STEP_MM = 25.0
"""Coverages within the same step count as equal, so that one slice more does not decide."""

_SHARP_WORDS = re.compile(
    r"lung|bone|edge|sharp|detail|\bhrct\b|pulmo|thorax|knochen|osseu|\byc\b|\byd\b", re.IGNORECASE
)
_SIEMENS_KERNEL = re.compile(r"^[A-Z][a-z]?(\d{2})[a-z]?$")
_CANON_KERNEL = re.compile(r"^FC(\d{2})$")
_SIEMENS_SHARP_FROM = 50
_CANON_SHARP_FROM = 30


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """What the choice between reconstructions looks at."""

    segmented: bool
    sharp_kernel: bool
    coverage_mm: float
    spacing_mm: float
    images: int
    series_number: float
    series_instance_uid: str


def reconstruction(series: Series, *, segmented: bool) -> Reconstruction:
    """Describe a series for the choice between reconstructions."""
    header = series.instances[0].header
    coverage, spacing = _extent(series)
    return Reconstruction(
        segmented=segmented,
        sharp_kernel=is_sharp(text(header, "ConvolutionKernel"), series.description),
        coverage_mm=coverage,
        spacing_mm=spacing,
        images=len(series.instances),
        series_number=number(header, "SeriesNumber") or 0.0,
        series_instance_uid=series.series_instance_uid,
    )


def is_sharp(kernel: str, description: str = "") -> bool:
    """Whether a convolution kernel is made for lung or bone rather than soft tissue."""
    name = kernel.split("\\")[0].strip()
    for pattern, limit in ((_SIEMENS_KERNEL, _SIEMENS_SHARP_FROM), (_CANON_KERNEL, _CANON_SHARP_FROM)):
        match = pattern.match(name)
        if match:
            return int(match.group(1)) >= limit
    return bool(_SHARP_WORDS.search(name) or _SHARP_WORDS.search(description))


def _extent(series: Series) -> tuple[float, float]:
    """Return coverage and slice spacing in mm; zeros where positions are missing."""
    cosines = numbers(series.instances[0].header, "ImageOrientationPatient", 6)
    positions = [numbers(i.header, "ImagePositionPatient", 3) for i in series.instances]
    if cosines is None or any(p is None for p in positions):
        return 0.0, 0.0
    normal = np.cross(cosines[:3], cosines[3:])
    depth = np.unique(np.round([float(np.dot(p, normal)) for p in positions if p is not None], 3))
    if len(depth) < 2:
        return 0.0, 0.0
    spacing = float(np.median(np.diff(depth)))
    return float(depth[-1] - depth[0]) + spacing, spacing


def order(r: Reconstruction) -> tuple[bool, bool, float, float, int, float, str]:
    """Sort key, best first; the last parts only make the order always the same."""
    return (
        not r.segmented,
        r.sharp_kernel,
        -round(r.coverage_mm / COVERAGE_STEP_MM),
        round(r.spacing_mm, 2),
        -r.images,
        r.series_number,
        r.series_instance_uid,
    )


def better_because(winner: Reconstruction, loser: Reconstruction) -> str:
    """Return why `winner` was preferred, as a reason for the loser."""
    if winner.segmented and not loser.segmented:
        return "a segmentation refers to the other series of this phase"
    if loser.sharp_kernel and not winner.sharp_kernel:
        return "a sharp reconstruction kernel; a soft-tissue reconstruction of this phase is there"
    if order(winner)[2] != order(loser)[2]:
        return f"covers {loser.coverage_mm:.0f} mm; another of this phase covers {winner.coverage_mm:.0f} mm"
    if order(winner)[3] != order(loser)[3]:
        return f"slices every {loser.spacing_mm:.2f} mm; another of this phase has {winner.spacing_mm:.2f} mm"
    if winner.images != loser.images:
        return f"{loser.images} images; another series of this phase has {winner.images}"
    return "equal to another series of this phase, which comes first by its number"
