"""Train the networks of the default segmenter and write their bundle.

The synthetic training needs no data: label maps and images are drawn from the seed. A site's own
segmented cases can be mixed in. Each network is trained on its own, with a checkpoint in the work
folder; a bundle is written when all networks of the asked modalities are there.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import nn

from inference.bundle_store import seal, told_of_start
from inference.errors import TrainingDataError
from inference.evaluation.segmentation_cases import SegmentationCase
from inference.models.protocols import Progress
from inference.models.unet.network import UNet
from inference.models.unet.organs import COARSE_SPACING_MM, FINE_SPACING_MM, LiverPart, Organ
from inference.models.unet.segmenter import NetworkSpec
from inference.randomness import RandomStreams
from inference.results import Labels
from inference.settings import Frozen
from inference.training.loop import BatchLoss, Fitted, Keep, LoopSettings, Validate, fit
from inference.training.segmenter.cases import CoarseCases, FineCases, Mixed, prepare
from inference.training.segmenter.label_maps import random_label_map
from inference.training.segmenter.objectives import CoarseObjective, FineObjective
from inference.training.segmenter.start import Start

_log = logging.getLogger(__name__)

COARSE, FINE = "coarse", "fine"
_WIDTHS: Mapping[str, tuple[int, ...]] = {COARSE: (8, 24, 48, 96, 128), FINE: (8, 24, 48, 96)}
_INPUTS: Mapping[str, int] = {COARSE: 1, FINE: 3}
_CLASSES: Mapping[str, int] = {COARSE: len(Organ), FINE: len(LiverPart)}
_VALIDATION_MAPS = 8
_LIMITS = (
    "Outlines are proposals that a person must look at. Tumours smaller than 0.4 ml are left out; dark "
    "bands of beam hardening, and on MR fat beside the liver, can be taken for tumours; lipiodol, ablation "
    "zones and transplanted or resected livers were not measured."
)
_REVIEW = (
    "The networks that drew these outlines learned from synthetic images alone: they miss tumours, and draw "
    "some that are none."
)
"""Why outlines always wait for a person where the networks of a modality saw no case of the site."""


class SegmenterTraining(Frozen):
    """Settings of a training; the defaults made the shipped networks for CT."""

    modalities: tuple[str, ...] = ("CT", "MR")
    label_maps: int = Field(200, ge=4)
    coarse_steps: int = Field(
        3600, ge=0, description="0 keeps the network of the bundle that is gone on from"
    )
    fine_steps: int = Field(2600, ge=0, description="likewise")
    learning_rate: float = Field(2e-3, gt=0)
    validate_every: int = Field(50, ge=1)
    share_real: float = Field(0.5, ge=0, le=1, description="of steps on a site's own cases, if given")
    seed: int = Field(20261121, ge=0)

    def steps(self, stage: str) -> int:
        """Return how many steps a network is trained for."""
        return self.coarse_steps if stage == COARSE else self.fine_steps


@dataclass(frozen=True, slots=True)
class Trained:
    """One fitted network, how it is built, and the folder with its learning curve."""

    spec: NetworkSpec
    fitted: Fitted
    folder: Path


def label_bank(settings: SegmenterTraining, work: Path, workers: int, progress: Progress) -> Labels:
    """Return label maps (map, z, y, x), those of validation last; kept in the work folder."""
    count = settings.label_maps + _VALIDATION_MAPS
    path = work / f"label_maps_{settings.seed}_{count}.npy"
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        maps = []
        with ProcessPoolExecutor(workers) as pool:
            for index, one in enumerate(pool.map(_label_map, [settings.seed] * count, range(count))):
                maps.append(one)
                progress("drawing label maps", (index + 1) / count)
        temporary = path.with_suffix(".part.npy")
        np.save(temporary, np.stack(maps))
        temporary.replace(path)
    stored: Labels = np.load(path, mmap_mode="r")
    return stored


def _label_map(seed: int, index: int) -> Labels:
    return random_label_map(RandomStreams(seed).derive("map", index))


def train_network(
    stage: str,
    modality: str,
    settings: SegmenterTraining,
    bank: Labels,
    cases: Sequence[SegmentationCase],
    work: Path,
    progress: Progress,
    start: Start | None = None,
) -> Trained:
    """Fit one network, continuing from its checkpoint in the work folder.

    Without a checkpoint it begins with the weights of `start`, or with random ones.

    Raises
    ------
    TrainingDataError
        The network of `start` is built otherwise.
    """
    name = f"{modality.lower()}_{stage}"
    spec = NetworkSpec(
        file=f"models/{name}.safetensors",
        inputs=_INPUTS[stage],
        classes=_CLASSES[stage],
        widths=_WIDTHS[stage],
    )
    torch.manual_seed(settings.seed)
    network = UNet(spec.inputs, spec.classes, spec.widths)
    folder = work / name
    if start is not None:
        network.load_state_dict(start.weights(modality, stage, spec))
        folder = work / f"{name}_from_{start.info.sha256[:12]}"
    loop = LoopSettings(
        steps=settings.steps(stage),
        learning_rate=settings.learning_rate,
        validate_every=settings.validate_every,
        # The loss on held-out label maps rises with confidence long before real images get worse.
        keep=Keep.LAST,
        seed=settings.seed,
    )
    training, held_out = bank[:-_VALIDATION_MAPS], bank[-_VALIDATION_MAPS:]
    synthetic = _objective(stage, modality, training)
    own = [c for c in cases if c.modality == modality]
    asked: BatchLoss = synthetic
    if own:
        asked = Mixed(synthetic, _own_objective(stage, modality, own), settings.share_real)
    fitted = fit(network, asked, loop, folder, progress, _validation(stage, modality, held_out))
    return Trained(spec, fitted, folder)


def _objective(stage: str, modality: str, bank: Labels) -> CoarseObjective | FineObjective:
    return CoarseObjective(bank, modality) if stage == COARSE else FineObjective(bank, modality)


def _own_objective(stage: str, modality: str, cases: Sequence[SegmentationCase]) -> CoarseCases | FineCases:
    spacing = COARSE_SPACING_MM if stage == COARSE else FINE_SPACING_MM
    prepared = [prepare(c, spacing) for c in cases]
    return CoarseCases(prepared, modality) if stage == COARSE else FineCases(prepared, modality)


def _validation(stage: str, modality: str, bank: Labels) -> Validate:
    """Return the mean loss on pieces of held-out label maps, always the same ones."""
    objective = _objective(stage, modality, bank)

    def validate(model: nn.Module) -> float:
        losses = []
        for index in range(_VALIDATION_MAPS):
            torch.manual_seed(index)
            losses.append(float(objective(model, np.random.default_rng(index))))
        return float(np.mean(losses))

    return validate


def write_bundle(
    folder: Path,
    trained: Mapping[str, Mapping[str, Trained]],
    settings: SegmenterTraining,
    cases: Sequence[SegmentationCase] = (),
    start: Start | None = None,
) -> dict[str, Any]:
    """Write the bundle of the networks by modality and stage; return its metadata.

    Networks of `start` that were not trained are copied with what is said of them. Weights are stored in
    half precision, which moves no figure that was measured.
    """
    (folder / "models").mkdir(parents=True, exist_ok=True)
    (folder / "docs").mkdir(exist_ok=True)
    networks: dict[str, Any] = {}
    figures: dict[str, Any] = {}
    kept = start.segmenter.specs.keys() if start is not None else set()
    for modality in sorted(trained.keys() | kept):
        stages = trained.get(modality, {})
        entry = {**start.metadata["networks"][modality]} if start is not None and modality in kept else {}
        if stages:
            entry["review"] = "" if any(c.modality == modality for c in cases) else _REVIEW
        elif start is not None and start.simulated:
            entry["review"] = _REVIEW
        for stage in (COARSE, FINE):
            name = f"{modality.lower()}_{stage}"
            if stage in stages:
                entry[stage] = stages[stage].spec.model_dump(mode="json")
                figures[name] = _write_network(folder, name, stages[stage])
            elif start is not None:
                figures[name] = _copy_network(folder, name, entry[stage]["file"], start)
        networks[modality] = entry
    metadata = {
        "name": "segmenter",
        "version": "1",
        "kind": "segmenter",
        "format": "unet",
        "task": "liver, tumours and the organs that tell the contrast phase, on CT and MR",
        "trained_on": _trained_on(settings, len(cases), start),
        "command": "hepatocast train segmenter",
        "limits": _LIMITS,
        "settings": settings.model_dump(mode="json"),
        "networks": networks,
        "training": figures,
    }
    if start is not None:
        metadata["started_from"] = told_of_start(start.info, start.metadata, "settings")
    seal(folder, metadata)
    return metadata


def _write_network(folder: Path, name: str, trained: Trained) -> dict[str, Any]:
    """Write weights and learning curve of a network; return its figures."""
    weights = {k: v.half().contiguous() for k, v in trained.fitted.model.state_dict().items()}
    save_file(weights, folder / trained.spec.file)
    shutil.copyfile(trained.folder / "learning_curve.csv", folder / _curve(name))
    return {
        "steps": trained.fitted.steps,
        "kept_step": trained.fitted.kept_step,
        "validation_loss": round(trained.fitted.kept_figure, 4),
        "steps_left_out": trained.fitted.skipped,
    }


def _copy_network(folder: Path, name: str, file: str, start: Start) -> dict[str, Any]:
    """Copy weights and learning curve of a network of another bundle; return its figures."""
    for path in (file, _curve(name)):
        shutil.copyfile(start.folder / path, folder / path)
    figures: dict[str, Any] = start.metadata["training"][name]
    return figures


def _curve(network: str) -> str:
    return f"docs/{network}.csv"


def _trained_on(settings: SegmenterTraining, own_cases: int, start: Start | None) -> str:
    """Return ``trained_on``; what has seen a real image once stays real."""
    synthetic = f"synthetic images of random label maps, n={settings.label_maps}"
    if own_cases:
        return f"real: {own_cases} segmented cases of the site, beside {synthetic}"
    if start is not None and not start.simulated:
        return f"{start.info.trained_on}; then {synthetic}"
    return f"simulated: {synthetic}"


def _check_steps(settings: SegmenterTraining, modality: str) -> None:
    """Refuse to leave out a network that no other bundle has."""
    for stage in (COARSE, FINE):
        if not settings.steps(stage):
            raise TrainingDataError(
                f"the {stage} network for {modality} has no steps, and there is no bundle to take it from"
            )


def train_segmenter(
    settings: SegmenterTraining,
    out: Path,
    work: Path,
    progress: Progress,
    cases: Sequence[SegmentationCase] = (),
    workers: int = 1,
    start: Start | None = None,
) -> dict[str, Any]:
    """Train all networks of the asked modalities and write the bundle; return its metadata.

    Parameters
    ----------
    work : Path
        Takes label maps and checkpoints; a second run with the same settings continues there.
    cases : a site's own cases, mixed into the training of their modality
    start : a bundle whose networks are gone on from, and kept where their modality is not trained

    Raises
    ------
    TrainingDataError
        The networks of `start` are built otherwise, or it has none where none is trained.
    """
    for modality in settings.modalities:
        if start is None or modality not in start.segmenter.specs:
            _check_steps(settings, modality)
    bank = label_bank(settings, work, workers, progress)
    trained: dict[str, dict[str, Trained]] = {}
    for modality in settings.modalities:
        for stage in (s for s in (COARSE, FINE) if settings.steps(s)):
            _log.info("training the %s network for %s", stage, modality)
            trained.setdefault(modality, {})[stage] = train_network(
                stage, modality, settings, bank, cases, work, progress, start
            )
    return write_bundle(out, trained, settings, cases, start)
