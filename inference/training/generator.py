"""``hepatocast train generator``: outcome models, regression network and flow network into a bundle."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from inference.bundle_store import seal
from inference.errors import TrainingDataError
from inference.models.flow.conditions import CONDITIONS, without_condition
from inference.models.flow.generator import GeneratorSettings
from inference.models.flow.network import ChangeNetwork, Drawn, NetworkSettings, image_change
from inference.models.flow.sampler import Draw, SamplerSettings, precision, sample, state_of
from inference.models.protocols import Progress
from inference.settings import Frozen, Regimen
from inference.training.cohort import Cohort, Origin, Split
from inference.training.features import PatientTable, patient_table
from inference.training.generator_data import Batch, Examples, batch_of, conditions_of
from inference.training.loop import Fitted, LoopSettings, best_device, fit
from inference.training.outcome import OutcomeTraining, evaluate_outcome_model, fit_outcome_model

_log = logging.getLogger(__name__)

HONESTY = (
    "Trained on simulated patients: what it draws is a demonstration of the method. Its figures say how "
    "well it predicts simulated patients, and nothing about real ones."
)


class GeneratorTraining(Frozen):
    """How a generator is trained."""

    name: str = Field("generator", pattern=r"^[a-z][a-z0-9_]{1,40}$")
    version: str = "1"
    regression_steps: int = Field(1500, gt=0)
    flow_steps: int = Field(2500, gt=0)
    learning_rate: float = Field(1.5e-3, gt=0)
    widths: tuple[int, ...] = (32, 64, 96, 128)
    condition_dropout: float = Field(0.1, ge=0, lt=1)
    tissue_weight: float = Field(4.0, description="cross-entropy in and around lesions over that elsewhere")
    change_weight: float = 1.0
    deep_weight: float = Field(0.05, ge=0, description="of the deep-feature difference, in flow training")
    deep_every: int = Field(4, gt=0, description="steps between two that have the deep-feature loss")
    validation_follow_ups: int = Field(24, ge=0)
    sampler: SamplerSettings = SamplerSettings()
    outcome: OutcomeTraining = OutcomeTraining()
    seed: int = 0


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
        first = net.encoders[0](net.encode(fields, torch.zeros_like(batch.requests), embedding), embedding)
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


def _drawn_batch(examples: Examples, rng: np.random.Generator, dropout: float, device: torch.device) -> Batch:
    example, target = examples.drawn(rng)
    conditions = conditions_of(example, target)
    dropped = rng.uniform() < dropout
    if dropped:
        conditions = without_condition(conditions)
    batch = batch_of(example, target, conditions, bool(rng.integers(2)), device)
    if dropped:
        batch.requests.zero_()
    return batch


def regression_loss(
    examples: Examples, settings: GeneratorTraining
) -> Callable[[nn.Module, np.random.Generator], Tensor]:
    """Return the loss of the one-step network."""

    def loss(model: nn.Module, rng: np.random.Generator) -> Tensor:
        device = next(model.parameters()).device
        batch = _drawn_batch(examples, rng, settings.condition_dropout, device)
        with precision(device):
            drawn = model(batch.fields, batch.requests, batch.conditions, None, torch.ones(1, device=device))
        return tissue_loss(drawn, batch, settings.tissue_weight) + settings.change_weight * change_loss(
            drawn, batch
        )

    return loss


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
        batch = _drawn_batch(examples, rng, settings.condition_dropout, device)
        sigma = noise_level(rng, settings.sampler.shift)
        clean = state_of(
            batch.fractions * batch.weight, batch.fields[:, 3:6] * batch.weight, batch.change * batch.weight
        )
        noise = torch.randn_like(clean)
        state = (1.0 - sigma) * clean + sigma * noise
        level = torch.full((1,), sigma, device=device)
        with precision(device):
            drawn = model(batch.fields, batch.requests, batch.conditions, state, level)
        total = tissue_loss(drawn, batch, settings.tissue_weight)
        total = total + settings.change_weight * change_loss(drawn, batch)
        if deep is not None and rng.integers(settings.deep_every) == 0:
            with precision(device):
                total = total + settings.deep_weight * settings.deep_every * deep.difference(drawn, batch)
        return total

    return loss


# ------------------------------------------------------------------ validation


def validation(
    examples: Examples, settings: GeneratorTraining, draw: Draw
) -> Callable[[nn.Module], float] | None:
    """Return a figure of a network on fixed follow-ups: cross-entropy and error of the image change."""
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
            batch = batch_of(example, target, conditions_of(example, target), False, device)
            drawn = _answer(model, batch, draw, settings, number)
            total += float(tissue_loss(drawn, batch, settings.tissue_weight) + change_loss(drawn, batch))
        return total / len(fixed)

    return figure


def _answer(
    model: ChangeNetwork, batch: Batch, draw: Draw, settings: GeneratorTraining, number: int
) -> Drawn:
    device = batch.fields.device
    if draw is Draw.REGRESSION:
        with precision(device):
            drawn = model(batch.fields, batch.requests, batch.conditions, None, torch.ones(1, device=device))
        return Drawn(drawn.logits.float(), drawn.levels.float())
    generator = torch.Generator().manual_seed(settings.seed + number)
    shape = (1, 40, *(n // 2 for n in batch.fields.shape[2:]))
    noise = torch.randn(shape, generator=generator).to(device)
    return sample(model, batch.fields, batch.requests, batch.conditions, noise, settings.sampler)


# ------------------------------------------------------------------ the command


def train_generator(
    cohorts: Sequence[Cohort],
    out: Path,
    regimens: Mapping[str, Regimen],
    settings: GeneratorTraining,
    progress: Progress,
) -> dict[str, Any]:
    """Train a generator and write its bundle; continues where an earlier run of the same settings stopped.

    Parameters
    ----------
    cohorts : sequence of Cohort
        One of CT, one of MR, or both.
    out : Path
        Folder of the bundle. Checkpoints and curves are in ``OUT.work`` beside it.

    Returns
    -------
    dict
        The metadata of the bundle.

    Raises
    ------
    TrainingDataError
        Two cohorts have the same modality, or there is nothing to learn from.
    """
    modalities = tuple(c.info.modality for c in cohorts)
    if len(set(modalities)) != len(modalities) or not cohorts:
        raise TrainingDataError("give one cohort, or one of CT and one of MR")
    work = out.with_name(out.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    (out / "models").mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {}
    for index, cohort in enumerate(cohorts):
        report = _part(progress, 0.2 * index / len(cohorts), 0.2 / len(cohorts))
        figures[cohort.info.modality] = _outcome_model(cohort, out, work, regimens, settings, report)
    training = Examples(cohorts, _ids(cohorts, Split.TRAIN), regimens)
    held = Examples(cohorts, _ids(cohorts, Split.VALIDATION)[:40], regimens, 500_000_000)
    network = NetworkSettings(conditions=CONDITIONS, widths=settings.widths)
    regression = fit(
        new_network(network, settings.seed),
        regression_loss(training, settings),
        _loop(settings, settings.regression_steps),
        work / "regression",
        _part(progress, 0.2, 0.3),
        validation(held, settings, Draw.REGRESSION),
    )
    flow = _fit_flow(network, regression, training, held, settings, work, _part(progress, 0.5, 0.5))
    _write_network(out, Draw.REGRESSION, regression)
    _write_network(out, Draw.FLOW, flow)
    figures["networks"] = {
        name: {
            "steps": f.steps,
            "best_step": f.best_step,
            "validation": _number(f.best_figure),
            "skipped": f.skipped,
        }
        for name, f in (("regression", regression), ("flow", flow))
    }
    stored = GeneratorSettings(
        modalities=modalities, network=network, sampler=settings.sampler, draw=Draw.FLOW
    )
    (out / "generator.json").write_text(stored.model_dump_json(indent=1) + "\n", encoding="utf-8")
    metadata = _metadata(cohorts, settings, figures)
    seal(out, metadata)
    return metadata


def new_network(settings: NetworkSettings, seed: int) -> ChangeNetwork:
    """Return a network with weights that a seed determines."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ChangeNetwork(settings)


