"""Whether a segmentation can be a liver with tumours: limits of volume, shape and attenuation."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from inference.errors import ImplausibleSegmentation
from inference.imaging.organ_values import OrganValues
from inference.results import Baseline, Mask, Segmentation, Tissue
from inference.settings import SegmentationLimits

LIVER_HU = (-20.0, 220.0)
"""Median attenuation of liver parenchyma: from severe steatosis, unenhanced, to strong enhancement."""

LIVER_HU_SPREAD = 90.0
"""Widest 10-90 % range of smoothed liver attenuation; outlines over lung, bowel or bone exceed it."""


def check_plausible(
    baseline: Baseline, segmentation: Segmentation, limits: SegmentationLimits, values: OrganValues
) -> tuple[str, ...]:
    """Refuse an impossible segmentation; return a warning for each unusual property.

    Raises
    ------
    ImplausibleSegmentation
        Volume, connectedness or attenuation lies outside the limits.
    """
    organ = segmentation.labels.mask(Tissue.LIVER) | (segmentation.labels.lesion > 0)
    warnings = [
        *_volume(organ, baseline.primary.grid.voxel_ml, limits),
        *_connectedness(organ, limits),
        *_attenuation(baseline, values),
        *_cut_off(baseline, segmentation, organ),
    ]
    return tuple(warnings)


def _volume(organ: Mask, voxel_ml: float, limits: SegmentationLimits) -> list[str]:
    ml = float(organ.sum()) * voxel_ml
    if ml < limits.refuse_below_ml:
        raise ImplausibleSegmentation(
            f"the segmented liver has only {ml:.0f} ml (limit {limits.refuse_below_ml:.0f} ml)"
        )
    if ml > limits.refuse_above_ml:
        raise ImplausibleSegmentation(
            f"the segmented liver has {ml:.0f} ml (limit {limits.refuse_above_ml:.0f} ml)"
        )
    if not limits.review_below_ml <= ml <= limits.review_above_ml:
        return [f"The segmented liver has an unusual volume of {ml:.0f} ml; look at the outlines."]
    return []


def _connectedness(organ: Mask, limits: SegmentationLimits) -> list[str]:
    labelled, _ = ndimage.label(organ)
    sizes = np.bincount(labelled.ravel())[1:]
    share = float(sizes.max() / sizes.sum())
    if share < limits.refuse_largest_component_below:
        raise ImplausibleSegmentation(
            f"the segmented liver is in pieces: the largest has {share:.0%} of its volume"
        )
    if share < limits.review_largest_component_below:
        return [f"The segmented liver is in pieces: the largest has {share:.0%} of it; look at the outlines."]
    return []


def _attenuation(baseline: Baseline, values: OrganValues) -> list[str]:
    """Look at the parenchyma; a liver that is all tumour has none to look at."""
    if baseline.primary.modality != "CT":
        return []
    liver = values.parenchyma
    if not liver.any():
        return ["All of the liver is outlined as tumour; look at the outlines."]
    found = np.percentile(values.of(baseline.primary)[liver], (10, 50, 90))
    low, median, high = (float(v) for v in found)
    if not LIVER_HU[0] <= median <= LIVER_HU[1]:
        raise ImplausibleSegmentation(
            f"the segmented liver has a median of {median:.0f} HU, which is no liver"
        )
    if high - low > LIVER_HU_SPREAD:
        raise ImplausibleSegmentation(
            f"the segmented liver ranges from {low:.0f} to {high:.0f} HU, which is more than liver tissue"
        )
    return []


def _cut_off(baseline: Baseline, segmentation: Segmentation, organ: Mask) -> list[str]:
    """Warn when the liver reaches the first or last slice: it may go on beyond the images."""
    start, stop = segmentation.labels.box.start[0], segmentation.labels.box.stop[0]
    first = start == 0 and bool(organ[0].any())
    last = stop == baseline.primary.grid.shape[0] and bool(organ[-1].any())
    if not (first or last):
        return []
    return ["The liver reaches the edge of the images; its volume may be incomplete."]
