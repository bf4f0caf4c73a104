"""CTCAE v5.0 grades of the adverse events that the study protocol reports.

Laboratory values and other figures are graded by `grade`. Most other events are graded by a clinician;
`check_grade` then tells whether the term has that grade at all. What a grade needs is given by column:
``alt``, ``alt_upper_limit``, ``alt_baseline`` and so on, in the units of the table.

References
----------
National Cancer Institute 2017, Common Terminology Criteria for Adverse Events (CTCAE) version 5.0. The
grades for adults are used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import ge, gt

from inference.clinical.ctcae_rules import (
    ANTICOAGULATED,
    AboveNormal,
    Anticoagulation,
    BelowNormal,
    Missing,
    MultiplesOfNormal,
    NormalOrBaseline,
    Reading,
    Rule,
    Steps,
    StepsOrRise,
    at_least,
)
from inference.errors import ClinicalError
from inference.results import NotAssessed, Reason

SEVERITY: Mapping[int, str] = {
    1: "mild, no treatment needed",
    2: "moderate, minor or local treatment",
    3: "severe, hospital treatment or loss of self-care, not at once life-threatening",
    4: "life-threatening, urgent treatment",
    5: "death",
}
"""What the grades mean in general."""


class Enough(StrEnum):
    """Which measures of a term must be known."""

    ALL = "all"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure by which a term is graded: its column, its unit and its rule."""

    name: str
    unit: str
    rule: Rule

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that it may need."""
        return (self.name, *(f"{self.name}_{part.name}" for part in self.rule.against))


@dataclass(frozen=True, slots=True)
class Term:
    """A term of CTCAE v5.0.

    Attributes
    ----------
    grades : tuple of int
        The grades that the term has.
    measures : tuple of Measure
        Empty where only a clinician can grade it.
    judged : str
        What else the grade depends on, and only a clinician can tell; empty if nothing does.
    """

    name: str
    grades: tuple[int, ...]
    measures: tuple[Measure, ...] = ()
    enough: Enough = Enough.ALL
    judged: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that its figures may need."""
        return tuple(column for measure in self.measures for column in measure.columns)


@dataclass(frozen=True, slots=True)
class Graded:
    """Grade by the figures, 0 for none; `judged` says what may make it higher."""

    grade: int
    judged: str = ""


# ------------------------------------------------------------------ the table

_TRANSAMINASE = MultiplesOfNormal((1, 3, 5, 20), from_baseline=(ge, 1.5))
_TO_3, _TO_4, _TO_5 = (1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4, 5)
_CONSEQUENCES = "life-threatening consequences"
_TREATMENT = "symptoms and the treatment needed"


def _lab(title: str, name: str, unit: str, rule: Rule, grades: tuple[int, ...], judged: str = "") -> Term:
    return Term(title, grades, (Measure(name, unit, rule),), judged=judged)


_FIGURES = (
    _lab("Alanine aminotransferase increased", "alt", "U/L", _TRANSAMINASE, _TO_4),
    _lab("Aspartate aminotransferase increased", "ast", "U/L", _TRANSAMINASE, _TO_4),
    _lab(
        "Blood bilirubin increased", "bilirubin", "umol/L", MultiplesOfNormal((1, 1.5, 3, 10), (gt, 1)), _TO_4
    ),
    _lab("Hypoalbuminemia", "albumin", "g/L", BelowNormal((30, 20)), _TO_5, _CONSEQUENCES),
    _lab("Platelet count decreased", "platelets", "10*9/L", BelowNormal((75, 50, 25)), _TO_4),
    _lab("Neutrophil count decreased", "neutrophils", "10*9/L", BelowNormal((1.5, 1, 0.5)), _TO_4),
    _lab("Anemia", "haemoglobin", "g/L", BelowNormal((100, 80)), _TO_5, f"transfusion, {_CONSEQUENCES}"),
    _lab(
        "Creatinine increased",
        "creatinine",
        "umol/L",
        NormalOrBaseline((1, 1.5, 3, 6), baseline=((2, 1.5), (3, 3))),
        _TO_4,
    ),
    _lab("INR increased", "inr", "", Anticoagulation((1.2, 1.5, 2.5), (1, 1.5, 2.5)), _TO_3),
    Term(
        "Hypertension",
        _TO_5,
        (
            Measure("systolic", "mmHg", at_least(120, 140, 160)),
            Measure("diastolic", "mmHg", at_least(80, 90, 100)),
        ),
        judged=f"duration, {_TREATMENT}",
    ),
    _lab(
        "Electrocardiogram QT corrected interval prolonged",
        "qtc",
        "ms",
        StepsOrRise(((ge, 450), (gt, 480), (gt, 500)), rise=60),
        _TO_4,
        "torsade de pointes or another serious arrhythmia",
    ),
    Term(
        "Proteinuria",
        _TO_3,
        (
            Measure("urine_protein", "g/24 h", AboveNormal((1, 3.5))),
            Measure("urine_dipstick", "+", at_least(1, 2, 4)),
        ),
        Enough.ANY,
    ),
    _lab(
        "Diarrhea", "stools_over_baseline", "per day", Steps(((gt, 0), (ge, 4), (ge, 7))), _TO_5, _TREATMENT
    ),
    _lab(
        "Fever",
        "temperature",
        "Cel",
        Steps(((ge, 38.0), (gt, 39.0), (gt, 40.0))),
        _TO_5,
        "more than 24 hours above 40.0",
    ),
)

