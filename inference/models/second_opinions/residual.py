"""Residual networks on slices: ResNet50, ResNet101, and small ones of the same kind.

The studies began with weights that were learned from photographs (ImageNet). Those are not ours to ship,
and nothing is fetched over the network: these networks learn from the patients alone.
"""

from __future__ import annotations

from enum import StrEnum

from monai.networks.nets.resnet import ResNet
from pydantic import Field
from torch import Tensor, nn

from inference.models.second_opinions.slice_inputs import CHANNELS
from inference.settings import Frozen

_STAGE_WIDTHS = (1, 2, 4, 8)
_EXPANSION = 4


class Depth(StrEnum):
    """How many layers a network has."""

    TINY = "tiny"
    RESNET50 = "resnet50"
    RESNET101 = "resnet101"


_BLOCKS: dict[Depth, tuple[int, int, int, int]] = {
    Depth.TINY: (1, 1, 1, 1),
    Depth.RESNET50: (3, 4, 6, 3),
    Depth.RESNET101: (3, 4, 23, 3),
}
"""Bottleneck blocks in each of four stages (He et al. 2016, CVPR)."""


class ResidualSettings(Frozen):
    """Which network, and what it is shown."""

    depth: Depth
    width: int = Field(64, gt=0, description="channels of the first stage; 64 in the published networks")
    stem_stride: int = Field(
        1, ge=1, le=2, description="of the first convolution; 1 keeps maps of 6 x 6 from crops of 96 voxels"
    )
    modality: str = Field("CT", pattern="^(CT|MR)$")
    slices: int = Field(8, gt=0, description="most slices of a patient")

    @property
    def features(self) -> int:
        """Length of the features of a slice: 2048 at full width."""
        return self.width * _STAGE_WIDTHS[-1] * _EXPANSION


class SliceNetwork(nn.Module):
    """A residual network without its last layer."""

    def __init__(self, settings: ResidualSettings) -> None:
        super().__init__()
        self.settings = settings
        self.residual = ResNet(
            block="bottleneck",
            layers=list(_BLOCKS[settings.depth]),
            block_inplanes=[settings.width * n for n in _STAGE_WIDTHS],
            spatial_dims=2,
            n_input_channels=CHANNELS,
            conv1_t_stride=settings.stem_stride,
            feed_forward=False,
            bias_downsample=False,
        )

    def maps(self, slices: Tensor) -> Tensor:
        """Return the maps of the last stage, (n, features, y, x), of slices (n, 3, y, x)."""
        net = self.residual
        x = net.maxpool(net.act(net.bn1(net.conv1(slices))))
        found: Tensor = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        return found

    def forward(self, slices: Tensor) -> Tensor:
        """Return the features of slices, (n, features): the mean of each map."""
        return self.maps(slices).mean(dim=(2, 3))
