"""Training of the network that corrects the linear part, and how much of it is kept.

Everything is chosen on inner folds of the patients it is fitted on: networks are trained on each fold's
training part, their predictions are kept every so many steps, and the number of steps and the share of
the network that lower the held-out loss most, over all folds, are those of the final networks, which see
all patients. A share must beat 0 by more than chance: where the linear part says it all, the network is
left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from inference.models.survival.network import (
    DatedBatch,
    NetworkSize,
    SurvivalNetwork,
    TokenBatch,
    as_batch,
    time_shapes,
)
from inference.models.survival.tokens import Layout, Tokens
from inference.randomness import RandomStreams
from inference.results import FloatArray
from inference.training.survival.linear import PRIOR_EVENTS, Outcomes

SHARES = (0.25, 0.5, 0.75, 1.0)
_BOUND = 8.0


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """How networks are trained.

    Attributes
    ----------
    steps : int
        At most; a multiple of `note_every`.
    note_every : int
        Steps between two looks at the held-out patients.
    batch : int
        Patients of a step.
    modality_dropout : float
        Share of patients whose images, or text, or regimen, or another modality are hidden in a step.
    shares : tuple of float
        Shares of the network that are tried, beside 0.
    needed_gain : float
        Standard errors, over folds, by which a share must beat 0.
    """

    size: NetworkSize = NetworkSize()
    networks: int = 4
    steps: int = 240
    note_every: int = 20
    batch: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    average_decay: float = 0.95
    modality_dropout: float = 0.3
    shares: tuple[float, ...] = SHARES
    needed_gain: float = 1.0


@dataclass(frozen=True, slots=True)
class Target:
    """One end point of n patients, with what the linear part says.

    Attributes
    ----------
    outcomes : Outcomes
    known : array of bool, (n,)
        Patients whose end point is known.
    predictor : array, (n,)
        Linear predictor.
    """

    outcomes: Outcomes
    known: np.ndarray
    predictor: FloatArray

    def of(self, patients: np.ndarray) -> Target:
        """Return the end point of some patients."""
        return Target(self.outcomes.of(patients), self.known[patients], self.predictor[patients])


def profiled_log_rates(target: Target, change: FloatArray) -> FloatArray:
    """Log rates (J,) that fit best where patients' log hazards are changed by (n, J)."""
    known = target.known
    o = target.outcomes.of(np.flatnonzero(known))
    deaths = np.bincount(o.interval[o.event], minlength=len(o.grid)) + PRIOR_EVENTS
    hazard = np.exp(np.clip(target.predictor[known, None] + change[known], -30.0, 30.0))
    overall = deaths.sum() / (hazard * o.exposure).sum()
    at_risk = (hazard * o.exposure).sum(axis=0) + PRIOR_EVENTS / overall
    return np.asarray(np.log(deaths / at_risk))


def held_out_loss(target: Target, change: FloatArray, log_rates: FloatArray) -> float:
    """Mean negative log likelihood of patients whose log hazards are changed by (n, J)."""
    known = np.flatnonzero(target.known)
    o = target.outcomes.of(known)
    log = np.clip(target.predictor[known, None] + change[known], -30.0, 30.0) + log_rates
    at_end = np.take_along_axis(log, o.interval[:, None], axis=1)[:, 0]
    return float(((np.exp(log) * o.exposure).sum(axis=1) - o.event * at_end).mean())


# ------------------------------------------------------------------ one network


@dataclass(frozen=True, slots=True)
class _TargetTensors:
    exposure: Tensor
    interval: Tensor
    event: Tensor
    known: Tensor
    base: Tensor
    shapes: Tensor


def _tensors(target: Target) -> _TargetTensors:
    rates = profiled_log_rates(target, np.zeros((len(target.known), 1)))
    o = target.outcomes
    return _TargetTensors(
        exposure=torch.from_numpy(o.exposure.astype(np.float32)),
        interval=torch.from_numpy(np.asarray(o.interval, dtype=np.int64)),
        event=torch.from_numpy(o.event.astype(np.float32)),
        known=torch.from_numpy(target.known.astype(np.float32)),
        base=torch.from_numpy((target.predictor[:, None] + rates).astype(np.float32)),
        shapes=torch.from_numpy(time_shapes(len(o.grid)).astype(np.float32)),
    )


