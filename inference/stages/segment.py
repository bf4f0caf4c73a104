"""Find liver and lesions, check them, conclude open phases from HU, and tell viable tumour from necrosis."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from inference.case import Case, Phase
from inference.errors import ImplausibleSegmentation, ReviewNeeded
from inference.imaging.organ_values import OrganValues, box_values
from inference.imaging.phase import ContrastMeasurement, PhaseFinding, phase_from_hu
from inference.imaging.plausibility import check_plausible
from inference.imaging.segmentations import Structure
from inference.imaging.viability import split_viable
from inference.models.protocols import Segmenter
from inference.results import Baseline, Region, RejectedSeries, Segmentation, SeriesVolume
from inference.settings import Doubtful, SegmentationLimits

VESSEL_PERCENTILE = 98.0


class Segmented(NamedTuple):
    """The baseline with its phases concluded, and its segmentation."""

    baseline: Baseline
    segmentation: Segmentation


def segment(
    case: Case,
    baseline: Baseline,
    segmenter: Segmenter,
    limits: SegmentationLimits,
    doubtful: Doubtful = Doubtful.HOLD,
) -> Segmented:
    """Segment the primary series.

    Outlines that came in the study were a person's business, and are only warned of; those that a
    program of the node drew are held where they are doubtful.

    Raises
    ------
    SegmentationMissing, GeometryError, ImplausibleSegmentation
        There is no segmentation to be had, it does not fit the images, or it cannot be a liver.
    ReviewNeeded
        A program's outlines lie outside the review limits, and `doubtful` says to hold them.
    """
    segmentation = segmenter.segment(case, baseline)
    values = OrganValues(segmentation.labels, baseline.primary.grid)
    doubts, warnings = check_plausible(baseline, segmentation, limits, values)
    segmentation = replace(segmentation, warnings=(*segmentation.warnings, *doubts, *warnings))
    if doubts and segmentation.source_sop_instance_uid is None and doubtful is Doubtful.HOLD:
        raise ReviewNeeded(" ".join(doubts), baseline, segmentation)
    if not segmentation.lesions:
        raise ImplausibleSegmentation("no tumour is outlined in the liver")
    concluded = conclude_phases(baseline, segmentation, values)
    return Segmented(concluded, split_viable(concluded, segmentation, values))


def conclude_phases(baseline: Baseline, segmentation: Segmentation, values: OrganValues) -> Baseline:
    """Return the baseline with the phase of each CT series of unknown phase concluded from HU.

    Of several series concluded to show one phase the first is kept.
    """
    volumes: list[SeriesVolume] = []
    rejected = list(baseline.rejected)
    for volume in baseline.volumes:
        known = _with_phase(volume, segmentation, values)
        if known.phase is not Phase.UNKNOWN and any(v.phase is known.phase for v in volumes):
            reason = f"shows the same phase as another series ({known.phase_evidence})"
            rejected.append(RejectedSeries(volume.series_instance_uid, volume.modality, "", reason))
        else:
            volumes.append(known)
    return replace(baseline, volumes=tuple(volumes), rejected=tuple(rejected))


def _with_phase(volume: SeriesVolume, segmentation: Segmentation, values: OrganValues) -> SeriesVolume:
    if volume.phase is not Phase.UNKNOWN or volume.modality != "CT":
        return volume
    finding: PhaseFinding = phase_from_hu(measure_contrast(volume, segmentation, values))
    return replace(volume, phase=finding.phase, phase_evidence=finding.evidence)


def measure_contrast(
    volume: SeriesVolume, segmentation: Segmentation, values: OrganValues
) -> ContrastMeasurement:
    """Measure the HU that tell the contrast phase."""
    liver = values.of(volume)[values.parenchyma]
    if not len(liver):
        return ContrastMeasurement(float("nan"), float("nan"), {})
    return ContrastMeasurement(
        liver_hu=float(np.median(liver)),
        liver_vessels_hu=float(np.percentile(liver, VESSEL_PERCENTILE)),
        regions_hu={Structure(r.name): _median(volume, r) for r in segmentation.regions},
    )


def _median(volume: SeriesVolume, region: Region) -> float:
    return float(np.median(box_values(volume, region.box.slices)[region.mask]))
