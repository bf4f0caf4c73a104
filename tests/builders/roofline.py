"""What the processor itself can do: the rate of its best 3D convolutions, and the operations of a network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from inference.models.flow.sampler import precision

SHAPES = ((32, 48, 48, 48), (64, 24, 24, 24), (64, 32, 32, 32))
"""Channels and extents of convolutions whose best rate is taken as the processor's."""


def best_rate() -> float:
    """Return the best rate of 3D convolutions in operations a second, at the precision that is served."""
    return max(_rate(*shape) for shape in SHAPES)


def _rate(channels: int, *extents: int) -> float:
    layer = nn.Conv3d(channels, channels, 3, padding=1).requires_grad_(False)
    layer = layer.to(memory_format=torch.channels_last_3d)
    x = torch.randn((2, channels, *extents)).contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode(), precision(torch.device("cpu")):
        seconds = min(_timed(lambda: layer(x)) for _ in range(6))
    return operations(layer, layer(x)) / seconds


def _timed(work: Callable[[], object]) -> float:
    """Return seconds of processor time, which other programs on the machine do not lengthen."""
    started = time.process_time()
    work()
    return time.process_time() - started


def operations(layer: nn.Conv3d, answer: Tensor) -> float:
    """Return multiplications and additions of a convolution."""
    return 2.0 * layer.weight.numel() * answer.numel() / answer.shape[1]


@contextmanager
def counted(*networks: nn.Module) -> Iterator[list[float]]:
    """Count the operations of all convolutions of networks."""
    found: list[float] = []
    hooks = [
        m.register_forward_hook(lambda layer, _, answer: found.append(operations(layer, answer)))
        for network in networks
        for m in network.modules()
        if isinstance(m, nn.Conv3d)
    ]
    yield found
    for hook in hooks:
        hook.remove()
