"""Layers of the network, in the layout of memory that makes convolutions fast on a processor."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUPS = 8
"""Groups of channels that are normalised together; widths are multiples of it."""


def normalised(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Normalise groups of channels and modulate them, in one pass over the voxels.

    Group normalisation (Wu & He 2018) with a scale and a shift of each channel. The layout of `x` is
    kept: torch's own layer returns channels first, in which convolutions take several times as long.

    Parameters
    ----------
    x : Tensor, (batch, channels, z, y, x)
    scale, shift : Tensor, (batch, channels)
    """
    batch, channels = x.shape[:2]
    place = (batch, channels, 1, 1, 1)
    means, variances = (m.reshape(batch, GROUPS, -1) for m in _moments(x.float()))
    middle = means.mean(dim=2, keepdim=True)
    spread = (variances + (means - middle).square()).mean(dim=2, keepdim=True)
    inverse = (spread + 1e-5).rsqrt().expand_as(means).reshape(batch, channels)
    factor = (1.0 + scale.float()) * inverse
    offset = shift.float() - middle.expand_as(means).reshape(batch, channels) * factor
    return torch.addcmul(offset.reshape(place).to(x.dtype), x, factor.reshape(place).to(x.dtype))


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each channel, (batch, channels)."""
    if torch.is_grad_enabled() or x.device.type != "cpu":
        # Sums keep to the layout of memory; torch's variance does not, and takes ten times as long.
        mean = x.mean(dim=(2, 3, 4), keepdim=True)
        return mean.flatten(1), (x - mean).square().mean(dim=(2, 3, 4))
    # What batch normalisation computes of one example are its moments, without a copy; no gradients.
    found = [torch.batch_norm_update_stats(one[None], None, None, 0.0) for one in x]
    return torch.stack([mean for mean, _ in found]), torch.stack([variance for _, variance in found])


def activated(x: Tensor) -> Tensor:
    """Return the activation, in place where no gradient needs what was there before."""
    # Gradients need what was there before; without them a copy is a waste.
    return functional.silu(x, inplace=not torch.is_grad_enabled())


class Convolution(nn.Conv3d):
    """A 3D convolution that oneDNN computes whatever its size.

    For one example on a small grid torch chooses a plain loop, which takes two to eight times as long.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution, (batch, channels, z, y, x)."""
        known: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        plain = known and x.device.type == "cpu" and x.dtype is torch.float32
        if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or not plain:
            return super().forward(x)
        assert not isinstance(self.padding, str)  # numbers, wherever this class is used
        return torch.mkldnn_convolution(
            x, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )


class Entry(nn.Conv3d):
    """A convolution of single voxels from a tensor channels first to one with channels innermost.

    As a matrix product it changes the layout at no cost; the convolutions between like channels
    innermost, and the Haar transform channels first.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, width, z, y, x)."""
        weight = self.weight.flatten(1).T
        assert self.bias is not None
        mixed = torch.matmul(x.flatten(2).transpose(1, 2), weight) + self.bias
        return mixed.reshape(len(x), *x.shape[2:], -1).permute(0, 4, 1, 2, 3)


class Exit(nn.Conv3d):
    """The way back: a convolution of single voxels, the result channels first."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, channels, z, y, x)."""
        rows = x.permute(0, 2, 3, 4, 1).reshape(len(x), -1, x.shape[1])
        weight = self.weight.flatten(1).expand(len(x), -1, -1)
        assert self.bias is not None
        mixed = torch.bmm(weight, rows.transpose(1, 2)) + self.bias[:, None]
        return mixed.reshape(len(x), -1, *x.shape[2:])


class Block(nn.Module):
    """Normalise, modulate by the conditions, convolve; twice at most, with a residual connection."""

    def __init__(self, width: int, embedding: int, convolutions: int) -> None:
        super().__init__()
        self.modulations = nn.ModuleList(nn.Linear(embedding, 2 * width) for _ in range(convolutions))
        self.convolutions = nn.ModuleList(
            Convolution(width, width, 3, padding=1) for _ in range(convolutions)
        )
        for linear in self.modulations:
            nn.init.zeros_(linear.weight)  # type: ignore[arg-type]
            nn.init.zeros_(linear.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Return (batch, width, z, y, x)."""
        y = x
        for modulation, convolution in zip(self.modulations, self.convolutions, strict=True):
            scale, shift = modulation(embedding).chunk(2, dim=1)
            y = convolution(activated(normalised(y, scale, shift)))
        return x + y
