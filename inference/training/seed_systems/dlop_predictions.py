"""What DLOP_Combin and its four comparators predict for the patients of a cohort, from the landmark on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from inference.bundle_store import BundleDescription
from inference.evaluation.predictions.folder import ModelPredictions
from inference.evaluation.predictions.models import Arm, EndPoint, ModelEntry, Role
from inference.evaluation.predictions.patients import OS, TRAIN, Patients
from inference.evaluation.predictions.survival_file import SurvivalPrediction
from inference.models.protocols import Progress
from inference.models.second_opinions.dlop import YEAR_ENDS, DlopModel
from inference.models.second_opinions.dlop_factors import TITLES
from inference.training.cohort import Cohort
from inference.training.seed_systems.dlop_patients import Forecast, dlop_patients, forecasts
from inference.training.seed_systems.landmark import landmarked
from inference.training.seed_systems.resnet50_predictions import spread

_TITLES = {
    "dlop-combin": ("DLOP_Combin", "ResNet101 and perceptron, survival by year"),
    "dlop-ctr": ("DLOP_CTR, images alone", "ResNet101, survival by year"),
    "dlop-cox": ("DLOP_Cox, image risk and factors", "Cox model"),
    "radiomics-cox": ("Radiomics LASSO-Cox", "lasso Cox model"),
    "clinical-cox": ("Clinical Cox", "Cox model"),
}
_LEAST = 1e-12
_SYSTEM, _REFERENCE = "dlop-combin", "clinical-cox"


def predict(
    bundle: BundleDescription, cohort: Cohort, patients: Patients, progress: Progress
) -> tuple[ModelPredictions, ...]:
    """Return survival of all but the training patients who are alive and followed at the landmark."""
    model = DlopModel.from_bundle(bundle.folder)
    landmark = model.file.landmark_months
    asked = [p for p, training in zip(patients.ids, patients.in_split(TRAIN), strict=True) if not training]
    followed = landmarked(cohort, asked, landmark)
    with tempfile.TemporaryDirectory() as kept:
        read = dlop_patients(
            cohort, followed.ids, followed.response, model.file.residual, Path(kept), progress
        )
    months = np.array([landmark, *YEAR_ENDS])
    found = forecasts(read, model.file, model.networks, model.comparators, months)
    at = {p: i for i, p in enumerate(patients.ids)}
    places = np.array([at[p] for p in followed.ids], dtype=np.intp)
    return tuple(
        ModelPredictions(_entry(model, name), {OS: _survival(forecast, months, places, len(patients))})
        for name, forecast in found.items()
    )


def _survival(forecast: Forecast, months: np.ndarray, places: np.ndarray, n: int) -> SurvivalPrediction:
    nothing = np.full((n, len(months)), np.nan)
    return SurvivalPrediction(
        months=months,
        risk=spread(forecast.risk, places, n),
        survival=spread(forecast.survival, places, n),
        lower=nothing,
        upper=nothing,
    )


def _entry(model: DlopModel, name: str) -> ModelEntry:
    title, kind = _TITLES[name]
    factors = tuple(TITLES[s.name] for s in model.file.factors)
    radiomics = model.comparators.radiomics
    predictors = {
        "dlop-combin": ("tumour slices", *factors),
        "dlop-ctr": ("tumour slices",),
        "dlop-cox": ("risk of the image network", *factors),
        "radiomics-cox": () if radiomics is None else radiomics.file.names,
        "clinical-cox": factors,
    }[name]
    return ModelEntry(
        name=name,
        title=title,
        # Response is seen on follow-up images: no arm of the protocol that knows the baseline only.
        arm=Arm.OTHER,
        end_points=(EndPoint.OS,),
        role=Role.REFERENCE if name == _REFERENCE else Role.CANDIDATE,
        landmark_months=model.file.landmark_months,
        risk_cut=_risk_cut(model.file.risk_cut) if name == _SYSTEM else None,
        parameters=len(predictors) or None,
        kind=kind,
        predictors=predictors,
        trained_on=model.info.trained_on[:200],
        sha256=model.info.sha256,
    )


def _risk_cut(survival: float | None) -> float | None:
    """Return the log cumulative hazard of a three-year survival."""
    if survival is None:
        return None
    return float(np.log(max(-np.log(min(max(survival, _LEAST), 1.0)), _LEAST)))
