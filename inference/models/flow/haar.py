"""One level of the 3D Haar transform: half the resolution, eight times the channels, nothing lost."""

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
    """Map (batch, c, z, y, x) to (batch, 8 c, z/2, y/2, x/2); the bands of a channel lie together."""
    b, c, z, y, w = x.shape
    corners = x.reshape(b, c, z // 2, 2, y // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    flat = corners.reshape(b, c, 8, -1)
    bands = torch.matmul(_SIGNS.to(x), flat)
    return bands.reshape(b, 8 * c, z // 2, y // 2, w // 2)


def inverse_haar(bands: Tensor) -> Tensor:
    """Undo `haar`."""
    b, channels, z, y, w = bands.shape
    c = channels // 8
    flat = torch.matmul(_SIGNS.to(bands), bands.reshape(b, c, 8, -1))
    corners = flat.reshape(b, c, 2, 2, 2, z, y, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return corners.reshape(b, c, 2 * z, 2 * y, 2 * w)
