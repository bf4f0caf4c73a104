"""Covariates of the Cox model: how each is made from the clinical values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from inference.case import ClinicalRecord
from inference.clinical.values import Values
from inference.results import FloatArray


def _flag(answer: bool | None) -> float | None:
    return None if answer is None else float(answer)


def _yes(name: str) -> Callable[[Values], float | None]:
    return lambda v: _flag(v.yes(name))


def _age(v: Values) -> float | None:
    years = v.number("age")
    return None if years is None else years / 10.0


def _male(v: Values) -> float | None:
    sex = v.word("sex")
    return None if sex is None else float(sex == "M")


def _log_afp(v: Values) -> float | None:
    afp = v.number("afp")
    return None if afp is None else math.log10(max(afp, 1.0))


def _child_pugh(v: Values) -> float | None:
    liver = v.child_pugh_class
    return None if liver is None else float("ABC".index(liver))


def _performance(v: Values) -> float | None:
    """Return the performance group of the BCLC system, 0, 1-2 or 3-4: the cohort knows no finer ones."""
    ecog = v.number("ecog")
    return None if ecog is None else float((ecog >= 1) + (ecog >= 3))


def _several(v: Values) -> float | None:
    number = v.number("tumour_number")
    return None if number is None else float(number > 1)


def _portal_vein(v: Values) -> float | None:
    given = v.word("pvtt_class")
    if v.yes("portal_vein_thrombosis") or given not in (None, "Vp0"):
        return 1.0
    return _flag(v.yes("portal_vein_thrombosis")) if given is None else 0.0


COVARIATES: Mapping[str, tuple[str, Callable[[Values], float | None]]] = {
    "age_decades": ("age", _age),
    "male": ("sex", _male),
    "log10_afp": ("afp", _log_afp),
    "child_pugh": ("child_pugh_class", _child_pugh),
    "performance_group": ("ecog", _performance),
    "several_tumours": ("tumour_number", _several),
    "over_half_of_liver": ("tumour_over_half_of_liver", _yes("tumour_over_half_of_liver")),
    "vascular_invasion": ("vascular_invasion", lambda v: _flag(v.vascular_invasion)),
    "portal_vein_thrombosis": ("portal_vein_thrombosis", _portal_vein),
    "lymph_nodes": ("lymph_nodes", _yes("lymph_nodes")),
    "metastasis": ("metastasis", _yes("metastasis")),
    "cirrhosis": ("cirrhosis", _yes("cirrhosis")),
    "hepatitis_b": ("hepatitis_b", _yes("hepatitis_b")),
    "hepatitis_c": ("hepatitis_c", _yes("hepatitis_c")),
    "diabetes": ("diabetes", _yes("diabetes")),
}
"""Covariate -> (variable to ask for when it is missing, function of the clinical values)."""


def covariate_row(record: ClinicalRecord) -> FloatArray:
    """Return the covariates of one patient, (p,); NaN where a value is missing."""
    values = Values(record)
    row = [function(values) for _, function in COVARIATES.values()]
    return np.array([math.nan if x is None else x for x in row], dtype=np.float64)
