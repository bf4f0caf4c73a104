"""Training of the networks of DLOP_Combin: the likelihood of hazards that are constant within years."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from inference.models.protocols import Progress
from inference.models.second_opinions.dlop import DlopFile, DlopNetwork, factor_inputs, log_rates_of
from inference.models.second_opinions.slice_inputs import as_tensor
from inference.models.survival.hazards import HazardGrid
from inference.randomness import RandomStreams
from inference.results import FloatArray, Labels
from inference.settings import Frozen
from inference.training.loop import Fitted, LoopSettings, fit
from inference.training.seed_systems.dlop_patients import DlopPatients
from inference.training.seed_systems.landmark import Landmarked
from inference.training.seed_systems.slices import slice_batch, stopping_part


class NetworkTraining(Frozen):
    """How a network is trained."""

    loop: LoopSettings = LoopSettings(
        steps=600, learning_rate=3e-4, weight_decay=1e-3, average_decay=0.98, validate_every=50, patience=8
    )
    batch: int = Field(16, gt=1, description="patients of a step, one slice of each")
    stopping_share: float = Field(
        0.15, gt=0, lt=0.5, description="share of the training patients who decide when training stops"
    )


@dataclass(frozen=True, slots=True)
class YearlyTargets:
    """Follow-up after the landmark as the likelihood takes it.

    Attributes
    ----------
    exposure : Tensor, (n, 4)
        Months spent in each interval, up to the end of the fourth year.
    interval : Tensor of int, (n,)
        In which follow-up ended.
    event : Tensor, (n,)
    """

    exposure: Tensor
    interval: Tensor
    event: Tensor

    @classmethod
    def of(cls, grid: HazardGrid, months: FloatArray, event: np.ndarray) -> YearlyTargets:
        """Return the targets of patients, events after the last interval not being seen."""
        last = float(grid.nodes[-1])
        held = np.minimum(months, last)
        return cls(
            torch.from_numpy(grid.exposure(held)).float(),
            torch.from_numpy(grid.interval(held)),
            torch.from_numpy((event & (months <= last)).astype(np.float32)),
        )

    def loss(self, log_rates: Tensor, rows: Tensor) -> Tensor:
        """Return minus the mean log likelihood of some patients, of log hazards (m, 4)."""
        exposure, interval, event = (
            part[rows].to(log_rates.device) for part in (self.exposure, self.interval, self.event)
        )
        at_end = log_rates.gather(1, interval[:, None])[:, 0]
        spent = (log_rates.exp() * exposure).sum(dim=1)
        return (spent - event * at_end).mean()


def train_network(
    patients: DlopPatients,
    followed: Landmarked,
    among: np.ndarray,
    file: DlopFile,
    factors: int,
    settings: NetworkTraining,
    folder: Path,
    streams: RandomStreams,
    progress: Progress,
) -> Fitted:
    """Fit one network to some of the patients, of whom a part decides when training stops.

    Parameters
    ----------
    among : array of int
        Places of the patients who may be used; those without tumour are left out.
    factors : int
        Number of clinical factors; 0 for images alone.
    """
    usable = np.array([i for i in among.tolist() if patients.slices[i] is not None], dtype=np.intp)
    strata = followed.event[usable].astype(np.float64)
    stop = stopping_part(strata, settings.stopping_share, streams.derive("dlop", "stopping"))
    learn, judge = usable[~stop], usable[stop]
    targets = YearlyTargets.of(file.grid, followed.months, followed.event)
    clinical = _inputs(patients, file, factors)
    widths = file.grid.widths
    given = [_slices(patients, i) for i in learn.tolist()]
    torch.manual_seed(int(streams.derive("dlop", "weights").integers(2**62)))
    network = DlopNetwork(file.residual, factors)
    _start_at_mean_hazard(network, followed, learn, widths)

    def batch_loss(model: nn.Module, rng: np.random.Generator) -> Tensor:
        chosen = rng.integers(len(learn), size=min(settings.batch, len(learn)))
        rows = torch.from_numpy(learn[chosen])
        device = next(model.parameters()).device
        log_odds = model(slice_batch(given, chosen, rng).to(device), clinical[rows].to(device))
        return targets.loss(log_rates_of(log_odds, widths), rows)

    def validate(model: nn.Module) -> float:
        assert isinstance(model, DlopNetwork)
        losses = [_patient_loss(model, patients, i, clinical, targets, widths) for i in judge.tolist()]
        return float(np.mean(losses))

    return fit(network, batch_loss, settings.loop, folder, progress, validate if len(judge) else None)


def _slices(patients: DlopPatients, place: int) -> Labels:
    found = patients.slices[place]
    assert found is not None
    return found


def _inputs(patients: DlopPatients, file: DlopFile, factors: int) -> Tensor:
    if not factors:
        return torch.zeros((len(patients.ids), 0))
    rows: Sequence[FloatArray] = [
        factor_inputs(file.factors, patients.named(i)) for i in range(len(patients.ids))
    ]
    return torch.from_numpy(np.stack(rows)).float()


def _start_at_mean_hazard(
    network: DlopNetwork, followed: Landmarked, learn: np.ndarray, widths: FloatArray
) -> None:
    """Set the biases of the last layer so that training begins at the patients' mean hazard."""
    rate = (followed.event[learn].sum() + 0.5) / (followed.months[learn].sum() + 1.0)
    live = np.exp(-rate * widths)
    with torch.no_grad():
        network.head.bias.copy_(torch.from_numpy(np.log(live / (1.0 - live))).float())
        network.head.weight.mul_(0.1)


def _patient_loss(
    model: DlopNetwork,
    patients: DlopPatients,
    place: int,
    clinical: Tensor,
    targets: YearlyTargets,
    widths: FloatArray,
) -> float:
    device = next(model.parameters()).device
    features = model.slices(as_tensor(_slices(patients, place)).to(device)).mean(dim=0, keepdim=True)
    log_odds = model.joined(features, clinical[place : place + 1].to(device))
    return float(targets.loss(log_rates_of(log_odds, widths), torch.tensor([place])))
