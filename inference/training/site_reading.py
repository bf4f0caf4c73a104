"""One study of a site's archive, read by the parts of the pipeline that read a study for a forecast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from inference.case import Case, ClinicalRecord, Instance, Phase
from inference.errors import GeometryError, ImplausibleSegmentation, SegmentationMissing
from inference.imaging.attributes import text
from inference.imaging.boxes import box_of
from inference.imaging.organ_values import OrganValues
from inference.imaging.phase_evidence import PhaseReader
from inference.imaging.plausibility import check_plausible
from inference.imaging.reading import read_case
from inference.imaging.seg_frames import segment_masks
from inference.imaging.segmentations import (
    Structure,
    referenced_series,
    segmentation_instances,
    segments,
)
from inference.imaging.viability import LIPIODOL_ABOVE_HU
from inference.models.protocols import Segmenter
from inference.models.seg_in_study import INFO, MARGIN_VOXELS
from inference.results import (
    Baseline,
    Mask,
    Segmentation,
    SeriesVolume,
    Tissue,
    TissueMap,
    Voxels,
)
from inference.settings import SegmentationLimits
from inference.stages.load import load
from inference.stages.segment import conclude_phases, segment
from inference.stages.selection import select
from inference.training.registration import ScanForRegistration

CT_LIPIODOL_PHASES = (Phase.NATIVE, Phase.ARTERIAL, Phase.PORTAL_VENOUS, Phase.DELAYED)

REGISTRATION_PHASES = (
    Phase.PORTAL_VENOUS,
    Phase.ARTERIAL,
    Phase.DELAYED,
    Phase.NATIVE,
    Phase.T1_PORTAL_VENOUS,
    Phase.T1_ARTERIAL,
    Phase.T1,
    Phase.T2,
)
"""What is registered, the first that both time points have."""


@dataclass(frozen=True, slots=True)
class ReadStudy:
    """A study: its volumes, and liver and lesions with their viable, dead and lipiodol parts."""

    baseline: Baseline
    segmentation: Segmentation

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reading parts of the pipeline warn of."""
        return (*self.baseline.warnings, *self.segmentation.warnings)

    def in_full(self, *tissues: Tissue) -> Mask:
        """Return the voxels of some tissues on the whole grid of the primary series."""
        full = np.zeros(self.baseline.primary.grid.shape, dtype=bool)
        full[self.segmentation.labels.box.slices] = self.segmentation.labels.mask(*tissues)
        return full

    def lesions_in_full(self) -> np.ndarray:
        """Return the lesion numbers on the whole grid of the primary series, uint8."""
        full = np.zeros(self.baseline.primary.grid.shape, dtype=np.uint8)
        full[self.segmentation.labels.box.slices] = self.segmentation.labels.lesion
        return full

    def organ(self) -> Mask:
        """Return the liver with its lesions on the whole grid."""
        return self.in_full(Tissue.LIVER, Tissue.VIABLE, Tissue.NECROSIS, Tissue.LIPIODOL)

    def for_registration(self, volume: SeriesVolume) -> ScanForRegistration:
        """Return what registration sees of one of the volumes."""
        grid = self.baseline.primary.grid
        return ScanForRegistration(grid, acquired_values(volume), self.organ(), self.lesions_in_full())


def acquired_values(volume: SeriesVolume) -> Voxels:
    """Return the rescaled values of a series, NaN where it was brought to a grid that it does not fill."""
    values = volume.values()
    if volume.resampled is not None:
        values = np.where(volume.resampled.covered, values, np.float32(np.nan))
    return values


def read_study(
    files: Sequence[Path],
    clinical: ClinicalRecord,
    segmenter: Segmenter,
    limits: SegmentationLimits,
    reader: PhaseReader | None = None,
) -> ReadStudy:
    """Read, choose, decode and segment one study with tumours; `reader` tells phases from the images.

    Raises
    ------
    RejectedInput
        Any reason for which the pipeline refuses a study, doubtful outlines of a program included.
    ModelError
        The segmenter failed.
    """
    case = read_case(files, clinical)
    found = segment(case, load(select(case), reader), segmenter, limits, reader=reader)
    return _with_lipiodol(ReadStudy(found.baseline, found.segmentation))


