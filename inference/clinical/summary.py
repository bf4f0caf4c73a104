"""What is shown of the clinical values: which were used, derived scores, protocol eligibility."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from inference.case import ClinicalRecord, ClinicalValue
from inference.clinical import scores
from inference.clinical.scores import Burden, Spread
from inference.clinical.variables import VARIABLES
from inference.results import ClinicalSummary, LesionMeasurement

MET, NOT_MET, UNKNOWN = "met", "not_met", "unknown"
BILIRUBIN_LIMIT_UMOL_L = 40.7
"""2.38 mg/dL. The protocol's 210 umol/L is 12.28 mg/dL, and contradicts the 2.38 mg/dL beside it."""
BILIRUBIN_AMBIGUOUS_UMOL_L = 210.0


# ------------------------------------------------------------------ values from images


def with_imaging(
    record: ClinicalRecord, lesions: Sequence[LesionMeasurement], liver_ml: float | None = None
) -> ClinicalRecord:
    """Fill tumour variables that the record lacks from the lesions of the segmentation.

    What the record gives is kept. `liver_ml` is the volume of the whole organ, tumours included.
    """
    derived: dict[str, float | bool] = {}
    if lesions:
        derived["tumour_number"] = float(len(lesions))
        diameters = [lesion.long_axis.length_mm for lesion in lesions if lesion.long_axis is not None]
        if diameters:
            derived["largest_tumour"] = max(diameters)
        if liver_ml is not None and liver_ml > 0:
            share = sum(lesion.volume_ml for lesion in lesions) / liver_ml
            derived["tumour_over_half_of_liver"] = share > 0.5
    made = {name: ClinicalValue(name, value, VARIABLES[name].unit) for name, value in derived.items()}
    return replace(record, values={**made, **record.values})


# ------------------------------------------------------------------ reading a record


@dataclass(frozen=True, slots=True)
class Values:
    """Typed access to a record; what is missing is None."""

    record: ClinicalRecord

    def number(self, name: str) -> float | None:
        """Return a number in the unit of the variable table."""
        found = self.record.values.get(name)
        return None if found is None else float(found.value)

    def word(self, name: str) -> str | None:
        """Return a category."""
        found = self.record.values.get(name)
        return None if found is None else str(found.value)

    def yes(self, name: str) -> bool | None:
        """Return an answer."""
        found = self.record.values.get(name)
        return None if found is None else bool(found.value)

    def any_yes(self, *names: str) -> bool | None:
        """Return True when one is yes, False when all are no, else None."""
        answers = [self.yes(name) for name in names]
        if any(answers):
            return True
        return None if None in answers else False

    @property
    def burden(self) -> Burden | None:
        """Number and size of the tumours."""
        number, largest = self.number("tumour_number"), self.number("largest_tumour")
        return None if number is None or largest is None else Burden(int(number), largest / 10.0)

    @property
    def spread(self) -> Spread | None:
        """Vascular invasion and extrahepatic spread."""
        vascular = self.vascular_invasion
        extrahepatic = self.any_yes("lymph_nodes", "metastasis")
        return None if vascular is None or extrahepatic is None else Spread(vascular, extrahepatic)

    @property
    def vascular_invasion(self) -> bool | None:
        """Macroscopic invasion of any vessel; a thrombus is one, its absence in one vein is not none."""
        if self.any_yes("portal_vein_thrombosis", "hepatic_vein_invasion"):
            return True
        if self.word("pvtt_class") not in (None, "Vp0"):
            return True
        return self.yes("vascular_invasion")

    @property
    def child_pugh_score(self) -> float | None:
        """Given Child-Pugh score, else computed from its five parts."""
        given = self.number("child_pugh_score")
        if given is not None:
            return given
        parts = (self.number("bilirubin"), self.number("albumin"), self.number("inr"))
        bilirubin, albumin, inr = parts
        ascites, encephalopathy = self.word("ascites"), self.word("encephalopathy")
        if bilirubin is None or albumin is None or inr is None or ascites is None or encephalopathy is None:
            return None
        return float(scores.child_pugh(bilirubin, albumin, inr, ascites, encephalopathy))

    @property
    def child_pugh_class(self) -> str | None:
        """Given Child-Pugh class, else that of the score."""
        given = self.word("child_pugh_class")
        if given is not None:
            return given
        score = self.child_pugh_score
        return None if score is None else scores.child_pugh_class(score)


