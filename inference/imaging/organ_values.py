"""Smoothed HU or signal of the liver with its lesions, computed once for each series."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from inference.results import Grid, Mask, SeriesVolume, Tissue, TissueMap, Voxels

SMOOTHING_MM = 1.5
"""Standard deviation of the Gaussian that takes the noise out before a limit is applied."""


class OrganValues:
    """Values inside the box of a tissue map, smoothed within the organ only.

    What lies outside the liver and its lesions (lung, fat, bowel) does not bleed in: the smoothed
    product with the mask is divided by the smoothed mask.
    """

    def __init__(self, labels: TissueMap, grid: Grid) -> None:
        self._labels = labels
        self._sigma = [SMOOTHING_MM / s for s in grid.spacing_mm]
        self._organ = (labels.tissue > 0).astype(np.float32)
        self._weight = np.maximum(self._smooth(self._organ), 1e-6)
        self._smoothed: dict[str, Voxels] = {}

    @property
    def parenchyma(self) -> Mask:
        """Voxels of liver that are no lesion."""
        return self._labels.mask(Tissue.LIVER)

    def of(self, volume: SeriesVolume) -> Voxels:
        """Return the smoothed values of a series, shape of the box; right inside the organ only."""
        uid = volume.series_instance_uid
        if uid not in self._smoothed:
            values = box_values(volume, self._labels.box.slices)
            smooth = self._smooth(values * self._organ) / self._weight
            self._smoothed[uid] = np.asarray(smooth, dtype=np.float32)
        return self._smoothed[uid]

    def _smooth(self, values: Voxels) -> Voxels:
        return np.asarray(ndimage.gaussian_filter(values, self._sigma, truncate=3.0), dtype=np.float32)


def box_values(volume: SeriesVolume, box: tuple[slice, slice, slice]) -> Voxels:
    """Return the rescaled values of a part of a series."""
    slope = volume.slope[box[0]].reshape(-1, 1, 1)
    intercept = volume.intercept[box[0]].reshape(-1, 1, 1)
    return np.asarray(volume.stored[box] * slope + intercept, dtype=np.float32)
