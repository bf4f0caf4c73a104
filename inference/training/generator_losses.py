"""How the networks of a generator are fitted: settings, losses, and the figure of a validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from inference.models.flow.conditions import without_condition
from inference.models.flow.network import MULTIPLE, ChangeNetwork, Drawn, image_change
from inference.models.flow.sampler import Draw, SamplerSettings, precision, state_of
from inference.settings import Frozen
from inference.training.generator_data import Batch, Examples, View, batch_of, conditions_of
from inference.training.outcome import OutcomeTraining

Window = Annotated[int, Field(gt=0, multiple_of=MULTIPLE)]
"""Voxels a side of what a step of training sees."""

_LEVELS = (1.0, 0.9, 0.75, 0.5)
"""Noise levels of a validation: those through which four steps of a sampler go."""


class GeneratorTraining(Frozen):
    """How a generator is trained. The defaults take about 45 minutes of one core for 1,500 patients."""

    name: str = Field("generator", pattern=r"^[a-z][a-z0-9_]{1,40}$")
    version: str = "1"
    regression_steps: int = Field(
        800, ge=0, description="0 keeps the network of the bundle that is gone on from"
    )
    flow_steps: int = Field(1800, ge=0, description="likewise")
    learning_rate: float = Field(1.5e-3, gt=0)
    widths: tuple[int, ...] = (32, 64, 96, 128)
    batch: int = Field(2, gt=0, description="follow-ups of one patient in a step")
    windows: tuple[Window, ...] = Field(
        (32, 48, 48, 64), min_length=1, description="most voxels a side that a step sees, drawn by lot"
    )
    condition_dropout: float = Field(0.1, ge=0, lt=1)
    tissue_weight: float = Field(4.0, description="cross-entropy in and around lesions over that elsewhere")
    change_weight: float = 1.0
    deep_weight: float = Field(0.05, ge=0, description="of the deep-feature difference, in flow training")
    deep_every: int = Field(4, gt=0, description="steps between two that have the deep-feature loss")
    validate_every: int = Field(400, gt=0)
    validation_follow_ups: int = Field(10, ge=0)
    patience: int = Field(4, gt=0, description="validations without a better figure before stopping early")
    sampler: SamplerSettings = SamplerSettings()
    outcome: OutcomeTraining = OutcomeTraining()
    seed: int = Field(0, ge=0)

    def steps(self, draw: Draw) -> int:
        """Return how many steps a network is trained for."""
        return self.regression_steps if draw is Draw.REGRESSION else self.flow_steps


# ------------------------------------------------------------------ losses


def tissue_loss(drawn: Drawn, batch: Batch, lesion_weight: float) -> Tensor:
    """Cross-entropy of the fractions, heavier where there was or is tumour."""
    whole = torch.cat([1.0 - batch.fractions.sum(dim=1, keepdim=True), batch.fractions], dim=1).clamp_min(0.0)
    loss = -(whole * functional.log_softmax(drawn.logits, dim=1)).sum(dim=1, keepdim=True)
    tumour = (batch.fractions.sum(dim=1, keepdim=True) + batch.fields[:, 3:6].sum(dim=1, keepdim=True)) > 0.02
    weight = batch.weight * (1.0 + lesion_weight * tumour.float())
    return (loss * weight).sum() / weight.sum().clamp_min(1.0)


def change_loss(drawn: Drawn, batch: Batch) -> Tensor:
    """Squared and absolute difference of the change of the images that were acquired."""
    change = image_change(drawn.fractions, batch.fields[:, 3:6], drawn.levels)
    acquired = batch.conditions[:, _ACQUIRED, None, None, None]
    error = (change - batch.change) * batch.weight * acquired
    tumour = (batch.fractions.sum(dim=1, keepdim=True) + batch.fields[:, 3:6].sum(dim=1, keepdim=True)) > 0.02
    weight = (batch.weight * (0.05 + tumour.float())).expand_as(error)
    figure = error.square() + 0.3 * error.abs()
    return (figure * weight).sum() / (weight * acquired).sum().clamp_min(1.0)


_ACQUIRED = slice(7 + 2 + 4 + 1, 7 + 2 + 4 + 3)


class DeepFeatures(nn.Module):
    """Features of an image and its tissues by the frozen first levels of the regression network."""

    def __init__(self, network: ChangeNetwork) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()

    def forward(self, batch: Batch, fractions: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
        """Return features at two scales of the baseline with a change."""
        fields = torch.cat([batch.fields[:, :2] + change, batch.fields[:, 2:3], fractions], dim=1)
        net = self.network
        embedding = net.embedding(torch.zeros_like(batch.conditions), fields.new_ones(len(fields)))
        context = net.encode(fields, torch.zeros_like(batch.requests), embedding)
        first = net.encoders[0](context.features, embedding)
        second = net.encoders[1](net.down[0](first), embedding)
        return first, second

    def difference(self, drawn: Drawn, batch: Batch) -> Tensor:
        """Return the mean difference of the features of the drawn and of the true follow-up."""
        made = image_change(drawn.fractions, batch.fields[:, 3:6], drawn.levels)
        with torch.no_grad():
            truth = self(batch, batch.fractions, batch.change)
        total = made.new_zeros(())
        for a, b in zip(self(batch, drawn.fractions, made), truth, strict=True):
            scale = b.float().std().clamp_min(1e-3)
            total = total + (a.float() - b.float()).abs().mean() / scale
        return total


def _drawn_batch(
    examples: Examples, settings: GeneratorTraining, rng: np.random.Generator, device: torch.device
) -> Batch:
    """Return follow-ups of one patient; now and then without what was requested and who it is."""
    example, targets = examples.drawn(rng, settings.batch)
    conditions = [conditions_of(example, target) for target in targets]
    dropped = rng.uniform(size=len(targets)) < settings.condition_dropout
    told = [without_condition(c) if d else c for c, d in zip(conditions, dropped, strict=True)]
    batch = batch_of(
        example, targets, told, View.drawn(example, rng, int(rng.choice(settings.windows))), device
    )
    batch.requests[torch.from_numpy(dropped)] = 0.0
    return batch


def regression_loss(
    examples: Examples, settings: GeneratorTraining
) -> Callable[[nn.Module, np.random.Generator], Tensor]:
    """Return the loss of the one-step network."""

    def loss(model: nn.Module, rng: np.random.Generator) -> Tensor:
        device = next(model.parameters()).device
        batch = _drawn_batch(examples, settings, rng, device)
        with precision(device):
            drawn = model(batch.fields, batch.requests, batch.conditions, None, _certain(batch))
        return tissue_loss(drawn, batch, settings.tissue_weight) + settings.change_weight * change_loss(
            drawn, batch
        )

    return loss


def _certain(batch: Batch) -> Tensor:
    """Return the noise level of one-step regression, (batch,)."""
    return torch.ones(len(batch.fields), device=batch.fields.device)


def noise_level(rng: np.random.Generator, shift: float) -> float:
    """Return a random noise level of 0 to 1; a shift above 1 makes high ones more frequent (Esser 2024)."""
    u = float(rng.uniform(0.02, 1.0))
    return shift * u / (1.0 + (shift - 1.0) * u)


def flow_loss(
    examples: Examples, settings: GeneratorTraining, deep: DeepFeatures | None
) -> Callable[[nn.Module, np.random.Generator], Tensor]:
    """Return the loss of flow matching, with the clean change as the prediction."""

    def loss(model: nn.Module, rng: np.random.Generator) -> Tensor:
        device = next(model.parameters()).device
        batch = _drawn_batch(examples, settings, rng, device)
        levels = [noise_level(rng, settings.sampler.shift) for _ in range(len(batch.fields))]
        clean = _clean(batch)
        drawn = _denoised(model, batch, clean, torch.randn_like(clean), torch.tensor(levels, device=device))
        total = tissue_loss(drawn, batch, settings.tissue_weight)
        total = total + settings.change_weight * change_loss(drawn, batch)
        if deep is not None and rng.integers(settings.deep_every) == 0:
            with precision(device):
                total = total + settings.deep_weight * settings.deep_every * deep.difference(drawn, batch)
        return total

    return loss


def _clean(batch: Batch) -> Tensor:
    """Return the state of the true follow-up, without noise."""
    return state_of(
        batch.fractions * batch.weight, batch.fields[:, 3:6] * batch.weight, batch.change * batch.weight
    )


def _denoised(model: nn.Module, batch: Batch, clean: Tensor, noise: Tensor, level: Tensor) -> Drawn:
    """Return what the network makes of the follow-up under noise of a level, (batch,)."""
    sigma = level[:, None, None, None, None]
    state = (1.0 - sigma) * clean + sigma * noise
    with precision(batch.fields.device):
        drawn: Drawn = model(batch.fields, batch.requests, batch.conditions, state, level)
    return drawn


# ------------------------------------------------------------------ validation


def validation(
    examples: Examples, settings: GeneratorTraining, draw: Draw
) -> Callable[[nn.Module], float] | None:
    """Return the loss of a network on fixed follow-ups: in one step, or under fixed noise.

    A sample is not compared with the truth: it differs more from it than the mean does, so that the
    network would be kept that draws the mean.
    """
    rng = np.random.default_rng(settings.seed + 11)
    chosen = [
        (i, j)
        for i in range(len(examples))
        if (e := examples.get(i)) is not None
        for j in range(len(e.targets))
    ]
    if not chosen or settings.validation_follow_ups == 0:
        return None
    order = rng.permutation(len(chosen))[: settings.validation_follow_ups]
    fixed = [chosen[i] for i in order.tolist()]

    def figure(model: nn.Module) -> float:
        assert isinstance(model, ChangeNetwork)
        device = next(model.parameters()).device
        total = 0.0
        for number, (i, j) in enumerate(fixed):
            example = examples.get(i)
            assert example is not None  # chosen above
            target = example.targets[j]
            batch = batch_of(example, [target], [conditions_of(example, target)], View.whole(example), device)
            total += _figure(model, batch, draw, settings, number)
        return total / len(fixed)

    return figure


def _figure(
    model: ChangeNetwork, batch: Batch, draw: Draw, settings: GeneratorTraining, number: int
) -> float:
    if draw is Draw.REGRESSION:
        with precision(batch.fields.device):
            drawn = [model(batch.fields, batch.requests, batch.conditions, None, _certain(batch))]
    else:
        clean = _clean(batch)
        generator = torch.Generator().manual_seed(settings.seed + number)
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        drawn = [_denoised(model, batch, clean, noise, level * _certain(batch)) for level in _LEVELS]
    plain = [Drawn(d.logits.float(), d.levels.float()) for d in drawn]
    losses = [tissue_loss(d, batch, settings.tissue_weight) + change_loss(d, batch) for d in plain]
    return float(torch.stack(losses).mean())
