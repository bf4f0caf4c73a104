"""From scores in the crop to stored values and labels on the grid of the study."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from inference.case import Phase
from inference.imaging.pixels import stored_range
from inference.models.flow.conditions import SCALE
from inference.models.flow.rendering import Rendered, Scores, image_change_of
from inference.models.flow.study import StudyCrop, channel_of, values_in
from inference.models.outcome.crops import VOXEL_ML, PatientCrop
from inference.models.unchanged import unchanged_image
from inference.results import (
    Baseline,
    Box,
    Labels,
    Mask,
    Segmentation,
    SeriesVolume,
    StoredValues,
    Tissue,
    TissueMap,
    VirtualImage,
    Voxels,
)

_VISIBLE = 0.004
"""Change in units of the modality's scale below which a voxel keeps its value."""
_LIPIODOL_HU = 250.0
_NECROSIS_HU = 30.0


def draw_time_point(
    baseline: Baseline, segmentation: Segmentation, study: StudyCrop, rendered: Rendered
) -> tuple[tuple[VirtualImage, ...], TissueMap]:
    """Return the virtual images of all series, and the tissue map.

    Images differ from the baseline only inside the liver mask; labels have the volumes that the
    fractions of the scores have.
    """
    crop = study.crop
    fractions = rendered.scores.fractions(crop.liver)
    box = _active_box(fractions, study, segmentation.labels.box)
    if box is None:
        return tuple(unchanged_image(v, segmentation) for v in baseline.volumes), segmentation.labels
    change = image_change_of(fractions, crop, rendered.levels)
    labels = _labels(segmentation, study, rendered.scores, fractions, box)
    images = tuple(_image(v, segmentation, study, fractions, change, box) for v in baseline.volumes)
    return images, labels


def _active_box(fractions: Voxels, study: StudyCrop, within: Box) -> Box | None:
    """Return the box of the primary grid in which anything may have changed."""
    active = (fractions.sum(axis=0) > 0.004) | (study.crop.fractions.sum(axis=0) > 0.004)
    active |= study.crop.lesion > 0
    where = [np.flatnonzero(active.any(axis=tuple({0, 1, 2} - {a}))) for a in range(3)]
    if not all(len(w) for w in where):
        return None
    z, y, x = (slice(int(w[0]) - 2, int(w[-1]) + 3) for w in where)
    return study.primary_box((z, y, x), within)


# ------------------------------------------------------------------ labels


def _labels(
    segmentation: Segmentation,
    study: StudyCrop,
    scores: Scores,
    fractions: Voxels,
    box: Box,
) -> TissueMap:
    old = segmentation.labels
    inner = box.slices_in(old.box)
    liver = old.tissue[inner] > Tissue.BACKGROUND
    stacked = np.stack([scores.tumour, scores.viable, scores.lipiodol])
    fine = study.to_primary(np.clip(stacked, -20.0, 20.0), box)
    owner = study.labels_to_primary(scores.number, box)
    tissue = np.where(liver, np.uint8(Tissue.LIVER), np.uint8(Tissue.BACKGROUND))
    lesion = np.zeros_like(tissue)
    for n in np.unique(scores.number[scores.number > 0]).tolist():
        wanted = fractions[:, scores.number == n].sum(axis=1, dtype=np.float64) * VOXEL_ML
        _choose(fine, liver & (owner == n), wanted / study.primary.voxel_ml, tissue, lesion, int(n))
    new_tissue, new_lesion = old.tissue.copy(), old.lesion.copy()
    new_tissue[inner], new_lesion[inner] = tissue, lesion
    return TissueMap(old.box, new_tissue, new_lesion)


def _choose(
    fine: Voxels,
    region: Mask,
    wanted: npt.NDArray[np.float64],
    tissue: Labels,
    lesion: Labels,
    number: int,
) -> None:
    """Give the voxels with the highest scores to viable, dead and lipiodol, as many as are wanted."""
    places = np.flatnonzero(region)
    total = places[highest(fine[0].ravel()[places], round(float(wanted.sum())))]
    alive = highest(fine[1].ravel()[total], round(float(wanted[0])))
    flat = tissue.ravel()
    flat[total[alive]] = Tissue.VIABLE
    dead = np.delete(total, alive)
    oil = highest(fine[2].ravel()[dead], round(float(wanted[2])))
    flat[dead] = Tissue.NECROSIS
    flat[dead[oil]] = Tissue.LIPIODOL
    lesion.ravel()[total] = number


def highest(score: Voxels, count: int) -> npt.NDArray[np.intp]:
    """Return the places of the highest scores; the first of equal ones."""
    if count <= 0:
        return np.zeros(0, dtype=np.intp)
    return np.sort(np.argsort(-score, kind="stable")[:count])


# ------------------------------------------------------------------ images


def _image(
    volume: SeriesVolume,
    segmentation: Segmentation,
    study: StudyCrop,
    fractions: Voxels,
    change: Voxels,
    box: Box,
) -> VirtualImage:
    channel = channel_of(volume.phase)
    if channel is None:
        change = _measured_change(volume, segmentation, study.crop, fractions)
        channel = 0
    scale = SCALE[volume.modality] / study.scale[volume.series_instance_uid]
    fine = study.to_primary(change[channel : channel + 1], box)[0]
    liver = segmentation.labels.tissue[box.slices_in(segmentation.labels.box)] > Tissue.BACKGROUND
    touched = liver & (np.abs(fine) > _VISIBLE)
    return VirtualImage(
        volume.series_instance_uid, volume.phase, box, _stored(volume, box, touched, fine * np.float32(scale))
    )


def _stored(volume: SeriesVolume, box: Box, touched: Mask, change: Voxels) -> StoredValues:
    out = np.array(volume.stored[box.slices])
    rows = box.start[0] + np.nonzero(touched)[0]
    value = values_in(volume, box)[touched] + change[touched]
    stored = np.rint((value - volume.intercept[rows]) / volume.slope[rows])
    low, high = stored_range(volume)
    out[touched] = np.clip(stored, low, high).astype(out.dtype)
    return out


def _measured_change(
    volume: SeriesVolume, segmentation: Segmentation, crop: PatientCrop, fractions: Voxels
) -> Voxels:
    """Return the change of a series that the network does not draw, from what the series itself shows."""
    labels = segmentation.labels
    values = values_in(volume, labels.box)
    parts = [values[labels.tissue == t] for t in (Tissue.LIVER, Tissue.VIABLE)]
    liver, viable = (float(np.median(p)) if p.size else 0.0 for p in parts)
    if volume.modality == "CT":
        contrasts = (viable - liver, _NECROSIS_HU - liver, _LIPIODOL_HU)
        unit = SCALE["CT"]
    else:
        bright = 0.3 if volume.phase is Phase.T2 else -0.4
        contrasts = (viable - liver, bright * liver, 0.0)
        unit = SCALE["MR"] / 1000.0 * max(liver, 1e-6)
    difference = fractions - crop.fractions
    change = sum(c / unit * d for c, d in zip(contrasts, difference, strict=True))
    return np.asarray(change, dtype=np.float32)[None]
