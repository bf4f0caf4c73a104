"""Trains the protocol's survival model on a cohort and writes its bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from inference.bundle_store import BundleKind, seal
from inference.models.protocols import Progress
from inference.models.survival.files import write_model
from inference.models.survival.model import EVIDENCE, FORMAT
from inference.randomness import RandomStreams
from inference.training.cohort import Cohort, Split
from inference.training.cohort_evidence import read_evidence
from inference.training.survival.figures import figures
from inference.training.survival.fit import FitResult, SurvivalSettings, fit_survival
from inference.training.survival.rows import SurvivalRows
from inference.training.survival.sources import ImageFile, read_image_file, rows_of_cohort

NAME, VERSION = "protocol_survival", "1.0.0"


def train_bundle(
    cohort_folder: Path,
    image_file: Path | None,
    out: Path,
    settings: SurvivalSettings,
    seed: int,
    progress: Progress,
) -> Mapping[str, Any]:
    """Train on a prepared cohort and write a bundle; returns its metadata.

    Parameters
    ----------
    image_file : Path or None
        See `inference.training.survival.sources.write_image_file`; None: clinical values alone.

    Raises
    ------
    TrainingDataError
        The cohort or the file cannot be read, or no training patient has an event.
    """
    cohort = Cohort.open(cohort_folder)
    images = None if image_file is None else read_image_file(image_file)
    evidence = read_evidence(cohort_folder)
    rows = rows_of_cohort(cohort, images, evidence)
    result = fit_survival(rows, settings, RandomStreams(seed), progress)
    out.mkdir(parents=True, exist_ok=True)
    write_model(out, result.model, settings.networks.size)
    train = rows.split == Split.TRAIN.value
    events = int((rows.outcomes["os"].event & rows.outcomes["os"].known & train).sum())
    told = f"{cohort.info.origin}: {cohort.info.name}, n={int(train.sum())}, events={events}"
    metadata = {
        "name": NAME,
        "version": VERSION,
        "kind": BundleKind.SURVIVAL.value,
        "format": FORMAT,
        "trained_on": told,
        "cohort": {"name": cohort.info.name, "sha256": cohort.info.sha256},
        "command": f"hepatocast train survival COHORT{_images_option(images)} --out BUNDLE_DIR",
        "seed": seed,
        # A served model compares these with the encoders that are loaded, and takes vectors of no other.
        EVIDENCE: {
            "image_encoder": "" if images is None else images.encoder,
            "text_encoder": evidence.texts.encoder,
            "angiogram_encoder": evidence.angiographies.encoder,
        },
        # Virtual images of its training were drawn by these, each of patients that it never saw.
        "generators": [] if images is None else list(images.generators),
        "training": _training(rows, result),
        "metrics": _metrics(rows, result),
    }
    seal(out, metadata)
    return metadata


def _images_option(images: ImageFile | None) -> str:
    """Return the option that gave the images; a file of another program names no encoder."""
    if images is None:
        return ""
    if not images.encoder:
        return " --images FILE"
    return " --image-vectors BUNDLE" + " --generator BUNDLE" * len(images.generators)


def _training(rows: SurvivalRows, result: FitResult) -> dict[str, Any]:
    train = rows.split == Split.TRAIN.value
    return {
        "patients": int(train.sum()),
        "events": {name: int((o.event & o.known & train).sum()) for name, o in rows.outcomes.items()},
        "image_kinds": list(rows.image_kinds),
        "laboratory": list(rows.laboratory),
        "patients_with": _patients_with(rows, train),
        "regimens": list(result.model.layout.regimens),
        "network_steps": result.choice.steps,
        "network_share": dict(zip(rows.outcomes, result.choice.shares, strict=True)),
        "penalties": {
            name: {part: "left out" if np.isinf(p) else p for part, p in penalties.items()}
            for name, penalties in result.penalties.items()
        },
        "scales": {
            name: {s.scale.value: round(s.weight, 3) for s in part.skip.scales}
            for name, part in result.model.endpoints.items()
        },
        "calibrated_on_validation_patients": result.calibrated,
    }


def _patients_with(rows: SurvivalRows, train: np.ndarray) -> dict[str, int]:
    """Count the training patients who have something of each modality."""
    inputs = rows.inputs
    known = {
        "text": np.isfinite(inputs.text).all(axis=1) & (inputs.text.shape[1] > 0),
        "images": inputs.images.known.any(axis=1),
        **{name: tokens.known.any(axis=1) for name, tokens in inputs.beside.items()},
    }
    return {name: int((has & train).sum()) for name, has in known.items()}


def _metrics(rows: SurvivalRows, result: FitResult) -> dict[str, Any]:
    """Figures of the test patients, with and without their images; nothing where there are none."""
    test = rows.part(Split.TEST)
    if test is None:
        return {}
    found: dict[str, Any] = {"test": figures(result.model, test)}
    if rows.image_kinds:
        found["test_without_images"] = figures(result.model, without_images(test))
    return found


def without_images(rows: SurvivalRows) -> SurvivalRows:
    """Return the same patients with no image known."""
    images = rows.inputs.images
    hidden = replace(images, known=np.zeros_like(images.known))
    return replace(rows, inputs=replace(rows.inputs, images=hidden))
