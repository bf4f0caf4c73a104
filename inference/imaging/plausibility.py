"""Whether a segmentation can be a liver with tumours: limits of volume, shape and attenuation."""

from __future__ import annotations

from typing import NamedTuple

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


class Findings(NamedTuple):
    """What is unusual about a segmentation, one sentence each.

    `doubts` lie outside the review limits: where a program drew the outlines, a person looks first.
    `warnings` are only said.
    """

    doubts: tuple[str, ...]
    warnings: tuple[str, ...]


def check_plausible(
    baseline: Baseline, segmentation: Segmentation, limits: SegmentationLimits, values: OrganValues
) -> Findings:
    """Refuse an impossible segmentation; return what is unusual about a possible one.

    Raises
    ------
    ImplausibleSegmentation
        Volume, connectedness or attenuation lies outside the limits.
    """
    organ = segmentation.labels.mask(Tissue.LIVER) | (segmentation.labels.lesion > 0)
    doubts = [
        *_volume(organ, baseline.primary.grid.voxel_ml, limits),
        *_connectedness(organ, limits),
        *_attenuation(baseline, values),
        *_uncertain(segmentation, limits),
        *_without_lesions(segmentation),
    ]
    return Findings(tuple(doubts), tuple(_cut_off(baseline, segmentation, organ)))


def _volume(organ: Mask, voxel_ml: float, limits: SegmentationLimits) -> list[str]:
    ml = float(organ.sum()) * voxel_ml
    if ml < limits.refuse_below_ml:
        raise ImplausibleSegmentation(
            f"there is no liver in the field of view: the segmented liver has only {ml:.0f} ml "
            f"(limit {limits.refuse_below_ml:.0f} ml)"
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


def _uncertain(segmentation: Segmentation, limits: SegmentationLimits) -> list[str]:
    if segmentation.entropy is None or segmentation.entropy <= limits.review_entropy_above:
        return []
    found, limit = segmentation.entropy, limits.review_entropy_above
    return [
        f"The outlines are uncertain (mean entropy {found:.2f}, limit {limit:.2f}); look at the outlines."
    ]


def _without_lesions(segmentation: Segmentation) -> list[str]:
    return [] if segmentation.lesions else ["No tumour was found in the liver; outline it by hand."]


def _cut_off(baseline: Baseline, segmentation: Segmentation, organ: Mask) -> list[str]:
    """Warn when the liver reaches the first or last slice: it may go on beyond the images."""
    start, stop = segmentation.labels.box.start[0], segmentation.labels.box.stop[0]
    first = start == 0 and bool(organ[0].any())
    last = stop == baseline.primary.grid.shape[0] and bool(organ[-1].any())
    if not (first or last):
        return []
    return ["The liver reaches the edge of the images; its volume may be incomplete."]
