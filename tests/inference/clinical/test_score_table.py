"""The table of scores: what each needs, and what it says when that is missing."""

from __future__ import annotations

import pytest

from inference.case import ClinicalRecord, ClinicalValue
from inference.clinical.score_table import SCORES, score, score_all
from inference.clinical.variables import VARIABLES
from inference.results import NotAssessed, Reason

FULL: dict[str, float | str | bool] = {
    "age": 52.0,
    "ecog": 0.0,
    "albumin": 35.0,
    "bilirubin": 20.0,
    "inr": 1.0,
    "ascites": "none",
    "encephalopathy": "none",
    "afp": 401.0,
    "ast": 70.0,
    "alt": 48.0,
    "platelets": 218.0,
    "tumour_number": 3.0,
    "largest_tumour": 60.0,
    "vascular_invasion": False,
    "lymph_nodes": False,
    "metastasis": False,
}
EXPECTED: dict[str, float | str] = {
    "albi": -2.1163,
    "albi_grade": "2b",
    "ez_albi": -30.3307,
    "child_pugh_score": 6.0,
    "child_pugh_class": "A",
    "bclc_2022": "B",
    "cnlc_2022": "IIa",
    "up_to_seven": "beyond",
    "six_and_twelve": ">6-12",
    "tumour_burden_score": 6.7082,
    "tumour_burden_group": "medium",
    "fib4": 2.41,
    "hap": "D",
    "mhap2": "D",
    "albi_tae": "C",
    "bolondi": "B2",
}


def record(values: dict[str, float | str | bool]) -> ClinicalRecord:
    return ClinicalRecord({n: ClinicalValue(n, v, VARIABLES[n].unit) for n, v in values.items()})


def test_every_score_of_a_full_record() -> None:
    found = score_all(record(FULL))
    assert set(found) == set(SCORES) == set(EXPECTED)
    for name, expected in EXPECTED.items():
        value = pytest.approx(expected, abs=5e-5) if isinstance(expected, float) else expected
        assert found[name] == value, name


@pytest.mark.parametrize(("name", "variable"), [(n, v) for n, s in SCORES.items() for v in s.needs])
def test_a_missing_value_is_named_and_never_assumed(name: str, variable: str) -> None:
    found = score(name, record({n: v for n, v in FULL.items() if n != variable}))
    assert isinstance(found, NotAssessed)
    assert found.reason is Reason.CLINICAL_VALUES_MISSING
    assert found.detail == f"{SCORES[name].title} needs {variable}."


@pytest.mark.parametrize("name", SCORES)
def test_all_that_is_missing_is_named_once(name: str) -> None:
    found = score(name, record({}))
    assert isinstance(found, NotAssessed)
    assert found.detail.endswith(f"needs {', '.join(SCORES[name].needs)}.")


@pytest.mark.parametrize("name", SCORES)
def test_needs_are_enough(name: str) -> None:
    needed = {n: v for n, v in FULL.items() if n in SCORES[name].needs}
    assert score(name, record(needed)) == score(name, record(FULL))


def test_what_is_given_goes_before_what_is_computed() -> None:
    given = record({**FULL, "bclc_stage": "C", "cnlc_stage": "IV", "child_pugh_class": "B"})
    assert [score(n, given) for n in ("bclc_2022", "cnlc_2022", "child_pugh_class")] == ["C", "IV", "B"]
    assert score("child_pugh_score", record({"child_pugh_score": 7.0})) == 7.0
    assert score("child_pugh_class", record({"child_pugh_score": 7.0})) == "B"


def test_an_unknown_score_is_an_error() -> None:
    with pytest.raises(KeyError):
        score("mhap3", record(FULL))