_BY_CLINICIAN = (
    Term("Palmar-plantar erythrodysesthesia syndrome", _TO_3, judged="skin changes, pain and self-care"),
    Term("Hepatic failure", (3, 4, 5), judged="asterixis, encephalopathy and their severity"),
    Term("Abdominal pain", _TO_3, judged="strength of the pain and self-care"),
    Term("Pain", _TO_3, judged="strength of the pain and self-care"),
    Term("Vomiting", _TO_5, judged=_TREATMENT),
    Term("Upper gastrointestinal hemorrhage", _TO_5, judged=_TREATMENT),
    Term("Lower gastrointestinal hemorrhage", _TO_5, judged=_TREATMENT),
    Term("Rash maculo-papular", _TO_3, judged="share of body surface, symptoms and self-care"),
    Term("Fatigue", _TO_3, judged="relief by rest and self-care"),
    Term("Hypothyroidism", _TO_5, judged=_TREATMENT),
    Term("Hyperthyroidism", _TO_5, judged=_TREATMENT),
    Term("Pneumonitis", _TO_5, judged=f"oxygen, {_TREATMENT}"),
    Term("Colitis", _TO_5, judged=_TREATMENT),
    Term("Infusion related reaction", _TO_5, judged=f"interruption of the infusion, {_TREATMENT}"),
)

TERMS: Mapping[str, Term] = {term.name: term for term in (*_FIGURES, *_BY_CLINICIAN)}
"""The terms by their CTCAE names (in their American spelling)."""


# ------------------------------------------------------------------ grading


def grade(term: str, values: Mapping[str, float | bool]) -> Graded | NotAssessed:
    """Grade an adverse event by its figures.

    Parameters
    ----------
    term : str
        A name of `TERMS` that has measures.
    values : mapping of str to float or bool
        By the columns of the term, in its units. What is absent is not known, never a default.

    Returns
    -------
    Graded or NotAssessed
        The refusal names the column that is missing. Of a term with several measures the worst counts.

    Raises
    ------
    ClinicalError
        The term is not in the table, only a clinician can grade it, or a value is not a finite number or a
        limit or baseline not above 0.
    """
    entry = _term(term)
    if not entry.measures:
        raise ClinicalError(f"{term} is graded by a clinician: {entry.judged}.")
    found = [_graded(measure, values) for measure in entry.measures]
    grades = [known for known in found if isinstance(known, int)]
    missing = [column for column in found if isinstance(column, str)]
    if not grades or (missing and entry.enough is Enough.ALL):
        return NotAssessed(Reason.CLINICAL_VALUES_MISSING, f"{term} needs {', '.join(missing)}.")
    return Graded(max(grades), entry.judged)


def _graded(measure: Measure, values: Mapping[str, float | bool]) -> int | str:
    """Return the grade of one measure, or the column that is missing."""
    value = _checked(measure.name, values.get(measure.name), above=-math.inf)
    if value is None:
        return measure.name
    anticoagulated = values.get(f"{measure.name}_{ANTICOAGULATED.name}")
    beside = {
        part.name: _checked(column, values.get(column), above=0)
        for part in measure.rule.against
        if part is not ANTICOAGULATED and (column := f"{measure.name}_{part.name}")
    }
    reading = Reading(
        value, anticoagulated=None if anticoagulated is None else bool(anticoagulated), **beside
    )
    found = measure.rule.grade(reading)
    return f"{measure.name}_{found.name}" if isinstance(found, Missing) else found


def _checked(column: str, value: float | None, above: float) -> float | None:
    """Return a value that is a finite number above a limit, None for none."""
    if value is not None and not (math.isfinite(value) and value > above):
        raise ClinicalError(f"{column} is not a number that can be graded.")
    return value


def check_grade(term: str, reported: int) -> int:
    """Return a grade that a clinician reported, if the term has it.

    Raises
    ------
    ClinicalError
        The term is not in the table, or has no such grade.
    """
    entry = _term(term)
    if reported not in entry.grades:
        raise ClinicalError(f"{term} has the grades {', '.join(map(str, entry.grades))} only.")
    return reported


def _term(name: str) -> Term:
    if name not in TERMS:
        raise ClinicalError(
            "The adverse event is not among the terms of the protocol; see the table of terms."
        )
    return TERMS[name]
