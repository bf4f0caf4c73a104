"""What happened to the patients of a cohort, as the systems of the published studies are taught it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from inference.errors import TrainingDataError
from inference.results import FloatArray
from inference.training.cohort import Cohort, Split

_RESPONDED, _NOT = frozenset({"CR", "PR"}), frozenset({"SD", "PD"})
_ALL_MONTHS = float("inf")


def objective_response(
    cohort: Cohort, ids: Sequence[str], until_months: float = _ALL_MONTHS, criteria: str = "mrecist"
) -> FloatArray:
    """Return whether patients reached CR or PR under the treatment that they had, (n,): 1, 0, NaN unknown.

    Parameters
    ----------
    until_months : float
        Only assessments up to this month count; without it the best response of all.
    criteria : str
        ``mrecist``, as in the published studies, or ``recist11``.
    """
    seen = cohort.outcomes
    seen = seen[(seen["observed"] == 1) & (seen["months"] <= until_months)]
    classes = {str(patient): set(group) for patient, group in seen.groupby("patient_id")[criteria]}
    return np.array([_best(classes.get(patient, set())) for patient in ids])


def _best(classes: Collection[object]) -> float:
    found = set(classes)
    if found & _RESPONDED:
        return 1.0
    return 0.0 if found & _NOT else float("nan")


def treated_with(cohort: Cohort, regimens: Collection[str], *splits: Split) -> tuple[str, ...]:
    """Return the patients of some splits who had one of the regimens, in the cohort's order; all if none.

    Raises
    ------
    TrainingDataError
        Nobody of the cohort had one of them.
    """
    table = cohort.patients
    treated = table["regimen_id"].astype(str).isin(list(regimens)) if regimens else table["split"].notna()
    if not treated.any():
        raise TrainingDataError(f"no patient of the cohort was treated with {' or '.join(sorted(regimens))}")
    chosen = treated & table["split"].isin([str(s) for s in splits])
    return tuple(str(i) for i in table.loc[chosen, "patient_id"])


def follow_up(cohort: Cohort, ids: Sequence[str], end_point: str) -> tuple[FloatArray, FloatArray]:
    """Return months and event (1, 0), (n,) each, of ``os`` or ``pfs``; both NaN where not known."""
    table = cohort.patients.set_index("patient_id").loc[list(ids)]
    months = pd.to_numeric(table[f"{end_point}_months"], errors="coerce").to_numpy(dtype=np.float64)
    event = pd.to_numeric(table[f"{end_point}_event"], errors="coerce").to_numpy(dtype=np.float64)
    known = np.isfinite(months) & np.isfinite(event) & (months >= 0)
    return np.where(known, months, np.nan), np.where(known, (event > 0).astype(np.float64), np.nan)
