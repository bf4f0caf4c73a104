"""Image vectors of the patients of a cohort: baseline and the follow-ups that the patient really had."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from inference.errors import TrainingDataError
from inference.models.image_features.sequences import ImageKind, PatientVectors, patient_vectors
from inference.models.image_features.vectors import ImageVectors
from inference.models.protocols import Progress
from inference.training.cohort import Cohort
from inference.training.features import crop_of
from inference.training.image_features.samples import follow_up_crop
from inference.training.network_channels import drawn_images


def cohort_vectors(
    cohort: Cohort, model: ImageVectors, ids: Sequence[str], kept: Path, progress: Progress
) -> Mapping[str, PatientVectors]:
    """Return the vectors of patients; those made before are read from the folder `kept`.

    Follow-ups under a regimen that the patient did not have, which only a simulation knows, are left out.

    Raises
    ------
    TrainingDataError
        The cohort is of another modality than the encoder, or the folder belongs to another cohort or
        encoder.
    """
    if cohort.info.modality != model.encoder.settings.modality:
        raise TrainingDataError(
            f"the image encoder reads {model.encoder.settings.modality}, the cohort is {cohort.info.modality}"
        )
    kept.mkdir(parents=True, exist_ok=True)
    belongs = hashlib.sha256(f"{cohort.info.sha256}\0{model.info.sha256}".encode()).hexdigest()
    told = kept / "source.sha256"
    if told.is_file() and told.read_text(encoding="utf-8") != belongs:
        raise TrainingDataError("the folder holds vectors of another cohort or encoder; choose an empty one")
    told.write_text(belongs, encoding="utf-8")
    found = {}
    for count, patient_id in enumerate(ids):
        progress("computing image vectors", count / max(len(ids), 1))
        found[patient_id] = _of_patient(cohort, model, patient_id, kept / f"{patient_id}.npz")
    return found


def _of_patient(cohort: Cohort, model: ImageVectors, patient_id: str, path: Path) -> PatientVectors:
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            kinds = tuple(ImageKind(kind) for kind in stored["kinds"].tolist())
            return PatientVectors(stored["vectors"], stored["months"], kinds)
    patient = drawn_images(cohort, patient_id)
    given = cohort.row(patient_id)["regimen_id"]
    images = [(ImageKind.BASELINE, 0.0, crop_of(patient))]
    images += [
        (ImageKind.REAL, seen.months, follow_up_crop(patient, seen))
        for seen in patient.follow_ups
        if seen.regimen_id == given
    ]
    found = patient_vectors(model, images)
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            vectors=found.vectors,
            months=found.months,
            kinds=np.array([str(kind) for kind in found.kinds]),
        )
    temporary.replace(path)
    return found
