"""Clinical variables as numbers on one scale, as the networks of second opinions take them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import model_validator

from inference.case import ClinicalRecord
from inference.clinical.scores import albi
from inference.clinical.values import Values
from inference.clinical.variables import VARIABLES, Kind
from inference.results import FloatArray, Mask
from inference.settings import Frozen

ALBI = "albi"
"""Computed from albumin and bilirubin."""

SELECTION_VARIABLES = (
    "age",
    "sex",
    "ecog",
    "diabetes",
    "hepatitis_b",
    "ascites",
    "largest_tumour",
    "tumour_number",
    "vascular_invasion",
    "metastasis",
    "bclc_stage",
    "albumin",
    "alt",
    "ast",
    "bilirubin",
    "prothrombin_time",
    "inr",
    "platelets",
    "afp",
    ALBI,
)
"""Twenty variables: the nineteen baseline rows of table 1 of Lin et al. 2024 (diabetes stands for
comorbidity), and ALBI, which its footnote names; which the twentieth was is in a supplement that we lack."""

DELICAITE_VARIABLES = (
    "age",
    "sex",
    "ecog",
    "diabetes",
    "hepatitis_b",
    "hepatitis_c",
    "ascites",
    "albumin",
    "alt",
    "ast",
    "bilirubin",
    "prothrombin_time",
    "inr",
    "platelets",
    "crp",
    "creatinine",
    "child_pugh_score",
    "largest_tumour",
    "tumour_number",
    "portal_vein_thrombosis",
    "metastasis",
    "bclc_stage",
    "afp",
)
"""Table 1 of An et al., DELICAITE."""

_LOGARITHMIC = frozenset(
    {"alt", "ast", "bilirubin", "platelets", "afp", "crp", "creatinine", "tumour_number", "largest_tumour"}
)
_CLIP_SD = 5.0


class ClinicalScale(Frozen):
    """Mean and standard deviation of each variable among the training patients, part of a bundle."""

    names: tuple[str, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]

    @model_validator(mode="after")
    def _check(self) -> ClinicalScale:
        if not len(self.names) == len(self.mean) == len(self.sd):
            raise ValueError("names, mean and sd differ in length")
        if unknown := [n for n in self.names if n not in VARIABLES and n != ALBI]:
            raise ValueError(f"no variable is called {unknown[0]}")
        return self

    @classmethod
    def of(cls, records: Sequence[ClinicalRecord], names: tuple[str, ...]) -> ClinicalScale:
        """Return the scale of the records of training patients."""
        raw = np.array([raw_values(r, names) for r in records], dtype=np.float64).reshape(-1, len(names))
        known = np.isfinite(raw)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, raw, 0.0).sum(axis=0) / count
        variance = np.where(known, (raw - mean) ** 2, 0.0).sum(axis=0) / count
        sd = np.where(variance > 1e-12, np.sqrt(variance), 1.0)
        return cls(names=names, mean=tuple(mean.tolist()), sd=tuple(sd.tolist()))

    def apply(self, record: ClinicalRecord) -> tuple[FloatArray, Mask]:
        """Return standardised values, (names,), 0 where missing, and whether each is known."""
        raw = np.array(raw_values(record, self.names), dtype=np.float64)
        scaled = (raw - np.array(self.mean)) / np.array(self.sd)
        return np.clip(np.nan_to_num(scaled, nan=0.0), -_CLIP_SD, _CLIP_SD), np.isfinite(raw)


def raw_values(record: ClinicalRecord, names: Sequence[str]) -> list[float]:
    """Return variables as numbers, NaN where missing.

    Categories count from 0 in the order of the table of variables, yes is 1 and no 0; values that vary by
    orders of magnitude are logarithms (of one more than the value).
    """
    return [_raw(record, name) for name in names]


def _raw(record: ClinicalRecord, name: str) -> float:
    if name == ALBI:
        return _albi(record)
    if name == "child_pugh_score":
        found = Values(record).child_pugh_score
        return math.nan if found is None else found
    value = record.values.get(name)
    if value is None:
        return math.nan
    variable = VARIABLES[name]
    if variable.kind is Kind.YES_NO:
        return float(bool(value.value))
    if variable.kind is Kind.CATEGORY:
        word = str(value.value)
        return float(variable.categories.index(word)) if word in variable.categories else math.nan
    number = float(value.value)
    return math.log1p(max(number, 0.0)) if name in _LOGARITHMIC else number


def _albi(record: ClinicalRecord) -> float:
    values = Values(record)
    albumin, bilirubin = values.number("albumin"), values.number("bilirubin")
    if albumin is None or bilirubin is None:
        return math.nan
    return float(albi(albumin, bilirubin))
