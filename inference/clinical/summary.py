"""What is shown of the clinical values: which were used, derived scores, protocol eligibility."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from inference.case import ClinicalRecord, ClinicalValue
from inference.clinical import eligibility
from inference.clinical.score_table import score_all
from inference.clinical.values import Values
from inference.clinical.variables import VARIABLES
from inference.results import ClinicalSummary, LesionMeasurement, NotAssessed


def with_imaging(
    record: ClinicalRecord, lesions: Sequence[LesionMeasurement], liver_ml: float | None = None
) -> ClinicalRecord:
    """Fill tumour variables that the record lacks from the lesions of the segmentation.

    What the record gives is kept. `liver_ml` is the volume of the whole organ, tumours included.
    """
    derived: dict[str, float | bool] = {}
    if lesions:
        derived["tumour_number"] = float(len(lesions))
        diameters = [lesion.long_axis.length_mm for lesion in lesions if lesion.long_axis is not None]
        if diameters:
            derived["largest_tumour"] = max(diameters)
        if liver_ml is not None and liver_ml > 0:
            share = sum(lesion.volume_ml for lesion in lesions) / liver_ml
            derived["tumour_over_half_of_liver"] = share > 0.5
    made = {name: ClinicalValue(name, value, VARIABLES[name].unit) for name, value in derived.items()}
    return replace(record, values={**made, **record.values})


def summarise(record: ClinicalRecord) -> ClinicalSummary:
    """Return the values used, the variables missing, the scores and the eligibility.

    Scores that cannot be computed are left out. A criterion is unknown where a value is missing.

    Parameters
    ----------
    record : ClinicalRecord
        With tumour variables completed by `with_imaging` where there is a segmentation.
    """
    scores = {name: found for name, found in score_all(record).items() if not isinstance(found, NotAssessed)}
    note = eligibility.bilirubin_note(Values(record))
    findings = eligibility.assess(record)
    return ClinicalSummary(
        used=record,
        missing=tuple(name for name in VARIABLES if name not in record.values),
        scores={**scores, **({"bilirubin_note": note} if note else {})},
        eligibility={finding.criterion: str(finding.answer) for finding in findings},
    )
