"""Where viable tumour would be at the two ends of its interval.

The scores of one drawing order the voxels of each lesion: which would be the last to die, and which the
next to be invaded. Taking fewer or more of them in that order shows an interval of volumes in the image.
"""

from __future__ import annotations

import numpy as np
from scipy.special import log_expit

from inference.models.flow.placement import highest
from inference.models.flow.rendering import SHARPNESS, Scores
from inference.models.flow.study import StudyCrop
from inference.models.outcome.crops import VOXEL_ML
from inference.results import (
    FloatArray,
    Mask,
    Segmentation,
    Tissue,
    TissueMap,
    ViableRange,
    Voxels,
)

_LEAST_SCORE = -40.0
_SPARE = 1.3
"""Times the largest volume that is looked at: voxels of the study lie between those of the crop."""


def viable_range(
    segmentation: Segmentation,
    study: StudyCrop,
    scores: Scores,
    labels: TissueMap,
    interval_ml: tuple[float, float],
) -> ViableRange | None:
    """Return the nested extents of viable tumour at the ends of an interval of its volume.

    Parameters
    ----------
    labels : TissueMap
        What was drawn. The smaller extent lies within its viable tumour, the larger one holds it.
    interval_ml : (low, high)
        Of the patient; lesions share it as they share what was drawn, or the baseline where nothing was.

    Returns
    -------
    ViableRange or None
        None where there is no lesion in the liver of the crop.
    """
    order = np.where(scores.number > 0, _order(scores), np.float32(_LEAST_SCORE))
    shares = _shares(labels, segmentation.labels)
    active = _highest_in_crop(
        order, scores, study.crop.liver, {n: s * interval_ml[1] for n, s in shares.items()}
    )
    if not active.any():
        return None
    where = [np.flatnonzero(active.any(axis=tuple({0, 1, 2} - {a}))) for a in range(3)]
    z, y, x = (slice(int(w[0]) - 1, int(w[-1]) + 2) for w in where)
    box = study.primary_box((z, y, x), labels.box)
    if box is None:
        return None
    fine = study.to_primary(order[None], box)[0]
    owner = study.labels_to_primary(scores.number, box)
    inner = box.slices_in(labels.box)
    tissue, lesion = labels.tissue[inner], labels.lesion[inner]
    viable = tissue == Tissue.VIABLE
    least, most = np.zeros(box.shape, bool), np.zeros(box.shape, bool)
    for n, share in shares.items():
        low, high = (round(share * ml / study.primary.voxel_ml) for ml in interval_ml)
        drawn = viable & (lesion == n)
        around = (tissue > Tissue.BACKGROUND) & (owner == n) & ~viable
        least |= _highest_in(fine, drawn, low)
        most |= drawn | _highest_in(fine, around, high - int(drawn.sum()))
    return ViableRange(box, least, most)


def _order(scores: Scores) -> Voxels:
    """Return the logarithm of the share of viable tumour, which orders voxels as it does."""
    both = log_expit(SHARPNESS * scores.tumour) + log_expit(SHARPNESS * scores.viable)
    return np.asarray(np.maximum(both, _LEAST_SCORE), dtype=np.float32)


def _shares(drawn: TissueMap, before: TissueMap) -> dict[int, float]:
    """Return each lesion's share of viable tumour, by number; of all tumour where none is viable."""
    for labels, mask in (
        (drawn, drawn.tissue == Tissue.VIABLE),
        (before, before.tissue == Tissue.VIABLE),
        (before, before.lesion > 0),
    ):
        counts = np.bincount(labels.lesion[mask].ravel())
        if counts.sum():
            return {int(n): float(counts[n] / counts.sum()) for n in np.flatnonzero(counts)}
    return {}


def _highest_in_crop(order: Voxels, scores: Scores, liver: Voxels, volumes_ml: dict[int, float]) -> Mask:
    """Return the voxels of the crop that hold the largest extents."""
    active = np.zeros(order.shape, bool)
    for n, volume in volumes_ml.items():
        places = np.flatnonzero(scores.number == n)
        places = places[np.argsort(-order.ravel()[places], kind="stable")]
        reached: FloatArray = np.cumsum(liver.ravel()[places], dtype=np.float64) * VOXEL_ML
        active.ravel()[places[: int(np.searchsorted(reached, _SPARE * volume)) + 1]] = True
    return active


def _highest_in(score: Voxels, region: Mask, count: int) -> Mask:
    """Return the `count` voxels of a region with the highest scores."""
    chosen = np.zeros(region.shape, bool)
    places = np.flatnonzero(region)
    chosen.ravel()[places[highest(score.ravel()[places], count)]] = True
    return chosen
