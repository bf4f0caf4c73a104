"""Eligibility under the study protocol, criterion by criterion.

Each criterion is met, not met or unknown; a value that is missing leaves it unknown and is named. A record
may hold the answers to `QUESTIONS` beside the variables of `inference.clinical.variables`: they are asked
for the protocol only, and no model uses them.

References
----------
Study protocol V1.0 (2025-05-01), inclusion criteria 1-7 and exclusion criteria 1-9.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from inference.case import ClinicalRecord
from inference.clinical.values import Values
from inference.clinical.variables import Kind, Variable


class Answer(StrEnum):
    """Answer to a criterion. An exclusion criterion is met when it does not exclude."""

    MET = "met"
    NOT_MET = "not_met"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the protocol; the defaults are its own.

    Attributes
    ----------
    bilirubin_umol_l : float
        40.7, which is 2.38 mg/dL. The protocol writes 210 umol/L, which is 12.28 mg/dL, and 2.38 mg/dL for
        the same limit; values between the two are marked.
    """

    age_above_years: float = 18
    survival_months: float = 3
    ecog: int = 2
    neutrophils_e9_l: float = 1.0
    platelets_e9_l: float = 50
    haemoglobin_g_l: float = 90
    inr_below: float = 1.7
    prolongation_s: float = 4
    transaminases_x_upper: float = 5
    bilirubin_umol_l: float = 40.7
    bilirubin_ambiguous_umol_l: float = 210
    albumin_g_l: float = 28
    creatinine_x_upper: float = 1.5
    systolic_mmhg: float = 150
    diastolic_mmhg: float = 100
    arrhythmia_grade_below: int = 2
    qtc_men_ms: float = 450
    qtc_women_ms: float = 470


PROTOCOL = Limits()

_QUESTIONS = (
    Variable("unresectable_hcc", "Unresectable HCC by histology or clinical diagnosis", Kind.YES_NO),
    Variable("protocol_treatment", "TACE with targeted therapy and immunotherapy", Kind.YES_NO),
    Variable("expected_survival", "Expected survival", Kind.NUMBER, "months", {"months": 1.0}, 0, 600),
    Variable("other_malignancy", "Malignant tumour other than HCC", Kind.YES_NO),
    Variable("other_treatment_4_weeks", "Other treatment of HCC in the 4 weeks before", Kind.YES_NO),
    Variable("incomplete_data", "Laboratory values, images or outcome incomplete", Kind.YES_NO),
    Variable("decompensated_liver", "Liver disease that severely affects bilirubin", Kind.YES_NO),
    Variable(
        "systolic_on_drugs", "Systolic pressure on best drugs", Kind.NUMBER, "mmHg", {"mmhg": 1.0}, 50, 300
    ),
    Variable(
        "diastolic_on_drugs", "Diastolic pressure on best drugs", Kind.NUMBER, "mmHg", {"mmhg": 1.0}, 20, 200
    ),
    Variable(
        "arrhythmia_grade",
        "CTCAE grade of sustained arrhythmia, 0 if none",
        Kind.NUMBER,
        low=0,
        high=4,
        whole=True,
    ),
    Variable("atrial_fibrillation", "Atrial fibrillation", Kind.YES_NO),
    Variable("qtc", "Corrected QT interval", Kind.NUMBER, "ms", {"ms": 1.0, "s": 1000.0}, 200, 800),
    Variable("renal_insufficiency", "Renal insufficiency", Kind.YES_NO),
    Variable("other_severe_disease", "Other severe disease", Kind.YES_NO),
    Variable("hiv", "HIV infection or AIDS", Kind.YES_NO),
    Variable("pregnant_or_lactating", "Pregnant or lactating", Kind.YES_NO),
    Variable("mental_disorder", "Acute or chronic mental disorder", Kind.YES_NO),
)

