"""What the phase classifier looks at: contrast of organs, or of an image in which no organ is known.

Organs: median values of the liver, of vessels, spleen and kidneys. An image alone: the volume on a
coarse grid, opened with squares, so that what is left is the brightest level at which a square fits into
a vessel, kidney or liver; its quantiles in regions around the spine. Thin ribs and noise vanish in the
opening, and no position needs to be exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.case import Phase
from inference.imaging.parts import largest_part
from inference.results import FloatArray, Grid, Mask, Voxels

CT_PHASES = (Phase.NATIVE, Phase.ARTERIAL, Phase.PORTAL_VENOUS, Phase.DELAYED)
"""Classes of CT, in the order of time and of the classifier's output."""

MR_PHASES = (Phase.T1, Phase.T1_ARTERIAL, Phase.T1_PORTAL_VENOUS, Phase.DELAYED, Phase.T2)
"""Classes of MR; delayed includes hepatobiliary."""

PHASES: Mapping[str, tuple[Phase, ...]] = {"CT": CT_PHASES, "MR": MR_PHASES}

# ------------------------------------------------------------------ organs

ORGANS = ("liver", "liver_vessels", "aorta", "portal_vein", "veins", "spleen", "kidney_high", "kidney_low")
"""Columns of an organ table.

``liver_vessels``: 98th percentile of smoothed parenchyma. ``veins``: cava, or cava and portal vein
where a segmentation does not tell them apart. ``kidney_high`` and ``kidney_low``: 85th and 20th
percentile, cortex and medulla while they differ.
"""

_CT_CENTRE_HU, _CT_SCALE_HU = 100.0, 80.0


def organ_features(organs: Mapping[str, float], modality: str) -> FloatArray:
    """Return the inputs of the classifier of organs: (2 * number of ORGANS,), values and what is missing.

    Parameters
    ----------
    organs : mapping
        Values by the names of `ORGANS`: HU in CT, signal in MR. A name that is absent, or NaN, is missing.

    Raises
    ------
    ValueError
        MR without the liver, by which signal is measured.
    """
    values = np.array([organs.get(name, np.nan) for name in ORGANS], dtype=np.float64)
    if modality == "MR":
        if not values[0] > 0:
            raise ValueError("MR signal is measured by that of the liver, which is missing")
        scaled = 2.0 * np.log(np.maximum(values, 0.02 * values[0]) / values[0])
    else:
        scaled = (values - _CT_CENTRE_HU) / _CT_SCALE_HU
    missing = np.isnan(scaled)
    return np.concatenate([np.where(missing, 0.0, scaled), missing.astype(np.float64)])


# ------------------------------------------------------------------ image

COARSE_MM = (8.0, 4.0, 4.0)
"""Voxels of the coarse image, (z, y, x)."""

_IN_PLANE_MM = COARSE_MM[1]

LEAST_EXTENT_MM = (64.0, 120.0, 160.0)
"""Smallest field of view (z, y, x): nothing smaller was learned from."""

_SMOOTH_VOXELS = (0.4, 0.7, 0.7)
_SQUARES = (3, 5)
"""Sides of the squares of the opening, in coarse voxels: 12 mm fits into an aorta, 20 mm into a kidney."""

_QUANTILES = (0.10, 0.25, 0.50, 0.75, 0.90, 0.97, 0.995)
_LEAST_VOXELS = 40
_SKIN_HU = -250.0
_BONE_HU = 180.0
_SOFT_HU = (-60.0, 450.0)
_SKIN_SHARE = 0.18
"""MR: the body begins at this share of the 90th percentile of signal."""


@dataclass(frozen=True, slots=True)
class _Region:
    """A part of the body around the spine: mm to the patient's left, and mm in front of the spine."""

    name: str
    left_mm: tuple[float, float]
    front_mm: tuple[float, float]


_FAR = 1000.0
REGIONS = (
    _Region("before the spine", (-42.0, 42.0), (22.0, 80.0)),
    _Region("right kidney", (-105.0, -28.0), (-35.0, 45.0)),
    _Region("left kidney", (28.0, 105.0), (-35.0, 45.0)),
    _Region("right", (-_FAR, -30.0), (0.0, _FAR)),
    _Region("left", (40.0, _FAR), (-60.0, 60.0)),
    _Region("body", (-_FAR, _FAR), (-_FAR, _FAR)),
)
IMAGE_FEATURES = len(REGIONS) * len(_SQUARES) * len(_QUANTILES)
"""Number of inputs of the classifier of images."""


def image_features(values: Voxels, grid: Grid, modality: str) -> FloatArray | None:
    """Return the inputs of the classifier of images, (IMAGE_FEATURES,), NaN where a region is empty.

    Parameters
    ----------
    values : array of float32, (slices, rows, columns)
        HU in CT, signal in MR; about axial slices.

    Returns
    -------
    array or None
        None where the field of view is too small, or holds no body.
    """
    coarse = coarse_image(values, grid)
    extent = np.array(coarse.shape) * np.array(COARSE_MM)
    if (extent < LEAST_EXTENT_MM).any():
        return None
    return coarse_features(coarse, modality)


