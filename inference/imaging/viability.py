"""Which part of a lesion is alive, by its attenuation or signal; the rule is named with its limits.

mRECIST calls viable what enhances in the arterial phase. Without that phase viability is only an
estimate, and every result says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from inference.case import Phase
from inference.imaging.organ_values import OrganValues
from inference.results import Baseline, Segmentation, SeriesVolume, Tissue, TissueMap, Voxels

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


def split_viable(baseline: Baseline, segmentation: Segmentation, values: OrganValues) -> Segmentation:
    """Return the segmentation with necrosis and lipiodol told from viable tumour.

    A segmentation that has necrosis of its own is kept as it is: a person drew it.
    """
    labels = segmentation.labels
    drawn = labels.mask(Tissue.NECROSIS, Tissue.LIPIODOL).any()
    if drawn or not segmentation.lesions or not values.parenchyma.any():
        return segmentation
    rule = _rule(baseline, values)
    if rule is None:
        warning = (
            "Viable tumour and necrosis cannot be told apart on these images; all tumour counts as viable."
        )
        return replace(segmentation, warnings=(*segmentation.warnings, warning))
    split, warnings = _apply(rule, segmentation, values.of(rule.volume))
    return replace(segmentation, labels=split, warnings=(*segmentation.warnings, *warnings))


def _rule(baseline: Baseline, values: OrganValues) -> _Rule | None:
    arterial = baseline.phase(Phase.ARTERIAL)
    if arterial is not None:
        liver = _liver_median(arterial, values)
        return _Rule(arterial, liver - ARTERIAL_MARGIN_HU, LIPIODOL_ABOVE_HU, None)
    mr_arterial = baseline.phase(Phase.T1_ARTERIAL)
    if mr_arterial is not None:
        liver = _liver_median(mr_arterial, values)
        return _Rule(mr_arterial, MR_ARTERIAL_SHARE * liver, np.inf, None)
    volume = next((v for p in ENHANCED if (v := baseline.phase(p)) is not None), None)
    if volume is None or volume.modality != "CT":
        return None
    liver = _liver_median(volume, values)
    limit = min(NECROSIS_BELOW_HU, liver - PORTAL_MARGIN_HU)
    warning = (
        "There is no arterial phase: viable tumour is an estimate from low attenuation in the "
        f"{volume.phase.value.replace('_', ' ')} phase (below {limit:.0f} HU counts as necrosis)."
    )
    return _Rule(volume, limit, LIPIODOL_ABOVE_HU, warning)


def _liver_median(volume: SeriesVolume, values: OrganValues) -> float:
    return float(np.median(values.of(volume)[values.parenchyma]))


def _apply(rule: _Rule, segmentation: Segmentation, values: Voxels) -> tuple[TissueMap, Sequence[str]]:
    labels = segmentation.labels
    tumour = labels.lesion > 0
    tissue = labels.tissue.copy()
    tissue[tumour & (values < rule.necrosis_below)] = Tissue.NECROSIS
    tissue[tumour & (values > rule.lipiodol_above)] = Tissue.LIPIODOL
    warnings = [] if rule.warning is None else [rule.warning]
    if (tissue == Tissue.LIPIODOL).any():
        warnings.append(
            f"Tumour denser than {rule.lipiodol_above:.0f} HU was taken as lipiodol of an earlier "
            "embolisation; calcification looks the same."
        )
    dead = [
        lesion.lesion_id
        for lesion in segmentation.lesions
        if not ((labels.lesion == lesion.number) & (tissue == Tissue.VIABLE)).any()
    ]
    if dead:
        warnings.append(f"No viable part was found in {', '.join(dead)}.")
    return TissueMap(labels.box, tissue, labels.lesion), warnings