QUESTIONS: Mapping[str, Variable] = {v.name: v for v in _QUESTIONS}
"""What only the protocol asks, by name."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One criterion.

    Attributes
    ----------
    place : str
        Where the protocol has it, like 'inclusion 7.2'.
    needs : tuple of str
        Variables or questions that it is judged by.
    judge : callable
        True, False, or None where it cannot be known.
    """

    place: str
    text: str
    needs: tuple[str, ...]
    judge: Callable[[Values], bool | None]


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one criterion.

    Attributes
    ----------
    missing : tuple of str
        What is missing where the answer is unknown.
    note : str
        What a person should know of the answer, or an empty string.
    """

    place: str
    criterion: str
    answer: Answer
    missing: tuple[str, ...] = ()
    note: str = ""


# ------------------------------------------------------------------ ways to judge


def _compare(name: str, fulfilled: Callable[[float], bool]) -> Callable[[Values], bool | None]:
    def judge(values: Values) -> bool | None:
        value = values.number(name)
        return None if value is None else fulfilled(value)

    return judge


def _number(place: str, text: str, name: str, fulfilled: Callable[[float], bool]) -> Criterion:
    return Criterion(place, text, (name,), _compare(name, fulfilled))


def _yes(place: str, text: str, name: str) -> Criterion:
    return Criterion(place, text, (name,), lambda values: values.yes(name))


def _no(place: str, text: str, name: str) -> Criterion:
    def judge(values: Values) -> bool | None:
        answer = values.yes(name)
        return None if answer is None else not answer

    return Criterion(place, text, (name,), judge)


def _all(answers: Sequence[bool | None]) -> bool | None:
    """Return False when one is False, True when all are True, else None."""
    if False in answers:
        return False
    return None if None in answers else True


def _any(answers: Sequence[bool | None]) -> bool | None:
    """Return True when one is True, False when all are False, else None."""
    if True in answers:
        return True
    return None if None in answers else False


def _within(values: Values, name: str, times_upper: float) -> bool | None:
    value, upper = values.number(name), values.number(f"{name}_upper_limit")
    return None if value is None or upper is None else value <= times_upper * upper


def _child_pugh(values: Values) -> bool | None:
    found = values.child_pugh_class
    return None if found is None else found in ("A", "B")


def _ascites(values: Values) -> bool | None:
    found = values.word("ascites")
    return None if found is None else found != "moderate_or_severe"


def _not_pregnant(values: Values) -> bool | None:
    if values.word("sex") == "M":
        return True
    answer = values.yes("pregnant_or_lactating")
    return None if answer is None else not answer


def _coagulation(limits: Limits) -> Callable[[Values], bool | None]:
    """INR or prothrombin time: one of the two is enough."""
    inr = _compare("inr", lambda value: value < limits.inr_below)
    prolongation = _compare("prothrombin_prolongation", lambda value: value <= limits.prolongation_s)
    return lambda values: _any((inr(values), prolongation(values)))


def _transaminases(limits: Limits) -> Callable[[Values], bool | None]:
    return lambda values: _all([_within(values, n, limits.transaminases_x_upper) for n in ("alt", "ast")])


def _pressure(limits: Limits) -> Callable[[Values], bool | None]:
    systolic = _compare("systolic_on_drugs", lambda value: value <= limits.systolic_mmhg)
    diastolic = _compare("diastolic_on_drugs", lambda value: value <= limits.diastolic_mmhg)
    return lambda values: _all((systolic(values), diastolic(values)))


def _qtc(limits: Limits) -> Callable[[Values], bool | None]:
    """Limits differ by sex; a value within or beyond both needs no sex."""
    by_sex = {"M": (limits.qtc_men_ms,), "F": (limits.qtc_women_ms,)}
    both = (limits.qtc_men_ms, limits.qtc_women_ms)

    def judge(values: Values) -> bool | None:
        value = values.number("qtc")
        if value is None:
            return None
        within = {value <= limit for limit in by_sex.get(values.word("sex") or "", both)}
        return within.pop() if len(within) == 1 else None

    return judge


# ------------------------------------------------------------------ the protocol

_CHILD_PUGH = ("bilirubin", "albumin", "inr", "ascites", "encephalopathy")
_TRANSAMINASES = ("alt", "alt_upper_limit", "ast", "ast_upper_limit")


def criteria(limits: Limits = PROTOCOL) -> tuple[Criterion, ...]:
    """Return the criteria of the protocol in its order, with their limits in words."""
    return (*_inclusion(limits), *_laboratory(limits), *_exclusion(limits))


def _inclusion(limits: Limits) -> tuple[Criterion, ...]:
    age, months, ecog = limits.age_above_years, limits.survival_months, limits.ecog
    return (
        _yes("inclusion 1", "unresectable HCC by histology or clinical diagnosis", "unresectable_hcc"),
        _yes("inclusion 2", "TACE with targeted therapy and immunotherapy", "protocol_treatment"),
        Criterion("inclusion 3", "Child-Pugh A or B", _CHILD_PUGH, _child_pugh),
        _number("inclusion 4", f"age above {age:g} years", "age", lambda value: value > age),
        _number(
            "inclusion 5",
            f"expected survival at least {months:g} months",
            "expected_survival",
            lambda value: value >= months,
        ),
        _number("inclusion 6", f"ECOG at most {ecog}", "ecog", lambda value: value <= ecog),
    )


def _at_least(place: str, title: str, name: str, limit: float, unit: str) -> Criterion:
    return _number(place, f"{title} at least {limit:g} {unit}", name, lambda value: value >= limit)


def _laboratory(limits: Limits) -> tuple[Criterion, ...]:
    blood, liver, cells = "inclusion 7.1", "inclusion 7.2", "x 10*9/L"
    bilirubin, creatinine = limits.bilirubin_umol_l, limits.creatinine_x_upper
    return (
        _at_least(blood, "neutrophils", "neutrophils", limits.neutrophils_e9_l, cells),
        _at_least(blood, "platelets", "platelets", limits.platelets_e9_l, cells),
        _at_least(blood, "haemoglobin", "haemoglobin", limits.haemoglobin_g_l, "g/L"),
        Criterion(
            blood,
            f"INR below {limits.inr_below:g} or prothrombin time at most {limits.prolongation_s:g} s over "
            "control",
            ("inr", "prothrombin_prolongation"),
            _coagulation(limits),
        ),
        Criterion(
            liver,
            f"ALT and AST at most {limits.transaminases_x_upper:g} x upper limit",
            _TRANSAMINASES,
            _transaminases(limits),
        ),
        _number(
            liver, f"bilirubin at most {bilirubin:g} umol/L", "bilirubin", lambda value: value <= bilirubin
        ),
        _at_least(liver, "albumin", "albumin", limits.albumin_g_l, "g/L"),
        Criterion(
            "inclusion 7.3",
            f"creatinine at most {creatinine:g} x upper limit",
            ("creatinine", "creatinine_upper_limit"),
            lambda values: _within(values, "creatinine", creatinine),
        ),
    )


def _exclusion(limits: Limits) -> tuple[Criterion, ...]:
    severe, grade = "exclusion 6", limits.arrhythmia_grade_below
    pressure = f"blood pressure at most {limits.systolic_mmhg:g}/{limits.diastolic_mmhg:g} mmHg on best drugs"
    qtc = f"QTc at most {limits.qtc_men_ms:g} ms in men, {limits.qtc_women_ms:g} ms in women"
    return (
        _no("exclusion 1", "no other malignancy", "other_malignancy"),
        Criterion("exclusion 2", "no moderate or severe ascites", ("ascites",), _ascites),
        _no("exclusion 3", "no other treatment within 4 weeks", "other_treatment_4_weeks"),
        _no("exclusion 4", "no incomplete laboratory values, images or outcome", "incomplete_data"),
        _no("exclusion 5", "no liver disease that severely affects bilirubin", "decompensated_liver"),
        Criterion(severe, pressure, ("systolic_on_drugs", "diastolic_on_drugs"), _pressure(limits)),
        _number(
            severe,
            f"no sustained arrhythmia of CTCAE grade {grade} or more",
            "arrhythmia_grade",
            lambda value: value < grade,
        ),
        _no(severe, "no atrial fibrillation", "atrial_fibrillation"),
        Criterion(severe, qtc, ("qtc", "sex"), _qtc(limits)),
        _no(severe, "no renal insufficiency", "renal_insufficiency"),
        _no(severe, "no other severe disease", "other_severe_disease"),
        _no("exclusion 7", "no HIV infection or AIDS", "hiv"),
        Criterion("exclusion 8", "not pregnant or lactating", ("pregnant_or_lactating",), _not_pregnant),
        _no("exclusion 9", "no mental disorder", "mental_disorder"),
    )


# ------------------------------------------------------------------ answers


def bilirubin_note(values: Values, limits: Limits = PROTOCOL) -> str:
    """Return what to say of a bilirubin on which the protocol contradicts itself, else ''."""
    value, low, high = values.number("bilirubin"), limits.bilirubin_umol_l, limits.bilirubin_ambiguous_umol_l
    if value is None or not low < value <= high:
        return ""
    return f"protocol ambiguous between {low:g} and {high:g} umol/L"


def assess(record: ClinicalRecord, limits: Limits = PROTOCOL) -> tuple[Finding, ...]:
    """Answer every criterion of the protocol for one patient.

    Parameters
    ----------
    record : ClinicalRecord
        Variables of `inference.clinical.variables` and answers to `QUESTIONS`, in their units.
    limits : Limits
        Those of the protocol unless a site has settled otherwise.
    """
    values = Values(record)
    return tuple(_answer(criterion, values, limits) for criterion in criteria(limits))


def _answer(criterion: Criterion, values: Values, limits: Limits) -> Finding:
    fulfilled = criterion.judge(values)
    note = bilirubin_note(values, limits) if criterion.needs == ("bilirubin",) else ""
    if fulfilled is None:
        missing = values.absent(criterion.needs)
        return Finding(criterion.place, criterion.text, Answer.UNKNOWN, missing, note)
    answer = Answer.MET if fulfilled else Answer.NOT_MET
    return Finding(criterion.place, criterion.text, answer, note=note)


def overall(findings: Sequence[Finding]) -> Answer:
    """Return not met when one criterion is not, unknown when one is, else met."""
    answers = {finding.answer for finding in findings}
    if Answer.NOT_MET in answers:
        return Answer.NOT_MET
    return Answer.UNKNOWN if Answer.UNKNOWN in answers else Answer.MET
