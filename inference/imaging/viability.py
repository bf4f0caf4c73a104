"""Which part of a lesion is alive, by its attenuation or signal; the rule is named with its limits.

mRECIST calls viable what enhances in the arterial phase. Without that phase viability is only an
estimate, and every result says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from inference.case import Phase
from inference.results import Baseline, Mask, Segmentation, SeriesVolume, Tissue, TissueMap, Voxels

SMOOTHING_MM = 1.5
"""Standard deviation of the Gaussian that takes the noise out before a limit is applied."""

ARTERIAL_MARGIN_HU = 10.0
"""Arterial phase: necrosis is darker than the liver by more than this."""

NECROSIS_BELOW_HU = 45.0
"""Other enhanced phases: necrosis is below this (unenhanced soft tissue) and well below the liver."""

PORTAL_MARGIN_HU = 30.0
"""Other enhanced phases: necrosis is darker than the liver by more than this."""

LIPIODOL_ABOVE_HU = 220.0
"""Denser than any enhancing tumour: lipiodol of an earlier embolisation."""

MR_ARTERIAL_SHARE = 0.9
"""MR arterial phase: necrosis has less than this share of the liver's signal."""

ENHANCED = (Phase.PORTAL_VENOUS, Phase.DELAYED)


@dataclass(frozen=True, slots=True)
class _Rule:
    """Necrosis is what lies below `necrosis_below`; lipiodol what lies above `lipiodol_above`."""

    volume: SeriesVolume
    necrosis_below: float
    lipiodol_above: float
    warning: str | None


def split_viable(baseline: Baseline, segmentation: Segmentation) -> Segmentation:
    """Return the segmentation with necrosis and lipiodol told from viable tumour.

    A segmentation that has necrosis of its own is kept as it is: a person drew it.
    """
    labels = segmentation.labels
    if labels.mask(Tissue.NECROSIS, Tissue.LIPIODOL).any() or not segmentation.lesions:
        return segmentation
    rule = _rule(baseline, labels)
    if rule is None:
        warning = (
            "Viable tumour and necrosis cannot be told apart on these images; all tumour counts as viable."
        )
        return replace(segmentation, warnings=(*segmentation.warnings, warning))
    split, warnings = _apply(rule, segmentation)
    return replace(segmentation, labels=split, warnings=(*segmentation.warnings, *warnings))


def smoothed(volume: SeriesVolume, labels: TissueMap) -> Voxels:
    """Return the values of a series inside the box of a tissue map, smoothed over `SMOOTHING_MM`."""
    z = labels.box.slices[0]
    scale = (volume.slope[z].reshape(-1, 1, 1), volume.intercept[z].reshape(-1, 1, 1))
    values = np.asarray(volume.stored[labels.box.slices] * scale[0] + scale[1], dtype=np.float32)
    sigma = [SMOOTHING_MM / s for s in volume.grid.spacing_mm]
    return np.asarray(ndimage.gaussian_filter(values, sigma), dtype=np.float32)


def parenchyma(labels: TissueMap) -> Mask:
    """Return liver voxels that are no lesion."""
    return labels.mask(Tissue.LIVER)


def _rule(baseline: Baseline, labels: TissueMap) -> _Rule | None:
    arterial = baseline.phase(Phase.ARTERIAL)
    if arterial is not None:
        liver = _liver_median(arterial, labels)
        return _Rule(arterial, liver - ARTERIAL_MARGIN_HU, LIPIODOL_ABOVE_HU, None)
    mr_arterial = baseline.phase(Phase.T1_ARTERIAL)
    if mr_arterial is not None:
        liver = _liver_median(mr_arterial, labels)
        return _Rule(mr_arterial, MR_ARTERIAL_SHARE * liver, np.inf, None)
    volume = next((v for p in ENHANCED if (v := baseline.phase(p)) is not None), None)
    if volume is None or volume.modality != "CT":
        return None
    liver = _liver_median(volume, labels)
    limit = min(NECROSIS_BELOW_HU, liver - PORTAL_MARGIN_HU)
    warning = (
        "There is no arterial phase: viable tumour is an estimate from low attenuation in the "
        f"{volume.phase.value.replace('_', ' ')} phase (below {limit:.0f} HU counts as necrosis)."
    )
    return _Rule(volume, limit, LIPIODOL_ABOVE_HU, warning)


def _liver_median(volume: SeriesVolume, labels: TissueMap) -> float:
    return float(np.median(smoothed(volume, labels)[parenchyma(labels)]))


def _apply(rule: _Rule, segmentation: Segmentation) -> tuple[TissueMap, Sequence[str]]:
    labels = segmentation.labels
    values = smoothed(rule.volume, labels)
    tumour = labels.lesion > 0
    tissue = labels.tissue.copy()
    tissue[tumour & (values < rule.necrosis_below)] = Tissue.NECROSIS
    tissue[tumour & (values > rule.lipiodol_above)] = Tissue.LIPIODOL
    warnings = [] if rule.warning is None else [rule.warning]
    dead = [
        lesion.lesion_id
        for lesion in segmentation.lesions
        if not ((labels.lesion == lesion.number) & (tissue == Tissue.VIABLE)).any()
    ]
    if dead:
        warnings.append(f"No viable part was found in {', '.join(dead)}.")
    return TissueMap(labels.box, tissue, labels.lesion), warnings
