"""From a volume and a mask to a vector of named features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.imaging.radiomics.first_order import (
    histogram_features,
    intensity_features,
    shape_features,
)
from inference.imaging.radiomics.matrices import Levels
from inference.imaging.radiomics.texture_features import texture_features
from inference.results import FloatArray, Mask, Voxels

GRID_MM = 2.25
"""Voxel size that features are computed at; that of the crops which the learned models see."""
FEWEST_VOXELS = 8
"""Regions of fewer voxels with a value are not measured: about 0.1 ml."""
_SAME_MM = 1e-3


@dataclass(frozen=True, slots=True)
class FixedWidth:
    """Grey levels of one width from a lower bound; voxels outside the range do not count (CT).

    Attributes
    ----------
    lowest, highest, width : in the unit of the image, HU for CT
    """

    lowest: float
    highest: float
    width: float

    def levels(self, values: Voxels, inside: Mask) -> Levels:
        """Return grey levels from 1, 0 outside."""
        level = np.floor((np.where(inside, values, self.lowest) - self.lowest) / self.width) + 1
        return np.where(inside, level, 0).astype(np.int32)

    def counted(self, values: Voxels, region: Mask) -> Mask:
        """Return the voxels of a region whose intensities count."""
        known = np.nan_to_num(values, nan=-np.inf)
        return np.asarray(region & (known >= self.lowest) & (known <= self.highest))


@dataclass(frozen=True, slots=True)
class FixedCount:
    """So many grey levels between the least and the largest value of the region (MR)."""

    count: int

    def levels(self, values: Voxels, inside: Mask) -> Levels:
        """Return grey levels from 1, 0 outside."""
        lowest, highest = float(values[inside].min()), float(values[inside].max())
        reach = highest - lowest if highest > lowest else 1.0
        level = np.floor(self.count * (np.where(inside, values, lowest) - lowest) / reach) + 1
        return np.where(inside, np.minimum(level, self.count), 0).astype(np.int32)

    def counted(self, values: Voxels, region: Mask) -> Mask:
        """Return the voxels of a region whose intensities count."""
        return np.asarray(region & np.isfinite(values))


Discretisation = FixedWidth | FixedCount

CT_LEVELS = FixedWidth(lowest=-200.0, highest=1000.0, width=25.0)
"""Grey levels for CT: 25 HU as in the IBSI's configuration C; the range keeps fat and lipiodol."""
MR_LEVELS = FixedCount(32)
"""Grey levels for MR, whose intensities have no unit; as the IBSI's configuration D."""


@dataclass(frozen=True, slots=True)
class FeatureVector:
    """Named features in a fixed order.

    Attributes
    ----------
    names : tuple of str
    values : array of float64, (names,)
        NaN where a feature could not be measured; never a stand-in such as 0.
    """

    names: tuple[str, ...]
    values: FloatArray

    @property
    def present(self) -> Mask:
        """Whether each feature was measured."""
        return np.asarray(np.isfinite(self.values))

    def as_dict(self) -> dict[str, float]:
        """Return the features by name."""
        return {name: float(value) for name, value in zip(self.names, self.values, strict=True)}

    def prefixed(self, prefix: str) -> FeatureVector:
        """Return the same values under names with a prefix."""
        return FeatureVector(tuple(f"{prefix}_{name}" for name in self.names), self.values)


def joined(parts: tuple[FeatureVector, ...]) -> FeatureVector:
    """Return vectors one after the other."""
    return FeatureVector(
        tuple(name for part in parts for name in part.names),
        np.concatenate([part.values for part in parts]),
    )