# ------------------------------------------------------------------ scores

Score = float | str | None


def _albi(v: Values) -> float | None:
    albumin, bilirubin = v.number("albumin"), v.number("bilirubin")
    return None if albumin is None or bilirubin is None else scores.albi(albumin, bilirubin)


def _albi_grade(v: Values) -> Score:
    score = _albi(v)
    return None if score is None else scores.modified_albi_grade(score)


def _ez_albi(v: Values) -> Score:
    albumin, bilirubin = v.number("albumin"), v.number("bilirubin")
    return None if albumin is None or bilirubin is None else scores.ez_albi(albumin, bilirubin)


def _fib4(v: Values) -> Score:
    age, ast, platelets, alt = (v.number(n) for n in ("age", "ast", "platelets", "alt"))
    if age is None or ast is None or platelets is None or alt is None:
        return None
    return scores.fib4(age, ast, platelets, alt)


def _up_to_seven(v: Values) -> Score:
    if v.burden is None or v.vascular_invasion is None:
        return None
    return "within" if scores.up_to_seven(v.burden) and not v.vascular_invasion else "beyond"


def _six_and_twelve(v: Values) -> Score:
    return None if v.burden is None else scores.six_and_twelve(v.burden)


def _tumour_burden(v: Values) -> Score:
    return None if v.burden is None else scores.tumour_burden_score(v.burden)


def _hap(v: Values) -> Score:
    albumin, bilirubin, afp = (v.number(n) for n in ("albumin", "bilirubin", "afp"))
    if albumin is None or bilirubin is None or afp is None or v.burden is None:
        return None
    return scores.hap(albumin, bilirubin, afp, v.burden)


def _modified_hap2(v: Values) -> Score:
    albumin, bilirubin, afp = (v.number(n) for n in ("albumin", "bilirubin", "afp"))
    if albumin is None or bilirubin is None or afp is None or v.burden is None:
        return None
    return scores.modified_hap2(albumin, bilirubin, afp, v.burden)


def _albi_tae(v: Values) -> Score:
    score, afp = _albi(v), v.number("afp")
    if score is None or afp is None or v.burden is None:
        return None
    return scores.albi_tae(score, afp, v.burden)


def _bclc(v: Values) -> Score:
    ecog, liver = v.number("ecog"), v.child_pugh_class
    if ecog is None or liver is None or v.burden is None or v.spread is None:
        return None
    return scores.bclc_2022(int(ecog), liver, v.burden, v.spread)


def _cnlc(v: Values) -> Score:
    ecog, liver = v.number("ecog"), v.child_pugh_class
    if ecog is None or liver is None or v.burden is None or v.spread is None:
        return None
    return scores.cnlc_2022(int(ecog), liver, v.burden, v.spread)


def _bilirubin_note(v: Values) -> Score:
    """Mark values on which the protocol contradicts itself: 2.38 mg/dL is 40.7 umol/L."""
    value = v.number("bilirubin")
    if value is None or not BILIRUBIN_LIMIT_UMOL_L < value <= BILIRUBIN_AMBIGUOUS_UMOL_L:
        return None
    return "protocol ambiguous between 40.7 and 210 umol/L"


SCORES: Mapping[str, Callable[[Values], Score]] = {
    "albi": _albi,
    "albi_grade": _albi_grade,
    "ez_albi": _ez_albi,
    "child_pugh_score": lambda v: v.child_pugh_score,
    "child_pugh_class": lambda v: v.child_pugh_class,
    "bclc_2022": lambda v: v.word("bclc_stage") or _bclc(v),
    "cnlc_2022": lambda v: v.word("cnlc_stage") or _cnlc(v),
    "up_to_seven": _up_to_seven,
    "six_and_twelve": _six_and_twelve,
    "tumour_burden_score": _tumour_burden,
    "fib4": _fib4,
    "hap": _hap,
    "mhap2": _modified_hap2,
    "albi_tae": _albi_tae,
    "bilirubin_note": _bilirubin_note,
}
"""Scores that are shown; a stage that the file gives is shown as given."""


