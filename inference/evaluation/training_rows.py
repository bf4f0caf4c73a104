"""What the baselines of comparison learn from: the training patients of a cohort, one row an outcome."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from inference.errors import TrainingDataError
from inference.evaluation.features import Standardiser, clinical_features, radiomics
from inference.evaluation.forecasts import class_index
from inference.evaluation.measures import IntArray
from inference.evaluation.metrics import BoolArray
from inference.models.protocols import Progress
from inference.results import FloatArray
from inference.training.cohort import Cohort, PatientImages, Split
from inference.training.cohort_rows import clinical_of

_log = logging.getLogger(__name__)

SMALLEST_RATIO = 0.01
"""Added to the ratio of volumes before its logarithm, so that a complete response has one."""

SMALLEST_CELL = 20
"""A cell of regimen and month with fewer rows is widened: to all months, then to all regimens."""


def log_ratio(ratio: npt.ArrayLike) -> FloatArray:
    """Return the logarithm of a ratio of volumes, finite at 0."""
    return np.asarray(np.log(np.asarray(ratio, dtype=np.float64) + SMALLEST_RATIO))


def ratio_of(logarithm: npt.ArrayLike) -> FloatArray:
    """Return the ratio of volumes that `log_ratio` was taken of, at least 0."""
    return np.maximum(np.exp(np.asarray(logarithm, dtype=np.float64)) - SMALLEST_RATIO, 0.0)


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Outcomes of the training patients; n rows, p patients.

    Attributes
    ----------
    patient : array of int, (n,)
        Row of `matrix` that each outcome belongs to.
    regimen : array of str, (n,)
    months : array, (n,)
    viable, necrosis, lipiodol : array, (n,)
        Volumes over the viable volume at baseline.
    response : array of int, (n,)
        Index among `CLASSES`, -1 for not evaluable.
    matrix : array, (p, features)
        Standardised clinical values and radiomics at baseline.
    """

    patient: IntArray
    regimen: npt.NDArray[np.str_]
    months: FloatArray
    viable: FloatArray
    necrosis: FloatArray
    lipiodol: FloatArray
    response: IntArray
    matrix: FloatArray
    standardiser: Standardiser

    def regimens(self) -> tuple[str, ...]:
        """Return the regimens that occur, in alphabetical order."""
        return tuple(np.unique(self.regimen).tolist())

    def cell(self, regimen_id: str, months: float) -> IntArray:
        """Return the rows of a regimen at the month nearest to the one asked for."""
        same = self.regimen == regimen_id
        if same.sum() < SMALLEST_CELL:
            _log.warning("%s: few training rows, all regimens are taken", regimen_id)
            same = np.ones(len(self.regimen), dtype=bool)
        distance = np.where(same, np.abs(self.months - months), np.inf)
        rows = np.flatnonzero(distance == distance.min())
        return rows if len(rows) >= SMALLEST_CELL else np.flatnonzero(same)

    def take(self, rows: BoolArray) -> TrainingRows:
        """Return some of the rows, with all patients."""
        return TrainingRows(
            self.patient[rows],
            self.regimen[rows],
            self.months[rows],
            self.viable[rows],
            self.necrosis[rows],
            self.lipiodol[rows],
            self.response[rows],
            self.matrix,
            self.standardiser,
        )


def baseline_features(patient: PatientImages, row: Mapping[Any, Any]) -> dict[str, float]:
    """Return clinical values and radiomics of one patient."""
    return clinical_features(clinical_of(row)) | radiomics(patient)


def training_rows(
    cohort: Cohort, progress: Progress, most_patients: int = 2000
) -> tuple[TrainingRows, tuple[str, ...]]:
    """Read the training patients of a cohort; returns the rows and the patients of `matrix`.

    Parameters
    ----------
    most_patients : int
        Reading images takes time; the first so many patients are read.

    Raises
    ------
    TrainingDataError
        There is no training patient with an outcome.
    """
    ids = cohort.ids(Split.TRAIN)[:most_patients]
    table = cohort.patients.set_index("patient_id")
    features = []
    for count, patient_id in enumerate(ids):
        progress("reading training patients", count / len(ids))
        row = table.loc[patient_id].to_dict()
        features.append(baseline_features(cohort.images(patient_id), row))
    outcomes = usable_outcomes(cohort, ids)
    if outcomes.empty:
        raise TrainingDataError("the cohort has no outcome of a training patient to compare with")
    standardiser = Standardiser.of(features)
    place = {p: i for i, p in enumerate(ids)}
    base = table["baseline_viable_ml"].loc[outcomes["patient_id"]].to_numpy(dtype=np.float64)
    rows = TrainingRows(
        np.array([place[p] for p in outcomes["patient_id"]], dtype=np.intp),
        outcomes["regimen_id"].to_numpy(dtype=np.str_),
        outcomes["months"].to_numpy(dtype=np.float64),
        outcomes["viable_ml"].to_numpy(dtype=np.float64) / base,
        outcomes["necrosis_ml"].to_numpy(dtype=np.float64) / base,
        outcomes["lipiodol_ml"].to_numpy(dtype=np.float64) / base,
        np.array([class_index(c) for c in outcomes["mrecist"]], dtype=np.intp),
        standardiser.matrix(features),
        standardiser,
    )
    return rows, ids


def usable_outcomes(cohort: Cohort, ids: tuple[str, ...]) -> pd.DataFrame:
    """Return the outcomes of some patients who had viable tumour at baseline."""
    patients = cohort.patients
    measurable = set(patients.loc[patients["baseline_viable_ml"] > 0, "patient_id"]) & set(ids)
    outcomes = cohort.outcomes
    known = outcomes["patient_id"].isin(list(measurable)) & outcomes["viable_ml"].notna()
    return outcomes[known].fillna({"necrosis_ml": 0.0, "lipiodol_ml": 0.0, "mrecist": "NE"})
