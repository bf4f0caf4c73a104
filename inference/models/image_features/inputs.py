"""What the image encoder sees: phases and maps of a crop at half its resolution, in eight bits.

Eight bits are what a training keeps in memory, and a step of 2.6 HU is below the noise of a voxel of
4.5 mm; studies that arrive are rounded alike.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from inference.models.outcome.crops import PatientCrop
from inference.results import Labels, Voxels

CHANNELS = ("arterial", "portal_venous", "liver", "viable", "necrosis", "lipiodol")
"""Channels of `encoder_input`."""
IMAGES = 2
POOL = 2
INPUT_CHANNELS = len(CHANNELS) + IMAGES
"""Channels of `as_tensor`: whether each phase was acquired comes last."""
ABSENT = 0

_RANGE = {"CT": (-160.0, 500.0), "MR": (0.0, 4000.0)}
"""HU; in MR a thousand is the liver."""
_CENTRE = {"CT": 80.0, "MR": 1000.0}
_SCALE = {"CT": 80.0, "MR": 500.0}


def encoder_input(crop: PatientCrop, modality: str) -> Labels:
    """Return the input of the encoder, uint8, (6, z, y, x) at 4.5 mm.

    Phases are clipped and lie at 1 to 255, 0 where nothing was acquired; maps are shares, 0 to 255.
    """
    low, high = _RANGE[modality]
    images = np.stack([_pooled(image) for image in crop.images])
    scaled = 1.0 + 254.0 * (np.clip(images, low, high) - low) / (high - low)
    stored = np.where(np.isfinite(images), np.rint(np.nan_to_num(scaled)), ABSENT)
    maps = np.stack([_pooled(m) for m in (crop.liver, *crop.fractions)])
    shares = np.rint(255.0 * np.clip(maps, 0.0, 1.0))
    return np.concatenate([stored, shares]).astype(np.uint8)


def _pooled(values: Voxels) -> Voxels:
    """Return means of blocks of two voxels a side; NaN where none of them has a value."""
    z, y, x = (n - n % POOL for n in values.shape)
    blocks = values[:z, :y, :x].reshape(z // POOL, POOL, y // POOL, POOL, x // POOL, POOL)
    known = np.isfinite(blocks)
    count = known.sum(axis=(1, 3, 5))
    total = np.where(known, blocks, 0.0).sum(axis=(1, 3, 5), dtype=np.float32)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def as_tensor(stored: Labels, modality: str) -> Tensor:
    """Return inputs as the network takes them.

    Parameters
    ----------
    stored : array of uint8, (n, 6, z, y, x)

    Returns
    -------
    Tensor of float32, (n, 8, z, y, x)
        Phases in units of a usual contrast from the liver's level, 0 where nothing was acquired; maps;
        and for each phase 1 where it was acquired.
    """
    low, high = _RANGE[modality]
    values = torch.from_numpy(np.ascontiguousarray(stored)).float()
    seen = (values[:, :IMAGES] > ABSENT).float()
    level = low + (values[:, :IMAGES] - 1.0) / 254.0 * (high - low)
    images = (level - _CENTRE[modality]) / _SCALE[modality] * seen
    return torch.cat([images, values[:, IMAGES:] / 255.0, seen], dim=1)
