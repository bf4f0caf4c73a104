"""The two networks of a generator: fitted one after the other, or kept from an earlier bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from inference.errors import TrainingDataError
from inference.models.flow.network import ChangeNetwork, NetworkSettings
from inference.models.flow.sampler import Draw
from inference.models.protocols import Progress, within
from inference.settings import Regimen
from inference.training.cohort import Cohort, Split
from inference.training.generator_data import Examples, typical_levels
from inference.training.generator_losses import (
    DeepFeatures,
    GeneratorTraining,
    flow_loss,
    regression_loss,
    validation,
)
from inference.training.generator_start import GeneratorStart
from inference.training.loop import BatchLoss, Fitted, LoopSettings, best_device, fit

_ROOM_HELD_OUT = 500_000_000
"""Bytes of examples for validation that are kept in memory."""


@dataclass(frozen=True, slots=True)
class NetworkTraining:
    """What both networks are fitted with.

    Attributes
    ----------
    out, work : Path
        Folder of the bundle, and of checkpoints and curves.
    start : GeneratorStart or None
        Whose networks are gone on from, and kept where they have no steps.
    """

    cohorts: Sequence[Cohort]
    regimens: Mapping[str, Regimen]
    network: NetworkSettings
    settings: GeneratorTraining
    out: Path
    work: Path
    start: GeneratorStart | None = None

    def write(self, progress: Progress) -> dict[str, Any]:
        """Fit and write the networks; return their figures by name.

        Raises
        ------
        TrainingDataError
            There is nothing to learn from, or a network without a start learned nothing.
        """
        settings, start = self.settings, self.start
        figures: dict[str, Any] = {}
        if start is not None:
            figures |= {
                draw.value: start.copy_network(draw, self.out) for draw in Draw if not settings.steps(draw)
            }
        if len(figures) == len(Draw):
            return figures
        training = Examples(self.cohorts, _ids(self.cohorts, Split.TRAIN), self.regimens)
        held = Examples(
            self.cohorts, _spread(_ids(self.cohorts, Split.VALIDATION)), self.regimens, _ROOM_HELD_OUT
        )
        regression = self._initial(Draw.REGRESSION, settings.seed)
        if start is None:
            regression.start_at(torch.from_numpy(typical_levels(training)))
        if settings.regression_steps:
            loss = regression_loss(training, settings)
            fitted = self._fit(Draw.REGRESSION, regression, loss, held, within(progress, 0.0, 0.375))
            figures[Draw.REGRESSION.value] = _figures(fitted)
            regression.load_state_dict(fitted.model.state_dict())
        if settings.flow_steps:
            # What a flow step draws is compared in the features of the network before it.
            deep = DeepFeatures(_frozen(regression)).to(best_device()) if settings.deep_weight > 0 else None
            flow = self._initial(Draw.FLOW, settings.seed + 1)
            if start is None:
                flow.load_state_dict(regression.state_dict())
            loss = flow_loss(training, settings, deep)
            fitted = self._fit(Draw.FLOW, flow, loss, held, within(progress, 0.375, 1.0))
            figures[Draw.FLOW.value] = _figures(fitted)
        return figures

    def _initial(self, draw: Draw, seed: int) -> ChangeNetwork:
        network = new_network(self.network, seed)
        if self.start is not None:
            network.load_state_dict(self.start.weights(draw))
        return network

    def _fit(
        self, draw: Draw, network: ChangeNetwork, loss: BatchLoss, held: Examples, progress: Progress
    ) -> Fitted:
        settings = self.settings
        steps = settings.steps(draw)
        loop = LoopSettings(
            steps=steps,
            learning_rate=settings.learning_rate,
            validate_every=max(min(settings.validate_every, steps // 4), 1),
            patience=settings.patience,
            seed=settings.seed,
        )
        fitted = fit(network, loss, loop, self.work / draw.value, progress, validation(held, settings, draw))
        if self.start is None and len(held) and fitted.kept_step == 0:
            raise TrainingDataError(
                f"the {draw.value} network is no better on the validation patients than before its training: "
                "it would draw the baseline again; look at learning_curve.png, and give more patients or "
                "more steps"
            )
        _write(self.out, draw, fitted.model.state_dict())
        return fitted


def new_network(settings: NetworkSettings, seed: int) -> ChangeNetwork:
    """Return a network with weights that a seed determines."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ChangeNetwork(settings)


def _frozen(network: ChangeNetwork) -> ChangeNetwork:
    copy = ChangeNetwork(network.settings)
    copy.load_state_dict(network.state_dict())
    return copy


def _write(out: Path, draw: Draw, weights: Mapping[str, Tensor]) -> None:
    half = {k: v.to(torch.float16).contiguous() for k, v in weights.items()}
    save_file(half, out / "models" / f"{draw.value}.safetensors")


def _figures(fitted: Fitted) -> dict[str, Any]:
    figure = fitted.kept_figure
    return {
        "steps": fitted.steps,
        "kept_step": fitted.kept_step,
        "validation": figure if math.isfinite(figure) else None,
        "skipped": fitted.skipped,
    }


def _ids(cohorts: Sequence[Cohort], split: Split) -> list[tuple[int, str]]:
    return [(index, p) for index, cohort in enumerate(cohorts) for p in cohort.ids(split)]


def _spread(ids: list[tuple[int, str]], most: int = 40) -> list[tuple[int, str]]:
    """Return some patients from all parts of a list."""
    return ids[:: max(math.ceil(len(ids) / most), 1)]
