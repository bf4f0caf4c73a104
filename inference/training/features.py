"""Features and outcomes of a cohort's patients as tables, read once and kept beside the training."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.errors import TrainingDataError
from inference.models.outcome.crops import PatientCrop, lesion_volumes
from inference.models.outcome.features import patient_features
from inference.models.protocols import Progress
from inference.results import FloatArray
from inference.training.cohort import NO_VALUE, Cohort, PatientImages
from inference.training.cohort_rows import clinical_of
from inference.training.network_channels import drawn_images

_LEAST_ML = 0.02


def crop_of(patient: PatientImages) -> PatientCrop:
    """Return the baseline of a prepared patient as the models see it."""
    images = patient.images.astype(np.float32)
    images[patient.images == NO_VALUE] = np.nan
    return PatientCrop(
        images,
        patient.liver.astype(np.float32) / np.float32(255.0),
        patient.fractions.astype(np.float32) / np.float32(255.0),
        patient.lesion,
    )


@dataclass(frozen=True, slots=True)
class LesionRow:
    """One lesion at one imaged follow-up; logarithms of ratios to its own and its patient's baseline."""

    months: float
    log_ratio: float
    patient_log_ratio: float
    log_size: float


@dataclass(frozen=True, slots=True)
class PatientTable:
    """Everything that the outcome model learns from the images.

    Attributes
    ----------
    ids : patients with viable tumour, in the order of the cohort
    features : one mapping a patient
    volumes : array, (patients, 3)
        Viable, dead and lipiodol-covered tumour at baseline in ml, measured on the crop.
    lesions : rows of lesions in follow-ups of patients with several
    new_lesions : array, (n, 2)
        Months and volume in ml of each new lesion that was imaged.
    """

    ids: tuple[str, ...]
    features: tuple[dict[str, float], ...]
    volumes: FloatArray
    lesions: tuple[LesionRow, ...]
    new_lesions: FloatArray


def patient_table(cohort: Cohort, ids: tuple[str, ...], kept: Path, progress: Progress) -> PatientTable:
    """Return the features of some patients; what was measured before is read from the file `kept`.

    Raises
    ------
    TrainingDataError
        No patient has viable tumour.
    """
    store: dict[str, Any] = {}
    if kept.is_file():
        stored = json.loads(kept.read_text(encoding="utf-8"))
        store = stored["patients"] if stored["cohort"] == cohort.info.sha256 else {}
    for count, patient_id in enumerate(ids):
        progress("measuring the images of training patients", count / max(len(ids), 1))
        if patient_id not in store:
            store[patient_id] = _measured(drawn_images(cohort, patient_id), cohort.row(patient_id))
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"cohort": cohort.info.sha256, "patients": store}), encoding="utf-8")
    usable = tuple(p for p in ids if store[p]["volumes"][0] > _LEAST_ML)
    if not usable:
        raise TrainingDataError("no training patient of the cohort has viable tumour")
    new = [row for p in usable for row in store[p]["new"]]
    return PatientTable(
        usable,
        tuple({k: float("nan") if v is None else v for k, v in store[p]["features"].items()} for p in usable),
        np.array([store[p]["volumes"] for p in usable], dtype=np.float64),
        tuple(LesionRow(*row) for p in usable for row in store[p]["lesions"]),
        np.array(new, dtype=np.float64).reshape(-1, 2),
    )


def _measured(patient: PatientImages, row: Mapping[str, Any]) -> dict[str, Any]:
    crop = crop_of(patient)
    features = patient_features(crop, clinical_of(row))
    base = lesion_ml(patient.fractions, patient.lesion)
    lesions: list[list[float]] = []
    new: list[list[float]] = []
    for seen in patient.follow_ups:
        now = lesion_ml(seen.fractions, seen.lesion)
        new += [
            [seen.months, float(now[number].sum())]
            for number in range(1, len(now))
            if now[number].sum() > _LEAST_ML and (number >= len(base) or base[number].sum() == 0)
        ]
        lesions += _several(base, now, seen.months)
    return {
        "features": {k: (v if math.isfinite(v) else None) for k, v in features.items()},
        "volumes": list(crop.volumes_ml()),
        "lesions": lesions,
        "new": new,
    }


def lesion_ml(fractions: npt.NDArray[np.uint8], lesion: npt.NDArray[np.uint8]) -> FloatArray:
    """Return the volumes of each lesion number in ml, (highest number + 1, 3); see `lesion_volumes`."""
    volumes = lesion_volumes(fractions.astype(np.float32) / np.float32(255.0), lesion)
    return volumes[: int(lesion.max()) + 1]


def _several(base: FloatArray, now: FloatArray, months: float) -> list[list[float]]:
    """Return rows of `LesionRow` for a patient with several lesions, none for others."""
    numbers = [n for n in range(1, len(base)) if base[n, 0] > 5 * _LEAST_ML]
    if len(numbers) < 2:
        return []
    later = [float(now[n, 0]) if n < len(now) else 0.0 for n in numbers]
    start = [float(base[n, 0]) for n in numbers]
    whole = math.log(sum(later) / sum(start) + 0.03)
    mean_size = float(np.mean([math.log(b) for b in start]))
    return [
        [months, math.log(a / b + 0.03), whole, math.log(b) - mean_size]
        for a, b in zip(later, start, strict=True)
    ]
