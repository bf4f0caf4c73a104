"""The slice with the largest tumour in the arterial and portal venous phase, as SELECTION takes it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from inference.models.outcome.crops import PatientCrop
from inference.results import Mask, Voxels

_RANGE = {"CT": (-50.0, 350.0), "MR": (0.0, 2500.0)}
"""HU; in MR a thousand is the liver."""


@dataclass(frozen=True, slots=True)
class TumourSlice:
    """One slice of a patient.

    Attributes
    ----------
    images : array of float32, (2, side, side)
        Arterial and portal venous phase, -1 to 1; 0 where a phase was not acquired.
    acquired : array of bool, (2,)
    """

    images: Voxels
    acquired: Mask


def tumour_slice(crop: PatientCrop, modality: str, side: int) -> TumourSlice | None:
    """Return the slice with the largest area of tumour, or None without tumour.

    The slice is 216 mm a side or more, as the crop: the publication cuts 224 mm around the liver.
    """
    area = (crop.lesion > 0).sum(axis=(1, 2))
    if not area.any():
        return None
    phases = np.ascontiguousarray(crop.images[:, int(area.argmax())])
    acquired = np.asarray(np.isfinite(phases).any(axis=(1, 2)))
    low, high = _RANGE[modality]
    filled = np.clip(np.nan_to_num(phases, nan=low), low, high)
    scaled = torch.from_numpy(2.0 * (filled - low) / (high - low) - 1.0).float()[None]
    sized = nn.functional.interpolate(scaled, size=(side, side), mode="area")[0].numpy()
    return TumourSlice(np.where(acquired[:, None, None], sized, 0.0).astype(np.float32), acquired)