def coarse_features(coarse: Voxels, modality: str) -> FloatArray | None:
    """Return what `image_features` does from an image that is `coarse_image` already."""
    body = _body(coarse, modality)
    if np.count_nonzero(body) < 50 * _LEAST_VOXELS:
        return None
    y, x = _spine(coarse, body, modality)
    smooth = ndimage.gaussian_filter(coarse, _SMOOTH_VOXELS)
    unit = 1.0 if modality == "CT" else max(float(np.median(smooth[body])), 1e-6)
    found: list[float] = []
    for side in _SQUARES:
        opened = ndimage.grey_opening(smooth, size=(1, side, side)) / unit
        usable = body & (opened > _SOFT_HU[0]) & (opened < _SOFT_HU[1]) if modality == "CT" else body
        for region in REGIONS:
            found += _quantiles(opened, usable, region, y, x)
    return np.array(found)


def coarse_image(values: Voxels, grid: Grid) -> Voxels:
    """Return a volume on voxels of `COARSE_MM`: z towards the head, y to the back, x to the left."""
    turned, spacing = _turned(values, grid)
    steps = [max(1, round(c / s)) for c, s in zip(COARSE_MM, spacing, strict=True)]
    pooled = _pooled(turned, steps)
    zoom = [s * n / c for c, s, n in zip(COARSE_MM, spacing, steps, strict=True)]
    if np.allclose(zoom, 1.0, atol=0.02):
        return pooled
    return np.asarray(ndimage.zoom(pooled, zoom, order=1, mode="nearest", grid_mode=True), dtype=np.float32)


def _turned(values: Voxels, grid: Grid) -> tuple[Voxels, tuple[float, float, float]]:
    directions = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
    axes = [int(np.argmax(np.abs(directions[c]))) for c in (2, 1, 0)]
    if sorted(axes) != [0, 1, 2]:
        axes = [0, 1, 2]
    flips = tuple(
        slice(None, None, -1) if directions[c, a] < 0 else slice(None)
        for c, a in zip((2, 1, 0), axes, strict=True)
    )
    spacing = grid.spacing_mm
    return values.transpose(axes)[flips], (spacing[axes[0]], spacing[axes[1]], spacing[axes[2]])


def _pooled(values: Voxels, steps: list[int]) -> Voxels:
    kept = [max(n // s, 1) * s for n, s in zip(values.shape, steps, strict=True)]
    usable = [min(s, n) for s, n in zip(steps, values.shape, strict=True)]
    part = values[: kept[0], : kept[1], : kept[2]]
    (z, y, x), (a, b, c) = [k // u for k, u in zip(part.shape, usable, strict=True)], usable
    blocks = part[: z * a, : y * b, : x * c].reshape(z, a, y, b, x, c)
    return np.asarray(blocks.mean(axis=(1, 3, 5)), dtype=np.float32)


def _body(coarse: Voxels, modality: str) -> Mask:
    limit = _SKIN_HU if modality == "CT" else _SKIN_SHARE * float(np.percentile(coarse, 90))
    return largest_part(ndimage.binary_opening(coarse > limit, iterations=1))


def _spine(coarse: Voxels, body: Mask, modality: str) -> tuple[float, float]:
    """Return row and column of the spine: the densest bone at the back, or where it lies in a body."""
    rows, columns = np.flatnonzero(body.any(axis=(0, 2))), np.flatnonzero(body.any(axis=(0, 1)))
    back, depth = float(rows[-1]), float(rows[-1] - rows[0])
    middle, width = float(columns[0] + columns[-1]) / 2.0, float(columns[-1] - columns[0])
    usual = back - 0.30 * depth, middle
    if modality != "CT":
        return usual
    bone = ((coarse > _BONE_HU) & body).sum(axis=0).astype(np.float32)
    dense = ndimage.gaussian_filter(bone, 12.0 / _IN_PLANE_MM)
    y, x = np.mgrid[: dense.shape[0], : dense.shape[1]]
    near = (np.abs(x - middle) < 0.2 * width) & (y > back - 0.55 * depth)
    if not near.any() or float(dense[near].max()) < 0.05 * coarse.shape[0]:
        return usual
    row, column = np.unravel_index(int(np.argmax(np.where(near, dense, -1.0))), dense.shape)
    return float(row), float(column)


def _quantiles(opened: Voxels, usable: Mask, region: _Region, y: float, x: float) -> list[float]:
    rows = slice(*_span(y - region.front_mm[1] / _IN_PLANE_MM, y - region.front_mm[0] / _IN_PLANE_MM))
    columns = slice(*_span(x + region.left_mm[0] / _IN_PLANE_MM, x + region.left_mm[1] / _IN_PLANE_MM))
    found = opened[:, rows, columns][usable[:, rows, columns]]
    if len(found) < _LEAST_VOXELS:
        return [float("nan")] * len(_QUANTILES)
    return [float(v) for v in np.quantile(found, _QUANTILES)]


def _span(first: float, last: float) -> tuple[int, int]:
    return max(round(first), 0), max(round(last) + 1, 0)
