"""What SELECTION and its comparators predict for the patients of a cohort, each by its regimen's network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from inference.bundle_store import BundleDescription, describe
from inference.errors import TrainingDataError
from inference.evaluation.predictions.folder import ModelPredictions
from inference.evaluation.predictions.models import Arm, EndPoint, ModelEntry, Role
from inference.evaluation.predictions.patients import OS, TRAIN, Patients
from inference.evaluation.predictions.survival_file import HORIZONS, SurvivalPrediction
from inference.models.protocols import Progress
from inference.models.second_opinions.cohort_models import CohortModel, CohortModels, Target
from inference.models.second_opinions.cohort_networks import Architecture
from inference.results import FloatArray
from inference.training.cohort import Cohort
from inference.training.seed_systems.cohort_data import CohortSlices, cohort_slices
from inference.training.seed_systems.cohort_fit import log_odds
from inference.training.seed_systems.cohort_models import COMPARATORS, COMPARED_WITH

_TITLES = {
    Architecture.SELECTION: ("SELECTION", Arm.BASELINE_IMAGES),
    Architecture.VIT: ("Vision transformer, images alone", Arm.OTHER),
    Architecture.RESNET_LOGISTIC: ("ResNet + logistic regression", Arm.OTHER),
    Architecture.CLINICAL_LOGISTIC: ("Logistic regression, clinical values", Arm.CLINICAL),
}


@dataclass(frozen=True, slots=True)
class _Asked:
    """Patients who are no training patients, and the networks of one bundle."""

    cohort: Cohort
    slices: CohortSlices
    patients: Patients
    bundle: BundleDescription
    models: CohortModels

    def score(self, model: CohortModel, places: Sequence[int]) -> FloatArray:
        """Return the log odds of patients by one network, (places,)."""
        ids = [self.patients.ids[i] for i in places]
        inputs = self.slices.inputs(self.cohort, ids, self.models.file.clinical)
        return log_odds(self.models.networks[model.therapy], inputs)

    def places(self, model: CohortModel) -> list[int]:
        """Return the places of the patients whom a network is asked about."""
        asked = np.isin(self.patients.regimen, model.regimens) & ~self.patients.in_split(TRAIN)
        return [int(i) for i in np.flatnonzero(asked)]

    def entry(self, end_point: EndPoint, landmark: float) -> ModelEntry:
        """Return what the folder of predictions says of the networks."""
        architecture = self.models.file.network.architecture
        title, arm = _TITLES[architecture]
        names = self.models.file.clinical.names if architecture is not Architecture.VIT else ()
        images = () if arm is Arm.CLINICAL else ("slice with the largest tumour, two phases",)
        return ModelEntry(
            name=str(architecture),
            title=title,
            arm=arm,
            end_points=(end_point,),
            role=Role.REFERENCE if arm is Arm.CLINICAL else Role.CANDIDATE,
            landmark_months=landmark,
            kind="one network for each cohort of treatment",
            predictors=(*images, *names),
            trained_on=self.bundle.info.trained_on[:200],
            sha256=self.bundle.info.sha256,
        )


def predict_response(
    bundle: BundleDescription, cohort: Cohort, patients: Patients, progress: Progress
) -> tuple[ModelPredictions, ...]:
    """Return objective response of all but the training patients, with the comparators of the bundle.

    Raises
    ------
    TrainingDataError
        The bundle has no model of response.
    """
    if not bundle.metadata.get("response_regimens"):
        raise TrainingDataError("the bundle has no model of response; too few had TACE or HAIC alone")
    found = []
    for asked in _asked(bundle, cohort, patients, progress):
        response = np.full(len(patients), np.nan)
        for model in asked.models.file.models:
            places = asked.places(model)
            if places and model.target is Target.RESPONSE:
                response[places] = expit(asked.score(model, places))
        found.append(ModelPredictions(asked.entry(EndPoint.RESPONSE, 0.0), response=response))
    return tuple(found)


def predict_survival(
    bundle: BundleDescription, cohort: Cohort, patients: Patients, progress: Progress
) -> tuple[ModelPredictions, ...]:
    """Return overall survival after the landmark, with the comparators of the bundle.

    Raises
    ------
    TrainingDataError
        No patient of a cohort died in the training, so its scores have no survival.
    """
    found = []
    for asked in _asked(bundle, cohort, patients, progress):
        risk = np.full(len(patients), np.nan)
        survival = np.full((len(patients), len(HORIZONS)), np.nan)
        for model in asked.models.file.models:
            places = asked.places(model)
            if not places:
                continue
            if model.overall_survival is None:
                raise TrainingDataError(
                    f"the model of {model.title} has no survival: nobody died in its training"
                )
            score = asked.score(model, places)
            survival[places] = model.overall_survival.survival(score, np.array(HORIZONS))
            # Networks of several cohorts tell several outcomes: what they have in common is the hazard.
            at_two_years = np.clip(survival[places, 1], 1e-6, 1.0 - 1e-6)
            risk[places] = np.log(-np.log(at_two_years))
        nothing = np.full_like(survival, np.nan)
        told = SurvivalPrediction(np.array(HORIZONS), risk, survival, nothing, nothing)
        landmark = asked.models.file.landmark_months
        found.append(ModelPredictions(asked.entry(EndPoint.OS, landmark), {OS: told}))
    return tuple(found)


def _asked(
    bundle: BundleDescription, cohort: Cohort, patients: Patients, progress: Progress
) -> tuple[_Asked, ...]:
    """Return the networks of a bundle and of its comparators, with the patients they are asked about."""
    folders = [bundle.folder / COMPARATORS / a for a in COMPARED_WITH]
    bundles = [bundle, *(describe(f) for f in folders if f.is_dir())]
    models = [CohortModels.read(b.folder) for b in bundles]
    ids = [p for p, t in zip(patients.ids, patients.in_split(TRAIN), strict=True) if not t]
    side = models[0].file.network.side
    slices = cohort_slices(cohort, ids, side, None, progress).filled(ids, side)
    return tuple(_Asked(cohort, slices, patients, b, m) for b, m in zip(bundles, models, strict=True))
