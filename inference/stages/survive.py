"""Survival under each regimen."""

from __future__ import annotations

from collections.abc import Mapping

from inference.case import ClinicalRecord
from inference.models.protocols import SurvivalModel
from inference.results import LesionMeasurement, Survival
from inference.settings import PipelineSettings


def survive(
    clinical: ClinicalRecord,
    baseline_lesions: tuple[LesionMeasurement, ...],
    settings: PipelineSettings,
    model: SurvivalModel,
) -> Mapping[str, Survival]:
    """Predict survival under each regimen of the settings.

    Returns
    -------
    mapping of str to Survival
        By regimen id; an end point that the model does not cover is `NotAssessed` with the reason.
    """
    return {r.id: model.predict(clinical, baseline_lesions, r) for r in settings.regimens}
