"""RECIST 1.1 and mRECIST: published vectors, real readers, and made-up rows for the other rules."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import yaml
from scipy.stats import binomtest

from inference.clinical import rates, response
from inference.clinical.response import NonTarget, Target, TargetKind
from inference.results import ResponseCategory as C

VECTORS = yaml.safe_load((Path(__file__).parents[2] / "golden" / "clinical_vectors.yaml").read_text("utf-8"))
READER_CODES = {"1": C.CR, "2": C.PR, "3": C.SD, "4": C.PD}


@pytest.mark.parametrize(("baseline", "current", "nadir", "expected"), VECTORS["recist11"])
def test_published_vectors(baseline: float, current: float, nadir: float, expected: str) -> None:
    assert response.recist11_category(baseline, current, nadir) == expected


@pytest.mark.parametrize(("targets", "others", "new", "expected"), VECTORS["mrecist_overall"])
def test_overall_matrix(targets: str, others: str, new: bool, expected: str) -> None:
    assert response.overall_category(C(targets), NonTarget(others), new_lesions=new) == expected


@pytest.mark.parametrize(
    ("column", "categorise"),
    [("RECIST", response.recist11_category), ("mRECIST", response.mrecist_category)],
)
def test_real_readers(needs_data, column: str, categorise) -> None:
    with needs_data("hcc_tace_seg/clinical_Data.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    wrong, complete = [], 0
    for row in rows:
        for reader in (1, 2, 3):
            cells = [row[f"{reader}_{column}{part}"].strip() for part in ("_BL", "_FU", "")]
            if "NA" in cells or "" in cells:
                continue
            complete += 1
            if categorise(float(cells[0]), float(cells[1])) != READER_CODES[cells[2].removesuffix(".0")]:
                wrong.append((row["TCIA_ID"], reader, cells))
    assert complete == 287
    assert wrong == []


# ------------------------------------------------------------------ what those do not exercise


@pytest.mark.parametrize(
    ("baseline", "current", "nadir", "recist", "mrecist"),
    [
        (20, 24.9, None, C.SD, C.PD),  # +24.5 %, 4.9 mm: the 5 mm rule is RECIST's alone
        (20, 25, None, C.PD, C.PD),
        (24, 29, None, C.PD, C.PD),  # +20.8 %, 5 mm
        (30, 35, None, C.SD, C.SD),  # 5 mm, but +16.7 %
        (100, 60, 50, C.PD, C.PD),  # regrowth from the nadir wins over -40 % from baseline
        (100, 59, 50, C.PR, C.PR),
        (100, 55, 50, C.PR, C.PR),
        (100, 90, 120, C.SD, C.SD),  # a nadir above the baseline is no nadir
        (100, 121, 150, C.PD, C.PD),
        (100, 0, 40, C.CR, C.CR),
        (100, 4, 0, C.PD, C.PD),  # recurrence after all targets were gone
        (0.1 * 3, 0.1 * 3 * 0.7, None, C.PR, C.PR),  # exactly 30 %, badly rounded
        (49.0, 34.3, None, C.PR, C.PR),
        (28.0, 33.6, None, C.PD, C.PD),
    ],
)
def test_limits(baseline: float, current: float, nadir: float | None, recist: C, mrecist: C) -> None:
    assert response.recist11_category(baseline, current, nadir) is recist
    assert response.mrecist_category(baseline, current, nadir) is mrecist


@pytest.mark.parametrize("baseline", [None, math.nan, 0.0, -1.0, math.inf])
def test_without_baseline_not_evaluable(baseline: float | None) -> None:
    assert response.recist11_category(baseline, 10.0) is C.NE
    assert response.mrecist_category(baseline, 10.0) is C.NE


@pytest.mark.parametrize("current", [None, math.nan, -1.0])
def test_without_current_not_evaluable_unless_new_lesions(current: float | None) -> None:
    assert response.recist11_category(50.0, current) is C.NE
    assert response.recist11_category(50.0, current, new_lesions=True) is C.PD
    assert response.recist11_category(50.0, current, non_target=NonTarget.PD) is C.PD


def test_damaged_nadir_is_not_evaluable() -> None:
    assert response.recist11_category(50.0, 40.0, math.nan) is C.NE


@pytest.mark.parametrize("targets", [C.CR, C.PR, C.SD, C.NE, C.PD])
@pytest.mark.parametrize("others", list(NonTarget))
def test_new_lesion_is_progression_whatever_else(targets: C, others: NonTarget) -> None:
    assert response.overall_category(targets, others, new_lesions=True) is C.PD


def test_new_lesion_overrides_complete_response() -> None:
    assert response.mrecist_category(40.0, 0.0) is C.CR
    assert response.mrecist_category(40.0, 0.0, new_lesions=True) is C.PD


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        (NonTarget.NONE, C.CR),
        (NonTarget.CR, C.CR),
        (NonTarget.NON_CR_NON_PD, C.PR),
        (NonTarget.NE, C.PR),
        (NonTarget.PD, C.PD),
    ],
)
def test_non_targets_after_all_targets_are_gone(others: NonTarget, expected: C) -> None:
    assert response.recist11_category(40.0, 0.0, non_target=others) is expected


def test_matrix_is_total() -> None:
    for targets in (C.CR, C.PR, C.SD, C.NE):
        for others in set(NonTarget) - {NonTarget.PD}:
            assert (targets, others) in response.OVERALL


# ------------------------------------------------------------------ nodes and partly measured targets


def test_node_of_normal_size_counts_as_gone_and_still_adds_up() -> None:
    now = (Target("liver", 0.0), Target("node", 9.9, TargetKind.NODE))
    total = response.sum_of_diameters(now)
    assert total == response.TargetSum(sum_mm=9.9, complete=True, gone=True)
    assert response.recist11_targets(60.0, total) is C.CR
    assert response.recist11_category(60.0, 9.9, targets_gone=True) is C.CR
    assert response.recist11_category(60.0, 9.9) is C.PR


def test_node_of_ten_millimetres_is_not_gone() -> None:
    now = (Target("liver", 0.0), Target("node", 10.0, TargetKind.NODE))
    assert response.recist11_targets(60.0, response.sum_of_diameters(now)) is C.PR


def test_target_that_was_not_measured() -> None:
    small = response.sum_of_diameters((Target("a", 20.0), Target("b", None)))
    assert response.recist11_targets(60.0, small, 50.0) is C.NE
    already_more = response.sum_of_diameters((Target("a", 61.0), Target("b", None)))
    assert response.recist11_targets(60.0, already_more, 50.0) is C.PD
    nothing_seen = response.sum_of_diameters((Target("a", 0.0), Target("b", None)))
    assert response.recist11_targets(60.0, nothing_seen, 50.0) is C.NE


@pytest.mark.parametrize("diameter", [-1.0, math.nan, math.inf])
def test_impossible_diameter_is_an_error(diameter: float) -> None:
    with pytest.raises(ValueError, match="diameter"):
        response.sum_of_diameters((Target("a", diameter),))


def test_targets_two_in_an_organ_five_in_all_largest_first() -> None:
    liver = [Target(f"l{i}", d) for i, d in enumerate((9.9, 10.0, 40.0, 30.0))]
    lung = [Target(f"p{i}", 20.0, organ="lung") for i in range(3)]
    bone = [Target("b", 15.0, organ="bone")]
    nodes = [
        Target("n0", 14.9, TargetKind.NODE, "node"),
        Target("n1", 19.0, TargetKind.PORTA_HEPATIS_NODE, "node"),
    ]
    chosen = response.select_targets([*liver, *lung, *bone, *nodes])
    assert [t.lesion_id for t in chosen] == ["l2", "l3", "p0", "p1", "b"]
    assert response.select_targets(nodes) == ()
    assert len(response.select_targets([Target(f"x{i}", 20.0, organ=str(i)) for i in range(7)])) == 5


@pytest.mark.parametrize(
    ("diameter", "growth", "typical", "expected"),
    [(10, 0, True, True), (9, 0, True, False), (12, 4, False, False), (20, 10, False, True)],
)
def test_new_hcc(diameter: float, growth: float, typical: bool, expected: bool) -> None:
    assert response.is_new_hcc(diameter, growth, typical_pattern=typical) is expected


# ------------------------------------------------------------------ over time and over patients


@pytest.mark.parametrize(
    ("assessments", "expected"),
    [
        ([(0, C.PR), (28, C.PR)], C.PR),
        ([(0, C.PR), (27, C.PR)], C.SD),
        ([(0, C.PR), (30, C.CR), (60, C.CR)], C.CR),
        ([(0, C.PR), (30, C.CR)], C.PR),
        ([(0, C.SD), (30, C.PD), (60, C.PR), (90, C.PR)], C.SD),
        ([(0, C.PD)], C.PD),
        ([(0, C.NE), (30, C.PD)], C.PD),
        ([(0, C.NE)], C.NE),
        ([], C.NE),
    ],
)
def test_best_confirmed_response(assessments: list[tuple[float, C]], expected: C) -> None:
    assert response.best_confirmed(assessments) is expected


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (3, 17), (26, 105), (1, 1)])
def test_exact_limits_agree_with_scipy(k: int, n: int) -> None:
    ours = rates.clopper_pearson(k, n)
    judge = binomtest(k, n).proportion_ci(0.95, method="exact")
    assert (ours.lower, ours.upper) == pytest.approx((judge.low, judge.high), abs=1e-9)


def test_rates_leave_out_what_is_not_evaluable() -> None:
    seen = [C.CR, C.PR, C.SD, C.SD, C.PD, C.NE]
    assert (rates.objective_response_rate(seen).successes, rates.objective_response_rate(seen).n) == (
        2,
        5,
    )
    assert rates.disease_control_rate(seen).estimate == pytest.approx(0.8)
    with pytest.raises(ValueError, match="n > 0"):
        rates.objective_response_rate([C.NE])


def test_change_needs_a_baseline() -> None:
    assert response.change_pct(50.0, 36.0) == pytest.approx(-28.0)
    with pytest.raises(ValueError, match="baseline"):
        response.change_pct(0.0, 10.0)
