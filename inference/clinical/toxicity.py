"""Adverse events of the rows of a table, by figures and as clinicians reported them.

The columns are those of `inference.clinical.ctcae` (``alt``, ``alt_upper_limit``, ``alt_baseline``...), and
for every term a column with the grade that a clinician gave, such as ``fatigue``. Dated values after
baseline are graded each, and the worst counts; a baseline that has no column of its own is the last dated
value of day 0 or before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from inference.case import ClinicalRecord
from inference.clinical.ctcae import TERMS, Measure, Term, check_grade, grade
from inference.clinical.eligibility import QUESTIONS
from inference.clinical.longitudinal import LongitudinalValues
from inference.clinical.variables import VARIABLES, Kind, Variable
from inference.results import NotAssessed

_PRESSURE = {"mmhg": 1.0, "kpa": 7.50062}

_FIGURES = (
    Variable("systolic", "Systolic blood pressure", Kind.NUMBER, "mmHg", _PRESSURE, 30, 350),
    Variable("diastolic", "Diastolic blood pressure", Kind.NUMBER, "mmHg", _PRESSURE, 10, 250),
    Variable(
        "urine_protein",
        "Protein in urine",
        Kind.NUMBER,
        "g/24 h",
        {"g/24 h": 1.0, "g/24h": 1.0, "g/d": 1.0, "mg/24 h": 0.001, "mg/24h": 0.001, "mg/d": 0.001},
        0,
        100,
    ),
    Variable("urine_dipstick", "Protein in urine, dipstick", Kind.NUMBER, "+", {"+": 1.0}, 0, 4, whole=True),
    Variable(
        "stools_over_baseline",
        "Stools over baseline",
        Kind.NUMBER,
        "per day",
        {"per day": 1.0, "/d": 1.0},
        -50,
        100,
        whole=True,
    ),
    Variable(
        "temperature", "Body temperature", Kind.NUMBER, "Cel", {"cel": 1.0, "c": 1.0, "°c": 1.0}, 25, 45
    ),
)
"""Figures of the terms that are no variables of a record."""


def reported_column(term: str) -> str:
    """Return the column for the grade that a clinician gave."""
    return re.sub(r"[^a-z]+", "_", term.lower()).strip("_")


def _measured(measure: Measure) -> Iterator[Variable]:
    """Yield the variables of a measure: its value, its limits of normal, its baseline."""
    known = {v.name: v for v in _FIGURES}
    value = known.get(measure.name) or VARIABLES.get(measure.name) or QUESTIONS[measure.name]
    yield value
    for part in measure.rule.against:
        name = f"{measure.name}_{part.name}"
        title = f"{value.title}, {part.name.replace('_', ' ')}"
        if part.name == "anticoagulated":
            yield Variable(name, title, Kind.YES_NO)
        else:
            yield replace(value, name=name, title=title, loinc=None)


def _columns() -> Iterator[Variable]:
    for term in TERMS.values():
        for measure in term.measures:
            yield from _measured(measure)
        title = f"{term.name}, grade given by a clinician"
        yield Variable(reported_column(term.name), title, Kind.NUMBER, low=0, high=5, whole=True)


TOXICITY: Mapping[str, Variable] = {v.name: v for v in _columns()}
"""All columns that grading looks at, by name."""


@dataclass(frozen=True, slots=True)
class AdverseEvent:
    """The worst grade of one term of one patient.

    Attributes
    ----------
    grade : int or None
        0 for none, None where it cannot be known.
    day : int or None
        Day after baseline of the value that has this grade, None where it has no day.
    reported : bool
        Whether a clinician gave the grade, and figures did not give a higher one.
    note : str
        What is missing, or what may make the grade higher.
    """

    term: str
    grade: int | None
    day: int | None = None
    reported: bool = False
    note: str = ""


def adverse_events(record: ClinicalRecord) -> tuple[AdverseEvent, ...]:
    """Grade every term that the record says something of; the others are left out.

    Parameters
    ----------
    record : ClinicalRecord
        Values of `TOXICITY`, and dated values; day 0 is the day before treatment that counts as baseline.

    Raises
    ------
    inference.errors.ClinicalError
        A clinician reported a grade that the term does not have, or a limit of normal is not above 0.
    """
    course = LongitudinalValues(record.dated)
    found = (_event(term, record, course) for term in TERMS.values())
    return tuple(event for event in found if event is not None)


def _event(term: Term, record: ClinicalRecord, course: LongitudinalValues) -> AdverseEvent | None:
    events = list(_by_figures(term, record, course))
    given = record.values.get(reported_column(term.name))
    if given is not None and float(given.value) > 0:
        events.append(AdverseEvent(term.name, check_grade(term.name, int(given.value)), reported=True))
    elif given is not None:
        events.append(AdverseEvent(term.name, 0, reported=True))
    if not events:
        return None
    worst = max(events, key=lambda event: -1 if event.grade is None else event.grade)
    ungraded = sum(event.grade is None for event in events)
    if worst.grade is None or not ungraded:
        return worst
    notes = (worst.note, f"{ungraded} value(s) could not be graded")
    return replace(worst, note="; ".join(note for note in notes if note))


def _by_figures(term: Term, record: ClinicalRecord, course: LongitudinalValues) -> Iterator[AdverseEvent]:
    names = {measure.name for measure in term.measures}
    beside = {
        column: record.values[column].value
        for column in term.columns
        if column not in names and column in record.values
    }
    beside.update(_baselines(names, beside, course))
    undated = {name: record.values[name].value for name in names if name in record.values}
    if undated:
        yield _graded(term, {**beside, **undated}, None)
    for day in sorted({v.days for name in names for v in course.after(name)}):
        of_day = {v.name: v.value for name in names for v in course.after(name) if v.days == day}
        yield _graded(term, {**beside, **of_day}, day)


def _baselines(
    names: set[str], beside: Mapping[str, object], course: LongitudinalValues
) -> Iterator[tuple[str, float]]:
    for name in names:
        before = course.before(name)
        if before and f"{name}_baseline" not in beside:
            yield f"{name}_baseline", before[-1].value


def _graded(term: Term, values: Mapping[str, float | str | bool], day: int | None) -> AdverseEvent:
    figures = {name: value for name, value in values.items() if not isinstance(value, str)}
    found = grade(term.name, figures)
    if isinstance(found, NotAssessed):
        return AdverseEvent(term.name, None, day, note=found.detail)
    note = f"may be higher by {found.judged}" if found.judged else ""
    return AdverseEvent(term.name, found.grade, day, note=note)
