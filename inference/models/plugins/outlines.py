"""From the labels of a site's program to a segmentation, by a table of what each label means."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from inference.errors import ImplausibleSegmentation, ModelError
from inference.imaging.boxes import box_of
from inference.imaging.segmentations import Segment, Structure
from inference.model_settings import LabelMeaning
from inference.models.seg_in_study import MARGIN_VOXELS, assemble
from inference.results import BundleInfo, Grid, Labels, Mask, Segmentation, Tissue, TissueMap

DRAWN_BY_PROGRAM = "Liver and tumours were outlined by a program ({}); check the outlines."

STRUCTURES: Mapping[LabelMeaning, Structure] = {
    LabelMeaning.LIVER: Structure.LIVER,
    LabelMeaning.LIVER_VESSEL: Structure.LIVER,
    LabelMeaning.TUMOUR: Structure.TUMOUR,
    LabelMeaning.NECROSIS: Structure.NECROSIS,
    LabelMeaning.LIPIODOL: Structure.LIPIODOL,
    LabelMeaning.AORTA: Structure.AORTA,
    LabelMeaning.PORTAL_VEIN: Structure.PORTAL_VEIN,
    LabelMeaning.KIDNEY: Structure.KIDNEY,
}
"""What each meaning becomes; vessels of the liver belong to it, and ``ignored`` is nothing."""


def segmentation_of_labels(
    labels: Labels, meanings: Mapping[int, LabelMeaning], grid: Grid, bundle: BundleInfo
) -> Segmentation:
    """Return the segmentation that a program's labels stand for.

    Parameters
    ----------
    labels : array of uint8, (slices, rows, columns) of the grid
    meanings : mapping
        Meaning of each value but 0.

    Raises
    ------
    ModelError
        A value has no meaning in the table.
    ImplausibleSegmentation
        There is no liver, or no tumour touches it.
    """
    unknown = sorted(set(np.unique(labels).tolist()) - {0, *meanings})
    if unknown:
        raise ModelError(
            f"{bundle.name} returned the label {unknown[0]}, which its table of labels does not have"
        )
    masks = _masks(labels, meanings)
    if Structure.LIVER not in masks:
        raise ImplausibleSegmentation(f"{bundle.name} found no liver in the field of view")
    if Structure.TUMOUR not in masks:
        return _without_tumour(masks[Structure.LIVER], bundle)
    found = [Segment(k, structure, structure.value, None) for k, structure in enumerate(masks, 1)]
    numbered = {s.number: masks[s.structure] for s in found}
    warnings = [DRAWN_BY_PROGRAM.format(bundle.name)]
    return assemble(found, numbered, grid, warnings, bundle)


def _masks(labels: Labels, meanings: Mapping[int, LabelMeaning]) -> dict[Structure, Mask]:
    values: dict[Structure, list[int]] = {}
    for value, meaning in sorted(meanings.items()):
        if meaning in STRUCTURES:
            values.setdefault(STRUCTURES[meaning], []).append(value)
    masks = {structure: np.isin(labels, some) for structure, some in values.items()}
    return {structure: mask for structure, mask in masks.items() if mask.any()}


def _without_tumour(liver: Mask, bundle: BundleInfo) -> Segmentation:
    """Return a liver alone; the review queue holds it until somebody has outlined a tumour."""
    box = box_of(liver, MARGIN_VOXELS)
    tissue = np.where(liver[box.slices], np.uint8(Tissue.LIVER), np.uint8(Tissue.BACKGROUND))
    labels = TissueMap(box, tissue, np.zeros(box.shape, dtype=np.uint8))
    return Segmentation(labels, (), bundle, None, (DRAWN_BY_PROGRAM.format(bundle.name),))
