"""Survival under each regimen."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType

from inference.case import ClinicalRecord
from inference.errors import UnsupportedRegimen
from inference.models.evidence import NOTHING_MORE, Evidence
from inference.models.protocols import SurvivalModel
from inference.results import LesionMeasurement, NotAssessed, Reason, Survival
from inference.settings import PipelineSettings, Regimen

_log = logging.getLogger(__name__)


def survive(
    clinical: ClinicalRecord,
    baseline_lesions: tuple[LesionMeasurement, ...],
    settings: PipelineSettings,
    model: SurvivalModel,
    evidence: Mapping[str, Evidence] = MappingProxyType({}),
) -> Mapping[str, Survival]:
    """Predict survival under each regimen of the settings.

    Parameters
    ----------
    evidence : mapping of str to Evidence
        By regimen id, as `inference.stages.describe.describe` returns it; nothing where a regimen is absent.

    Returns
    -------
    mapping of str to Survival
        By regimen id; an end point that the model does not cover is `NotAssessed` with the reason.
    """
    return {
        r.id: _predicted(clinical, baseline_lesions, r, model, evidence.get(r.id, NOTHING_MORE))
        for r in settings.regimens
    }


def _predicted(
    clinical: ClinicalRecord,
    lesions: tuple[LesionMeasurement, ...],
    regimen: Regimen,
    model: SurvivalModel,
    evidence: Evidence,
) -> Survival:
    try:
        return model.predict(clinical, lesions, regimen, evidence)
    except UnsupportedRegimen as error:
        _log.warning("survival under the regimen %s is not assessed: %s", regimen.id, error)
        refusal = NotAssessed(Reason.REGIMEN_NOT_COVERED, f"{error}.")
        return Survival(refusal, refusal, refusal)
