"""The networks that tell an outcome from a slice and clinical values: SELECTION, and what it is held against.

All are small and start from nothing: weights of networks that were trained on photographs are not ours to
ship. Every network gives the log odds of the outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import torch
from monai.networks.nets.resnet import ResNet
from pydantic import Field, model_validator
from torch import Tensor, nn

from inference.models.second_opinions.attention import BidirectionalBlock, JointBlock, rollout
from inference.settings import Frozen

PHASES = 2


class Architecture(StrEnum):
    """Which network; also the format of its bundle."""

    SELECTION = "selection"
    VIT = "vit"
    RESNET_LOGISTIC = "resnet_logistic"
    CLINICAL_LOGISTIC = "clinical_logistic"


class NetworkSettings(Frozen):
    """Size of a network."""

    architecture: Architecture = Architecture.SELECTION
    side: int = Field(96, gt=0, description="pixels of a slice, along each side")
    patch: int = Field(12, gt=0, description="pixels of a patch, along each side")
    width: int = Field(
        48, gt=0, description="length of a token; channels of the first layer of a ResNet, times 4"
    )
    heads: int = Field(4, gt=0)
    bidirectional: int = Field(2, ge=0, description="blocks of bidirectional multimodal attention")
    joint: int = Field(2, gt=0, description="blocks of self-attention")
    dropout: float = Field(0.1, ge=0, lt=1)
    variables: int = Field(20, gt=0, description="clinical variables")

    @model_validator(mode="after")
    def _check(self) -> NetworkSettings:
        if self.side % self.patch or self.width % self.heads:
            raise ValueError("side must be a multiple of patch, and width of heads")
        return self

    @property
    def grid(self) -> int:
        """Patches along each side."""
        return self.side // self.patch


@dataclass(frozen=True, slots=True)
class Inputs:
    """What networks are given of n patients.

    Attributes
    ----------
    images : Tensor, (n, 2, side, side)
    acquired : Tensor of bool, (n, 2)
    clinical : Tensor, (n, variables)
        Standardised, 0 where missing.
    known : Tensor of bool, (n, variables)
    """

    images: Tensor
    acquired: Tensor
    clinical: Tensor
    known: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def of(self, rows: Tensor) -> Inputs:
        """Return some patients."""
        return Inputs(self.images[rows], self.acquired[rows], self.clinical[rows], self.known[rows])

    def to(self, device: torch.device) -> Inputs:
        """Return the same on a device."""
        parts = (self.images, self.acquired, self.clinical, self.known)
        return Inputs(*(part.to(device) for part in parts))


class CohortNetwork(nn.Module):
    """What all networks have in common: `forward` takes `Inputs` and gives log odds, (n,)."""

    settings: NetworkSettings

    def relevance(self, inputs: Inputs) -> tuple[Tensor, Tensor] | None:
        """Return how much of patches and of clinical variables reached the answer, or None without attention.

        Returns
        -------
        Tensor, (n, 2, grid, grid), and Tensor, (n, variables)
        """
        return None


class _PatchTokens(nn.Module):
    """Class token and patches of both phases as tokens."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        width, count = settings.width, settings.grid**2
        self.project = nn.Conv2d(1, width, settings.patch, settings.patch)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.place = nn.Parameter(0.02 * torch.randn(1, 1, count, width))
        self.phase = nn.Parameter(0.02 * torch.randn(1, PHASES, 1, width))
        self.count = count

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Return tokens (n, 1 + 2 * patches, width) and which of them are usable."""
        n, _phases, side, _ = inputs.images.shape
        patches = self.project(inputs.images.reshape(n * PHASES, 1, side, side))
        tokens = patches.flatten(2).transpose(1, 2).reshape(n, PHASES, self.count, -1)
        tokens = (tokens + self.place + self.phase).flatten(1, 2)
        first = self.first.expand(n, -1, -1)
        always = torch.ones(n, 1, dtype=torch.bool, device=tokens.device)
        usable = torch.cat([always, inputs.acquired.repeat_interleave(self.count, dim=1)], dim=1)
        return torch.cat([first, tokens], dim=1), usable


class _ClinicalTokens(nn.Module):
    """One token for each variable; a missing value has a token of its own."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        shape = (1, settings.variables, settings.width)
        self.name = nn.Parameter(0.02 * torch.randn(shape))
        self.slope = nn.Parameter(0.1 * torch.randn(shape))
        self.missing = nn.Parameter(0.02 * torch.randn(shape))

    def forward(self, inputs: Inputs) -> Tensor:
        """Return tokens, (n, variables, width)."""
        value = inputs.clinical[:, :, None] * self.slope
        return self.name + torch.where(inputs.known[:, :, None], value, self.missing)


