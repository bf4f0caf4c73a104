"""The clinical predictors of the Cox nomogram of Yin et al. 2025, BMC Gastroenterol (s12876-024-03555-7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inference.case import ClinicalRecord

PREDICTORS: Mapping[str, str] = {
    "afp_400": "AFP 400 ng/ml or more",
    "vp4": "Main portal trunk invaded",
    "over_10_cm": "Largest tumour above 10 cm",
    "capsule": "Capsule",
    "diffuse_type": "Diffuse type",
}
"""Title of each yes-no question, by name."""


def clinical_predictors(record: ClinicalRecord) -> dict[str, float]:
    """Return 1 for yes, 0 for no, by the names of `PREDICTORS`; NaN for what is missing."""
    values = record.values

    def asked(name: str, answer: Any) -> float:
        found = values.get(name)
        return float("nan") if found is None else float(answer(found.value))

    return {
        "afp_400": asked("afp", lambda v: float(v) >= 400.0),
        "vp4": asked("pvtt_class", lambda v: str(v) == "Vp4"),
        "over_10_cm": asked("largest_tumour", lambda v: float(v) > 100.0),
        "capsule": asked("capsule", bool),
        "diffuse_type": asked("diffuse_type", bool),
    }
