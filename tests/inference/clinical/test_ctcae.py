"""CTCAE v5.0 grades against the limits of the NCI table (version 5.0, 2017)."""

from __future__ import annotations

import pytest

from inference.clinical import ctcae
from inference.errors import ClinicalError
from inference.results import NotAssessed, Reason

ALT, AST = "Alanine aminotransferase increased", "Aspartate aminotransferase increased"
BILIRUBIN, QTC = "Blood bilirubin increased", "Electrocardiogram QT corrected interval prolonged"


def graded(term: str, **values: float) -> int:
    found = ctcae.grade(term, values)
    assert isinstance(found, ctcae.Graded), found
    return found.grade


@pytest.mark.parametrize(
    ("multiple", "grade"), [(1, 0), (1.01, 1), (3, 1), (3.01, 2), (5, 2), (5.01, 3), (20, 3), (20.01, 4)]
)
@pytest.mark.parametrize(("term", "name"), [(ALT, "alt"), (AST, "ast")])
def test_transaminases_by_upper_limit(term: str, name: str, multiple: float, grade: int) -> None:
    values = {name: 40 * multiple, f"{name}_upper_limit": 40.0, f"{name}_baseline": 40.0}
    assert graded(term, **values) == grade


@pytest.mark.parametrize(
    ("multiple", "grade"),
    [(1.49, 0), (1.5, 1), (3, 1), (3.01, 2), (5, 2), (5.01, 3), (20, 3), (20.01, 4)],
)
def test_transaminases_by_abnormal_baseline(multiple: float, grade: int) -> None:
    assert graded(ALT, alt=80 * multiple, alt_upper_limit=40, alt_baseline=80) == grade


@pytest.mark.parametrize(
    ("multiple", "grade"), [(1, 0), (1.01, 1), (1.5, 1), (1.51, 2), (3, 2), (3.01, 3), (10, 3), (10.01, 4)]
)
@pytest.mark.parametrize("baseline", [10.2, 30.6])
def test_bilirubin(multiple: float, grade: int, baseline: float) -> None:
    upper = 10.2
    value = multiple * max(upper, baseline)
    assert (
        graded(BILIRUBIN, bilirubin=value, bilirubin_upper_limit=upper, bilirubin_baseline=baseline) == grade
    )


def test_a_value_within_normal_needs_no_baseline() -> None:
    assert graded(ALT, alt=40, alt_upper_limit=40) == 0


_BELOW = (
    # term, column, lower limit of normal, values and their grades
    (
        "Platelet count decreased",
        "platelets",
        125,
        ((125, 0), (124, 1), (75, 1), (74, 2), (50, 2), (49, 3), (25, 3), (24, 4)),
    ),
    (
        "Neutrophil count decreased",
        "neutrophils",
        1.8,
        ((1.8, 0), (1.5, 1), (1.49, 2), (1.0, 2), (0.99, 3), (0.5, 3), (0.49, 4)),
    ),
    ("Anemia", "haemoglobin", 120, ((120, 0), (119, 1), (100, 1), (99, 2), (80, 2), (79, 3))),
    ("Hypoalbuminemia", "albumin", 35, ((35, 0), (34, 1), (30, 1), (29, 2), (20, 2), (19, 3))),
)


@pytest.mark.parametrize(
    ("term", "name", "lower", "value", "grade"),
    [(term, name, lower, *pair) for term, name, lower, pairs in _BELOW for pair in pairs],
)
def test_values_below_normal(term: str, name: str, lower: float, value: float, grade: int) -> None:
    assert graded(term, **{name: value, f"{name}_lower_limit": lower}) == grade


def test_a_limit_of_normal_is_needed_only_where_it_decides() -> None:
    assert graded("Platelet count decreased", platelets=60) == 2
    found = ctcae.grade("Platelet count decreased", {"platelets": 80})
    assert found == NotAssessed(
        Reason.CLINICAL_VALUES_MISSING, "Platelet count decreased needs platelets_lower_limit."
    )


@pytest.mark.parametrize(
    ("value", "baseline", "grade"),
    [(100, 100, 0), (101, 101, 1), (150, 150, 1), (151, 151, 2), (301, 301, 3), (601, 601, 4),
     (90, 60, 0), (91, 60, 2), (180, 60, 2), (181, 60, 3)],
)  # fmt: skip
def test_creatinine_has_the_worse_of_two(value: float, baseline: float, grade: int) -> None:
    values = {"creatinine": value, "creatinine_upper_limit": 100.0, "creatinine_baseline": baseline}
    assert graded("Creatinine increased", **values) == grade


def test_creatinine_without_baseline() -> None:
    assert graded("Creatinine increased", creatinine=301, creatinine_upper_limit=100) == 3
    found = ctcae.grade("Creatinine increased", {"creatinine": 90, "creatinine_upper_limit": 100})
    assert isinstance(found, NotAssessed)
    assert "creatinine_baseline" in found.detail


@pytest.mark.parametrize(
    ("inr", "anticoagulated", "grade"),
    [(1.2, 0, 0), (1.21, 0, 1), (1.5, 0, 1), (1.51, 0, 2), (2.5, 0, 2), (2.51, 0, 3),
     (2.0, 1, 0), (2.1, 1, 1), (3.0, 1, 1), (3.1, 1, 2), (5.0, 1, 2), (5.1, 1, 3)],
)  # fmt: skip
def test_inr(inr: float, anticoagulated: int, grade: int) -> None:
    assert graded("INR increased", inr=inr, inr_anticoagulated=anticoagulated, inr_baseline=2.0) == grade