class SelectionNetwork(CohortNetwork):
    """Bidirectional multimodal attention of images and clinical values, then self-attention of all tokens."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        sizes = (settings.width, settings.heads, settings.dropout)
        self.image_tokens, self.clinical_tokens = _PatchTokens(settings), _ClinicalTokens(settings)
        self.bidirectional = nn.ModuleList(BidirectionalBlock(*sizes) for _ in range(settings.bidirectional))
        self.joint = nn.ModuleList(JointBlock(*sizes) for _ in range(settings.joint))
        self.answer = nn.Sequential(nn.LayerNorm(settings.width), nn.Linear(settings.width, 1))

    def forward(self, inputs: Inputs) -> Tensor:
        """Return the log odds, (n,)."""
        return self._run(inputs)[0]

    def relevance(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Return the rollout of attention, as `CohortNetwork.relevance`."""
        reached = rollout(self._run(inputs)[1])[:, 0]
        return _split(reached, self.settings)

    def _run(self, inputs: Inputs) -> tuple[Tensor, list[Tensor]]:
        image, seen = self.image_tokens(inputs)
        clinical = self.clinical_tokens(inputs)
        told = torch.ones(clinical.shape[:2], dtype=torch.bool, device=clinical.device)
        usable, layers = torch.cat([seen, told], dim=1), []
        for block in self.bidirectional:
            image, clinical, weights = block(image, clinical, usable)
            layers.append(weights)
        tokens = torch.cat([image, clinical], dim=1)
        for block in self.joint:
            tokens, weights = block(tokens, usable)
            layers.append(weights)
        return self.answer(tokens[:, 0])[:, 0], layers


class VitNetwork(CohortNetwork):
    """Vision transformer: the images alone."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        self.image_tokens = _PatchTokens(settings)
        self.joint = nn.ModuleList(
            JointBlock(settings.width, settings.heads, settings.dropout)
            for _ in range(settings.bidirectional + settings.joint)
        )
        self.answer = nn.Sequential(nn.LayerNorm(settings.width), nn.Linear(settings.width, 1))

    def forward(self, inputs: Inputs) -> Tensor:
        """Return the log odds, (n,)."""
        return self._run(inputs)[0]

    def relevance(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Return the rollout of attention, as `CohortNetwork.relevance`; clinical values have none."""
        reached = rollout(self._run(inputs)[1])[:, 0]
        return _split(torch.cat([reached, torch.zeros_like(inputs.clinical)], dim=1), self.settings)

    def _run(self, inputs: Inputs) -> tuple[Tensor, list[Tensor]]:
        tokens, usable = self.image_tokens(inputs)
        layers = []
        for block in self.joint:
            tokens, weights = block(tokens, usable)
            layers.append(weights)
        return self.answer(tokens[:, 0])[:, 0], layers


class ResnetLogistic(CohortNetwork):
    """Residual network of the images; its features and the clinical values go into a logistic regression.

    The residual network is trained on the outcome with a line of its own (`images_alone`); `regression` is
    fitted afterwards, on features and clinical values in standard units.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        planes = [settings.width // 4 * k for k in (1, 2, 4, 8)]
        self.images = ResNet(
            "basic",
            [1, 1, 1, 1],
            planes,
            spatial_dims=2,
            n_input_channels=PHASES,
            conv1_t_stride=2,
            feed_forward=False,
            norm=("group", {"num_groups": settings.heads}),
        )
        self.images_alone = nn.Linear(planes[-1], 1)
        self.regression = nn.Linear(planes[-1] + settings.variables, 1)
        self.register_buffer("mean", torch.zeros(planes[-1]))
        self.register_buffer("sd", torch.ones(planes[-1]))

    def features(self, inputs: Inputs) -> Tensor:
        """Return the features of the images, (n, features)."""
        return cast("Tensor", self.images(inputs.images))

    def covariates(self, inputs: Inputs) -> Tensor:
        """Return what the regression is given, (n, features + variables)."""
        scaled = ((self.features(inputs) - self.mean) / self.sd).clamp(-5.0, 5.0)
        return torch.cat([scaled, inputs.clinical], dim=1)

    def forward(self, inputs: Inputs) -> Tensor:
        """Return the log odds, (n,)."""
        return cast("Tensor", self.regression(self.covariates(inputs))[:, 0])


class ClinicalLogistic(CohortNetwork):
    """Logistic regression of the clinical values; a missing value counts as the mean."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        self.regression = nn.Linear(settings.variables, 1)

    def covariates(self, inputs: Inputs) -> Tensor:
        """Return what the regression is given, (n, variables)."""
        return inputs.clinical

    def forward(self, inputs: Inputs) -> Tensor:
        """Return the log odds, (n,)."""
        return cast("Tensor", self.regression(self.covariates(inputs))[:, 0])


def _split(reached: Tensor, settings: NetworkSettings) -> tuple[Tensor, Tensor]:
    """Return what reached the answer from patches and from clinical variables."""
    count = PHASES * settings.grid**2
    patches = reached[:, 1 : 1 + count].reshape(-1, PHASES, settings.grid, settings.grid)
    return patches, reached[:, 1 + count :]


_NETWORKS: Mapping[Architecture, Callable[[NetworkSettings], CohortNetwork]] = {
    Architecture.SELECTION: SelectionNetwork,
    Architecture.VIT: VitNetwork,
    Architecture.RESNET_LOGISTIC: ResnetLogistic,
    Architecture.CLINICAL_LOGISTIC: ClinicalLogistic,
}


def network_of(settings: NetworkSettings) -> CohortNetwork:
    """Return a new network."""
    return _NETWORKS[settings.architecture](settings)