def _loss(effects: Tensor, target: _TargetTensors, patients: Tensor) -> Tensor:
    """Negative log likelihood of a batch, a patient; effects are (b, SHAPES)."""
    change = (effects @ target.shapes.T).clamp(-_BOUND, _BOUND)
    log = target.base[patients] + change
    hazard = (log.exp() * target.exposure[patients]).sum(dim=1)
    at_end = log.gather(1, target.interval[patients, None])[:, 0]
    known = target.known[patients]
    return torch.as_tensor(
        (known * (hazard - target.event[patients] * at_end)).sum() / known.sum().clamp(min=1)
    )


def _hidden(batch: TokenBatch, share: float, generator: torch.Generator) -> TokenBatch:
    """Hide the text, the images, the regimen or another modality of some patients."""
    if share == 0 or (batch.text.shape[1] == 0 and batch.images.shape[1] == 0 and not batch.beside):
        return batch
    n = len(batch.clinical)
    text, images, late, regimen = torch.rand((4, n), generator=generator) >= share
    baseline_only = late[:, None] | (batch.months <= 0)
    return TokenBatch(
        clinical=batch.clinical,
        text=batch.text,
        text_known=batch.text_known & text,
        images=batch.images,
        kind=batch.kind,
        months=batch.months,
        image_known=batch.image_known & images[:, None] & baseline_only,
        regimen=torch.where(regimen, batch.regimen, torch.full_like(batch.regimen, -1)),
        beside={name: _less(part, share, generator) for name, part in batch.beside.items()},
    )


def _less(part: DatedBatch, share: float, generator: torch.Generator) -> DatedBatch:
    kept = torch.rand(len(part.known), generator=generator) >= share
    return replace(part, known=part.known & kept[:, None])


Note = Callable[[int, SurvivalNetwork], None]


