"""Completion from images, derived scores, eligibility."""

from __future__ import annotations

import pytest

from inference.case import ClinicalRecord, ClinicalValue
from inference.clinical.eligibility import criteria
from inference.clinical.summary import summarise, with_imaging
from inference.clinical.variables import VARIABLES
from inference.results import Axis, LesionMeasurement


def record(**values: float | str | bool) -> ClinicalRecord:
    return ClinicalRecord({n: ClinicalValue(n, v, VARIABLES[n].unit) for n, v in values.items()})


def lesion(name: str, volume_ml: float, long_mm: float | None) -> LesionMeasurement:
    axis = None if long_mm is None else Axis(long_mm, 0, (0, 0), (0, 1), (0, 0, 0), (long_mm, 0, 0))
    return LesionMeasurement(name, volume_ml, volume_ml, axis, None, axis, None, None)


FULL = {
    "age": 60.0,
    "ecog": 0.0,
    "albumin": 40.0,
    "bilirubin": 10.0,
    "inr": 1.0,
    "ascites": "none",
    "encephalopathy": "none",
    "afp": 20.0,
    "ast": 40.0,
    "alt": 36.0,
    "ast_upper_limit": 40.0,
    "alt_upper_limit": 40.0,
    "platelets": 150.0,
    "neutrophils": 3.0,
    "haemoglobin": 130.0,
    "creatinine": 70.0,
    "creatinine_upper_limit": 100.0,
    "vascular_invasion": False,
    "lymph_nodes": False,
    "metastasis": False,
}


def test_lesions_fill_what_is_missing_only() -> None:
    lesions = (lesion("L1", 100.0, 60.0), lesion("L2", 20.0, 30.0), lesion("L3", 0.1, None))
    filled = with_imaging(record(largest_tumour=55.0), lesions, liver_ml=1500.0)
    assert {n: v.value for n, v in filled.values.items()} == {
        "tumour_number": 3.0,
        "largest_tumour": 55.0,
        "tumour_over_half_of_liver": False,
    }
    assert (
        with_imaging(record(), (lesion("L1", 800.0, 60.0),), 1500.0).values["tumour_over_half_of_liver"].value
    )
    assert "tumour_over_half_of_liver" not in with_imaging(record(), lesions).values
    assert with_imaging(record(), ()) == record()


def test_scores_of_a_full_record() -> None:
    scores = summarise(record(**FULL, tumour_number=2.0, largest_tumour=40.0)).scores
    assert scores["albi"] == pytest.approx(-2.74, abs=1e-4)
    assert scores["albi_grade"] == "1"
    assert (scores["child_pugh_score"], scores["child_pugh_class"]) == (5.0, "A")
    assert (scores["bclc_2022"], scores["cnlc_2022"]) == ("B", "IIa")
    assert scores["up_to_seven"] == "within"
    assert scores["fib4"] == pytest.approx(60 * 40 / (150 * 6))
    assert "bilirubin_note" not in scores


def test_nothing_is_derived_from_nothing() -> None:
    summary = summarise(record())
    assert summary.scores == {}
    assert set(summary.eligibility.values()) == {"unknown"}
    assert summary.missing == tuple(VARIABLES)


def test_given_stage_is_shown_as_given() -> None:
    assert summarise(record(**FULL, bclc_stage="C", child_pugh_class="B")).scores["bclc_2022"] == "C"
    assert summarise(record(**FULL, child_pugh_class="B")).scores["child_pugh_class"] == "B"


def test_thrombus_is_vascular_invasion_but_its_absence_is_not_none() -> None:
    burden = {"tumour_number": 1.0, "largest_tumour": 20.0}
    assert summarise(record(**burden, portal_vein_thrombosis=True)).scores["up_to_seven"] == "beyond"
    assert summarise(record(**burden, pvtt_class="Vp3")).scores["up_to_seven"] == "beyond"
    assert "up_to_seven" not in summarise(record(**burden, portal_vein_thrombosis=False)).scores
    assert summarise(record(**burden, vascular_invasion=False)).scores["up_to_seven"] == "within"


def test_full_record_meets_what_can_be_judged() -> None:
    eligibility = summarise(record(**FULL)).eligibility
    assert sum(answer == "met" for answer in eligibility.values()) == 12
    assert "not_met" not in eligibility.values()


@pytest.mark.parametrize(
    ("changed", "criterion"),
    [
        ({"age": 18.0}, "age above"),
        ({"ecog": 3.0}, "ECOG"),
        ({"child_pugh_class": "C"}, "Child-Pugh"),
        ({"neutrophils": 0.9}, "neutrophils"),
        ({"platelets": 49.0}, "platelets"),
        ({"haemoglobin": 89.0}, "haemoglobin"),
        ({"inr": 1.7, "prothrombin_prolongation": 4.1}, "INR"),
        ({"alt": 201.0}, "ALT"),
        ({"bilirubin": 41.0}, "bilirubin"),
        ({"albumin": 27.9}, "albumin"),
        ({"creatinine": 151.0}, "creatinine"),
        ({"ascites": "moderate_or_severe"}, "no moderate"),
    ],
)
def test_each_criterion_can_fail(changed: dict[str, float | str], criterion: str) -> None:
    eligibility = summarise(record(**{**FULL, **changed})).eligibility
    failed = [name for name, answer in eligibility.items() if answer == "not_met"]
    assert [name for name in failed if name.startswith(criterion)]


def test_one_of_two_coagulation_tests_is_enough() -> None:
    name = next(c.text for c in criteria() if c.text.startswith("INR"))
    assert summarise(record(inr=2.0, prothrombin_prolongation=4.0)).eligibility[name] == "met"
    assert summarise(record(inr=2.0)).eligibility[name] == "unknown"


def test_one_high_transaminase_is_enough_to_fail() -> None:
    name = next(c.text for c in criteria() if c.text.startswith("ALT"))
    assert summarise(record(alt=500.0, alt_upper_limit=40.0)).eligibility[name] == "not_met"
    assert summarise(record(alt=40.0, alt_upper_limit=40.0)).eligibility[name] == "unknown"


@pytest.mark.parametrize(
    ("bilirubin", "marked"), [(40.7, False), (41.0, True), (210.0, True), (211.0, False)]
)
def test_ambiguous_bilirubin_is_marked(bilirubin: float, marked: bool) -> None:
    assert ("bilirubin_note" in summarise(record(bilirubin=bilirubin)).scores) is marked
