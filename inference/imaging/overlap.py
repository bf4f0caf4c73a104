"""How well two masks agree: overlap, and distances of their surfaces; each a pure function.

Masks are (z, y, x) with spacing in mm in the same order. A measure that has no value is NaN: Dice of
two empty masks, a surface distance from or to an empty mask.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from inference.results import FloatArray, Mask

Spacing = tuple[float, float, float]

_FACES = ndimage.generate_binary_structure(3, 1)


def dice(predicted: Mask, truth: Mask) -> float:
    """Twice the overlap over the sum of sizes; NaN when both are empty."""
    total = int(predicted.sum()) + int(truth.sum())
    return 2 * int((predicted & truth).sum()) / total if total else float("nan")


def surface(mask: Mask) -> Mask:
    """Return the voxels of a mask that have a neighbour by face outside it; the border is outside."""
    return np.asarray(mask & ~ndimage.binary_erosion(mask, structure=_FACES))


def surface_distances(predicted: Mask, truth: Mask, spacing_mm: Spacing) -> tuple[FloatArray, FloatArray]:
    """Return distances in mm of each surface voxel to the other surface: from predicted, from truth."""
    where = _around(predicted | truth)
    first, second = surface(np.pad(predicted[where], 1)), surface(np.pad(truth[where], 1))
    to_second = ndimage.distance_transform_edt(~second, sampling=spacing_mm)
    to_first = ndimage.distance_transform_edt(~first, sampling=spacing_mm)
    return np.asarray(to_second[first]), np.asarray(to_first[second])


def _around(mask: Mask) -> tuple[slice, ...]:
    found = ndimage.find_objects(mask.astype(np.uint8))
    return found[0] if found else tuple(slice(0, s) for s in mask.shape)


def hausdorff95_mm(predicted: Mask, truth: Mask, spacing_mm: Spacing) -> float:
    """Return the larger of the two 95th percentiles of the surface distances; NaN when one is empty."""
    if not predicted.any() or not truth.any():
        return float("nan")
    there, back = surface_distances(predicted, truth, spacing_mm)
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def mean_surface_distance_mm(predicted: Mask, truth: Mask, spacing_mm: Spacing) -> float:
    """Return the mean over both surfaces of the distance to the other; NaN when one is empty."""
    if not predicted.any() or not truth.any():
        return float("nan")
    both = np.concatenate(surface_distances(predicted, truth, spacing_mm))
    return float(both.mean())
