"""Fitting the image encoder on a cohort, and writing its bundle. A training that was stopped continues.

No outcome of a patient enters: neither survival nor response. So vectors of patients whom the encoder was
trained on may be used in the cross-validation of a survival model, though honest figures are those of the
validation and test patients.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from inference.bundle_store import BundleKind, seal
from inference.errors import TrainingDataError
from inference.models.image_features.encoder import EncoderSettings, ImageEncoder
from inference.models.image_features.inputs import as_tensor
from inference.models.image_features.vectors import LEARNED, Standard, raw_vector, write_encoder
from inference.models.protocols import Progress, within
from inference.randomness import RandomStreams
from inference.results import FloatArray, Labels
from inference.settings import Frozen
from inference.training.cohort import Cohort, Split
from inference.training.image_features.objectives import Weights, encoder_loss, target_loss
from inference.training.image_features.samples import TARGETS, Sample, prepare, read_sample
from inference.training.loop import LoopSettings, fit

_log = logging.getLogger(__name__)

_PREPARING = 0.5


class EncoderTraining(Frozen):
    """How an image encoder is trained."""

    loop: LoopSettings = LoopSettings(steps=3000, learning_rate=1.5e-3, validate_every=250)
    batch: int = Field(12, gt=1, description="images in a batch, each of another patient")
    contrast: float = Field(0.1, ge=0, description="weight of telling images apart")
    most_validated: int = Field(150, gt=0, description="validation patients that are used")
    version: str = "1"


@dataclass(frozen=True, slots=True)
class _Data:
    """Samples in memory."""

    samples: tuple[Sample, ...]
    modality: str

    def batch(self, rng: np.random.Generator, size: int) -> tuple[Labels, FloatArray]:
        """Return images of different patients where there are enough, baseline or follow-up."""
        patients = rng.permutation(len(self.samples))[:size]
        chosen = [(int(p), int(rng.integers(len(self.samples[p].months)))) for p in patients]
        return (
            np.stack([self.samples[p].stored[i] for p, i in chosen]),
            np.stack([self.samples[p].targets[i] for p, i in chosen]),
        )


def train_encoder(
    cohort: Cohort, out: Path, work: Path, settings: EncoderTraining, progress: Progress
) -> Mapping[str, Any]:
    """Fit an encoder on the training patients of a cohort and write its bundle to `out`.

    Parameters
    ----------
    work : Path
        Takes prepared samples, checkpoint and learning curve; needed to continue.

    Returns
    -------
    mapping
        The metadata of the bundle. ``metrics`` holds for each target the share of its variance that the
        learned part explains in validation patients (R2).

    Raises
    ------
    TrainingDataError
        The cohort has fewer than two training patients, or its images cannot be read.
    """
    ids, held = cohort.ids(Split.TRAIN), cohort.ids(Split.VALIDATION)[: settings.most_validated]
    if len(ids) < 2:
        raise TrainingDataError("an image encoder needs at least two training patients")
    rng = RandomStreams(settings.loop.seed).derive("image features", "follow-ups")
    files = prepare(cohort, (*ids, *held), work / "samples", rng, within(progress, 0.0, _PREPARING))
    modality = cohort.info.modality
    training = _Data(tuple(read_sample(files[p]) for p in ids), modality)
    validation = _Data(tuple(read_sample(files[p]) for p in held), modality)
    scale = Standard.of(np.concatenate([s.targets for s in training.samples]))
    encoder = _fresh(EncoderSettings(modality=modality, learned=LEARNED, targets=TARGETS), settings.loop.seed)
    weights = Weights(contrast=settings.contrast)

    def batch_loss(model: nn.Module, rng: np.random.Generator) -> Tensor:
        stored, targets = training.batch(rng, settings.batch)
        device = next(model.parameters()).device
        wanted = torch.from_numpy((targets - scale.mean) / scale.sd).float().to(device)
        return encoder_loss(_encoder(model), as_tensor(stored, modality).to(device), wanted, rng, weights)

    def validated(model: nn.Module) -> float:
        predicted, wanted = _predictions(_encoder(model), validation, scale)
        return float(target_loss(torch.from_numpy(predicted), torch.from_numpy(wanted)))

    fitted = fit(
        encoder,
        batch_loss,
        settings.loop,
        work,
        within(progress, _PREPARING, 1.0),
        validated if held else None,
    )
    best = _encoder(fitted.model)
    raw = _raw_vectors(best, training.samples)
    write_encoder(out, best, Standard.of(raw))
    metadata = _metadata(cohort, settings, len(ids), len(held))
    metadata["metrics"] = {"r2": _explained(best, validation, scale), "steps": fitted.kept_step}
    seal(out, metadata)
    _log.info("the image encoder was fitted in %.0f s", fitted.seconds)
    return metadata


def _fresh(settings: EncoderSettings, seed: int) -> ImageEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ImageEncoder(settings)


def _encoder(model: nn.Module) -> ImageEncoder:
    assert isinstance(model, ImageEncoder)  # the loop was given one
    return model


def _predictions(encoder: ImageEncoder, data: _Data, scale: Standard) -> tuple[FloatArray, FloatArray]:
    """Return predicted and true targets of all images, standardised, (images, targets) each."""
    device = next(encoder.parameters()).device
    predicted = []
    with torch.no_grad():
        for sample in data.samples:
            learned = encoder(as_tensor(sample.stored, data.modality).to(device))
            predicted.append(encoder.heads(learned)[0].cpu().double().numpy())
    wanted = np.concatenate([s.targets for s in data.samples])
    return np.concatenate(predicted), (wanted - scale.mean) / scale.sd


def _explained(encoder: ImageEncoder, data: _Data, scale: Standard) -> dict[str, float]:
    if not data.samples:
        return {}
    predicted, wanted = _predictions(encoder, data, scale)
    found = {}
    for place, name in enumerate(TARGETS):
        known = np.isfinite(wanted[:, place])
        truth, guess = wanted[known, place], predicted[known, place]
        if len(truth) > 1 and truth.std() > 0:
            found[name] = round(1.0 - float(((truth - guess) ** 2).mean() / truth.var()), 3)
    return found


def _raw_vectors(encoder: ImageEncoder, samples: Sequence[Sample]) -> FloatArray:
    return np.stack(
        [
            raw_vector(encoder, stored, measured)
            for sample in samples
            for stored, measured in zip(sample.stored, sample.measured, strict=True)
        ]
    )


def _metadata(cohort: Cohort, settings: EncoderTraining, trained: int, held: int) -> dict[str, Any]:
    info = cohort.info
    return {
        "name": f"image_vectors_{info.modality.lower()}",
        "version": settings.version,
        "kind": BundleKind.IMAGE_VECTORS.value,
        "format": "image_encoder",
        "trained_on": f"{info.origin}: {info.name}, n={trained}",
        "schema": 1,
        "description": "256 numbers for a liver image: 42 measurements with a name, the others learned "
        "from measurable targets and from telling images apart; no outcome of a patient was used",
        "cohort_sha256": info.sha256,
        "validation_patients": held,
        "training": settings.model_dump(mode="json"),
    }
