"""Tumour slices of a patient, as the residual networks of the published studies take them.

The studies cut axial slices that hold tumour and give each as an image. Ours are axial slices of the
liver-centred crop at its own 2.25 mm, with three channels: arterial phase, portal venous phase, and where
the tumour is. They are not enlarged to the 224 pixels of the studies: that would add no detail.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from inference.models.outcome.crops import PatientCrop
from inference.results import Labels

CHANNELS = 3
_WINDOW = {"CT": (-100.0, 300.0), "MR": (0.0, 2500.0)}
"""HU; in MR a thousand is the liver."""
_ABSENT = 0


def tumour_slices(crop: PatientCrop, modality: str, most: int) -> tuple[Labels, int]:
    """Return slices that hold tumour, and which of them holds most; none, and 0, without tumour.

    Parameters
    ----------
    most : int
        Where more slices hold tumour, so many of them, evenly spaced, and the largest one always.

    Returns
    -------
    array of uint8, (n, 3, y, x)
        Phases from 1 to 255, 0 where nothing was acquired; tumour 0 or 255.
    int
        Place of the slice with the largest tumour.
    """
    area = (crop.lesion > 0).sum(axis=(1, 2))
    inside = np.flatnonzero(area)
    if not len(inside):
        return np.zeros((0, CHANNELS, *crop.lesion.shape[1:]), dtype=np.uint8), 0
    spaced = inside[np.unique(np.linspace(0, len(inside) - 1, most).round().astype(int))]
    largest = int(area.argmax())
    # The spaced slice next to the largest makes room for it.
    spaced[np.abs(spaced - largest).argmin()] = largest
    chosen = np.unique(spaced)
    slices = np.stack([_slice(crop, int(z), modality) for z in chosen])
    return slices, int(np.flatnonzero(chosen == largest)[0])


def _slice(crop: PatientCrop, z: int, modality: str) -> Labels:
    low, high = _WINDOW[modality]
    images = crop.images[:, z]
    scaled = 1.0 + 254.0 * (np.clip(np.nan_to_num(images, nan=low), low, high) - low) / (high - low)
    phases = np.where(np.isfinite(images), np.rint(scaled), _ABSENT)
    tumour = np.where(crop.lesion[z] > 0, 255.0, 0.0)
    return np.concatenate([phases, tumour[None]]).astype(np.uint8)


def as_tensor(slices: Labels) -> Tensor:
    """Return slices as a network takes them, float32 (n, 3, y, x), -1 to 1, 0 where not acquired."""
    values = torch.from_numpy(np.ascontiguousarray(slices)).float()
    phases = (values[:, :-1] - 128.0) / 127.0 * (values[:, :-1] > _ABSENT)
    return torch.cat([phases, values[:, -1:] / 255.0], dim=1)