def train_network(
    layout: Layout,
    tokens: TokenBatch,
    targets: Sequence[Target],
    settings: NetworkSettings,
    steps: int,
    rng: np.random.Generator,
    note: Note | None = None,
) -> SurvivalNetwork:
    """Train one network on patients and end points; `note` is told of the averaged network now and then.

    Parameters
    ----------
    targets : sequence of Target
        One for each output of the network.
    rng : Generator
        Of the initial weights, the batches and the dropout.
    """
    seed = int(rng.integers(2**62))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SurvivalNetwork(layout, settings.size, len(targets))
        average = SurvivalNetwork(layout, settings.size, len(targets))
        average.load_state_dict(network.state_dict())
        average.eval()
        tensors = [_tensors(t) for t in targets]
        optimiser = torch.optim.AdamW(
            network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        generator = torch.Generator().manual_seed(seed)
        n = len(tokens.clinical)
        for step in range(1, steps + 1):
            patients = torch.randperm(n, generator=generator)[: settings.batch]
            batch = _hidden(tokens.of(patients), settings.modality_dropout, generator)
            network.train()
            effects = network(batch).effects
            losses = [_loss(effects[:, e], t, patients) for e, t in enumerate(tensors)]
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(torch.stack(losses).mean())
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            _follow(average, network, min(settings.average_decay, step / (step + 10.0)))
            if note is not None and step % settings.note_every == 0:
                note(step, average)
    return average


@torch.no_grad()
def _follow(average: SurvivalNetwork, network: SurvivalNetwork, decay: float) -> None:
    for mean, now in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(now, 1.0 - decay)


@torch.no_grad()
def network_effects(network: SurvivalNetwork, tokens: TokenBatch) -> FloatArray:
    """Effects of patients, (n, E, SHAPES), from a network in evaluation mode."""
    return np.asarray(network(tokens).effects.numpy(), dtype=np.float64)


def changes(effects: FloatArray, intervals: int) -> FloatArray:
    """Turn the effects of one end point (n, SHAPES) into changes of log hazards, (n, J)."""
    return np.clip(effects @ time_shapes(intervals).T, -_BOUND, _BOUND)


# ------------------------------------------------------------------ how much of it


@dataclass(frozen=True, slots=True)
class Choice:
    """Steps of the final networks, and the share of each end point that is kept.

    Attributes
    ----------
    steps : int
        0 where no end point keeps anything.
    shares : tuple of float, (E,)
    gains : tuple of float, (E,)
        Held-out loss of the linear part minus that with the share, a patient.
    """

    steps: int
    shares: tuple[float, ...]
    gains: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class FoldTargets:
    """A fold: its patients, and end points whose linear predictor was fitted on the kept ones alone."""

    kept: np.ndarray
    held_out: np.ndarray
    targets: Sequence[Target]


def choose(
    layout: Layout,
    tokens: Tokens,
    folds: Sequence[FoldTargets],
    settings: NetworkSettings,
    streams: RandomStreams,
) -> Choice:
    """Choose steps and shares by the held-out loss of inner folds."""
    looks = settings.steps // settings.note_every
    endpoints = len(folds[0].targets)
    losses = np.zeros((len(folds), looks, endpoints, 1 + len(settings.shares)))
    batch = as_batch(tokens)
    for number, fold in enumerate(folds):
        _score_fold(layout, batch, fold, settings, streams.derive("inner", number), losses[number])
    gains = losses[:, :, :, :1] - losses[:, :, :, 1:]
    mean, error = gains.mean(axis=0), gains.std(axis=0, ddof=1) / np.sqrt(len(folds))
    look = int(np.argmax(mean.max(axis=2).sum(axis=1)))
    best = mean[look].argmax(axis=1)
    at = np.arange(endpoints)
    enough = mean[look, at, best] > settings.needed_gain * error[look, at, best]
    shares = tuple(float(settings.shares[b]) if ok else 0.0 for b, ok in zip(best, enough, strict=True))
    told = tuple(float(g) if ok else 0.0 for g, ok in zip(mean[look, at, best], enough, strict=True))
    return Choice((look + 1) * settings.note_every if any(shares) else 0, shares, told)


def _score_fold(
    layout: Layout,
    batch: TokenBatch,
    fold: FoldTargets,
    settings: NetworkSettings,
    rng: np.random.Generator,
    losses: FloatArray,
) -> None:
    kept = batch.of(torch.from_numpy(fold.kept))
    held_out = batch.of(torch.from_numpy(fold.held_out))

    def note(step: int, network: SurvivalNetwork) -> None:
        row = losses[step // settings.note_every - 1]
        inside, outside = network_effects(network, kept), network_effects(network, held_out)
        for e, target in enumerate(fold.targets):
            row[e] = _share_losses(target, fold, inside[:, e], outside[:, e], settings.shares)

    targets = [t.of(fold.kept) for t in fold.targets]
    train_network(layout, kept, targets, settings, settings.steps, rng, note)


def _share_losses(
    target: Target, fold: FoldTargets, inside: FloatArray, outside: FloatArray, shares: Sequence[float]
) -> list[float]:
    """Held-out losses without the network, and with each share of it."""
    kept, held_out = target.of(fold.kept), target.of(fold.held_out)
    intervals = len(target.outcomes.grid)
    found = []
    for share in (0.0, *shares):
        rates = profiled_log_rates(kept, share * changes(inside, intervals))
        found.append(held_out_loss(held_out, share * changes(outside, intervals), rates))
    return found


def train_networks(
    layout: Layout,
    tokens: Tokens,
    targets: Sequence[Target],
    choice: Choice,
    settings: NetworkSettings,
    streams: RandomStreams,
) -> tuple[SurvivalNetwork, ...]:
    """Train the final networks on all patients; none where nothing of them is kept."""
    if not choice.steps:
        return ()
    batch = as_batch(tokens)
    return tuple(
        train_network(layout, batch, targets, settings, choice.steps, streams.derive("network", number))
        for number in range(settings.networks)
    )
