"""Which patients, regimens and months are asked about, and what truly happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from inference.case import ClinicalRecord
from inference.errors import TrainingDataError
from inference.evaluation.features import clinical_features, radiomics
from inference.evaluation.forecasts import Detail, Question, class_index
from inference.evaluation.maps import TargetLesions, targets_at_baseline
from inference.evaluation.training_rows import usable_outcomes
from inference.randomness import RandomStreams
from inference.training.cohort import Cohort, FollowUpImages, PatientImages, Split
from inference.training.cohort_rows import clinical_of

LANDMARK_MONTHS = 3.0
"""When the follow-up is made from which survival is predicted; from then patients are counted as alive."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to a patient under one regimen at one month, from the table of the cohort.

    Attributes
    ----------
    response : int
        Index among `CLASSES`, -1 for not evaluable.
    ever_responded : bool or None
        Whether CR or PR was reached at any month under the regimen; None where it is not known.
    """

    regimen_id: str
    months: float
    viable_ml: float
    necrosis_ml: float
    lipiodol_ml: float
    response: int
    ever_responded: bool | None


@dataclass(frozen=True, slots=True)
class Asked:
    """One patient of the evaluation.

    Attributes
    ----------
    row : mapping
        The patient's row of ``patients.csv``.
    main : Outcome
        One regimen and month, drawn at random from those that were imaged.
    other : Outcome or None
        Another regimen at the same month, of a simulated patient.
    landmark : Outcome or None
        The treatment that the patient had, at the landmark.
    """

    patient_id: str
    row: dict[Any, Any]
    main: Outcome
    other: Outcome | None
    landmark: Outcome | None

    @property
    def baseline_viable_ml(self) -> float:
        """Viable tumour at baseline."""
        return float(self.row["baseline_viable_ml"])


def choose(cohort: Cohort, split: Split, patients: int, streams: RandomStreams) -> tuple[Asked, ...]:
    """Choose patients of a split at random, and one regimen and month for each.

    Raises
    ------
    TrainingDataError
        The split has no imaged follow-up of a patient with viable tumour.
    """
    outcomes = usable_outcomes(cohort, cohort.ids(split))
    by_patient = {str(p): part for p, part in outcomes.groupby("patient_id") if (part["imaged"] == 1).any()}
    if not by_patient:
        raise TrainingDataError(f"the cohort has no imaged follow-up in the split '{split}'")
    order = streams.derive("patients").permutation(np.array(sorted(by_patient), dtype=object)).tolist()
    table = cohort.patients.set_index("patient_id")
    return tuple(
        _asked(p, table.loc[p].to_dict(), by_patient[p], streams.derive("question", p))
        for p in order[:patients]
    )


def _asked(patient_id: str, row: dict[Any, Any], outcomes: pd.DataFrame, rng: np.random.Generator) -> Asked:
    imaged = outcomes[outcomes["imaged"] == 1]
    main = imaged.iloc[int(rng.integers(len(imaged)))]
    others = outcomes[(outcomes["months"] == main["months"]) & (outcomes["regimen_id"] != main["regimen_id"])]
    other = others.iloc[int(rng.integers(len(others)))] if len(others) else None
    seen = outcomes[(outcomes["observed"] == 1) & (outcomes["months"] <= LANDMARK_MONTHS)]
    landmark = seen.iloc[int(np.argmax(seen["months"].to_numpy()))] if len(seen) else None
    return Asked(
        patient_id,
        row,
        _outcome(main, outcomes),
        None if other is None else _outcome(other, outcomes),
        None if landmark is None else _outcome(landmark, outcomes),
    )


def _outcome(row: pd.Series[Any], outcomes: pd.DataFrame) -> Outcome:
    course = outcomes.loc[outcomes["regimen_id"] == row["regimen_id"], "mrecist"]
    classes = [class_index(c) for c in course]
    evaluable = [c for c in classes if c >= 0]
    return Outcome(
        str(row["regimen_id"]),
        float(row["months"]),
        float(row["viable_ml"]),
        float(row["necrosis_ml"]),
        float(row["lipiodol_ml"]),
        class_index(str(row["mrecist"])),
        any(c <= 1 for c in evaluable) if evaluable else None,
    )


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a patient before treatment; nothing of the truth is in it."""

    patient: PatientImages
    clinical: ClinicalRecord
    targets: TargetLesions
    features: Mapping[str, float]

    @classmethod
    def of(cls, row: Mapping[Any, Any], patient: PatientImages) -> Known:
        """Measure a patient's baseline."""
        before = replace(patient, follow_ups=(), clean=None)
        clinical = clinical_of(row)
        targets = targets_at_baseline(before.fractions, before.lesion, before.liver)
        return cls(before, clinical, targets, clinical_features(clinical) | radiomics(before))

    def question(self, outcome: Outcome) -> Question:
        """Return the question about an outcome."""
        return Question(
            self.patient, self.clinical, outcome.regimen_id, outcome.months, self.targets, self.features
        )


def follow_up(patient: PatientImages, outcome: Outcome) -> FollowUpImages | None:
    """Return the images of an outcome, if there are any."""
    for seen in patient.follow_ups:
        if seen.regimen_id == outcome.regimen_id and abs(seen.months - outcome.months) < 1e-6:
            return seen
    return None


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is asked.

    Attributes
    ----------
    samples : int
        Samples of each follow-up.
    image_samples : int
        Samples whose mean and voxel CRPS are compared with the true image; at least `samples`, or 0
        to leave images out.
    image_patients : int
        Patients whose images are compared so, the first of those that are asked about.
    counterfactuals : Detail
        Whether the second regimen and the landmark are drawn as images and measured there, or only
        sampled as volumes.
    """

    patients: int = 300
    samples: int = 8
    image_samples: int = 16
    image_patients: int = 300
    counterfactuals: Detail = Detail.IMAGES
    split: Split = Split.TEST
    seed: int = 0
