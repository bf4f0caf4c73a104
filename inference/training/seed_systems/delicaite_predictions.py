"""What DELICAITE predicts for the patients of a cohort who had TACE or HAIC: survival without progression."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from inference.bundle_store import BundleDescription
from inference.errors import TrainingDataError
from inference.evaluation.predictions.folder import ModelPredictions
from inference.evaluation.predictions.models import Arm, EndPoint, ModelEntry
from inference.evaluation.predictions.patients import PFS, TRAIN, Patients
from inference.evaluation.predictions.survival_file import SurvivalPrediction
from inference.models.protocols import Progress
from inference.models.second_opinions.delicaite import DelicaiteReader
from inference.training.cohort import Cohort
from inference.training.seed_systems.delicaite import measure

_MONTHS = (6.0, 12.0, 24.0)


def predict(
    bundle: BundleDescription, cohort: Cohort, patients: Patients, progress: Progress
) -> tuple[ModelPredictions, ...]:
    """Return progression-free survival of all but the training patients, under the treatment that each had.

    Raises
    ------
    TrainingDataError
        Nobody progressed or died in the training, so the log odds of progression have no survival.
    """
    reader = DelicaiteReader.from_bundle(bundle.folder)
    file = reader.model.file
    if file.progression_free is None:
        raise TrainingDataError("the bundle has no survival: nobody progressed or died in its training")
    places = np.flatnonzero(~patients.in_split(TRAIN))
    ids = [patients.ids[int(i)] for i in places]
    with tempfile.TemporaryDirectory() as kept:
        months = file.progression_months
        found, _names = measure(cohort, ids, reader.slices, file.clinical, months, Path(kept), progress)
    score = reader.model.split(found.features).log_odds(found.treatment)
    risk = np.full(len(patients), np.nan)
    survival = np.full((len(patients), len(_MONTHS)), np.nan)
    risk[places] = file.progression_free.log_risk(score)
    survival[places] = file.progression_free.survival(score, np.array(_MONTHS))
    nothing = np.full_like(survival, np.nan)
    entry = ModelEntry(
        name="delicaite",
        title="DELICAITE",
        arm=Arm.BASELINE_IMAGES,
        end_points=(EndPoint.PFS,),
        kind="network of covariates that interact with treatment",
        predictors=("radiomics", "self-supervised features of slices", *file.clinical.names),
        trained_on=bundle.info.trained_on[:200],
        sha256=bundle.info.sha256,
    )
    told = SurvivalPrediction(np.array(_MONTHS), risk, survival, nothing, nothing)
    return (ModelPredictions(entry, {PFS: told}),)
