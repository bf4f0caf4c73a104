"""The table of clinical scores: what each is called, what it needs, how it is computed.

`score` gives one score of a record, or the reason why it cannot be had. A value that is missing is never
assumed. A stage or class that the record itself gives is used as given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from inference.case import ClinicalRecord
from inference.clinical import scores
from inference.clinical.scores import Burden
from inference.clinical.values import Values
from inference.results import NotAssessed, Reason


@dataclass(frozen=True, slots=True)
class Quantity:
    """Something that scores are computed from.

    Attributes
    ----------
    variables : tuple of str
        Variables that give it, names of `inference.clinical.variables`.
    read : callable
        Its value in a record, None where it cannot be known.
    """

    variables: tuple[str, ...]
    read: Callable[[Values], Any]


@dataclass(frozen=True, slots=True)
class ClinicalScore:
    """One score.

    Attributes
    ----------
    quantities : tuple of Quantity
        Arguments of `formula`, in its order.
    formula : callable
        A function of `inference.clinical.scores`, or made of some of them.
    given : str
        Variable by which a record gives the score itself, or an empty string.
    """

    name: str
    title: str
    quantities: tuple[Quantity, ...]
    formula: Callable[..., float | str]
    given: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        """Variables that the score is computed from, each once."""
        return tuple(dict.fromkeys(name for q in self.quantities for name in q.variables))


# ------------------------------------------------------------------ quantities


def _number(name: str) -> Quantity:
    return Quantity((name,), lambda values: values.number(name))


def _whole(values: Values) -> int | None:
    ecog = values.number("ecog")
    return None if ecog is None else int(ecog)


_CHILD_PUGH = ("bilirubin", "albumin", "inr", "ascites", "encephalopathy")

AGE, AFP, PLATELETS = _number("age"), _number("afp"), _number("platelets")
ALBUMIN, BILIRUBIN = _number("albumin"), _number("bilirubin")
ALT, AST = _number("alt"), _number("ast")
ECOG = Quantity(("ecog",), _whole)
BURDEN = Quantity(("tumour_number", "largest_tumour"), lambda values: values.burden)
VASCULAR = Quantity(("vascular_invasion",), lambda values: values.vascular_invasion)
SPREAD = Quantity(("vascular_invasion", "lymph_nodes", "metastasis"), lambda values: values.spread)
CHILD_PUGH_SCORE = Quantity(_CHILD_PUGH, lambda values: values.child_pugh_score)
CHILD_PUGH_CLASS = Quantity(_CHILD_PUGH, lambda values: values.child_pugh_class)


# ------------------------------------------------------------------ formulas made of two


def _albi_grade(albumin_g_l: float, bilirubin_umol_l: float) -> str:
    return scores.modified_albi_grade(scores.albi(albumin_g_l, bilirubin_umol_l))


def _albi_tae(albumin_g_l: float, bilirubin_umol_l: float, afp_ng_ml: float, burden: Burden) -> str:
    return scores.albi_tae(scores.albi(albumin_g_l, bilirubin_umol_l), afp_ng_ml, burden)


def _up_to_seven(burden: Burden, vascular: bool) -> str:
    return "within" if scores.up_to_seven(burden) and not vascular else "beyond"


def _tumour_burden_group(burden: Burden) -> str:
    return scores.tumour_burden_group(scores.tumour_burden_score(burden))


def _as_it_is(value: float | str) -> float | str:
    """Return a quantity that is a score itself."""
    return value


# ------------------------------------------------------------------ the table

_LIVER = (ALBUMIN, BILIRUBIN)
_STAGE = (ECOG, CHILD_PUGH_CLASS, BURDEN, SPREAD)

_TABLE = (
    ClinicalScore("albi", "ALBI score", _LIVER, scores.albi),
    ClinicalScore("albi_grade", "ALBI grade, 2 divided into 2a and 2b (mALBI)", _LIVER, _albi_grade),
    ClinicalScore("ez_albi", "EZ-ALBI score", _LIVER, scores.ez_albi),
    ClinicalScore("child_pugh_score", "Child-Pugh score", (CHILD_PUGH_SCORE,), _as_it_is),
    ClinicalScore("child_pugh_class", "Child-Pugh class", (CHILD_PUGH_CLASS,), _as_it_is),
    ClinicalScore("bclc_2022", "BCLC stage 2022", _STAGE, scores.bclc_2022, given="bclc_stage"),
    ClinicalScore("cnlc_2022", "CNLC stage 2022", _STAGE, scores.cnlc_2022, given="cnlc_stage"),
    ClinicalScore("up_to_seven", "Up-to-seven criteria", (BURDEN, VASCULAR), _up_to_seven),
    ClinicalScore("six_and_twelve", "Six-and-twelve group", (BURDEN,), scores.six_and_twelve),
    ClinicalScore("tumour_burden_score", "Tumour burden score", (BURDEN,), scores.tumour_burden_score),
    ClinicalScore("tumour_burden_group", "Tumour burden group", (BURDEN,), _tumour_burden_group),
    ClinicalScore("fib4", "FIB-4 index", (AGE, AST, PLATELETS, ALT), scores.fib4),
    ClinicalScore("hap", "HAP score", (*_LIVER, AFP, BURDEN), scores.hap),
    ClinicalScore("mhap2", "mHAP-II score", (*_LIVER, AFP, BURDEN), scores.modified_hap2),
    ClinicalScore("albi_tae", "ALBI-TAE group", (*_LIVER, AFP, BURDEN), _albi_tae),
    ClinicalScore(
        "bolondi", "Bolondi substage of BCLC B", (ECOG, CHILD_PUGH_SCORE, BURDEN, SPREAD), scores.bolondi
    ),
)

SCORES: Mapping[str, ClinicalScore] = {s.name: s for s in _TABLE}
"""All scores by name, in the order in which people read them."""


def score(name: str, record: ClinicalRecord) -> float | str | NotAssessed:
    """Return one score of a record.

    Parameters
    ----------
    name : str
        A name of `SCORES`.
    record : ClinicalRecord
        Values in the units of `inference.clinical.variables`.

    Returns
    -------
    float, str or NotAssessed
        The refusal names the variables that are missing.

    Raises
    ------
    KeyError
        No score has this name.
    """
    entry, values = SCORES[name], Values(record)
    if entry.given and (given := values.word(entry.given)) is not None:
        return given
    arguments = [quantity.read(values) for quantity in entry.quantities]
    unknown = [q for q, found in zip(entry.quantities, arguments, strict=True) if found is None]
    if not unknown:
        return entry.formula(*arguments)
    missing = dict.fromkeys(name for q in unknown for name in values.absent(q.variables))
    return NotAssessed(Reason.CLINICAL_VALUES_MISSING, f"{entry.title} needs {', '.join(missing)}.")


def score_all(record: ClinicalRecord) -> dict[str, float | str | NotAssessed]:
    """Return every score of a record, by name."""
    return {name: score(name, record) for name in SCORES}
