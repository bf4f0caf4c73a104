"""The training loop of all networks: mixed precision, checkpoints, resume, early stopping, curves.

A training is a function of its settings and its seed: the batch of a step is drawn from a generator
of that step's own, so that a run that was stopped and resumed sees what an uninterrupted one sees.
"""

from __future__ import annotations

import copy
import csv
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from inference.errors import TrainingDataError
from inference.models.protocols import Progress
from inference.randomness import RandomStreams
from inference.settings import Frozen

_log = logging.getLogger(__name__)

_CHECKPOINT = "checkpoint.pt"
_CURVE = "learning_curve.csv"

BatchLoss = Callable[[nn.Module, np.random.Generator], Tensor]
"""Draws a batch with the generator and returns the loss of the model on it."""
Validate = Callable[[nn.Module], float]
"""Returns a figure of the averaged model on validation data; lower is better."""


class Keep(StrEnum):
    """Which weights are kept at the end."""

    BEST = "best"
    LAST = "last"


class LoopSettings(Frozen):
    """How a network is fitted. AdamW, linear warm-up, cosine decay, exponential moving average."""

    steps: int = Field(gt=0)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    warm_up_steps: int = Field(50, ge=0)
    final_share: float = Field(
        0.02, ge=0, le=1, description="learning rate at the end over that at the start"
    )
    gradient_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    average_decay: float = Field(0.995, ge=0, lt=1, description="of the moving average of the weights")
    validate_every: int = Field(200, gt=0)
    patience: int = Field(1_000_000, gt=0, description="validations without a better figure before stopping")
    keep: Keep = Field(Keep.BEST, description="weights of the best validation, or of the last step")
    checkpoint_every_s: float = Field(120.0, ge=0)
    seed: int = Field(0, ge=0)


