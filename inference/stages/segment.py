"""Find liver and lesions, check them, conclude contrast phases, and tell viable tumour from necrosis."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from inference.case import Case
from inference.errors import ImplausibleSegmentation, ReviewNeeded
from inference.imaging.organ_values import OrganValues
from inference.imaging.phase_conclusion import conclude_phases as conclude_phases
from inference.imaging.phase_evidence import PhaseReader
from inference.imaging.plausibility import check_plausible
from inference.imaging.viability import split_viable
from inference.models.protocols import Segmenter
from inference.results import Baseline, Segmentation
from inference.settings import Doubtful, SegmentationLimits


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
    reader: PhaseReader | None = None,
) -> Segmented:
    """Segment the primary series; `reader` tells contrast phases from organ values.

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
    found, warnings = check_plausible(baseline, segmentation, limits, values)
    doubts = (*segmentation.doubts, *found)
    segmentation = replace(segmentation, warnings=(*segmentation.warnings, *doubts, *warnings))
    if doubts and segmentation.source_sop_instance_uid is None and doubtful is Doubtful.HOLD:
        raise ReviewNeeded(" ".join(doubts), baseline, segmentation)
    if not segmentation.lesions:
        raise ImplausibleSegmentation("no tumour is outlined in the liver")
    concluded = conclude_phases(baseline, segmentation, values, reader)
    return Segmented(concluded, split_viable(concluded, segmentation, values))
