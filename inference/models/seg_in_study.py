"""The segmenter that trusts people: it takes the outlines of a segmentation object in the study."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from inference.case import Case, Instance
from inference.errors import GeometryError, ImplausibleSegmentation, SegmentationMissing
from inference.imaging.attributes import text
from inference.imaging.boxes import box_of, cropped
from inference.imaging.seg_frames import segment_masks
from inference.imaging.segmentations import (
    PROPERTY_TYPES,
    Segment,
    Structure,
    referenced_series,
    segmentation_instances,
    segments,
)
from inference.results import (
    Baseline,
    Box,
    BundleInfo,
    Grid,
    Labels,
    Lesion,
    Mask,
    Region,
    Segmentation,
    SeriesVolume,
    Tissue,
    TissueMap,
)

MARGIN_VOXELS = 2
"""Voxels around the liver that its box includes."""

SMALLEST_LESION_ML = 0.02
"""Parts of a segment smaller than this (a ball of 3.4 mm) are specks of drawing, not lesions."""

NEAR_LIVER_MM = 5.0
"""A tumour farther than this from the liver outline is not a tumour of the liver."""

MAXIMUM_LESIONS = 255
"""Lesion numbers are stored in one byte."""

DEAD_PARTS = {Structure.NECROSIS: Tissue.NECROSIS, Structure.LIPIODOL: Tissue.LIPIODOL}
"""Parts of tumours that are drawn as segments of their own, beside the viable part."""

REGIONS = (Structure.AORTA, Structure.PORTAL_VEIN, Structure.KIDNEY)

INFO = BundleInfo(
    name="segmentation in the study",
    version="1",
    sha256=hashlib.sha256(
        repr((sorted(PROPERTY_TYPES.items()), MARGIN_VOXELS, SMALLEST_LESION_ML, NEAR_LIVER_MM)).encode()
    ).hexdigest(),
    trained_on="not trained: outlines drawn by a reader or another program",
)
"""The digest covers the codes that are recognised and the limits; the outlines themselves are input."""

_EVERYWHERE_TOUCHING = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True, slots=True)
class _Outline:
    """One lesion: its voxels in the liver's box."""

    mask: Mask
    tracking_uid: str | None


class SegInStudy:
    """Liver and tumours from the most trusted segmentation object of the study.

    One tumour segment is cut into its connected parts; of several tumour segments each is one lesion.
    Lesions are numbered by volume, the largest first.
    """

    @property
    def info(self) -> BundleInfo:
        """What decides which segments are used."""
        return INFO

    def check(self, case: Case) -> None:
        """Refuse a study without a usable segmentation before any pixel is decoded.

        Raises
        ------
        SegmentationMissing
            There is no segmentation object, or none with liver and tumour.
        """
        _trusted(case)

    def segment(self, case: Case, baseline: Baseline) -> Segmentation:
        """Return the outlines on the primary grid; every lesion voxel is viable here.

        Raises
        ------
        SegmentationMissing
            There is no segmentation object with liver and tumour.
        GeometryError
            It lies on another grid or in another space than the primary series.
        ImplausibleSegmentation
            A segment is empty, or no tumour touches the liver.
        """
        instance = _trusted(case)
        primary = baseline.primary
        _check_space(instance, primary)
        found = [s for s in segments(instance.header) if s.structure is not Structure.OTHER]
        sources = {str(h.SOPInstanceUID): k for k, h in enumerate(primary.headers)}
        masks = segment_masks(instance, primary.grid, sources, [s.number for s in found])
        warnings: list[str] = []
        return replace(
            assemble(found, masks, primary.grid, warnings, INFO),
            source_sop_instance_uid=instance.sop_instance_uid,
        )


def _trusted(case: Case) -> Instance:
    instances = segmentation_instances(case)
    if not instances:
        raise SegmentationMissing(
            "there is no liver segmentation in the study (it has no segmentation object)"
        )
    best = instances[0]
    structures = {s.structure for s in segments(best.header)}
    if Structure.LIVER not in structures:
        raise SegmentationMissing(
            "there is no liver segmentation in the study (no segment is coded as liver)"
        )
    if Structure.TUMOUR not in structures:
        raise SegmentationMissing("the liver segmentation in the study has no segment coded as tumour")
    return best


def _check_space(instance: Instance, primary: SeriesVolume) -> None:
    if primary.series_instance_uid in referenced_series(instance.header):
        return
    theirs = text(instance.header, "FrameOfReferenceUID")
    if not theirs or theirs != primary.grid.frame_of_reference_uid:
        raise GeometryError("the segmentation was drawn on another series, in another frame of reference")


def assemble(
    found: Sequence[Segment],
    masks: dict[int, Mask],
    grid: Grid,
    warnings: list[str],
    bundle: BundleInfo,
) -> Segmentation:
    """Return the segmentation that drawn segments make: lesions numbered, dead parts put to theirs.

    Parameters
    ----------
    masks : dict
        Voxels of each segment by its number, bool (slices, rows, columns) of the grid.
    warnings : list of str
        Gets what is to be said besides.

    Raises
    ------
    ImplausibleSegmentation
        Liver or tumours are empty, or no tumour touches the liver.
    """
    liver = _union(found, masks, Structure.LIVER, grid)
    if not liver.any():
        raise ImplausibleSegmentation("the liver segment is empty")
    parts = (Structure.TUMOUR, *DEAD_PARTS)
    box = box_of(
        np.logical_or.reduce([liver, *(_union(found, masks, p, grid) for p in parts)]), MARGIN_VOXELS
    )
    liver_in_box = liver[box.slices]
    outlines = _outlines(found, masks, box, grid, warnings)
    dead = {
        tissue: _union(found, masks, structure, grid)[box.slices] for structure, tissue in DEAD_PARTS.items()
    }
    outlines = _with_dead_parts(outlines, np.logical_or.reduce(list(dead.values())), grid)
    outlines = _near_liver(outlines, liver_in_box, grid, warnings)
    labels = _paint(liver_in_box, outlines, dead, box)
    return Segmentation(
        labels=labels,
        lesions=tuple(Lesion(k, f"L{k}", o.tracking_uid) for k, o in enumerate(outlines, 1)),
        bundle=bundle,
        source_sop_instance_uid=None,
        warnings=tuple(warnings),
        regions=_regions(found, masks, grid),
    )


