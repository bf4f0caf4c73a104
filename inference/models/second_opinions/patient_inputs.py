"""What readers of second opinions share: the crop of a study, and why a study cannot be read."""

from __future__ import annotations

from collections.abc import Iterable

from inference.clinical.variables import VARIABLES
from inference.models.flow.study import crop_study
from inference.models.outcome.crops import PatientCrop
from inference.results import AssessedPatient, NotAssessed, OpinionValue, Reason


def crop_or_refusal(patient: AssessedPatient, modality: str) -> PatientCrop | NotAssessed:
    """Return the crop of a patient, or why there is none that a model of this modality can read."""
    seen = patient.baseline.primary.modality
    if seen != modality:
        return NotAssessed(
            Reason.OUT_OF_DISTRIBUTION, f"The system learned from {modality}; this study is {seen}."
        )
    crop = crop_study(patient.baseline, patient.segmentation).crop
    if not (crop.lesion > 0).any():
        return NotAssessed(Reason.NOTHING_MEASURABLE, "No tumour is outlined.")
    return crop


def not_given(names: Iterable[str]) -> tuple[OpinionValue, ...]:
    """Return one value that tells which clinical variables were missing, none where nothing was."""
    found = titles(names)
    return (OpinionValue("clinical values not given", found),) if found else ()


def titles(names: Iterable[str]) -> str:
    """Return what people call clinical variables, with commas."""
    return ", ".join(VARIABLES[n].title if n in VARIABLES else n.upper() for n in names)
