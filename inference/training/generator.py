"""``hepatocast train generator``: outcome models, regression network and flow network into a bundle."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inference.bundle_store import seal, told_of_start
from inference.errors import TrainingDataError
from inference.models.flow.conditions import CONDITIONS
from inference.models.flow.generator import GeneratorSettings
from inference.models.flow.network import NetworkSettings
from inference.models.flow.sampler import Draw
from inference.models.protocols import Progress, within
from inference.settings import Regimen
from inference.training.cohort import Cohort, Origin, Split
from inference.training.features import PatientTable, patient_table
from inference.training.generator_losses import GeneratorTraining
from inference.training.generator_networks import NetworkTraining
from inference.training.generator_start import GeneratorStart
from inference.training.outcome import fit_outcome_model
from inference.training.outcome_figures import evaluate_outcome_model

_log = logging.getLogger(__name__)

HONESTY = (
    "Trained on simulated patients: what it draws is a demonstration of the method. Its figures say how "
    "well it predicts simulated patients, and nothing about real ones."
)


def train_generator(
    cohorts: Sequence[Cohort],
    out: Path,
    regimens: Mapping[str, Regimen],
    settings: GeneratorTraining,
    progress: Progress,
    start: GeneratorStart | None = None,
) -> dict[str, Any]:
    """Train a generator and write its bundle; continues where an earlier run of the same settings stopped.

    Parameters
    ----------
    cohorts : sequence of Cohort
        One of CT, one of MR, or both.
    out : Path
        Folder of the bundle. Checkpoints and curves are in ``OUT.work`` beside it.
    start : GeneratorStart, optional
        Its networks are gone on from, and its outcome models kept where their modality is not trained.

    Returns
    -------
    dict
        The metadata of the bundle.

    Raises
    ------
    TrainingDataError
        Two cohorts have the same modality, there is nothing to learn from, ``OUT.work`` holds the
        checkpoints of another training, or a network without steps has no bundle to come from.
    """
    modalities = tuple(c.info.modality for c in cohorts)
    if len(set(modalities)) != len(modalities) or not cohorts:
        raise TrainingDataError("give one cohort, or one of CT and one of MR")
    network = NetworkSettings(conditions=CONDITIONS, widths=settings.widths)
    if start is not None:
        start.check(network)
    elif not all(settings.steps(draw) for draw in Draw):
        raise TrainingDataError("a network without steps needs a bundle to come from")
    work = out.with_name(out.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    _claim(work, cohorts, regimens, settings, start)
    (out / "models").mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {}
    kept = () if start is None else tuple(m for m in start.settings.modalities if m not in modalities)
    if start is not None:
        figures |= {m: start.copy_outcome_model(m, out) for m in kept}
    for index, cohort in enumerate(cohorts):
        report = within(progress, 0.2 * index / len(cohorts), 0.2 * (index + 1) / len(cohorts))
        figures[cohort.info.modality] = _outcome_model(cohort, out, work, regimens, settings, report)
    networks = NetworkTraining(cohorts, regimens, network, settings, out, work, start)
    figures["networks"] = networks.write(within(progress, 0.2, 1.0))
    sampler = settings.sampler if start is None or settings.flow_steps else start.settings.sampler
    stored = GeneratorSettings(
        modalities=tuple(sorted({*modalities, *kept})),
        network=network,
        sampler=sampler,
        draw=Draw.FLOW,
    )
    (out / "generator.json").write_text(stored.model_dump_json(indent=1) + "\n", encoding="utf-8")
    metadata = _metadata(cohorts, settings, figures, start)
    seal(out, metadata)
    return metadata


def _claim(
    work: Path,
    cohorts: Sequence[Cohort],
    regimens: Mapping[str, Regimen],
    settings: GeneratorTraining,
    start: GeneratorStart | None,
) -> None:
    """Note what the checkpoints in a folder belong to; refuse those of another training."""
    asked = {
        "cohorts": [f"{c.info.sha256} {c.left_out}".strip() for c in cohorts],
        "regimens": {k: regimens[k].model_dump(mode="json") for k in sorted(regimens)},
        # Name and version are a label on the result, and change nothing in it.
        "settings": settings.model_dump(mode="json", exclude={"name", "version"}),
        **({} if start is None else {"start": start.info.sha256}),
    }
    path = work / "training.json"
    text = json.dumps(asked, indent=1, sort_keys=True) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise TrainingDataError(
            f"{work.name} holds the checkpoints of a training with other settings or patients; "
            "remove that folder, or name another one for the bundle"
        )
    path.write_text(text, encoding="utf-8")


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


def _metadata(
    cohorts: Sequence[Cohort],
    settings: GeneratorTraining,
    figures: dict[str, Any],
    start: GeneratorStart | None,
) -> dict[str, Any]:
    before = "" if start is None else start.info.trained_on
    origin = least_real(
        [*(c.info.origin for c in cohorts), *(o for o in Origin if before.startswith(f"{o}:"))]
    )
    patients = sum(len(c.ids(Split.TRAIN)) for c in cohorts)
    names = ", ".join(c.info.name for c in cohorts)
    return {
        "name": settings.name,
        "version": settings.version,
        "kind": "generator",
        "format": "flow",
        "schema": 1,
        "task": "virtual follow-up images of liver tumours under treatment",
        "trained_on": f"{origin}: {names}, n {patients}" + (f", after {before}" if before else ""),
        "note": "" if origin is Origin.REAL else HONESTY,
        "cohorts": _seen(cohorts, start),
        **({} if start is None else {"started_from": told_of_start(start.info, start.metadata, "training")}),
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


def _seen(cohorts: Sequence[Cohort], start: GeneratorStart | None) -> list[dict[str, Any]]:
    """Return what the metadata say of all cohorts that any part of the bundle was trained on."""
    new = [
        {
            "name": c.info.name,
            "origin": str(c.info.origin),
            "modality": c.info.modality,
            "sha256": c.info.sha256,
            **({"left_out": c.left_out} if c.left_out else {}),
        }
        for c in cohorts
    ]
    before = [] if start is None else start.metadata.get("cohorts", [])
    return new + [c for c in before if c not in new]


def least_real(origins: Iterable[Origin]) -> Origin:
    """Return what a model trained on several cohorts is called; `StudyResults.demonstration` goes by it."""
    there = set(origins)
    return next(o for o in (Origin.SIMULATED, Origin.IMPLANTED, Origin.REAL) if o in there)


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