@dataclass(slots=True)
class _State:
    model: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer
    best: dict[str, Tensor] = field(default_factory=dict)
    best_figure: float = math.inf
    best_step: int = 0
    since_best: int = 0
    step: int = 0
    skipped: int = 0
    seconds: float = 0.0
    curve: list[tuple[int, float, float, float]] = field(default_factory=list)

    def packed(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "best": self.best,
            "numbers": [
                self.best_figure,
                self.best_step,
                self.since_best,
                self.step,
                self.skipped,
                self.seconds,
            ],
            "curve": self.curve,
        }

    def unpack(self, stored: dict[str, Any]) -> None:
        self.model.load_state_dict(stored["model"])
        self.average.load_state_dict(stored["average"])
        self.optimiser.load_state_dict(stored["optimiser"])
        self.best = stored["best"]
        self.best_figure, best_step, since, step, skipped, self.seconds = stored["numbers"]
        self.best_step, self.since_best, self.step, self.skipped = map(int, (best_step, since, step, skipped))
        self.curve = [(int(a), float(b), float(c), float(d)) for a, b, c, d in stored["curve"]]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted network, on the CPU in evaluation mode.

    Attributes
    ----------
    model : with averaged weights, those of `kept_step`
    kept_step : 0 where training never bettered the network that it started from
    kept_figure : validation at that step; NaN without validation
    skipped : steps whose gradients were not finite
    """

    model: nn.Module
    steps: int
    kept_step: int
    kept_figure: float
    skipped: int
    seconds: float


def best_device() -> torch.device:
    """Return the GPU where there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fit(
    model: nn.Module,
    batch_loss: BatchLoss,
    settings: LoopSettings,
    folder: Path,
    progress: Progress,
    validate: Validate | None = None,
) -> Fitted:
    """Fit a network; continue from the checkpoint in `folder` if there is one.

    Parameters
    ----------
    model : nn.Module
        Moved to the GPU where there is one.
    batch_loss : callable
        Chooses its own precision (`torch.autocast`), and sends tensors to the device of the model.
    folder : Path
        Takes the checkpoint, ``learning_curve.csv`` and ``learning_curve.png``.

    Raises
    ------
    TrainingDataError
        The checkpoint belongs to another network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = model.to(best_device())
    state = _State(
        model,
        copy.deepcopy(model).requires_grad_(False),
        torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay),
    )
    _resume(state, folder)
    streams = RandomStreams(settings.seed)
    started = saved = time.monotonic()
    before = state.seconds
    losses: list[float] = []
    if validate is not None and not state.curve:
        _note(state, losses, validate)  # what is there before training, which it has to better
    while state.step < settings.steps and state.since_best < settings.patience:
        losses.append(_step(state, batch_loss, settings, streams.derive("step", state.step)))
        state.seconds = before + time.monotonic() - started
        if state.step % settings.validate_every == 0 or state.step == settings.steps:
            _note(state, losses, validate)
            losses = []
            write_curve(folder, state.curve)
        if time.monotonic() - saved > settings.checkpoint_every_s:
            _save(state, folder)
            saved = time.monotonic()
        progress(f"step {state.step} of {settings.steps}", state.step / settings.steps)
    _save(state, folder)
    kept_step, figure = state.step, state.curve[-1][2] if state.curve else math.nan
    if state.best and settings.keep is Keep.BEST:
        state.average.load_state_dict(state.best)
        kept_step, figure = state.best_step, state.best_figure
    return Fitted(
        state.average.cpu().eval(),
        state.step,
        kept_step,
        figure,
        state.skipped,
        state.seconds,
    )


def _resume(state: _State, folder: Path) -> None:
    path = folder / _CHECKPOINT
    if not path.is_file():
        return
    try:
        state.unpack(torch.load(path, map_location=best_device(), weights_only=True))
    except (RuntimeError, KeyError, ValueError) as error:
        raise TrainingDataError(
            f"the checkpoint in {folder.name} belongs to another network; remove it or name another folder"
        ) from error
    _log.info("training continues from step %d", state.step)


def _save(state: _State, folder: Path) -> None:
    temporary = folder / f"{_CHECKPOINT}.part"
    torch.save(state.packed(), temporary)
    temporary.replace(folder / _CHECKPOINT)


def learning_rate(settings: LoopSettings, step: int) -> float:
    """Return the learning rate of a step: linear warm-up, then half a cosine."""
    warm = min(1.0, (step + 1) / max(settings.warm_up_steps, 1))
    falling = 0.5 * (1.0 + math.cos(math.pi * step / settings.steps))
    return settings.learning_rate * warm * (settings.final_share + (1.0 - settings.final_share) * falling)


def _step(state: _State, batch_loss: BatchLoss, settings: LoopSettings, rng: np.random.Generator) -> float:
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(settings, state.step)
    torch.manual_seed(int(rng.integers(2**62)))
    state.model.train()
    loss = batch_loss(state.model, rng)
    state.optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), settings.gradient_norm)
    # bfloat16 convolutions give gradients that are not finite now and then: such a step is left out.
    if bool(torch.isfinite(norm)) and bool(torch.isfinite(loss)):
        state.optimiser.step()
    else:
        state.skipped += 1
    state.step += 1
    decay = min(settings.average_decay, state.step / (state.step + 10.0))
    with torch.no_grad():
        for mean, now in zip(state.average.parameters(), state.model.parameters(), strict=True):
            mean.lerp_(now, 1.0 - decay)
        for kept, present in zip(state.average.buffers(), state.model.buffers(), strict=True):
            kept.copy_(present)
    return float(loss.detach())


def _note(state: _State, losses: list[float], validate: Validate | None) -> None:
    mean = float(np.mean([x for x in losses if math.isfinite(x)] or [math.nan]))
    figure = math.nan
    if validate is not None:
        state.average.eval()
        with torch.no_grad():
            figure = validate(state.average)
        state.since_best += 1
        if figure < state.best_figure:
            state.best_figure, state.best_step, state.since_best = figure, state.step, 0
            state.best = {k: v.detach().clone() for k, v in state.average.state_dict().items()}
    state.curve.append((state.step, mean, figure, state.seconds))
    _log.info("step %d: loss %.4f, validation %.4f, %.0f s", state.step, mean, figure, state.seconds)


def write_curve(folder: Path, curve: list[tuple[int, float, float, float]]) -> None:
    """Write the learning curve as a table and as a picture."""
    from matplotlib.figure import Figure

    with (folder / _CURVE).open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["step", "training_loss", "validation", "seconds"])
        table.writerows(curve)
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    steps = [row[0] for row in curve]
    axes.plot(steps, [row[1] for row in curve], label="training loss")
    if any(math.isfinite(row[2]) for row in curve):
        axes.plot(steps, [row[2] for row in curve], label="validation")
    axes.set_xlabel("step")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(folder / "learning_curve.png", dpi=110, metadata={"Software": None})
