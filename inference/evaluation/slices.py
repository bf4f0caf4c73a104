"""The 2D slices that FID and KID, and readers, look at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from inference.results import Labels
from inference.training.cohort import NO_VALUE

WINDOWS = {"CT": (-90.0, 260.0), "MR": (0.0, 2500.0)}
"""Values shown as black and as white: an abdominal window of CT, and stored MR units."""

SPREAD = 4
"""Slices between those taken of one patient: 9 mm."""


def shown_slices(lesion: Labels, count: int = 3) -> tuple[int, ...]:
    """Return slices through the largest cross-section of the lesions and evenly about it.

    Chosen from the baseline, so that real and virtual follow-ups are seen at the same place.
    """
    area = (lesion > 0).sum(axis=(1, 2))
    middle = int(np.argmax(area)) if area.any() else len(lesion) // 2
    offsets = SPREAD * (np.arange(count) - count // 2)
    return tuple(int(k) for k in np.clip(middle + offsets, 0, len(lesion) - 1))


def windowed(image: npt.NDArray[np.int16], modality: str) -> npt.NDArray[np.float32]:
    """Return values as 0 to 1 in the window of the modality; black where nothing was acquired."""
    low, high = WINDOWS[modality]
    scaled = (image.astype(np.float32) - low) / (high - low)
    return np.where(image == NO_VALUE, 0.0, scaled).clip(0, 1).astype(np.float32)


def added(base: npt.NDArray[np.int16], change: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Return a follow-up as its baseline and a change; what was not acquired stays so."""
    total = (base.astype(np.int32) + change).clip(-32767, 32767)
    return np.where(base == NO_VALUE, NO_VALUE, total).astype(np.int16)