def radiomics(
    values: Voxels,
    mask: Mask,
    spacing_mm: tuple[float, float, float],
    levels: Discretisation = CT_LEVELS,
    grid_mm: float | None = GRID_MM,
) -> FeatureVector:
    """Return shape, intensity and texture of a region.

    Parameters
    ----------
    values : array of float32, (z, y, x)
        HU in CT, any scale in MR. NaN where nothing was acquired.
    mask : array of bool, (z, y, x)
    spacing_mm : along the same axes
    levels : FixedWidth or FixedCount
        How intensities become grey levels.
    grid_mm : float or None
        Voxel size of the grid that image (linearly) and mask (half or more) are brought to before
        anything is measured; None measures on the voxels as they are.

    Returns
    -------
    FeatureVector
        With the names of `FEATURE_NAMES`. All NaN where the region is empty; the shape alone where
        fewer than `FEWEST_VOXELS` of its voxels have a value.
    """
    if grid_mm is not None and max(abs(s - grid_mm) for s in spacing_mm) > _SAME_MM:
        values, mask, spacing_mm = _regridded(values, mask, spacing_mm, grid_mm)
    if not mask.any():
        return absent()
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    values, mask = values[box], mask[box]
    found = shape_features(mask, spacing_mm)
    inside = levels.counted(values, mask)
    if int(inside.sum()) >= FEWEST_VOXELS:
        grey = levels.levels(values, inside)
        found |= intensity_features(values, mask, inside, spacing_mm)
        found |= histogram_features(grey[inside])
        found |= texture_features(grey, mask, int(grey.max()))
    return _vector(found)


def absent() -> FeatureVector:
    """Return the vector of a region that is not there: all NaN."""
    return _vector({})


def _vector(found: Mapping[str, float]) -> FeatureVector:
    values = np.array([found.get(name, np.nan) for name in FEATURE_NAMES], dtype=np.float64)
    # What overflows or divides by nothing was not measured.
    return FeatureVector(FEATURE_NAMES, np.where(np.isfinite(values), values, np.nan))


def _regridded(
    values: Voxels, mask: Mask, spacing_mm: tuple[float, float, float], grid_mm: float
) -> tuple[Voxels, Mask, tuple[float, float, float]]:
    """Return image and mask around the mask on a grid whose middle is that of the part (IBSI 2.4)."""
    if not mask.any():
        return values, mask, spacing_mm
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    part = tuple(slice(max(s.start - 2, 0), min(s.stop + 2, n)) for s, n in zip(box, mask.shape, strict=True))
    values, mask = values[part], mask[part]
    axes = []
    for size, step in zip(mask.shape, spacing_mm, strict=True):
        count = max(1, int(np.ceil(size * step / grid_mm)))
        middle = (size - 1) / 2.0
        axes.append(middle + (np.arange(count) - (count - 1) / 2.0) * grid_mm / step)
    places = np.meshgrid(*axes, indexing="ij")
    known = np.isfinite(values)
    weight = ndimage.map_coordinates(known.astype(np.float32), places, order=1, mode="nearest")
    filled = ndimage.map_coordinates(np.where(known, values, 0.0), places, order=1, mode="nearest")
    # Half of a value's weight must come from voxels that were acquired.
    image = np.where(weight >= 0.5, filled / np.maximum(weight, 0.5), np.nan).astype(np.float32)
    share = ndimage.map_coordinates(mask.astype(np.float32), places, order=1, mode="nearest")
    return image, np.asarray(share >= 0.5 - 1e-6), (grid_mm, grid_mm, grid_mm)


def _names() -> tuple[str, ...]:
    """Return the names of all features, as they come from a region of two grey levels."""
    values = np.zeros((3, 3, 3), dtype=np.float32)
    values[0] = 1.0
    mask = np.ones((3, 3, 3), dtype=bool)
    cube = (1.0, 1.0, 1.0)
    grey = np.where(values > 0, 2, 1).astype(np.int32)
    return (
        *shape_features(mask, cube),
        *intensity_features(values, mask, mask, cube),
        *histogram_features(grey[mask]),
        *texture_features(grey, mask, 2),
    )


FEATURE_NAMES: tuple[str, ...] = _names()
"""Names of the features of one region, in the order of the vectors."""