def _union(found: Sequence[Segment], masks: dict[int, Mask], structure: Structure, grid: Grid) -> Mask:
    union = np.zeros(grid.shape, dtype=bool)
    for segment in found:
        if segment.structure is structure:
            union |= masks[segment.number]
    return union


def _outlines(
    found: Sequence[Segment], masks: dict[int, Mask], box: Box, grid: Grid, warnings: list[str]
) -> list[_Outline]:
    tumours = [s for s in found if s.structure is Structure.TUMOUR and masks[s.number].any()]
    if not tumours:
        raise ImplausibleSegmentation("the tumour segments are empty")
    if len(tumours) > 1:
        outlines = [_Outline(masks[s.number][box.slices], s.tracking_uid) for s in tumours]
    else:
        dead = [_union(found, masks, part, grid) for part in DEAD_PARTS]
        whole = np.logical_or.reduce([masks[tumours[0].number], *dead])[box.slices]
        outlines = _connected(whole, tumours[0], grid, warnings)
    if len(outlines) > MAXIMUM_LESIONS:
        raise ImplausibleSegmentation(f"the segmentation has {len(outlines)} separate tumours")
    return sorted(outlines, key=lambda o: _by_volume_and_place(o.mask))


def _by_volume_and_place(mask: Mask) -> tuple[int, int]:
    return -int(mask.sum()), int(np.argmax(mask))


def _connected(mask: Mask, segment: Segment, grid: Grid, warnings: list[str]) -> list[_Outline]:
    labelled, count = ndimage.label(mask, structure=_EVERYWHERE_TOUCHING)
    sizes = np.bincount(labelled.ravel())[1:]
    large = [k for k in range(count) if sizes[k] * grid.voxel_ml >= SMALLEST_LESION_ML] or [
        int(np.argmax(sizes))
    ]
    if len(large) < count:
        warnings.append(f"{count - len(large)} specks of the tumour segment were not taken as lesions.")
    tracking = segment.tracking_uid if len(large) == 1 else None
    return [_Outline(labelled == k + 1, tracking) for k in large]


def _with_dead_parts(outlines: Sequence[_Outline], dead: Mask, grid: Grid) -> list[_Outline]:
    """Add necrosis and lipiodol to the lesion they touch; what touches none is left out."""
    if not dead.any():
        return list(outlines)
    owner = np.zeros(dead.shape, dtype=np.uint8)
    for k, outline in enumerate(outlines, 1):
        owner[outline.mask] = k
    distance, nearest = ndimage.distance_transform_edt(
        owner == 0, sampling=grid.spacing_mm, return_indices=True
    )
    pieces, count = ndimage.label(dead, structure=_EVERYWHERE_TOUCHING)
    reach = 1.01 * float(np.linalg.norm(grid.spacing_mm))
    closest = ndimage.minimum(distance, pieces, range(1, count + 1))
    touching = np.isin(pieces, [k for k in range(1, count + 1) if closest[k - 1] <= reach])
    belongs = owner[tuple(nearest)]
    whole = [
        _Outline(o.mask | (touching & (belongs == k)), o.tracking_uid) for k, o in enumerate(outlines, 1)
    ]
    return sorted(whole, key=lambda o: _by_volume_and_place(o.mask))


def _near_liver(outlines: Sequence[_Outline], liver: Mask, grid: Grid, warnings: list[str]) -> list[_Outline]:
    reach = [max(1, round(NEAR_LIVER_MM / s)) for s in grid.spacing_mm]
    near = ndimage.maximum_filter(liver, size=[2 * r + 1 for r in reach])
    kept = [o for o in outlines if (near & o.mask).any()]
    if not kept:
        raise ImplausibleSegmentation("every tumour of the segmentation lies outside its liver")
    if len(kept) < len(outlines):
        warnings.append(f"{len(outlines) - len(kept)} tumour(s) lie outside the liver and were not used.")
    return kept


def _paint(liver: Mask, outlines: Sequence[_Outline], dead: Mapping[Tissue, Mask], box: Box) -> TissueMap:
    """Paint the largest lesion first, so that a small one inside it is not lost."""
    tissue: Labels = np.where(liver, np.uint8(Tissue.LIVER), np.uint8(Tissue.BACKGROUND))
    lesion: Labels = np.zeros(liver.shape, dtype=np.uint8)
    for number, outline in enumerate(outlines, 1):
        tissue[outline.mask] = Tissue.VIABLE
        lesion[outline.mask] = number
    for part, mask in dead.items():
        tissue[mask & (lesion > 0)] = part
    return TissueMap(box, tissue, lesion)


def _regions(found: Sequence[Segment], masks: dict[int, Mask], grid: Grid) -> tuple[Region, ...]:
    regions = []
    for structure in REGIONS:
        mask = _union(found, masks, structure, grid)
        if mask.any():
            box = box_of(mask, 0)
            regions.append(Region(structure.value, box, cropped(mask, box)))
    return tuple(regions)
