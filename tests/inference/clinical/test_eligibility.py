"""The protocol's criteria, one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inference.case import ClinicalRecord, ClinicalValue
from inference.clinical.eligibility import PROTOCOL, QUESTIONS, Answer, Finding, assess, criteria, overall
from inference.clinical.variables import VARIABLES

ELIGIBLE: dict[str, float | str | bool] = {
    "unresectable_hcc": True,
    "protocol_treatment": True,
    "child_pugh_class": "B",
    "age": 19.0,
    "sex": "M",
    "expected_survival": 3.0,
    "ecog": 2.0,
    "neutrophils": 1.0,
    "platelets": 50.0,
    "haemoglobin": 90.0,
    "inr": 1.69,
    "prothrombin_prolongation": 4.0,
    "alt": 200.0,
    "alt_upper_limit": 40.0,
    "ast": 200.0,
    "ast_upper_limit": 40.0,
    "bilirubin": 40.7,
    "albumin": 28.0,
    "creatinine": 150.0,
    "creatinine_upper_limit": 100.0,
    "other_malignancy": False,
    "ascites": "slight",
    "other_treatment_4_weeks": False,
    "incomplete_data": False,
    "decompensated_liver": False,
    "systolic_on_drugs": 150.0,
    "diastolic_on_drugs": 100.0,
    "arrhythmia_grade": 1.0,
    "atrial_fibrillation": False,
    "qtc": 450.0,
    "renal_insufficiency": False,
    "other_severe_disease": False,
    "hiv": False,
    "pregnant_or_lactating": False,
    "mental_disorder": False,
}


def record(**values: float | str | bool) -> ClinicalRecord:
    return ClinicalRecord({name: ClinicalValue(name, value) for name, value in values.items()})


def failed(**changed: float | str | bool) -> list[str]:
    findings = assess(record(**{**ELIGIBLE, **changed}))
    assert not [f for f in findings if f.answer is Answer.UNKNOWN]
    return [f.criterion for f in findings if f.answer is Answer.NOT_MET]


def without(*names: str) -> dict[str, Finding]:
    findings = assess(record(**{n: v for n, v in ELIGIBLE.items() if n not in names}))
    return {f.criterion: f for f in findings if f.answer is Answer.UNKNOWN}


def test_the_limits_themselves_are_eligible() -> None:
    findings = assess(record(**ELIGIBLE))
    assert {f.answer for f in findings} == {Answer.MET}
    assert overall(findings) is Answer.MET


def test_every_place_of_the_protocol_is_there() -> None:
    places = dict.fromkeys(criterion.place for criterion in criteria())
    assert list(places) == [
        *(f"inclusion {n}" for n in (1, 2, 3, 4, 5, 6, "7.1", "7.2", "7.3")),
        *(f"exclusion {n}" for n in range(1, 10)),
    ]
    texts = [criterion.text for criterion in criteria()]
    assert len(set(texts)) == len(texts)


def test_criteria_ask_only_for_what_exists() -> None:
    for criterion in criteria():
        assert set(criterion.needs) <= {*VARIABLES, *QUESTIONS}
    assert not set(VARIABLES) & set(QUESTIONS)


@pytest.mark.parametrize(
    ("changed", "criterion"),
    [
        ({"unresectable_hcc": False}, "unresectable HCC by histology or clinical diagnosis"),
        ({"protocol_treatment": False}, "TACE with targeted therapy and immunotherapy"),
        ({"child_pugh_class": "C"}, "Child-Pugh A or B"),
        ({"age": 18.0}, "age above 18 years"),
        ({"expected_survival": 2.9}, "expected survival at least 3 months"),
        ({"ecog": 3.0}, "ECOG at most 2"),
        ({"neutrophils": 0.99}, "neutrophils at least 1 x 10*9/L"),
        ({"platelets": 49.0}, "platelets at least 50 x 10*9/L"),
        ({"haemoglobin": 89.0}, "haemoglobin at least 90 g/L"),
        (
            {"inr": 1.7, "prothrombin_prolongation": 4.1},
            "INR below 1.7 or prothrombin time at most 4 s over control",
        ),
        ({"alt": 201.0}, "ALT and AST at most 5 x upper limit"),
        ({"ast": 201.0}, "ALT and AST at most 5 x upper limit"),
        ({"bilirubin": 40.8}, "bilirubin at most 40.7 umol/L"),
        ({"albumin": 27.9}, "albumin at least 28 g/L"),
        ({"creatinine": 151.0}, "creatinine at most 1.5 x upper limit"),
        ({"other_malignancy": True}, "no other malignancy"),
        ({"ascites": "moderate_or_severe"}, "no moderate or severe ascites"),
        ({"other_treatment_4_weeks": True}, "no other treatment within 4 weeks"),
        ({"incomplete_data": True}, "no incomplete laboratory values, images or outcome"),
        ({"decompensated_liver": True}, "no liver disease that severely affects bilirubin"),
        ({"systolic_on_drugs": 151.0}, "blood pressure at most 150/100 mmHg on best drugs"),
        ({"diastolic_on_drugs": 101.0}, "blood pressure at most 150/100 mmHg on best drugs"),
        ({"arrhythmia_grade": 2.0}, "no sustained arrhythmia of CTCAE grade 2 or more"),
        ({"atrial_fibrillation": True}, "no atrial fibrillation"),
        ({"qtc": 451.0}, "QTc at most 450 ms in men, 470 ms in women"),
        ({"qtc": 471.0, "sex": "F"}, "QTc at most 450 ms in men, 470 ms in women"),
        ({"renal_insufficiency": True}, "no renal insufficiency"),
        ({"other_severe_disease": True}, "no other severe disease"),
        ({"hiv": True}, "no HIV infection or AIDS"),
        ({"sex": "F", "pregnant_or_lactating": True}, "not pregnant or lactating"),
        ({"mental_disorder": True}, "no mental disorder"),
    ],
)
def test_each_criterion_fails_alone(changed: dict[str, float | str | bool], criterion: str) -> None:
    assert failed(**changed) == [criterion]
    assert overall(assess(record(**{**ELIGIBLE, **changed}))) is Answer.NOT_MET


def test_nothing_is_known_of_an_empty_record() -> None:
    findings = assess(record())
    assert {f.answer for f in findings} == {Answer.UNKNOWN}
    assert [f.missing for f in findings] == [c.needs for c in criteria()]
    assert overall(findings) is Answer.UNKNOWN


@pytest.mark.parametrize("name", [n for n in ELIGIBLE if n not in ("sex", "inr", "prothrombin_prolongation")])
def test_a_missing_value_leaves_its_criterion_unknown(name: str) -> None:
    unknown = without(name)
    if name == "pregnant_or_lactating":
        assert not unknown  # the patient is a man
    elif name == "child_pugh_class":
        assert unknown["Child-Pugh A or B"].missing == ("encephalopathy",)
    else:
        assert [finding.missing for finding in unknown.values()] == [(name,)]


def test_sex_matters_only_between_its_limits() -> None:
    known = {n: v for n, v in ELIGIBLE.items() if n != "sex"}

    def qtc(value: float) -> Finding:
        findings = assess(record(**{**known, "qtc": value}))
        return next(f for f in findings if f.criterion.startswith("QTc"))

    assert [qtc(v).answer for v in (450, 451, 471)] == [Answer.MET, Answer.UNKNOWN, Answer.NOT_MET]
    assert qtc(460).missing == ("sex",)
    assert not failed(sex="F", qtc=470.0)


def test_one_of_two_coagulation_tests_is_enough() -> None:
    assert not failed(inr=2.0)
    assert not failed(prothrombin_prolongation=9.0)
    unknown = assess(record(inr=2.0))
    assert next(f for f in unknown if f.criterion.startswith("INR")).missing == ("prothrombin_prolongation",)


@pytest.mark.parametrize("bilirubin", [40.8, 210.0])
def test_bilirubin_between_the_two_limits_is_marked(bilirubin: float) -> None:
    findings = assess(record(**{**ELIGIBLE, "bilirubin": bilirubin}))
    noted = [f for f in findings if f.note]
    assert [(f.criterion, f.note) for f in noted] == [
        ("bilirubin at most 40.7 umol/L", "protocol ambiguous between 40.7 and 210 umol/L")
    ]


def test_a_site_may_settle_the_bilirubin_limit() -> None:
    settled = replace(PROTOCOL, bilirubin_umol_l=210.0)
    findings = assess(record(**{**ELIGIBLE, "bilirubin": 210.0}), settled)
    assert overall(findings) is Answer.MET
    assert not [f for f in findings if f.note]
    assert "bilirubin at most 210 umol/L" in [f.criterion for f in findings]
