"""Clinical records as columns of a table, in the variables that a model was trained with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inference.case import ClinicalRecord
from inference.clinical.values import Values
from inference.clinical.variables import VARIABLES, Kind
from inference.models.survival.terms import Column

CHILD_PUGH = ("child_pugh_class", "child_pugh_score")
"""Derived from their parts where a record does not give them."""
NOT_FOR_MODELS = frozenset({"alt_upper_limit", "ast_upper_limit", "creatinine_upper_limit"})
"""Limits of a laboratory: they say where a patient was treated, not how ill the patient is."""


def model_variables() -> tuple[str, ...]:
    """Return the clinical variables that a model may use."""
    return tuple(name for name in VARIABLES if name not in NOT_FOR_MODELS)


def clinical_columns(records: Sequence[ClinicalRecord], names: Sequence[str]) -> dict[str, Column]:
    """Return a column for each variable: numbers with NaN, words with None; yes and no are 1 and 0."""
    values = [Values(record) for record in records]
    return {name: _column(values, name) for name in names}


def _column(values: Sequence[Values], name: str) -> Column:
    kind = VARIABLES[name].kind
    if kind is Kind.CATEGORY:
        return [v.child_pugh_class if name == "child_pugh_class" else v.word(name) for v in values]
    if kind is Kind.YES_NO:
        answers = [v.vascular_invasion if name == "vascular_invasion" else v.yes(name) for v in values]
        return np.array([np.nan if a is None else float(a) for a in answers], dtype=np.float64)
    numbers = [v.child_pugh_score if name == "child_pugh_score" else v.number(name) for v in values]
    return np.array([np.nan if x is None else x for x in numbers], dtype=np.float64)
