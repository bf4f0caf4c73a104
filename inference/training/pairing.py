"""Which lesion of a follow-up is which lesion of the baseline, after registration.

A lesion of the follow-up that reaches into a lesion known before is that lesion; what reaches into none
is new and gets a number above those known. Several parts of one lesion keep its one number; of lesions
that grew together the number of the one that is covered most is kept, as RECIST 1.1 measures what has
coalesced as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.errors import TrainingDataError
from inference.results import Labels

REACH_MM = 6.0
"""Lesions that the registration leaves this far apart may be one and the same."""

SHARE_WITHIN_REACH = 0.5
"""Without touching, this share of the follow-up's lesion must lie within reach of the known one."""

MAXIMUM_LESIONS = 255


@dataclass(frozen=True, slots=True)
class Pairing:
    """Numbers of the follow-up's lesions among those known.

    Attributes
    ----------
    numbers : mapping
        From each lesion of the follow-up to its number; several may have one.
    new : numbers given to new lesions, ascending
    coalesced : known lesions that are now part of another one's
    by_identifier : how many were paired by the tracking identifiers of the segmentations
    """

    numbers: Mapping[int, int]
    new: tuple[int, ...]
    coalesced: tuple[int, ...]
    by_identifier: int


def pair_lesions(
    known: Labels,
    follow_up: Labels,
    spacing_mm: tuple[float, float, float],
    tracked: Mapping[int, int] | None = None,
    highest: int | None = None,
) -> Pairing:
    """Pair the lesions of a follow-up with those known before.

    Parameters
    ----------
    known, follow_up : array of uint8, (z, y, x)
        Lesions on one grid of the baseline.
    tracked : mapping, optional
        Pairs that are certain: both segmentations carry one tracking identifier.
    highest : int, optional
        Highest number given so far; that of `known` when absent.

    Raises
    ------
    TrainingDataError
        There are more lesions than have numbers.
    """
    certain = dict(tracked or {})
    numbers: dict[int, int] = {}
    coalesced: set[int] = set()
    unpaired: list[int] = []
    for number, where in enumerate(ndimage.find_objects(follow_up), start=1):
        if where is None:
            continue
        if number in certain:
            numbers[number] = certain[number]
            continue
        covered = _covered(known, follow_up == number)
        if not covered:
            near = _within_reach(known, follow_up == number, spacing_mm)
            covered = {} if near is None else {near: 1}
        if not covered:
            unpaired.append(number)
            continue
        best = min(covered, key=lambda k: (-covered[k], k))
        numbers[number] = best
        coalesced |= {k for k in covered if k != best}
    first = max(int(known.max()), highest or 0) + 1
    if first + len(unpaired) - 1 > MAXIMUM_LESIONS:
        raise TrainingDataError(f"the patient has more than {MAXIMUM_LESIONS} lesions")
    sizes = np.bincount(follow_up.ravel(), minlength=256)
    unpaired.sort(key=lambda k: (-int(sizes[k]), k))
    new = {number: first + k for k, number in enumerate(unpaired)}
    kept = set(numbers.values())
    return Pairing(
        {**numbers, **new}, tuple(sorted(new.values())), tuple(sorted(coalesced - kept)), len(certain)
    )


def _covered(known: Labels, mask: np.ndarray) -> dict[int, int]:
    counts = np.bincount(known[mask], minlength=256)
    return {int(k): int(counts[k]) for k in np.flatnonzero(counts[1:]) + 1}


def _within_reach(known: Labels, mask: np.ndarray, spacing_mm: tuple[float, float, float]) -> int | None:
    if not known.any():
        return None
    distance, nearest = ndimage.distance_transform_edt(known == 0, sampling=spacing_mm, return_indices=True)
    close = mask & (distance <= REACH_MM)
    if close.sum() < SHARE_WITHIN_REACH * mask.sum():
        return None
    belongs = known[tuple(axis[close] for axis in nearest)]
    return int(np.argmax(np.bincount(belongs, minlength=256)))


def renumbered(lesion: Labels, numbers: Mapping[int, int]) -> Labels:
    """Return lesions under the numbers of a pairing."""
    table = np.zeros(256, dtype=np.uint8)
    for old, new in numbers.items():
        table[old] = new
    return np.asarray(table[lesion], dtype=np.uint8)