def read_without_tumour(
    files: Sequence[Path],
    clinical: ClinicalRecord,
    limits: SegmentationLimits,
    reader: PhaseReader | None = None,
) -> ReadStudy:
    """Read a study in which, as the table says, no tumour was seen; its segmentation has the liver alone.

    Raises
    ------
    RejectedInput
        As in `read_study`, or a tumour was drawn after all.
    """
    case = read_case(files, clinical)
    baseline = load(select(case), reader)
    segmentation = liver_in_study(case, baseline)
    values = OrganValues(segmentation.labels, baseline.primary.grid)
    check_plausible(baseline, segmentation, limits, values)
    return ReadStudy(conclude_phases(baseline, segmentation, values, reader), segmentation)


def common_phase(first: Baseline, second: Baseline) -> tuple[SeriesVolume, SeriesVolume] | None:
    """Return the volumes of the first phase for registration that both studies have."""
    for phase in REGISTRATION_PHASES:
        a, b = first.phase(phase), second.phase(phase)
        if a is not None and b is not None:
            return a, b
    return None


def tracked_pairs(known: Segmentation, later: Segmentation) -> dict[int, int]:
    """Return, for lesions of the later study, the known lesion with the same Tracking UID."""
    numbers = {lesion.tracking_uid: lesion.number for lesion in known.lesions if lesion.tracking_uid}
    return {
        lesion.number: numbers[lesion.tracking_uid]
        for lesion in later.lesions
        if lesion.tracking_uid in numbers
    }


def _with_lipiodol(study: ReadStudy) -> ReadStudy:
    """Tell lipiodol from viable tumour by HU where a reader drew necrosis but no lipiodol.

    Where nothing was drawn the pipeline has told all three apart already.
    """
    labels = study.segmentation.labels
    drawn = labels.mask(Tissue.NECROSIS).any() and not labels.mask(Tissue.LIPIODOL).any()
    volume = next((v for p in CT_LIPIODOL_PHASES if (v := study.baseline.phase(p)) is not None), None)
    if not drawn or volume is None:
        return study
    values: Voxels = OrganValues(labels, study.baseline.primary.grid).of(volume)
    dense = labels.mask(Tissue.VIABLE) & (values > LIPIODOL_ABOVE_HU)
    if not dense.any():
        return study
    tissue = labels.tissue.copy()
    tissue[dense] = Tissue.LIPIODOL
    warning = (
        f"Outlined tumour denser than {LIPIODOL_ABOVE_HU:.0f} HU was taken as lipiodol, which the "
        "segmentation does not have as a segment of its own."
    )
    segmentation = replace(
        study.segmentation,
        labels=TissueMap(labels.box, tissue, labels.lesion),
        warnings=(*study.segmentation.warnings, warning),
    )
    return replace(study, segmentation=segmentation)


def liver_in_study(case: Case, baseline: Baseline) -> Segmentation:
    """Return the liver of a segmentation object that has no tumour, without lesions.

    Raises
    ------
    SegmentationMissing
        No segmentation object has a liver.
    GeometryError
        It lies in another space than the primary series.
    ImplausibleSegmentation
        The liver is empty, or a tumour was drawn after all.
    """
    objects = segmentation_instances(case)
    with_liver = [i for i in objects if _of_structure(i, Structure.LIVER)]
    if not with_liver:
        raise SegmentationMissing("there is no liver segmentation in the study")
    instance, primary = with_liver[0], baseline.primary
    theirs = text(instance.header, "FrameOfReferenceUID")
    drawn_here = primary.series_instance_uid in referenced_series(instance.header)
    if not drawn_here and theirs != primary.grid.frame_of_reference_uid:
        raise GeometryError("the segmentation was drawn on another series, in another frame of reference")
    liver_numbers = _of_structure(instance, Structure.LIVER)
    tumour_numbers = _of_structure(instance, Structure.TUMOUR)
    sources = {str(h.SOPInstanceUID): k for k, h in enumerate(primary.headers)}
    masks = segment_masks(instance, primary.grid, sources, [*liver_numbers, *tumour_numbers])
    if any(masks[n].any() for n in tumour_numbers):
        raise ImplausibleSegmentation("the table says that no tumour is left, and the segmentation has one")
    liver = np.logical_or.reduce([masks[n] for n in liver_numbers])
    if not liver.any():
        raise ImplausibleSegmentation("the liver segment is empty")
    box = box_of(liver, MARGIN_VOXELS)
    inside = liver[box.slices]
    tissue = np.where(inside, np.uint8(Tissue.LIVER), np.uint8(Tissue.BACKGROUND))
    labels = TissueMap(box, tissue.astype(np.uint8), np.zeros(inside.shape, dtype=np.uint8))
    return Segmentation(labels, (), INFO, instance.sop_instance_uid)


def _of_structure(instance: Instance, structure: Structure) -> list[int]:
    return [s.number for s in segments(instance.header) if s.structure is structure]
