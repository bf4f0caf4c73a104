"""Stage: look at the generated images as at real ones, and compare with the maps they were drawn from.

A generator is asked for an outcome and says what it drew. Here the tumours of the best response of each
regimen are outlined again, on the image alone, by the segmenter that outlines baseline images; the
baseline itself is outlined in the same way, so that the segmenter's own errors are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from inference.clinical.response_course import classify_recist11, smallest_target_mm
from inference.imaging.measurement import measure_lesions
from inference.imaging.overlap import dice
from inference.models.protocols import LesionOutliner
from inference.results import (
    Baseline,
    Box,
    Grid,
    ImageCheck,
    Labels,
    LesionMeasurement,
    Mask,
    NotAssessed,
    Reason,
    Segmentation,
    SeriesVolume,
    TimePoint,
    TimePointKind,
    Tissue,
    TissueMap,
    VirtualImage,
    Voxels,
)

NEAR_MM = 10.0
"""What is outlined this close to a lesion of the baseline is that lesion; beyond it, a new one."""

_TUMOUR = (Tissue.VIABLE, Tissue.NECROSIS, Tissue.LIPIODOL)


@dataclass(frozen=True, slots=True)
class _Outlines:
    """Tumours outlined on one image of a patient."""

    mask: Mask
    lesions: tuple[LesionMeasurement, ...]


@dataclass(frozen=True, slots=True)
class _Look:
    """How images of one patient are outlined and measured."""

    outliner: LesionOutliner
    volume: SeriesVolume
    segmentation: Segmentation

    @property
    def box(self) -> Box:
        return self.segmentation.labels.box

    def at(self, image: VirtualImage | None) -> _Outlines:
        """Outline the baseline, or a generated image of the same series."""
        values = self._values(image)
        liver = self.segmentation.labels.tissue != Tissue.BACKGROUND
        mask = self.outliner.outline(values, self.volume.grid, self.volume.modality, liver, self.box)
        tissue = np.where(mask, np.uint8(Tissue.VIABLE), np.uint8(Tissue.LIVER))
        labels = TissueMap(self.box, tissue, _named(mask, self.segmentation.labels.lesion, self.volume.grid))
        numbers = [lesion.number for lesion in self.segmentation.lesions]
        return _Outlines(mask, measure_lesions(labels, self.volume.grid, numbers))

    def _values(self, image: VirtualImage | None) -> Voxels:
        values = self.volume.values()
        if image is not None:
            z = slice(image.box.start[0], image.box.stop[0])
            slope, intercept = (v[z].reshape(-1, 1, 1) for v in (self.volume.slope, self.volume.intercept))
            values[image.box.slices] = image.stored * slope + intercept
        return values


def check_images(
    baseline: Baseline,
    segmentation: Segmentation,
    forecasts: Sequence[tuple[TimePoint, ...]],
    outliner: LesionOutliner | None,
) -> list[tuple[TimePoint, ...]]:
    """Return the time points of each regimen, the best response with an `ImageCheck`.

    Parameters
    ----------
    outliner : LesionOutliner or None
        None where no segmenter is installed that can look; nothing is checked then.
    """
    volume = baseline.primary
    reason = _why_not(segmentation, outliner, volume)
    if outliner is None or reason is not None:
        none = NotAssessed(Reason.IMAGE_NOT_CHECKED, reason or "")
        return [tuple(replace(p, image_check=none) for p in points) for points in forecasts]
    look = _Look(outliner, volume, segmentation)
    first = look.at(None)
    return [tuple(_checked(p, look, first) for p in points) for points in forecasts]


def _why_not(segmentation: Segmentation, outliner: LesionOutliner | None, volume: SeriesVolume) -> str | None:
    if outliner is None:
        return "no segmenter is installed that can look at generated images"
    if not outliner.covers(volume.modality):
        return f"the segmenter {outliner.info.name} does not read {volume.modality}"
    if not segmentation.labels.lesion.any():
        return "there is no lesion to look for"
    return None


def _checked(point: TimePoint, look: _Look, first: _Outlines) -> TimePoint:
    """Check the best response only: an outline takes seconds, and the other months are its neighbours."""
    series = look.volume.series_instance_uid
    image = next((i for i in point.generated.images if i.series_instance_uid == series), None)
    if point.generated.kind is not TimePointKind.BEST_RESPONSE or image is None:
        detail = "only the image of the best response is outlined again"
        return replace(point, image_check=NotAssessed(Reason.IMAGE_NOT_CHECKED, detail))
    drawn = np.isin(point.generated.labels.tissue, _TUMOUR)
    at_baseline = look.segmentation.labels.lesion > 0
    seen = look.at(image)
    smallest = smallest_target_mm(look.volume)
    (category,) = classify_recist11(first.lesions, [seen.lesions], smallest)
    check = ImageCheck(
        dice=_dice(seen.mask, _on_box(drawn, point.generated.labels.box, look.box)),
        baseline_dice=_dice(first.mask, at_baseline),
        tumour_ml=float(np.count_nonzero(seen.mask)) * look.volume.grid.voxel_ml,
        recist11=category,
    )
    return replace(point, image_check=check)


def _dice(a: Mask, b: Mask) -> float:
    """Overlap; where neither has any tumour they agree."""
    return dice(a, b) if a.any() or b.any() else 1.0


def _on_box(mask: Mask, box: Box, wanted: Box) -> Mask:
    """Return a mask of one box of a grid on another box of the grid."""
    out = np.zeros(wanted.shape, dtype=bool)
    low = np.maximum(box.start, wanted.start)
    high = np.minimum(box.stop, wanted.stop)
    if np.all(high > low):
        place = tuple(slice(a, b) for a, b in zip(low - wanted.start, high - wanted.start, strict=True))
        source = tuple(slice(a, b) for a, b in zip(low - box.start, high - box.start, strict=True))
        out[place] = mask[source]
    return out


def _named(mask: Mask, lesion: Labels, grid: Grid) -> Labels:
    """Give each outlined voxel the number of the nearest lesion of the baseline, or the first free one."""
    if not mask.any():
        return np.zeros_like(lesion)
    distance, place = ndimage.distance_transform_edt(
        lesion == 0, sampling=grid.spacing_mm, return_indices=True
    )
    nearest = lesion[tuple(place)]
    free = np.uint8(min(int(lesion.max()) + 1, 255))
    return np.where(mask, np.where(distance <= NEAR_MM, nearest, free), 0).astype(np.uint8)
