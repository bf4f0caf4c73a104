"""Train the contrast phase classifier and write its bundle: ``hepatocast train phase``.

Deterministic: the same settings give the same bytes on one kind of processor. The bundle that is shipped
is what the default settings give.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from safetensors.numpy import save

from inference.bundle_store import seal
from inference.imaging.phase_evidence import DECIDED
from inference.imaging.phase_features import PHASES, coarse_features, organ_features
from inference.models.phase.classifier import DESCRIPTION, WEIGHTS, describe_networks
from inference.models.phase.network import LARGEST_INPUT, Perceptron
from inference.models.protocols import Progress
from inference.randomness import RandomStreams
from inference.results import FloatArray
from inference.settings import Frozen
from inference.simulation.acquisition import Scanner
from inference.simulation.anatomy import Anatomy
from inference.training.phase_samples import (
    draw_contrast,
    organs_of,
    painted_features,
    scans_for_test,
    simulated_anatomy,
)

NAME = "phase"
VERSION = "1.0.0"


class PhaseTrainingSettings(Frozen):
    """How much is simulated and how the networks are fitted; everything goes into the metadata."""

    seed: int = 20240301
    training_anatomies: int = Field(60, ge=1, description="simulated abdomens to learn from")
    validation_anatomies: int = Field(16, ge=1, description="others, to choose the epoch by")
    test_anatomies: int = Field(24, ge=1, description="others again, scanned by both scanners")
    draws: int = Field(4, ge=1, description="painted series of each phase for one abdomen")
    organ_tables: int = Field(2500, ge=5, description="of each phase; a fifth more for validation")
    units: int = Field(24, ge=1, description="of the hidden layer")
    epochs: int = Field(300, ge=1)
    learning_rate: float = Field(0.01, gt=0)
    weight_decay: float = Field(0.02, ge=0)


@dataclass(slots=True)
class _Samples:
    """Inputs (n, features) and classes (n,) that are still being collected."""

    inputs: list[FloatArray] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)

    def add(self, number: int, features: FloatArray) -> None:
        self.classes.append(number)
        self.inputs.append(features)

    @property
    def x(self) -> FloatArray:
        return np.stack(self.inputs)

    @property
    def y(self) -> FloatArray:
        return np.array(self.classes)


@dataclass(frozen=True, slots=True)
class _Split:
    training: _Samples
    validation: _Samples


def train_phase(out: Path, settings: PhaseTrainingSettings, progress: Progress) -> Mapping[str, Any]:
    """Simulate, fit and test the classifier, and write its bundle.

    Parameters
    ----------
    out : Path
        Folder of the bundle; made if absent.

    Returns
    -------
    mapping
        The metadata.
    """
    streams = RandomStreams(settings.seed)
    splits = {f"{m.lower()}_organs": _organ_split(m, settings, streams) for m in PHASES}
    splits |= _image_splits(settings, streams, progress)
    progress("fitting the networks", 0.80)
    with _one_thread():
        networks = {name: _fit(name, split, settings, streams) for name, split in splits.items()}
    metrics: dict[str, Any] = {
        "validation": {
            n: _scores(networks[n].probabilities(s.validation.x), s.validation.y) for n, s in splits.items()
        }
    }
    metrics["test"] = _test(networks, settings, streams, progress)
    return _write(out, networks, metrics, settings)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit torch to one thread: how many threads share a sum decides its last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ------------------------------------------------------------------ samples


def _organ_split(modality: str, settings: PhaseTrainingSettings, streams: RandomStreams) -> _Split:
    parts = []
    for part, count in (("training", settings.organ_tables), ("validation", settings.organ_tables // 5)):
        rng = streams.derive("phase", "organ tables", modality, part)
        samples = _Samples()
        for number, phase in enumerate(PHASES[modality]):
            for _ in range(count):
                organs = organs_of(draw_contrast(modality, phase, rng), rng)
                samples.add(number, organ_features(organs, modality))
        parts.append(samples)
    return _Split(*parts)


def _image_splits(
    settings: PhaseTrainingSettings, streams: RandomStreams, progress: Progress
) -> dict[str, _Split]:
    splits = {m: _Split(_Samples(), _Samples()) for m in PHASES}
    count = settings.training_anatomies + settings.validation_anatomies
    for number, anatomy in _anatomies(0, count, streams):
        progress(f"painting abdomen {number + 1} of {count}", 0.8 * number / count)
        for modality, split in splits.items():
            part = split.training if number < settings.training_anatomies else split.validation
            rng = streams.derive("phase", "painting", modality, number)
            for kind, features in painted_features(anatomy, modality, settings.draws, rng):
                part.add(kind, features)
    return {f"{m.lower()}_image": split for m, split in splits.items()}


def _anatomies(first: int, count: int, streams: RandomStreams) -> Iterator[tuple[int, Anatomy]]:
    for number in range(first, first + count):
        yield number, simulated_anatomy(number, streams)


# ------------------------------------------------------------------ fit


def _fit(name: str, split: _Split, settings: PhaseTrainingSettings, streams: RandomStreams) -> Perceptron:
    """Fit one network with AdamW on all samples at once; keep the epoch that is best in validation."""
    x, y = split.training.x, split.training.y
    classes = int(y.max()) + 1
    rng = streams.derive("phase", "weights", name)
    start = _initial(x, classes, settings.units, rng)
    inputs = torch.from_numpy(start.standardised(x))
    checked = torch.from_numpy(start.standardised(split.validation.x))
    target, truth = torch.from_numpy(y), torch.from_numpy(split.validation.y)
    weights = [torch.tensor(getattr(start, f), requires_grad=True) for f in _FITTED]
    optimizer = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
    noise = torch.Generator().manual_seed(int(rng.integers(2**31)))
    best, kept = np.inf, start
    for _ in range(settings.epochs):
        shaken = inputs + 0.1 * torch.randn(inputs.shape, generator=noise, dtype=inputs.dtype)
        loss = torch.nn.functional.cross_entropy(_scores_of(shaken, weights), target, label_smoothing=0.01)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            found = float(torch.nn.functional.cross_entropy(_scores_of(checked, weights), truth))
        if found < best:
            best, kept = (
                found,
                Perceptron(start.mean, start.scale, *(w.detach().numpy().copy() for w in weights)),
            )
    return kept


_FITTED = ("weight_1", "bias_1", "weight_2", "bias_2")


def _initial(x: FloatArray, classes: int, units: int, rng: np.random.Generator) -> Perceptron:
    mean = np.nanmean(x, axis=0)
    scale = np.maximum(np.nanstd(x, axis=0), 1e-3)
    first = rng.normal(0.0, 1.0 / np.sqrt(x.shape[1]), (x.shape[1], units))
    second = rng.normal(0.0, 1.0 / np.sqrt(units), (units, classes))
    return Perceptron(mean, scale, first, np.zeros(units), second, np.zeros(classes))


def _scores_of(inputs: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
    weight_1, bias_1, weight_2, bias_2 = weights
    held = inputs.clamp(-LARGEST_INPUT, LARGEST_INPUT)
    return torch.tanh(held @ weight_1 + bias_1) @ weight_2 + bias_2


# ------------------------------------------------------------------ figures


def _scores(shares: FloatArray, truth: FloatArray) -> dict[str, Any]:
    """Return accuracy, and how often and how rightly a phase is told at all (from `DECIDED`)."""
    said, sure = shares.argmax(axis=1), shares.max(axis=1) >= DECIDED
    right = said == truth
    return {
        "n": len(truth),
        "accuracy": round(float(right.mean()), 4),
        "told": round(float(sure.mean()), 4),
        "accuracy_where_told": round(float(right[sure].mean()), 4) if sure.any() else None,
        "log_loss": round(float(-np.log(np.maximum(shares[np.arange(len(truth)), truth], 1e-9)).mean()), 4),
    }


def _test(
    networks: Mapping[str, Perceptron],
    settings: PhaseTrainingSettings,
    streams: RandomStreams,
    progress: Progress,
) -> dict[str, Any]:
    """Test on scans of the simulator's own scanners and of abdomens that no network has seen."""
    found: dict[str, _Samples] = {}
    first = settings.training_anatomies + settings.validation_anatomies
    for number, anatomy in _anatomies(first, settings.test_anatomies, streams):
        progress("testing on held-out abdomens", 0.82 + 0.18 * (number - first) / settings.test_anatomies)
        for scanner in Scanner:
            for modality in PHASES:
                rng = streams.derive("phase", "test", scanner.value, modality, number)
                for held_out in scans_for_test(anatomy, modality, scanner, rng):
                    kind = PHASES[modality].index(held_out.phase)
                    key = f"{modality.lower()}_{{}}_{scanner.value}"
                    organs = organ_features(held_out.organs, modality)
                    found.setdefault(key.format("organs"), _Samples()).add(kind, organs)
                    image = coarse_features(held_out.image, modality)
                    if image is not None:
                        found.setdefault(key.format("image"), _Samples()).add(kind, image)
    return {
        key: _scores(networks["_".join(key.split("_")[:2])].probabilities(s.x), s.y)
        for key, s in found.items()
    }


def _write(
    out: Path, networks: Mapping[str, Perceptron], metrics: dict[str, Any], settings: PhaseTrainingSettings
) -> Mapping[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    arrays = {
        k: v.astype(np.float32) for name in sorted(networks) for k, v in networks[name].arrays(name).items()
    }
    (out / WEIGHTS).write_bytes(save(arrays))
    description = describe_networks().model_dump(mode="json")
    (out / DESCRIPTION).write_text(json.dumps(description, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    metadata: dict[str, Any] = {
        "name": NAME,
        "version": VERSION,
        "kind": "phase",
        "format": "phase_perceptron",
        "schema": 1,
        "trained_on": (
            f"simulated: {settings.organ_tables} organ tables of each phase, "
            f"n {settings.training_anatomies} abdomens"
        ),
        "task": "contrast phase of CT and MR of the liver",
        "command": "hepatocast train phase",
        "settings": settings.model_dump(mode="json"),
        "metrics": metrics,
        "limits": (
            "Trained on sampled organ tables and simulated abdomens only. Validation series vary more in "
            "timing, dose and noise than a scanner's do; test series are of the simulator's own scanners. No "
            "multiphase study of real patients was at hand to measure it on."
        ),
    }
    seal(out, metadata)
    return metadata
