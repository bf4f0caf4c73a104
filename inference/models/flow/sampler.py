"""Draw a follow-up: by flow matching from noise, or in one step by regression.

The network predicts the clean change, from which the velocity follows; the schedule and its steps are
those of diffusers' FlowMatchEulerDiscreteScheduler (Lipman et al. 2023, arXiv:2210.02747; Esser et al.
2024, arXiv:2403.03206 for the shift).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum

import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from pydantic import Field
from torch import Tensor

from inference.models.flow.haar import haar
from inference.models.flow.network import ChangeNetwork, Drawn, bfloat16_is_fast, image_change
from inference.settings import Frozen

FRACTION_SCALE = 2.0
"""A change of fractions is brought to about the size of a change of images."""


class Draw(StrEnum):
    """How images are drawn."""

    FLOW = "flow"
    REGRESSION = "regression"


class SamplerSettings(Frozen):
    """Sampling by flow matching."""

    steps: int = Field(2, gt=0)
    shift: float = Field(3.0, gt=0, description="above 1: more steps where there is much noise")


def precision(device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which networks are computed: bfloat16 where the device is fast at it."""
    if bfloat16_is_fast():
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def state_of(fractions: Tensor, baseline: Tensor, change: Tensor) -> Tensor:
    """Return the state of a change: Haar bands of fractions and images, (batch, 40, z/2, y/2, x/2)."""
    return haar(torch.cat([FRACTION_SCALE * (fractions - baseline), change], dim=1))


def clean_state(drawn: Drawn, fields: Tensor) -> Tensor:
    """Return the state that an answer of the network stands for."""
    baseline = fields[:, 3:6]
    fractions = drawn.fractions
    return state_of(fractions, baseline, image_change(fractions, baseline, drawn.levels))


def regress(network: ChangeNetwork, fields: Tensor, requests: Tensor, conditions: Tensor) -> Drawn:
    """Return the expected follow-up in one step."""
    sigma = torch.ones(len(fields), device=fields.device)
    with torch.inference_mode(), precision(fields.device):
        return network(fields, requests, conditions, None, sigma)  # type: ignore[no-any-return]


def sample(
    network: ChangeNetwork,
    fields: Tensor,
    requests: Tensor,
    conditions: Tensor,
    noise: Tensor,
    settings: SamplerSettings,
) -> Drawn:
    """Return one follow-up.

    Parameters
    ----------
    noise : Tensor, (batch, 40, z/2, y/2, x/2)
        Standard normal; the same for all regimens of a patient.
    """
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=settings.shift)
    scheduler.set_timesteps(settings.steps, device=fields.device)
    state = noise
    drawn: Drawn | None = None
    with torch.inference_mode(), precision(fields.device):
        # What was requested and what is known do not change with the noise level.
        context_embedding = network.embedding(conditions, torch.ones(len(fields), device=fields.device))
        context = network.encode(fields, requests, context_embedding)
        for step, timestep in enumerate(scheduler.timesteps):
            sigma = scheduler.sigmas[step].expand(len(fields)).to(fields.device)
            embedding = network.embedding(conditions, sigma)
            drawn = network.decode(context, state, sigma, embedding)
            if step == settings.steps - 1:
                break
            velocity = (state - clean_state(drawn, fields)) / sigma[:, None, None, None, None]
            state = scheduler.step(velocity, timestep, state, return_dict=False)[0]
    assert drawn is not None  # there is at least one step
    return drawn
