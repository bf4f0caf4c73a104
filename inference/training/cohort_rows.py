"""Rows of a cohort's tables as what models are given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from inference.case import ClinicalRecord, ClinicalValue
from inference.clinical.variables import VARIABLES, Kind

_NO = frozenset({"no", "false", "0", "0.0"})


def clinical_of(row: Mapping[str, Any]) -> ClinicalRecord:
    """Return the clinical values of a row of ``patients.csv``; other columns are not looked at."""
    values = {}
    for name, variable in VARIABLES.items():
        value = row.get(name)
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            continue
        values[name] = ClinicalValue(name, _typed(variable.kind, value), variable.unit)
    return ClinicalRecord(values)


def _typed(kind: Kind, value: object) -> float | str | bool:
    if kind is Kind.YES_NO:
        return str(value).strip().lower() not in _NO
    return float(str(value)) if kind is Kind.NUMBER else str(value)
