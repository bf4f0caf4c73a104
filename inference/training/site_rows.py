"""What the tables of a cohort say of one patient of a site: volumes, diameters, response.

Everything is measured on each study's own grid, never on resampled images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from inference.clinical.response_course import classify_mrecist, classify_recist11, smallest_target_mm
from inference.imaging.measurement import measure_lesions
from inference.results import (
    Labels,
    LesionMeasurement,
    NotAssessed,
    Response,
    ResponseCategory,
    Tissue,
)
from inference.stages.respond import ARTERIAL_PHASES
from inference.training.pairing import Pairing
from inference.training.site_archive import MatchedStudy
from inference.training.site_crops import TISSUES, Crop
from inference.training.site_reading import ReadStudy
from inference.training.site_table import PatientRows


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A follow-up that is kept; `lesion` has the numbers of the patient, `measured` the baseline's names."""

    matched: MatchedStudy
    study: ReadStudy
    lesion: Labels
    crop: Crop
    pairing: Pairing
    measured: tuple[LesionMeasurement, ...]


def measured_lesions(baseline: ReadStudy, study: ReadStudy, lesion: Labels) -> tuple[LesionMeasurement, ...]:
    """Measure the lesions of a study on its own grid, under the numbers of the patient."""
    labels = study.segmentation.labels
    own = replace(labels, lesion=lesion[labels.box.slices])
    return measure_lesions(
        own, study.baseline.primary.grid, [x.number for x in baseline.segmentation.lesions]
    )


def lesion_ml(study: ReadStudy) -> dict[Tissue, float]:
    """Return the volume of each kind of lesion tissue on the study's own grid."""
    counts = np.bincount(study.segmentation.labels.tissue.ravel(), minlength=len(Tissue))
    return {t: float(counts[t]) * study.baseline.primary.grid.voxel_ml for t in TISSUES}


def months_of(follow_up: FollowUp) -> float:
    """Return when a follow-up was, as the tables of a cohort say it."""
    return round(follow_up.matched.months, 3)


def patient_row(patient_id: str, rows: PatientRows, baseline: ReadStudy) -> Mapping[str, object]:
    """Return a patient's row of ``patients.csv``; the split is given later."""
    ml = lesion_ml(baseline)
    os, pfs = rows.os or (None, None), rows.pfs or (None, None)
    organ_ml = (
        float(np.count_nonzero(baseline.segmentation.labels.tissue)) * baseline.baseline.primary.grid.voxel_ml
    )
    return {
        "patient_id": patient_id,
        "centre": rows.centre,
        "split": "",
        "regimen_id": rows.regimen_id,
        "baseline_viable_ml": round(ml[Tissue.VIABLE], 4),
        "baseline_total_ml": round(sum(ml.values()), 4),
        "liver_ml": round(organ_ml, 2),
        "os_months": os[0],
        "os_event": os[1],
        "pfs_months": pfs[0],
        "pfs_event": pfs[1],
        **{name: _cell(value.value) for name, value in rows.clinical.values.items()},
    }


def _cell(value: float | str | bool) -> float | str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value


def outcome_rows(
    patient_id: str, regimen_id: str, baseline: ReadStudy, kept: Sequence[FollowUp]
) -> list[Mapping[str, object]]:
    """Return the rows of ``outcomes.csv`` of a patient's follow-ups, in the order of time.

    mRECIST is not evaluable where a study has no arterial phase.
    """
    lesions = measured_lesions(baseline, baseline, baseline.lesions_in_full())
    smallest = smallest_target_mm(baseline.baseline.primary)
    courses = [f.measured for f in kept]
    recist = classify_recist11(lesions, courses, smallest)
    mrecist = classify_mrecist(lesions, courses, smallest)
    rows: list[Mapping[str, object]] = []
    at_baseline = {x.number for x in baseline.segmentation.lesions}
    for follow_up, by_recist, by_mrecist in zip(kept, recist, mrecist, strict=True):
        ml = lesion_ml(follow_up.study)
        arterial = all(_has_arterial(s) for s in (baseline, follow_up.study))
        present = set(np.unique(follow_up.lesion).tolist()) - {0}
        rows.append(
            {
                "patient_id": patient_id,
                "regimen_id": regimen_id,
                "months": months_of(follow_up),
                "observed": 1,
                "imaged": 1,
                "viable_ml": round(ml[Tissue.VIABLE], 4),
                "necrosis_ml": round(ml[Tissue.NECROSIS], 4),
                "lipiodol_ml": round(ml[Tissue.LIPIODOL], 4),
                "new_lesions": len(present - at_baseline),
                "recist11": _category(by_recist),
                "mrecist": _category(by_mrecist) if arterial else ResponseCategory.NE.value,
            }
        )
    return rows


def _has_arterial(study: ReadStudy) -> bool:
    return any(study.baseline.phase(p) is not None for p in ARTERIAL_PHASES)


def _category(response: Response | NotAssessed) -> str:
    return ResponseCategory.NE.value if isinstance(response, NotAssessed) else response.category.value
