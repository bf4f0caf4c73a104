"""What ResNet50 + MLP and its comparators predict for the patients of a cohort."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from inference.bundle_store import BundleDescription
from inference.clinical.nomogram import Nomogram
from inference.evaluation.predictions.folder import ModelPredictions
from inference.evaluation.predictions.models import Arm, EndPoint, ModelEntry, Role
from inference.evaluation.predictions.patients import PFS, TRAIN, Patients
from inference.evaluation.predictions.survival_file import SurvivalPrediction
from inference.models.protocols import Progress
from inference.models.second_opinions.resnet50 import PatientImageFeatures, Resnet50Model
from inference.results import FloatArray
from inference.training.cohort import Cohort
from inference.training.seed_systems.resnet50_figures import nomogram_values
from inference.training.seed_systems.resnet50_patients import Resnet50Patients, resnet50_patients

_MONTHS = (12.0, 18.0, 24.0, 36.0)


def predict(
    bundle: BundleDescription, cohort: Cohort, patients: Patients, progress: Progress
) -> tuple[ModelPredictions, ...]:
    """Return response and progression-free survival of all but the training patients.

    The nomograms of clinical predictors and of image features alone stand beside that of both. A missing
    value is taken as the median of the training patients, so that everybody is measured.
    """
    model = Resnet50Model.from_bundle(bundle.folder)
    places = np.flatnonzero(~patients.in_split(TRAIN))
    ids = [patients.ids[int(i)] for i in places]
    with tempfile.TemporaryDirectory() as kept:
        read = resnet50_patients(cohort, ids, model.file.network.residual, Path(kept), progress)
    seen = [model.look(s, p) for s, p in zip(read.slices, read.predictors, strict=True)]
    response = np.full(len(patients), np.nan)
    response[places] = [s.response for s in seen]
    ends = (EndPoint.RESPONSE, EndPoint.PFS)
    entry = _entry(
        model, "resnet50-mlp", "ResNet50 + MLP, nomogram", Arm.BASELINE_IMAGES, ends, model.nomogram
    )
    found = [
        ModelPredictions(entry, _pfs(model, model.nomogram, read, seen, places, len(patients)), response)
    ]
    for name, title, arm, nomogram in (
        ("clinical-nomogram", "Nomogram, clinical values", Arm.CLINICAL, model.clinical),
        ("image-nomogram", "Nomogram, image features", Arm.OTHER, model.image),
    ):
        if nomogram is not None:
            entry = _entry(model, name, title, arm, (EndPoint.PFS,), nomogram)
            found.append(ModelPredictions(entry, _pfs(model, nomogram, read, seen, places, len(patients))))
    return tuple(found)


def _entry(
    model: Resnet50Model, name: str, title: str, arm: Arm, ends: tuple[EndPoint, ...], nomogram: Nomogram
) -> ModelEntry:
    predictors = tuple(p.label for p in nomogram.file.predictors)
    return ModelEntry(
        name=name,
        title=title,
        arm=arm,
        end_points=ends,
        role=Role.REFERENCE if arm is Arm.CLINICAL else Role.CANDIDATE,
        parameters=len(predictors),
        kind="residual network on tumour slices, Cox nomogram"
        if EndPoint.RESPONSE in ends
        else "Cox nomogram",
        predictors=predictors,
        trained_on=model.info.trained_on[:200],
        sha256=model.info.sha256,
    )


def _pfs(
    model: Resnet50Model,
    nomogram: Nomogram,
    read: Resnet50Patients,
    seen: list[PatientImageFeatures],
    places: np.ndarray,
    n: int,
) -> dict[str, SurvivalPrediction]:
    totals = np.array(
        [
            nomogram.score(nomogram_values(nomogram, p, s.features, model.file.typical)).total
            for p, s in zip(read.predictors, seen, strict=True)
        ]
    )
    survival = np.stack([nomogram.survival(totals, m) for m in _MONTHS], axis=1)
    nothing = np.full((n, len(_MONTHS)), np.nan)
    return {
        PFS: SurvivalPrediction(
            months=np.array(_MONTHS),
            risk=spread(totals * nomogram.per_point, places, n),
            survival=spread(survival, places, n),
            lower=nothing,
            upper=nothing,
        )
    }


def spread(values: FloatArray, places: np.ndarray, n: int) -> FloatArray:
    """Return values of some of n patients at their places, (n, ...), NaN elsewhere."""
    found = np.full((n, *values.shape[1:]), np.nan)
    found[places] = values
    return found
