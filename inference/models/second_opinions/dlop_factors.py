"""Clinical factors of DLOP_Combin: what the study looked at, of which Cox models choose.

Microvascular invasion, which the study lists, is seen in resected tissue only; macroscopic invasion stands
for it. The side of the tumour is not in a clinical record and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from inference.case import ClinicalRecord
from inference.clinical import scores
from inference.clinical.score_table import score
from inference.clinical.values import Values

RESPONSE = "response"
"""Name of the factor that is not in the record: CR or PR by mRECIST up to the landmark."""

_FEW_TUMOURS = 2
_NAN = math.nan


@dataclass(frozen=True, slots=True)
class Factor:
    """One factor: its title, and its number in a record, None where missing."""

    title: str
    value: Callable[[Values], float | bool | None]


def _number(name: str) -> Callable[[Values], float | None]:
    return lambda values: values.number(name)


def _yes(name: str) -> Callable[[Values], bool | None]:
    return lambda values: values.yes(name)


def _log(name: str) -> Callable[[Values], float | None]:
    def value(values: Values) -> float | None:
        found = values.number(name)
        return None if found is None else math.log1p(found)

    return value


def _male(values: Values) -> bool | None:
    sex = values.word("sex")
    return None if sex is None else sex == "M"


def _several(values: Values) -> bool | None:
    number = values.number("tumour_number")
    return None if number is None else number > _FEW_TUMOURS


def _albi(values: Values) -> float | None:
    albumin, bilirubin = values.number("albumin"), values.number("bilirubin")
    return None if albumin is None or bilirubin is None else scores.albi(albumin, bilirubin)


def _worse_child_pugh(values: Values) -> bool | None:
    found = values.child_pugh_class
    return None if found is None else found != "A"


def _substage(values: Values) -> float | None:
    found = score("bolondi", values.record)
    return float(found[1]) if isinstance(found, str) and found[:1] == "B" and found[1:2].isdigit() else None


FACTORS: Mapping[str, Factor] = {
    "age": Factor("Age, years", _number("age")),
    "male": Factor("Male", _male),
    "hepatitis_b": Factor("Hepatitis B", _yes("hepatitis_b")),
    "cirrhosis": Factor("Cirrhosis", _yes("cirrhosis")),
    "diabetes": Factor("Diabetes", _yes("diabetes")),
    "log_afp": Factor("AFP, logarithm", _log("afp")),
    "log_ast": Factor("AST, logarithm", _log("ast")),
    "log_alt": Factor("ALT, logarithm", _log("alt")),
    "albumin": Factor("Albumin, g/L", _number("albumin")),
    "log_bilirubin": Factor("Bilirubin, logarithm", _log("bilirubin")),
    "over_2_tumours": Factor("More than two tumours", _several),
    "log_largest_mm": Factor("Largest tumour, logarithm", _log("largest_tumour")),
    "vascular_invasion": Factor("Macroscopic vascular invasion", lambda values: values.vascular_invasion),
    "albi": Factor("ALBI score", _albi),
    "child_pugh_b_or_c": Factor("Child-Pugh B or C", _worse_child_pugh),
    "bolondi": Factor("Substage of BCLC B, 1 to 4", _substage),
}
"""Factors of a record, by name."""

TITLES: Mapping[str, str] = {
    **{name: factor.title for name, factor in FACTORS.items()},
    RESPONSE: "CR or PR by mRECIST up to the landmark",
}


def clinical_factors(record: ClinicalRecord, response: float) -> dict[str, float]:
    """Return all factors by name, NaN where missing; `response` is 1, 0 or NaN."""
    values = Values(record)
    found = {name: factor.value(values) for name, factor in FACTORS.items()}
    numbers = {name: _NAN if value is None else float(value) for name, value in found.items()}
    return {**numbers, RESPONSE: response}
