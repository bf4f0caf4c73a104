"""Radiomics LASSO-Cox of a cohort: measuring, fitting and writing the bundle, a comparator of seed 003.

Features of the baseline only. What a patient was measured at is kept beside the training, so that a run that
was stopped continues.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inference.bundle_store import BundleKind, seal
from inference.errors import TrainingDataError
from inference.evaluation.metrics import BoolArray
from inference.evaluation.survival.concordance import harrell_c
from inference.evaluation.survival.follow_up import FollowUp
from inference.imaging.radiomics.features import FeatureVector
from inference.models.image_features.patient_radiomics import patient_radiomics
from inference.models.lasso_cox import LassoCox
from inference.models.protocols import Progress
from inference.randomness import RandomStreams
from inference.results import FloatArray
from inference.settings import Frozen
from inference.training.cohort import Cohort, Split
from inference.training.features import crop_of
from inference.training.lasso_cox_fit import fit_lasso_cox
from inference.training.network_channels import drawn_images

ENDPOINTS = ("os", "pfs")


class RadiomicsCoxTraining(Frozen):
    """How a radiomics LASSO-Cox model is fitted."""

    endpoint: str = "os"
    seed: int = 0
    version: str = "1"


@dataclass(frozen=True, slots=True)
class RadiomicsTable:
    """Radiomics of some patients, (patients, names) with NaN for what is missing."""

    ids: tuple[str, ...]
    names: tuple[str, ...]
    values: FloatArray

    def of(self, place: int) -> dict[str, float]:
        """Return the features of one patient by name."""
        return {name: float(v) for name, v in zip(self.names, self.values[place], strict=True)}


def radiomics_table(cohort: Cohort, ids: Sequence[str], kept: Path, progress: Progress) -> RadiomicsTable:
    """Return the radiomics of patients; those measured before are read from the folder `kept`.

    Raises
    ------
    TrainingDataError
        The folder holds measurements of another cohort, or images cannot be read.
    """
    kept.mkdir(parents=True, exist_ok=True)
    told = kept / "cohort.sha256"
    if told.is_file() and told.read_text(encoding="utf-8") != cohort.info.sha256:
        raise TrainingDataError("the folder holds measurements of another cohort; choose an empty one")
    told.write_text(cohort.info.sha256, encoding="utf-8")
    rows: list[FloatArray] = []
    names: tuple[str, ...] = ()
    for count, patient_id in enumerate(ids):
        progress("measuring radiomics", count / max(len(ids), 1))
        found = _measured(cohort, patient_id, kept)
        rows.append(found.values)
        names = found.names
    return RadiomicsTable(tuple(ids), names, np.stack(rows) if rows else np.zeros((0, 0)))


def _measured(cohort: Cohort, patient_id: str, kept: Path) -> FeatureVector:
    path = kept / f"{patient_id}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            return FeatureVector(tuple(stored["names"].tolist()), stored["values"])
    found = patient_radiomics(crop_of(drawn_images(cohort, patient_id)), cohort.info.modality)
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as stream:
        np.savez_compressed(stream, names=np.array(found.names), values=found.values)
    temporary.replace(path)
    return found


def outcomes_of(cohort: Cohort, ids: Sequence[str], endpoint: str) -> tuple[FloatArray, BoolArray]:
    """Return months and whether the event was seen, of patients in an order.

    Raises
    ------
    TrainingDataError
        The end point is none of `ENDPOINTS`.
    """
    if endpoint not in ENDPOINTS:
        raise TrainingDataError(f"the end point is one of {', '.join(ENDPOINTS)}, not {endpoint}")
    table = cohort.patients.set_index("patient_id").loc[list(ids)]
    return (
        table[f"{endpoint}_months"].to_numpy(dtype=np.float64),
        table[f"{endpoint}_event"].to_numpy(dtype=np.float64) > 0,
    )


def train_radiomics_cox(
    cohort: Cohort, out: Path, work: Path, settings: RadiomicsCoxTraining, progress: Progress
) -> Mapping[str, Any]:
    """Fit the model on the training patients and write its bundle; return the metadata.

    ``metrics`` holds Harrell's C of the validation patients, which chose nothing; absent without events
    among them.

    Raises
    ------
    TrainingDataError
        No training patient has images.
    ModelError
        No event, or no usable feature.
    """
    ids, held = cohort.ids(Split.TRAIN), cohort.ids(Split.VALIDATION)
    if not ids:
        raise TrainingDataError("the cohort has no training patients")
    table = radiomics_table(cohort, (*ids, *held), work, progress)
    time, event = outcomes_of(cohort, ids, settings.endpoint)
    rng = RandomStreams(settings.seed).derive("radiomics cox", "inner folds")
    model = fit_lasso_cox(table.values[: len(ids)], table.names, time, event, rng)
    model.write(out)
    metadata = {
        "name": f"radiomics_cox_{cohort.info.modality.lower()}_{settings.endpoint}",
        "version": settings.version,
        "kind": BundleKind.SECOND_OPINION.value,
        "format": "radiomics_cox",
        "modality": cohort.info.modality,
        "schema": 1,
        "trained_on": f"{cohort.info.origin}: {cohort.info.name}, n={len(ids)}, events={int(event.sum())}",
        "endpoint": settings.endpoint,
        "cohort_sha256": cohort.info.sha256,
        "chosen": list(model.file.names),
        "metrics": _figures(model, table, cohort, held, settings.endpoint),
    }
    seal(out, metadata)
    return metadata


def _figures(
    model: LassoCox, table: RadiomicsTable, cohort: Cohort, held: Sequence[str], endpoint: str
) -> dict[str, float]:
    if len(held) < 2 or not model.file.names:
        return {}
    time, event = outcomes_of(cohort, held, endpoint)
    if not event.any():
        return {}
    first = len(table.ids) - len(held)
    risk = [model.log_risk(table.of(first + i)) for i in range(len(held))]
    return {"validation_c": round(harrell_c(FollowUp(time, event), risk), 4), "validation_n": len(held)}