@pytest.mark.parametrize(
    ("values", "column"),
    [({"inr": 1.3}, "inr_anticoagulated"), ({"inr": 1.3, "inr_anticoagulated": True}, "inr_baseline")],
)
def test_inr_refuses_without_anticoagulation_or_baseline(values: dict[str, float], column: str) -> None:
    found = ctcae.grade("INR increased", values)
    assert isinstance(found, NotAssessed)
    assert column in found.detail


@pytest.mark.parametrize(
    ("systolic", "diastolic", "grade"),
    [(119, 79, 0), (120, 79, 1), (119, 80, 1), (140, 70, 2), (110, 90, 2), (160, 70, 3), (110, 100, 3)],
)
def test_blood_pressure(systolic: float, diastolic: float, grade: int) -> None:
    assert graded("Hypertension", systolic=systolic, diastolic=diastolic) == grade


def test_both_pressures_are_needed() -> None:
    assert isinstance(ctcae.grade("Hypertension", {"systolic": 110}), NotAssessed)


@pytest.mark.parametrize(
    ("qtc", "baseline", "grade"),
    [(449, 440, 0), (450, 440, 1), (480, 440, 1), (481, 440, 2), (500, 440, 2), (501, 501, 3), (440, 379, 3)],
)
def test_qtc(qtc: float, baseline: float, grade: int) -> None:
    assert graded(QTC, qtc=qtc, qtc_baseline=baseline) == grade


def test_qtc_needs_the_baseline_below_its_highest_grade() -> None:
    assert graded(QTC, qtc=510) == 3
    assert isinstance(ctcae.grade(QTC, {"qtc": 440}), NotAssessed)


@pytest.mark.parametrize(
    ("values", "grade"),
    [
        ({"urine_dipstick": 0}, 0),
        ({"urine_dipstick": 1}, 1),
        ({"urine_dipstick": 3}, 2),
        ({"urine_dipstick": 4}, 3),
        ({"urine_protein": 0.1, "urine_protein_upper_limit": 0.15}, 0),
        ({"urine_protein": 0.9, "urine_protein_upper_limit": 0.15}, 1),
        ({"urine_protein": 1.0}, 2),
        ({"urine_protein": 3.5}, 3),
        ({"urine_protein": 1.0, "urine_dipstick": 4}, 3),
    ],
)
def test_proteinuria_by_either_test(values: dict[str, float], grade: int) -> None:
    assert graded("Proteinuria", **values) == grade


@pytest.mark.parametrize(("stools", "grade"), [(0, 0), (1, 1), (3, 1), (4, 2), (6, 2), (7, 3)])
def test_diarrhoea(stools: float, grade: int) -> None:
    assert graded("Diarrhea", stools_over_baseline=stools) == grade


@pytest.mark.parametrize(
    ("celsius", "grade"), [(37.9, 0), (38.0, 1), (39.0, 1), (39.1, 2), (40.0, 2), (40.1, 3)]
)
def test_fever(celsius: float, grade: int) -> None:
    found = ctcae.grade("Fever", {"temperature": celsius})
    assert found == ctcae.Graded(grade, "more than 24 hours above 40.0")


@pytest.mark.parametrize("term", [name for name, term in ctcae.TERMS.items() if term.measures])
def test_nothing_is_graded_from_nothing(term: str) -> None:
    found = ctcae.grade(term, {})
    assert isinstance(found, NotAssessed)
    assert ctcae.TERMS[term].measures[0].name in found.detail


@pytest.mark.parametrize("name", ["value", "upper_limit", "baseline"])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_refused(name: str, wrong: float) -> None:
    values = {"alt": 90.0, "alt_upper_limit": 40.0, "alt_baseline": 30.0}
    with pytest.raises(ClinicalError, match="alt"):
        ctcae.grade(ALT, {**values, "alt" if name == "value" else f"alt_{name}": wrong})


def test_a_baseline_of_zero_is_refused() -> None:
    with pytest.raises(ClinicalError, match="alt_baseline"):
        ctcae.grade(ALT, {"alt": 90.0, "alt_upper_limit": 40.0, "alt_baseline": 0.0})


def test_events_that_only_a_clinician_grades() -> None:
    with pytest.raises(ClinicalError, match="clinician"):
        ctcae.grade("Fatigue", {})
    assert ctcae.check_grade("Fatigue", 3) == 3
    with pytest.raises(ClinicalError, match="1, 2, 3 only"):
        ctcae.check_grade("Fatigue", 4)
    with pytest.raises(ClinicalError, match="3, 4, 5 only"):
        ctcae.check_grade("Hepatic failure", 2)
    with pytest.raises(ClinicalError, match="not among"):
        ctcae.check_grade("Alopecia", 1)


def test_figures_give_only_grades_that_the_term_has() -> None:
    for term in ctcae.TERMS.values():
        assert term.measures or term.judged
        assert set(term.grades) <= set(ctcae.SEVERITY)
    assert ctcae.TERMS["INR increased"].columns == ("inr", "inr_anticoagulated", "inr_baseline")
