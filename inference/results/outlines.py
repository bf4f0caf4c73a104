"""Liver, lesions and tissues."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from inference.results.arrays import Labels, Mask
from inference.results.bundles import BundleInfo
from inference.results.images import Box


class Tissue(IntEnum):
    """Values of a tissue map. Each voxel has one: lipiodol and necrosis are not viable tumour."""

    BACKGROUND = 0
    LIVER = 1
    VIABLE = 2
    NECROSIS = 3
    LIPIODOL = 4


@dataclass(frozen=True, slots=True)
class TissueMap:
    """Tissues and lesions in a box of the primary series' grid; background outside the box.

    Attributes
    ----------
    tissue : array of uint8, shape of the box
        Values of `Tissue`.
    lesion : array of uint8, shape of the box
        0, or the `Lesion.number` the voxel belongs to (viable, necrosis or lipiodol).
    """

    box: Box
    tissue: Labels
    lesion: Labels

    def mask(self, *tissues: Tissue) -> Mask:
        """Voxels of the box that are one of `tissues`."""
        return np.isin(self.tissue, [int(t) for t in tissues])


@dataclass(frozen=True, slots=True)
class Lesion:
    """One tumour, an object of its own with an identifier that is stable over time points."""

    number: int
    lesion_id: str
    tracking_uid: str | None = None


@dataclass(frozen=True, slots=True)
class Region:
    """A reference structure that a segmentation also has, such as the aorta; used to tell the phase.

    Attributes
    ----------
    name : str
        A value of `inference.imaging.segmentations.Structure`.
    mask : array of bool, shape of the box
    """

    name: str
    box: Box
    mask: Mask


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A more trusted segmenter that was not used, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Liver and lesions at baseline, on the grid of the primary series.

    Attributes
    ----------
    source_sop_instance_uid : str or None
        The segmentation object it was read from; None where a program of the node drew it.
    entropy : float or None
        Mean entropy (nats) of the segmenter's own uncertainty near the liver, where it has one.
    doubts : tuple of str
        Why, by the segmenter's own account, a person has to look before anything is forecast.
    passed_over : tuple of PassedOver
        More trusted segmenters that were not used.
    """

    labels: TissueMap
    lesions: tuple[Lesion, ...]
    bundle: BundleInfo
    source_sop_instance_uid: str | None
    warnings: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()
    entropy: float | None = None
    doubts: tuple[str, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()