def _fit_flow(
    network: NetworkSettings,
    regression: Fitted,
    training: Examples,
    held: Examples,
    settings: GeneratorTraining,
    work: Path,
    progress: Progress,
) -> Fitted:
    """Fit the flow network, which starts as the regression network."""
    start = new_network(network, settings.seed + 1)
    start.load_state_dict(regression.model.state_dict())
    frozen = ChangeNetwork(network)
    frozen.load_state_dict(regression.model.state_dict())
    deep = DeepFeatures(frozen).to(best_device()) if settings.deep_weight > 0 else None
    return fit(
        start,
        flow_loss(training, settings, deep),
        _loop(settings, settings.flow_steps),
        work / "flow",
        progress,
        validation(held, settings, Draw.FLOW),
    )


def _loop(settings: GeneratorTraining, steps: int) -> LoopSettings:
    return LoopSettings(
        steps=steps,
        learning_rate=settings.learning_rate,
        validate_every=max(min(200, steps // 4), 1),
        seed=settings.seed,
    )


def _outcome_model(
    cohort: Cohort,
    out: Path,
    work: Path,
    regimens: Mapping[str, Regimen],
    settings: GeneratorTraining,
    progress: Progress,
) -> dict[str, Any]:
    modality = cohort.info.modality.lower()
    table = patient_table(cohort, cohort.ids(Split.TRAIN), work / f"features_{modality}.json", progress)
    model = fit_outcome_model(cohort, table, regimens, settings.outcome)
    folder = out / modality
    folder.mkdir(parents=True, exist_ok=True)
    model.write(folder)
    held = cohort.ids(Split.VALIDATION)
    if not held:
        return {"training_patients": len(table.ids)}
    other: PatientTable = patient_table(cohort, held, work / f"features_{modality}_validation.json", progress)
    figures = evaluate_outcome_model(model, cohort, other, regimens, settings.outcome)
    _log.info("outcome model of %s: %s", modality, figures)
    return {
        "training_patients": len(table.ids),
        "validation": {k: _number(v) for k, v in asdict(figures).items()},
    }


def _ids(cohorts: Sequence[Cohort], split: Split) -> list[tuple[int, str]]:
    return [(index, p) for index, cohort in enumerate(cohorts) for p in cohort.ids(split)]


def _write_network(out: Path, draw: Draw, fitted: Fitted) -> None:
    weights = {k: v.to(torch.float16).contiguous() for k, v in fitted.model.state_dict().items()}
    save_file(weights, out / "models" / f"{draw.value}.safetensors")


def _metadata(
    cohorts: Sequence[Cohort], settings: GeneratorTraining, figures: dict[str, Any]
) -> dict[str, Any]:
    simulated = any(c.info.origin is Origin.SIMULATED for c in cohorts)
    patients = sum(len(c.ids(Split.TRAIN)) for c in cohorts)
    names = ", ".join(c.info.name for c in cohorts)
    return {
        "name": settings.name,
        "version": settings.version,
        "kind": "generator",
        "format": "flow",
        "schema": 1,
        "task": "virtual follow-up images of liver tumours under treatment",
        "trained_on": f"{'simulated' if simulated else 'real'}: {names}, n {patients}",
        "note": HONESTY if simulated else "",
        "cohorts": [
            {
                "name": c.info.name,
                "origin": str(c.info.origin),
                "modality": c.info.modality,
                "sha256": c.info.sha256,
            }
            for c in cohorts
        ],
        "training": json.loads(settings.model_dump_json()),
        "metrics": figures,
        "monai_version": _version("monai"),
        "pytorch_version": str(torch.__version__),
        "numpy_version": np.__version__,
        "network_data_format": {
            "inputs": "96^3 crops at 2.25 mm: arterial, portal venous, liver, three tissue fractions",
            "outputs": "tissue logits and levels of each tissue",
        },
    }


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _part(progress: Progress, start: float, share: float) -> Progress:
    def report(text: str, done: float) -> None:
        progress(text, start + share * done)

    return report
