"""Division of the patients of a cohort into training, validation, test and external sets."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd

from inference.errors import PredictionsError
from inference.evaluation.predictions.patients import EXTERNAL
from inference.training.site_splits import SplitSettings, Stratum, split_patients


def divide(
    patients: pd.DataFrame, settings: SplitSettings, external_centres: Collection[str] = ()
) -> Mapping[str, str]:
    """Divide 70 to 30 within each centre and regimen; whole centres may be kept as external sets.

    Parameters
    ----------
    patients : DataFrame
        Rows of ``patients.csv``, with ``patient_id``, ``centre`` and ``regimen_id``.
    settings : SplitSettings
        Shares and seed; the same patients and seed give the same division in whatever order they come.
    external_centres : collection of str
        Centres that no training sees; each becomes the split ``external-<centre>``.

    Returns
    -------
    mapping of patient to split

    Raises
    ------
    PredictionsError
        A column is missing, a patient is there twice, or an external centre has no patients.
    TrainingDataError
        Too few patients are left to divide.
    """
    absent = [c for c in ("patient_id", "centre", "regimen_id") if c not in patients.columns]
    if absent:
        raise PredictionsError(f"the patients lack the column {absent[0]}")
    rows: list[dict[Any, Any]] = (
        patients[["patient_id", "centre", "regimen_id"]].astype(str).to_dict("records")
    )
    centre = {r["patient_id"]: r["centre"] for r in rows}
    if len(centre) < len(rows):
        raise PredictionsError("a patient is there twice")
    unknown = sorted(set(external_centres) - set(centre.values()))
    if unknown:
        raise PredictionsError(f"no patient comes from the centre {unknown[0]}")
    inside = {
        r["patient_id"]: Stratum(r["centre"], r["regimen_id"])
        for r in rows
        if r["centre"] not in external_centres
    }
    divided = split_patients(inside, settings)
    return {p: divided[p].value if p in divided else _external(centre[p]) for p in centre}


def _external(centre: str) -> str:
    return f"{EXTERNAL}-{re.sub('[^A-Za-z0-9_.-]', '_', centre)}"
