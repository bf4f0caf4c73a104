"""Outcomes of a cohort as the rows that an outcome model is fitted to and measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from inference.errors import TrainingDataError
from inference.models.outcome.doses import doses_given
from inference.models.outcome.model import FLOOR
from inference.results import FloatArray
from inference.settings import Regimen
from inference.training.cohort import Cohort
from inference.training.features import PatientTable


@dataclass(frozen=True, slots=True)
class Rows:
    """One row a patient, regimen and month; n rows.

    Attributes
    ----------
    patient, regimen, knot : array of int, (n,)
        Places in the tables of patients, regimens and months.
    doses : array, (n, 7)
    value : array, (n, 3)
        Log ratios, see `inference.models.outcome.model.TARGETS`.
    new_lesions : array, (n,)
    response : array, (n,)
        1 for CR or PR by mRECIST, 0 for SD or PD, NaN for NE.
    """

    patient: np.ndarray
    regimen: np.ndarray
    knot: np.ndarray
    months: FloatArray
    doses: FloatArray
    value: FloatArray
    new_lesions: FloatArray
    response: FloatArray


def rows_of(
    cohort: Cohort,
    table: PatientTable,
    regimens: Mapping[str, Regimen],
    names: tuple[str, ...],
    months: tuple[float, ...],
) -> Rows:
    """Return the outcomes of the patients of a table.

    Raises
    ------
    TrainingDataError
        There is none.
    """
    outcomes = cohort.outcomes
    place = {p: i for i, p in enumerate(table.ids)}
    known = outcomes["patient_id"].isin(list(place)) & outcomes["viable_ml"].notna()
    known &= outcomes["regimen_id"].isin(names)
    used = outcomes[known].fillna({"necrosis_ml": 0.0, "lipiodol_ml": 0.0, "new_lesions": 0, "mrecist": "NE"})
    if used.empty:
        raise TrainingDataError("the cohort has no outcome of a patient with viable tumour")
    patient = np.array([place[p] for p in used["patient_id"]], dtype=np.intp)
    at = used["months"].to_numpy(dtype=np.float64)
    base = table.volumes[patient]
    volumes = used[["viable_ml", "necrosis_ml", "lipiodol_ml"]].to_numpy(dtype=np.float64)
    denominators = np.stack([base[:, 0], base.sum(axis=1), base.sum(axis=1)], axis=1)
    seen = used["mrecist"].astype(str)
    response = np.where(seen.isin(["CR", "PR"]), 1.0, np.where(seen.isin(["SD", "PD"]), 0.0, np.nan))
    ids = used["regimen_id"].astype(str).tolist()
    return Rows(
        patient,
        np.array([names.index(r) for r in ids], dtype=np.intp),
        np.array([int(np.argmin(np.abs(np.array(months) - m))) for m in at], dtype=np.intp),
        at,
        np.array([doses_given(regimens[r], m) for r, m in zip(ids, at, strict=True)]),
        np.log(np.maximum(volumes / denominators, 0.0) + FLOOR),
        used["new_lesions"].to_numpy(dtype=np.float64),
        np.asarray(response, dtype=np.float64),
    )


def covered(cohort: Cohort, regimens: Mapping[str, Regimen]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Return the regimens of a cohort that have a schedule, and its months.

    Raises
    ------
    TrainingDataError
        No regimen of the cohort has a schedule.
    """
    names = tuple(sorted(set(cohort.outcomes["regimen_id"].astype(str)) & set(regimens)))
    if not names:
        raise TrainingDataError("no regimen of the cohort is in the table of regimens")
    rounded = cohort.outcomes.loc[cohort.outcomes["months"] > 0, "months"].round(0).clip(lower=1.0)
    counts = rounded.value_counts()
    months = tuple(
        sorted(
            m
            for m, n in zip(counts.index.to_numpy(float).tolist(), counts.to_list(), strict=True)
            if n >= 0.02 * len(rounded)
        )
    )
    return names, months
