"""The default segmenter as a function of a volume, for evaluation."""

from __future__ import annotations

import numpy as np

from inference.bundle_store import BundleDescription
from inference.errors import ImplausibleSegmentation
from inference.evaluation.segmentation_cases import LIVER, TUMOUR, SegmentVolume
from inference.evaluation.segmentation_measures import Spacing
from inference.models.unet import UnetSegmenter
from inference.results import Grid, Labels, Voxels


def unet_volume(bundle: BundleDescription) -> SegmentVolume:
    """Return a function that segments a volume; a refusal gives an empty segmentation.

    Raises
    ------
    ModelError
        The bundle is damaged.
    """
    segmenter = UnetSegmenter.from_bundle(bundle.folder)

    def segment(volume: Voxels, spacing: Spacing, modality: str) -> Labels:
        affine = np.zeros((4, 4))
        affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *spacing, 1.0
        z, y, x = volume.shape
        labels = np.zeros((z, y, x), np.uint8)
        try:
            found = segmenter.segment_volume(volume, Grid((z, y, x), affine, ""), modality)
        except ImplausibleSegmentation:
            return labels
        inside = labels[found.box.slices]
        inside[found.liver] = LIVER
        inside[found.lesion > 0] = TUMOUR
        return labels

    return segment