# ------------------------------------------------------------------ eligibility


def _judge(fulfilled: bool | None) -> str:
    return UNKNOWN if fulfilled is None else MET if fulfilled else NOT_MET


def _at_least(name: str, limit: float) -> Callable[[Values], str]:
    def criterion(v: Values) -> str:
        value = v.number(name)
        return _judge(None if value is None else value >= limit)

    return criterion


def _age(v: Values) -> str:
    age = v.number("age")
    return _judge(None if age is None else age > 18)


def _ecog(v: Values) -> str:
    ecog = v.number("ecog")
    return _judge(None if ecog is None else ecog <= 2)


def _child_pugh(v: Values) -> str:
    liver = v.child_pugh_class
    return _judge(None if liver is None else liver in ("A", "B"))


def _coagulation(v: Values) -> str:
    """INR below 1.7 or prothrombin time at most 4 s over control: one of the two is enough."""
    inr, prolongation = v.number("inr"), v.number("prothrombin_prolongation")
    answers = [None if inr is None else inr < 1.7, None if prolongation is None else prolongation <= 4]
    if any(answers):
        return MET
    return UNKNOWN if None in answers else NOT_MET


def _transaminases(v: Values) -> str:
    return _judge(
        _all_within(_ratio(v, "alt", "alt_upper_limit"), _ratio(v, "ast", "ast_upper_limit"), limit=5.0)
    )


def _ratio(v: Values, name: str, limit_name: str) -> float | None:
    value, upper = v.number(name), v.number(limit_name)
    return None if value is None or upper is None else value / upper


def _all_within(*ratios: float | None, limit: float) -> bool | None:
    if any(r is not None and r > limit for r in ratios):
        return False
    return None if None in ratios else True


def _creatinine(v: Values) -> str:
    return _judge(_all_within(_ratio(v, "creatinine", "creatinine_upper_limit"), limit=1.5))


def _bilirubin(v: Values) -> str:
    value = v.number("bilirubin")
    return _judge(None if value is None else value <= BILIRUBIN_LIMIT_UMOL_L)


def _ascites(v: Values) -> str:
    ascites = v.word("ascites")
    return _judge(None if ascites is None else ascites != "moderate_or_severe")


def _never(_: Values) -> str:
    """Answer for criteria of which the clinical file has no variable."""
    return UNKNOWN


ELIGIBILITY: Mapping[str, Callable[[Values], str]] = {
    "age above 18 years": _age,
    "ECOG at most 2": _ecog,
    "Child-Pugh A or B": _child_pugh,
    "expected survival at least 3 months": _never,
    "neutrophils at least 1.0 x 10*9/L": _at_least("neutrophils", 1.0),
    "platelets at least 50 x 10*9/L": _at_least("platelets", 50),
    "haemoglobin at least 90 g/L": _at_least("haemoglobin", 90),
    "INR below 1.7 or prothrombin time at most 4 s over control": _coagulation,
    "ALT and AST at most 5 x upper limit": _transaminases,
    "bilirubin at most 40.7 umol/L": _bilirubin,
    "albumin at least 28 g/L": _at_least("albumin", 28),
    "creatinine at most 1.5 x upper limit": _creatinine,
    "no moderate or severe ascites": _ascites,
    "no other malignancy": _never,
    "no other treatment within 4 weeks": _never,
    "no cardiac, renal, infectious or other exclusion": _never,
}
"""Criteria of the study protocol. A criterion is unknown where a value is missing, never assumed."""


def summarise(record: ClinicalRecord) -> ClinicalSummary:
    """Return the values used, the variables missing, the scores and the eligibility.

    Parameters
    ----------
    record : ClinicalRecord
        With tumour variables completed by `with_imaging` where there is a segmentation.
    """
    values = Values(record)
    derived = {name: score(values) for name, score in SCORES.items()}
    return ClinicalSummary(
        used=record,
        missing=tuple(name for name in VARIABLES if name not in record.values),
        scores={name: value for name, value in derived.items() if value is not None},
        eligibility={name: criterion(values) for name, criterion in ELIGIBILITY.items()},
    )
