"""Between two resolutions: one level of the 3D Haar transform, and doubling by linear interpolation."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

_SIGNS = torch.tensor(
    [
        [
            (-1.0) ** sum(a * b for a, b in zip(band, corner, strict=True))
            for corner in itertools.product((0, 1), repeat=3)
        ]
        for band in itertools.product((0, 1), repeat=3)
    ]
) / math.sqrt(8.0)
"""Orthonormal, symmetric: bands by corners, the mean first."""


def haar(x: Tensor) -> Tensor:
    """Map (batch, c, z, y, x) to (batch, 8 c, z/2, y/2, x/2); the bands of a channel lie together.

    Half the resolution, eight times the channels, nothing lost.
    """
    b, c, z, y, w = x.shape
    corners = x.reshape(b, c, z // 2, 2, y // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    bands = _mixed(corners.reshape(b, c, 8, -1))
    return bands.reshape(b, 8 * c, z // 2, y // 2, w // 2)


def inverse_haar(bands: Tensor) -> Tensor:
    """Undo `haar`."""
    b, channels, z, y, w = bands.shape
    c = channels // 8
    flat = _mixed(bands.reshape(b, c, 8, -1))
    corners = flat.reshape(b, c, 2, 2, 2, z, y, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return corners.reshape(b, c, 2 * z, 2 * y, 2 * w)


def _mixed(x: Tensor) -> Tensor:
    # Half precision would lose here what the transform is there to keep.
    with torch.autocast(x.device.type, enabled=False):
        return torch.matmul(_SIGNS.to(x), x)


def doubled(x: Tensor) -> Tensor:
    """Interpolate (batch, c, z, y, x) linearly to twice the extents.

    What torch calls trilinear without aligned corners, as three products with small matrices: several
    times as fast on a processor.
    """
    b, c, z, y, w = x.shape
    with torch.autocast(x.device.type, enabled=False):
        along_x = torch.matmul(x.reshape(b, c, z, y, w), _weights(w, x).T)
        along_y = torch.matmul(_weights(y, x), along_x)
        along_z = torch.matmul(_weights(z, x), along_y.reshape(b, c, z, 4 * y * w))
    return along_z.reshape(b, c, 2 * z, 2 * y, 2 * w)


def _weights(extent: int, like: Tensor) -> Tensor:
    """Return the weights of the voxels in each interpolated one, (2 extent, extent)."""
    place = ((torch.arange(2 * extent, device=like.device) + 0.5) / 2.0 - 0.5).clamp(0.0, extent - 1.0)
    distance = place[:, None] - torch.arange(extent, device=like.device)
    return (1.0 - distance.abs()).clamp_min(0.0).to(like)
