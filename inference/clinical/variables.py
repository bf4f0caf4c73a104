"""The clinical variables: names, units, plausible ranges, codes.

Every value inside the product is in the unit of this table. A LOINC code is given only where it is
certain; the others are None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What values a variable takes."""

    NUMBER = "number"
    CATEGORY = "category"
    YES_NO = "yes-no"


@dataclass(frozen=True, slots=True)
class Variable:
    """One clinical variable.

    Attributes
    ----------
    unit : str
        Unit of its values, empty for a pure number.
    units : mapping of str to float
        Accepted units (lower case); value in `unit` = factor * value given.
    low, high : float
        Plausible range in `unit`, inclusive.
    whole : bool
        Whether a number must be a whole one.
    categories : tuple of str
    loinc : str or None
    """

    name: str
    title: str
    kind: Kind
    unit: str = ""
    units: Mapping[str, float] = field(default_factory=dict)
    low: float = 0.0
    high: float = 0.0
    categories: tuple[str, ...] = ()
    loinc: str | None = None
    whole: bool = False


BILIRUBIN_UMOL_PER_MG_DL = 17.104
CREATININE_UMOL_PER_MG_DL = 88.42
AFP_NG_ML_PER_IU_ML = 1.21
"""WHO 72/225: one international unit of alpha-fetoprotein is 1.21 ng."""

_YEARS = {"years": 1.0, "year": 1.0, "a": 1.0}
_SECONDS = {"s": 1.0, "sec": 1.0}
_CELLS = {"10*9/l": 1.0, "10^9/l": 1.0, "e9/l": 1.0, "10*3/ul": 1.0, "k/ul": 1.0, "/ul": 0.001}
_ENZYME = {"u/l": 1.0, "iu/l": 1.0, "ukat/l": 60.0}
_PROTEIN = {"g/l": 1.0, "g/dl": 10.0}
_LENGTH = {"mm": 1.0, "cm": 10.0}


def _number(
    name: str,
    title: str,
    unit: str,
    units: Mapping[str, float],
    limits: tuple[float, float],
    loinc: str | None = None,
) -> Variable:
    return Variable(name, title, Kind.NUMBER, unit, units, limits[0], limits[1], loinc=loinc)


def _count(name: str, title: str, low: float, high: float, loinc: str | None = None) -> Variable:
    return Variable(name, title, Kind.NUMBER, low=low, high=high, loinc=loinc, whole=True)


def _category(name: str, title: str, *categories: str, loinc: str | None = None) -> Variable:
    return Variable(name, title, Kind.CATEGORY, categories=categories, loinc=loinc)


def _yes_no(name: str, title: str) -> Variable:
    return Variable(name, title, Kind.YES_NO)


