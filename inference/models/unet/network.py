"""A small residual 3D U-Net whose deep levels stay in single precision.

Convolutions in bfloat16 gave gradients that are not finite on grids of a few voxels; the deep levels
cost little, so they are computed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_HALF_PRECISION_LEVELS = 2


class _Block(nn.Module):
    """Two convolutions with a residual connection; the first may halve the resolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.InstanceNorm3d(outputs, affine=True)
        self.second = nn.Conv3d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.InstanceNorm3d(outputs, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.leaky_relu(self.first_norm(self.first(x)), 0.01)
        return functional.leaky_relu(y + self.second_norm(self.second(y)), 0.01)


class _Stem(nn.Module):
    """One convolution at full resolution, where each costs most."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(inputs, outputs, 3, 1, 1, bias=False)
        self.norm = nn.InstanceNorm3d(outputs, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(self.norm(self.convolution(x)), 0.01)


class UNet(nn.Module):
    """Map (batch, inputs, z, y, x) to class scores (batch, classes, z, y, x).

    Each extent must be a multiple of ``2 ** (len(widths) - 1)``; see `padded`.
    """

    def __init__(self, inputs: int, classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList([_Stem(inputs, widths[0])])
        for narrow, wide in zip(widths[:-1], widths[1:], strict=True):
            self.encoders.append(_Block(narrow, wide, 2))
        self.reduce = nn.ModuleList()
        self.decoders = nn.ModuleList()
        for level in range(len(widths) - 2, -1, -1):
            self.reduce.append(nn.Conv3d(widths[level + 1], widths[level], 1))
            self.decoders.append(_Stem(2 * widths[level], widths[level]))
        self.head = nn.Conv3d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores."""
        skips: list[Tensor] = []
        for level, encoder in enumerate(self.encoders):
            if level > _HALF_PRECISION_LEVELS:
                with torch.autocast(x.device.type, enabled=False):
                    x = encoder(x.float())
            else:
                x = encoder(x)
            skips.append(x)
        x = skips.pop()
        for reduce, decoder in zip(self.reduce, self.decoders, strict=True):
            skip = skips.pop()
            if len(skips) > _HALF_PRECISION_LEVELS:
                with torch.autocast(x.device.type, enabled=False):
                    x = self._joined(reduce, decoder, x.float(), skip.float())
            else:
                x = self._joined(reduce, decoder, x, skip)
        scores: Tensor = self.head(x)
        return scores

    @staticmethod
    def _joined(reduce: nn.Module, decoder: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
        up = functional.interpolate(reduce(x), size=skip.shape[2:], mode="nearest")
        joined: Tensor = decoder(torch.cat([up, skip.to(up.dtype)], dim=1))
        return joined


def padded(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last planes of (batch, channel, z, y, x) until each extent is a multiple."""
    missing = [(-n) % multiple for n in x.shape[2:]]
    if not any(missing):
        return x
    return functional.pad(x, (0, missing[2], 0, missing[1], 0, missing[0]), mode="replicate")
