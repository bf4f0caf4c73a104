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
from safetensors.torch import save_file

from inference.bundle_store import seal
from inference.errors import TrainingDataError
from inference.models.flow.conditions import CONDITIONS
from inference.models.flow.generator import GeneratorSettings
from inference.models.flow.network import ChangeNetwork, NetworkSettings
from inference.models.flow.sampler import Draw
from inference.models.protocols import Progress, within
from inference.settings import Regimen
from inference.training.cohort import Cohort, Origin, Split
from inference.training.features import PatientTable, patient_table
from inference.training.generator_data import Examples, typical_levels
from inference.training.generator_losses import (
    DeepFeatures,
    GeneratorTraining,
    flow_loss,
    regression_loss,
    validation,
)
from inference.training.loop import Fitted, LoopSettings, best_device, fit
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
        Two cohorts have the same modality, there is nothing to learn from, or ``OUT.work`` holds the
        checkpoints of another training.
    """
    modalities = tuple(c.info.modality for c in cohorts)
    if len(set(modalities)) != len(modalities) or not cohorts:
        raise TrainingDataError("give one cohort, or one of CT and one of MR")
    work = out.with_name(out.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    _claim(work, cohorts, regimens, settings)
    (out / "models").mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {}
    for index, cohort in enumerate(cohorts):
        report = within(progress, 0.2 * index / len(cohorts), 0.2 * (index + 1) / len(cohorts))
        figures[cohort.info.modality] = _outcome_model(cohort, out, work, regimens, settings, report)
    training = Examples(cohorts, _ids(cohorts, Split.TRAIN), regimens)
    held = Examples(cohorts, _spread(_ids(cohorts, Split.VALIDATION)), regimens, 500_000_000)
    network = NetworkSettings(conditions=CONDITIONS, widths=settings.widths)
    start = new_network(network, settings.seed)
    start.start_at(torch.from_numpy(typical_levels(training)))
    regression = fit(
        start,
        regression_loss(training, settings),
        _loop(settings, settings.regression_steps),
        work / "regression",
        within(progress, 0.2, 0.5),
        validation(held, settings, Draw.REGRESSION),
    )
    _need_learned(regression, "regression", held)
    flow = _fit_flow(network, regression, training, held, settings, work, within(progress, 0.5, 1.0))
    _need_learned(flow, "flow", held)
    _write_network(out, Draw.REGRESSION, regression)
    _write_network(out, Draw.FLOW, flow)
    figures["networks"] = {
        name: {
            "steps": f.steps,
            "kept_step": f.kept_step,
            "validation": _number(f.kept_figure),
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


def _need_learned(fitted: Fitted, name: str, held: Examples) -> None:
    if len(held) and fitted.kept_step == 0:
        raise TrainingDataError(
            f"the {name} network is no better on the validation patients than before its training: it would "
            "draw the baseline again; look at learning_curve.png, and give more patients or more steps"
        )


def _claim(
    work: Path, cohorts: Sequence[Cohort], regimens: Mapping[str, Regimen], settings: GeneratorTraining
) -> None:
    """Note what the checkpoints in a folder belong to; refuse those of another training."""
    asked = {
        "cohorts": [f"{c.info.sha256} {c.left_out}".strip() for c in cohorts],
        "regimens": {k: regimens[k].model_dump(mode="json") for k in sorted(regimens)},
        # Name and version are a label on the result, and change nothing in it.
        "settings": settings.model_dump(mode="json", exclude={"name", "version"}),
    }
    path = work / "training.json"
    text = json.dumps(asked, indent=1, sort_keys=True) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise TrainingDataError(
            f"{work.name} holds the checkpoints of a training with other settings or patients; "
            "remove that folder, or name another one for the bundle"
        )
    path.write_text(text, encoding="utf-8")


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
        validate_every=max(min(settings.validate_every, steps // 4), 1),
        patience=settings.patience,
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


def _spread(ids: list[tuple[int, str]], most: int = 40) -> list[tuple[int, str]]:
    """Return some patients from all parts of a list."""
    return ids[:: max(math.ceil(len(ids) / most), 1)]


def _write_network(out: Path, draw: Draw, fitted: Fitted) -> None:
    weights = {k: v.to(torch.float16).contiguous() for k, v in fitted.model.state_dict().items()}
    save_file(weights, out / "models" / f"{draw.value}.safetensors")


def _metadata(
    cohorts: Sequence[Cohort], settings: GeneratorTraining, figures: dict[str, Any]
) -> dict[str, Any]:
    origin = least_real(c.info.origin for c in cohorts)
    patients = sum(len(c.ids(Split.TRAIN)) for c in cohorts)
    names = ", ".join(c.info.name for c in cohorts)
    return {
        "name": settings.name,
        "version": settings.version,
        "kind": "generator",
        "format": "flow",
        "schema": 1,
        "task": "virtual follow-up images of liver tumours under treatment",
        "trained_on": f"{origin}: {names}, n {patients}",
        "note": "" if origin is Origin.REAL else HONESTY,
        "cohorts": [
            {
                "name": c.info.name,
                "origin": str(c.info.origin),
                "modality": c.info.modality,
                "sha256": c.info.sha256,
                **({"left_out": c.left_out} if c.left_out else {}),
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


def least_real(origins: Iterable[Origin]) -> Origin:
    """Return what a model trained on several cohorts is called; `StudyResults.demonstration` goes by it."""
    there = set(origins)
    return next(o for o in (Origin.SIMULATED, Origin.IMPLANTED, Origin.REAL) if o in there)


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
