"""Training of ResNet50 + MLP: the network on response, then the nomograms on progression-free survival.

The study fitted its nomogram to image features of the very patients whose response the network had learned.
So does this one: among training patients the features fit better than among others, the nomogram's weight
of them is too large, and only figures of other patients tell what it is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from inference.bundle_store import BundleKind, seal
from inference.clinical.nomogram import Nomogram
from inference.clinical.nomogram_predictors import PREDICTORS
from inference.errors import ModelError, TrainingDataError
from inference.evaluation.metrics import BoolArray
from inference.models.protocols import Progress, within
from inference.models.second_opinions.residual import Depth, ResidualSettings
from inference.models.second_opinions.resnet50 import (
    FORMAT,
    PatientImageFeatures,
    PerceptronSettings,
    Resnet50File,
    ResponseNetwork,
    image_feature_name,
    look,
    write_resnet50,
)
from inference.models.second_opinions.slice_inputs import as_tensor
from inference.randomness import RandomStreams
from inference.results import FloatArray
from inference.settings import Frozen
from inference.training.cohort import Cohort, Split
from inference.training.loop import Fitted, LoopSettings, fit
from inference.training.nomogram_cohort import CLINICAL_LINES, chosen_features, differing
from inference.training.nomogram_fit import Line, fit_nomogram
from inference.training.seed_systems.outcomes import follow_up, objective_response, treated_with
from inference.training.seed_systems.resnet50_figures import figures
from inference.training.seed_systems.resnet50_patients import Resnet50Patients, resnet50_patients
from inference.training.seed_systems.slices import claim, slice_batch, stopping_part

NAME, VERSION = "resnet50_mlp", "1"
COMMAND = "hepatocast train resnet50-mlp COHORT --out BUNDLE_DIR"
STARTED_FROM = "random weights: no weights that were learned from other images were used"
LIMITS = (
    "The nomogram's image features of training patients come from a network that learned from the same "
    "patients, as in the study; their weight is too large, and figures of training patients mean nothing."
)
_FEWEST = 10


class Resnet50Training(Frozen):
    """How the system is trained."""

    network: PerceptronSettings = PerceptronSettings(
        residual=ResidualSettings(depth=Depth.RESNET50), hidden=128, image_features=16, dropout=0.3
    )
    loop: LoopSettings = LoopSettings(
        steps=600, learning_rate=3e-4, weight_decay=1e-3, average_decay=0.98, validate_every=50, patience=8
    )
    batch: int = Field(16, gt=1, description="patients of a step, one slice of each")
    stopping_share: float = Field(
        0.15, gt=0, lt=0.5, description="share of the training patients who decide when training stops"
    )
    regimens: tuple[str, ...] = Field(
        ("tace_haic_tki_pd1",), description="regimens whose patients are used; empty for all"
    )
    nomogram_features: int = Field(6, ge=1, description="largest number of image features in the nomogram")
    months: tuple[float, ...] = Field((12.0, 18.0, 24.0), description="of the nomogram")


def train_resnet50(
    cohort: Cohort, out: Path, work: Path, settings: Resnet50Training, progress: Progress
) -> Mapping[str, Any]:
    """Train on the training patients and write a bundle; return its metadata.

    Parameters
    ----------
    work : Path
        Takes slices, checkpoint and learning curve; a training that was stopped goes on from there.

    Raises
    ------
    TrainingDataError
        Too few patients with a known response, all responded alike, or the nomogram cannot be fitted.
    """
    perceptron = settings.network.model_copy(
        update={"residual": settings.network.residual.model_copy(update={"modality": cohort.info.modality})}
    )
    settings = settings.model_copy(update={"network": perceptron})
    claim(work, {"cohort": cohort.info.sha256, "settings": settings.model_dump(mode="json")})
    ids = treated_with(cohort, settings.regimens, Split.TRAIN)
    held = treated_with(cohort, settings.regimens, Split.VALIDATION)
    residual = perceptron.residual
    patients = resnet50_patients(cohort, ids, residual, work, within(progress, 0.0, 0.15))
    response = objective_response(cohort, ids)
    fitted = _network(patients, response, settings, work / "network", within(progress, 0.2, 0.9))
    assert isinstance(fitted.model, ResponseNetwork)
    seen = _looked_at(fitted.model, patients, _without_slices(perceptron))
    typical = _typical(patients, seen)
    months, event = follow_up(cohort, ids, "pfs")
    nomograms = _nomograms(patients, seen, months, event, settings)
    file = Resnet50File(network=perceptron, regimens=settings.regimens, typical=typical)
    write_resnet50(out, file, fitted.model, nomograms)
    others = resnet50_patients(cohort, held, residual, work, within(progress, 0.9, 0.95))
    found = figures(cohort, others, _looked_at(fitted.model, others, typical), nomograms, typical)
    used = np.isfinite(response) & _shown(patients)
    metadata = {
        "name": f"{NAME}_{cohort.info.modality.lower()}",
        "version": VERSION,
        "kind": BundleKind.SECOND_OPINION.value,
        "format": FORMAT,
        "schema": 1,
        "trained_on": f"{cohort.info.origin}: {cohort.info.name}, n={int(used.sum())}, "
        f"responders={int(response[used].sum())}",
        "regimens": list(settings.regimens),
        "cohort_sha256": cohort.info.sha256,
        "command": COMMAND,
        "seed": settings.loop.seed,
        "started_from": STARTED_FROM,
        "limits": LIMITS,
        "training": {
            "steps": fitted.steps,
            "kept_step": fitted.kept_step,
            "stopping_loss": round(fitted.kept_figure, 4),
            "skipped_steps": fitted.skipped,
            "without_tumour": sum(s is None for s in patients.slices),
            "nomogram_predictors": [p.name for p in nomograms[0].file.predictors] if nomograms[0] else [],
        },
        "metrics": found,
    }
    seal(out, metadata)
    progress("done", 1.0)
    return metadata


# ------------------------------------------------------------------ the network


def _network(
    patients: Resnet50Patients,
    response: FloatArray,
    settings: Resnet50Training,
    work: Path,
    progress: Progress,
) -> Fitted:
    usable = np.flatnonzero(np.isfinite(response) & _shown(patients))
    label = response[usable]
    if len(usable) < _FEWEST or label.min() == label.max():
        raise TrainingDataError(
            f"ResNet50 + MLP needs {_FEWEST} training patients with tumour and known response, some of "
            f"whom responded and some not; there are {len(usable)}, of whom {int(label.sum())} responded"
        )
    streams = RandomStreams(settings.loop.seed)
    stop = stopping_part(label, settings.stopping_share, streams.derive("resnet50", "stopping"))
    learn, judge = usable[~stop], usable[stop]
    slices = [patients.slices[i] for i in learn]
    given = [s for s in slices if s is not None]
    clinical = patients.inputs()
    target = torch.from_numpy(np.nan_to_num(response)).float()
    torch.manual_seed(int(streams.derive("resnet50", "weights").integers(2**62)))
    network = ResponseNetwork(settings.network)

    def batch_loss(model: nn.Module, rng: np.random.Generator) -> Tensor:
        chosen = rng.integers(len(learn), size=min(settings.batch, len(learn)))
        device = next(model.parameters()).device
        rows = learn[chosen]
        log_odds = model(slice_batch(given, chosen, rng).to(device), clinical[rows].to(device))
        return nn.functional.binary_cross_entropy_with_logits(log_odds, target[rows].to(device))

    def validate(model: nn.Module) -> float:
        return _loss_of_patients(model, patients, judge, clinical, target)

    return fit(network, batch_loss, settings.loop, work, progress, validate if len(judge) else None)


def _shown(patients: Resnet50Patients) -> BoolArray:
    """Return who has a tumour that can be shown, (n,)."""
    return np.array([s is not None for s in patients.slices], dtype=np.bool_)


def _loss_of_patients(
    model: nn.Module, patients: Resnet50Patients, among: np.ndarray, clinical: Tensor, target: Tensor
) -> float:
    """Return the mean cross-entropy of patients, each by the average over its slices."""
    assert isinstance(model, ResponseNetwork)
    device = next(model.parameters()).device
    losses = []
    for i in among.tolist():
        slices = patients.slices[i]
        assert slices is not None
        features = model.image_features(as_tensor(slices).to(device)).mean(dim=0, keepdim=True)
        log_odds = model.joined(features, clinical[i : i + 1].to(device))
        loss = nn.functional.binary_cross_entropy_with_logits(log_odds, target[i : i + 1].to(device))
        losses.append(float(loss))
    return float(np.mean(losses))


def _looked_at(
    network: ResponseNetwork, patients: Resnet50Patients, typical: Mapping[str, float]
) -> tuple[PatientImageFeatures, ...]:
    inputs = patients.inputs() if patients.ids else torch.zeros((0, 1))
    return tuple(
        look(network, slices, inputs[i : i + 1], typical) for i, slices in enumerate(patients.slices)
    )


def _without_slices(settings: PerceptronSettings) -> dict[str, float]:
    """Return features that stand for a training patient without tumour until medians are known."""
    return {image_feature_name(n + 1): float("nan") for n in range(settings.image_features)}


def _typical(patients: Resnet50Patients, seen: Sequence[PatientImageFeatures]) -> dict[str, float]:
    """Return medians of what is known; a question that nobody answered counts as no."""
    columns = {name: [p[name] for p in patients.predictors] for name in PREDICTORS}
    columns |= {name: [s.features[name] for s in seen] for name in seen[0].features}
    known = {name: np.array(values)[np.isfinite(values)] for name, values in columns.items()}
    return {name: float(np.median(values)) if len(values) else 0.0 for name, values in known.items()}


# ------------------------------------------------------------------ the nomograms


def _nomograms(
    patients: Resnet50Patients,
    seen: Sequence[PatientImageFeatures],
    months: FloatArray,
    event: FloatArray,
    settings: Resnet50Training,
) -> tuple[Nomogram | None, Nomogram | None, Nomogram | None]:
    """Return nomograms of all predictors, of clinical ones and of image features."""
    names = list(seen[0].features)
    clinical = np.array([[p[name] for name in PREDICTORS] for p in patients.predictors])
    image = np.array([[s.features[name] for name in names] for s in seen])
    known = np.isfinite(months) & np.isfinite(image).all(axis=1)
    time, died = months[known], event[known] > 0
    image, clinical = image[known], clinical[known]
    places = _first_chosen(image, time, died, settings.nomogram_features)
    lines = [Line(names[i], names[i].replace("_", " ")) for i in places.tolist()]
    parts = (
        (np.concatenate([clinical, image[:, places]], axis=1), [*CLINICAL_LINES, *lines]),
        (clinical, list(CLINICAL_LINES)),
        (image[:, places], lines),
    )
    whole, alone, images = (_fitted(v, list(use), time, died, settings) for v, use in parts)
    return whole, alone, images


def _first_chosen(image: FloatArray, time: FloatArray, died: BoolArray, count: int) -> np.ndarray:
    """Return the places of the image features; none where the network gives the same for everybody."""
    if not (image.std(axis=0) > 1e-9).any():
        return np.zeros(0, dtype=np.intp)
    return chosen_features(image, time, died, count)


def _fitted(
    values: FloatArray, lines: list[Line], time: FloatArray, died: BoolArray, settings: Resnet50Training
) -> Nomogram | None:
    """Return a nomogram of the predictors that differ, None where there is none."""
    ok = differing(values)
    used = [line for line, differs in zip(lines, ok, strict=True) if differs]
    if not used:
        return None
    try:
        return fit_nomogram(values[:, ok], used, time, died, "pfs", settings.months)
    except ModelError as error:
        raise TrainingDataError(f"the nomogram cannot be fitted: {error}") from error