_TABLE = (
    _number("age", "Age", "years", _YEARS, (0, 120), "30525-0"),
    _category("sex", "Sex", "F", "M", loinc="46098-0"),
    _count("ecog", "ECOG performance status", 0, 4, "89247-1"),
    # Liver disease
    _yes_no("hepatitis_b", "Hepatitis B"),
    _yes_no("hepatitis_c", "Hepatitis C"),
    _yes_no("alcohol_related", "Alcohol-related liver disease"),
    _yes_no("cirrhosis", "Cirrhosis"),
    _yes_no("diabetes", "Diabetes"),
    _category("ascites", "Ascites", "none", "slight", "moderate_or_severe"),
    _category("encephalopathy", "Encephalopathy grade", "none", "I-II", "III-IV"),
    _category("child_pugh_class", "Child-Pugh class", "A", "B", "C"),
    _count("child_pugh_score", "Child-Pugh score", 5, 15),
    # Tumour
    _count("tumour_number", "Number of tumours", 1, 100),
    _number("largest_tumour", "Diameter of the largest tumour", "mm", _LENGTH, (1, 300)),
    _yes_no("tumour_over_half_of_liver", "Tumour involves more than half of the liver"),
    _yes_no("diffuse_type", "Diffuse or infiltrative type"),
    _yes_no("capsule", "Tumour capsule"),
    _yes_no("vascular_invasion", "Macroscopic vascular invasion"),
    _yes_no("portal_vein_thrombosis", "Portal vein tumour thrombus"),
    _category("pvtt_class", "Portal vein tumour thrombus, Japanese class", "Vp0", "Vp1", "Vp2", "Vp3", "Vp4"),
    _yes_no("hepatic_vein_invasion", "Hepatic vein tumour thrombus"),
    _yes_no("lymph_nodes", "Lymph node metastasis"),
    _yes_no("metastasis", "Extrahepatic metastasis"),
    _category("bclc_stage", "BCLC stage", "0", "A", "B", "C", "D"),
    _category("cnlc_stage", "CNLC stage", "Ia", "Ib", "IIa", "IIb", "IIIa", "IIIb", "IV"),
    # Laboratory
    _number(
        "afp",
        "Alpha-fetoprotein",
        "ng/mL",
        {"ng/ml": 1.0, "ug/l": 1.0, "iu/ml": AFP_NG_ML_PER_IU_ML, "kiu/l": AFP_NG_ML_PER_IU_ML},
        (0, 1e7),
        "1834-1",
    ),
    _number("albumin", "Albumin", "g/L", _PROTEIN, (10, 70), "1751-7"),
    _number("alt", "Alanine aminotransferase", "U/L", _ENZYME, (1, 10000), "1742-6"),
    _number("ast", "Aspartate aminotransferase", "U/L", _ENZYME, (1, 10000), "1920-8"),
    _number("alt_upper_limit", "Upper limit of normal of ALT", "U/L", _ENZYME, (10, 100)),
    _number("ast_upper_limit", "Upper limit of normal of AST", "U/L", _ENZYME, (10, 100)),
    _number(
        "bilirubin",
        "Total bilirubin",
        "umol/L",
        {"umol/l": 1.0, "mg/dl": BILIRUBIN_UMOL_PER_MG_DL},
        (1, 1000),
        "14631-6",
    ),
    _number("prothrombin_time", "Prothrombin time", "s", _SECONDS, (5, 150), "5902-2"),
    _number("prothrombin_prolongation", "Prothrombin time over control", "s", _SECONDS, (-5, 100)),
    _number("inr", "International normalised ratio", "", {}, (0.5, 15), "6301-6"),
    _number("platelets", "Platelets", "10*9/L", _CELLS, (1, 2000), "777-3"),
    _number("neutrophils", "Neutrophils", "10*9/L", _CELLS, (0, 100), "751-8"),
    _number("haemoglobin", "Haemoglobin", "g/L", _PROTEIN, (20, 250), "718-7"),
    _number("crp", "C-reactive protein", "mg/L", {"mg/l": 1.0, "mg/dl": 10.0}, (0, 1000), "1988-5"),
    _number(
        "creatinine",
        "Creatinine",
        "umol/L",
        {"umol/l": 1.0, "mg/dl": CREATININE_UMOL_PER_MG_DL},
        (10, 2500),
        "14682-9",
    ),
    _number(
        "creatinine_upper_limit",
        "Upper limit of normal of creatinine",
        "umol/L",
        {"umol/l": 1.0, "mg/dl": CREATININE_UMOL_PER_MG_DL},
        (40, 200),
    ),
)

VARIABLES: Mapping[str, Variable] = {v.name: v for v in _TABLE}
"""All variables by name, in the order in which people read them."""

_BODY = (
    _number("weight", "Body weight", "kg", {"kg": 1.0, "g": 0.001}, (20, 400), "29463-7"),
    _number("height", "Body height", "cm", {"cm": 1.0, "m": 100.0}, (80, 250), "8302-2"),
)

BODY: Mapping[str, Variable] = {v.name: v for v in _BODY}
"""What sources may give beside the variables; no score and no model uses them."""


def title_of(name: str) -> str:
    """Return what people call a variable; the words of the name where it is no clinical variable."""
    return VARIABLES[name].title if name in VARIABLES else name.replace("_", " ")
