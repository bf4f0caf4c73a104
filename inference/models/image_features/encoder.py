"""The network behind image vectors: a small residual network over the liver, pooled inside it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from monai.networks.blocks.convolutions import ResidualUnit
from pydantic import Field
from torch import Tensor, nn

from inference.models.image_features.inputs import CHANNELS, INPUT_CHANNELS
from inference.settings import Frozen

_LIVER = CHANNELS.index("liver")


class EncoderSettings(Frozen):
    """``encoder.json`` of a bundle."""

    modality: str = Field(pattern="^(CT|MR)$")
    widths: tuple[int, ...] = Field((16, 32, 64, 128), description="channels; each level halves the grid")
    learned: int = Field(gt=0, description="length of the learned part of a vector")
    projected: int = Field(64, gt=0, description="length of what views of one image are compared by")
    targets: tuple[str, ...] = Field(description="what the training predicts from the learned part")


class ImageEncoder(nn.Module):
    """Gives the learned part of an image vector; heads for the training come with it.

    Takes any grid of at least eight voxels a side. Features are averaged over the liver, and their
    largest values in it are taken as well, so that a small lesion is not averaged away.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.settings = settings
        levels: list[nn.Module] = []
        channels = INPUT_CHANNELS
        for number, width in enumerate(settings.widths):
            levels.append(
                ResidualUnit(
                    spatial_dims=3,
                    in_channels=channels,
                    out_channels=width,
                    strides=2 if number < 3 else 1,
                    kernel_size=3,
                    subunits=2,
                    act="SWISH",
                    norm=("GROUP", {"num_groups": 8}),
                )
            )
            channels = width
        self.levels = nn.Sequential(*levels)
        self.vector = nn.Linear(2 * channels, settings.learned)
        self.targets = nn.Linear(settings.learned, len(settings.targets))
        self.projection = nn.Sequential(
            nn.Linear(settings.learned, settings.learned),
            nn.SiLU(),
            nn.Linear(settings.learned, settings.projected),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the learned part before it is standardised.

        Parameters
        ----------
        inputs : Tensor, (n, 8, z, y, x)
            As `inference.models.image_features.inputs.as_tensor` gives them.

        Returns
        -------
        Tensor, (n, learned)
        """
        found = self.levels(inputs)
        liver = nn.functional.adaptive_avg_pool3d(inputs[:, _LIVER : _LIVER + 1], found.shape[2:])
        mean = (found * liver).sum(dim=(2, 3, 4)) / liver.sum(dim=(2, 3, 4)).clamp_min(1e-3)
        far = torch.where(liver > 0.1, found, torch.full_like(found, -1e4)).amax(dim=(2, 3, 4))
        # Without liver in view there is no largest value.
        largest = torch.where(far > -1e3, far, torch.zeros_like(far))
        vector: Tensor = self.vector(torch.cat([mean, largest], dim=1))
        return vector

    def heads(self, learned: Tensor) -> tuple[Tensor, Tensor]:
        """Return predictions of the targets and the projection of unit length, for the training."""
        projected = nn.functional.normalize(self.projection(learned), dim=1)
        return self.targets(learned), projected

    def weights(self) -> Mapping[str, Tensor]:
        """Return the weights that a bundle keeps."""
        return {name: value.detach().contiguous() for name, value in self.state_dict().items()}
