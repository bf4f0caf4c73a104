"""Why a part of a result was not assessed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a part of a result was not assessed."""

    PHASE_MISSING = "PhaseMissing"
    REGIMEN_NOT_COVERED = "RegimenNotCovered"
    CLINICAL_VALUES_MISSING = "ClinicalValuesMissing"
    ENDPOINT_NOT_COVERED = "EndpointNotCovered"
    NOTHING_MEASURABLE = "NothingMeasurable"
    COMPARISON_NOT_SUPPORTED = "ComparisonNotSupported"
    BEYOND_FOLLOW_UP = "BeyondFollowUp"
    TOO_FEW_EVENTS = "TooFewEvents"
    NO_OVERLAP = "NoOverlap"
    OUT_OF_DISTRIBUTION = "OutOfDistribution"
    NO_EFFECT_SHOWN = "NoEffectShown"
    IMAGE_NOT_CHECKED = "ImageNotChecked"
    MODEL_FAILED = "ModelFailed"


@dataclass(frozen=True, slots=True)
class NotAssessed:
    """An explicit refusal: a reason from the table and one sentence for people."""

    reason: Reason
    detail: str
