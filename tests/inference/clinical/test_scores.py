"""Clinical scores against values computed elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from inference.clinical import scores
from inference.clinical.scores import Burden, Spread
from inference.clinical.variables import BILIRUBIN_UMOL_PER_MG_DL

VECTORS = yaml.safe_load((Path(__file__).parents[2] / "golden" / "clinical_vectors.yaml").read_text("utf-8"))
NO_SPREAD = Spread(vascular=False, extrahepatic=False)


@pytest.mark.parametrize(("albumin", "bilirubin", "score", "grade"), VECTORS["albi"])
def test_albi(albumin: float, bilirubin: float, score: float, grade: int) -> None:
    found = scores.albi(albumin, bilirubin)
    assert found == pytest.approx(score, abs=5e-5)
    assert scores.albi_grade(found) == grade


@pytest.mark.parametrize(
    ("score", "grade"),
    [(-2.61, "1"), (-2.60, "1"), (-2.59, "2a"), (-2.28, "2a"), (-2.27, "2b"), (-1.39, "2b"), (-1.38, "3")],
)
def test_modified_albi_grade(score: float, grade: str) -> None:
    assert scores.modified_albi_grade(score) == grade


@pytest.mark.parametrize(("albumin", "bilirubin", "score"), VECTORS["ez_albi"])
def test_ez_albi(albumin: float, bilirubin: float, score: float) -> None:
    found = scores.ez_albi(albumin * 10, bilirubin * BILIRUBIN_UMOL_PER_MG_DL)
    assert found == pytest.approx(score, abs=5e-3)


@pytest.mark.parametrize(
    ("bilirubin", "albumin", "inr", "ascites", "enceph", "score", "class_"), VECTORS["child_pugh"]
)
def test_child_pugh(bilirubin, albumin, inr, ascites, enceph, score, class_) -> None:
    found = scores.child_pugh(bilirubin, albumin, inr, ascites, enceph)
    assert (found, scores.child_pugh_class(found)) == (score, class_)


@pytest.mark.parametrize(
    ("bilirubin", "albumin", "inr", "points"),
    [(33.9, 36, 1.69, 5), (34, 35, 1.7, 8), (51, 28, 2.3, 8), (51.1, 27.9, 2.31, 11)],
)
def test_child_pugh_limits(bilirubin: float, albumin: float, inr: float, points: int) -> None:
    assert scores.child_pugh(bilirubin, albumin, inr, "none", "none") == points


@pytest.mark.parametrize(("age", "ast", "platelets", "alt", "index"), VECTORS["fib4"])
def test_fib4(age: float, ast: float, platelets: float, alt: float, index: float) -> None:
    assert scores.fib4(age, ast, platelets, alt) == pytest.approx(index, abs=5e-5)


@pytest.mark.parametrize(("mg_dl", "umol_l"), VECTORS["bilirubin"])
def test_bilirubin_units(mg_dl: float, umol_l: float) -> None:
    assert mg_dl * BILIRUBIN_UMOL_PER_MG_DL == pytest.approx(umol_l, abs=0.05)


@pytest.mark.parametrize(
    ("burden", "seven", "eleven", "group", "score_group"),
    [
        (Burden(2, 5.0), True, True, ">6-12", "medium"),
        (Burden(1, 2.0), True, True, "<=6", "low"),
        (Burden(3, 4.1), False, True, ">6-12", "medium"),
        (Burden(1, 10.1), False, False, ">6-12", "medium"),
        (Burden(2, 14.0), False, False, ">12", "high"),
    ],
)
def test_burden(burden: Burden, seven: bool, eleven: bool, group: str, score_group: str) -> None:
    assert scores.up_to_seven(burden) is seven
    assert scores.up_to_eleven(burden) is eleven
    assert scores.six_and_twelve(burden) == group
    assert scores.tumour_burden_group(scores.tumour_burden_score(burden)) == score_group


def test_tumour_burden_score_is_a_hypotenuse() -> None:
    assert scores.tumour_burden_score(Burden(3, 4.0)) == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("ecog", "liver", "burden", "spread", "bclc", "cnlc"),
    [
        (0, "A", Burden(1, 2.0), NO_SPREAD, "0", "Ia"),
        (0, "A", Burden(1, 9.0), NO_SPREAD, "A", "Ib"),
        (0, "A", Burden(3, 3.0), NO_SPREAD, "A", "Ib"),
        (0, "B", Burden(3, 3.1), NO_SPREAD, "B", "IIa"),
        (0, "A", Burden(4, 2.0), NO_SPREAD, "B", "IIb"),
        (1, "A", Burden(1, 2.0), NO_SPREAD, "C", "Ia"),
        (0, "A", Burden(1, 2.0), Spread(vascular=True, extrahepatic=False), "C", "IIIa"),
        (0, "A", Burden(1, 2.0), Spread(vascular=True, extrahepatic=True), "C", "IIIb"),
        (2, "A", Burden(2, 4.0), NO_SPREAD, "C", "IIa"),
        (0, "A", Burden(1, 2.0), Spread(vascular=False, extrahepatic=True), "C", "IIIb"),
        (0, "B", Burden(1, 2.1), NO_SPREAD, "A", "Ia"),
        (0, "B", Burden(1, 5.0), NO_SPREAD, "A", "Ia"),
        (0, "B", Burden(1, 5.1), NO_SPREAD, "A", "Ib"),
        (4, "A", Burden(1, 2.0), Spread(vascular=True, extrahepatic=True), "D", "IV"),
        (3, "A", Burden(1, 2.0), NO_SPREAD, "D", "IV"),
        (0, "C", Burden(1, 2.0), NO_SPREAD, "D", "IV"),
    ],
)
def test_stages(ecog: int, liver: str, burden: Burden, spread: Spread, bclc: str, cnlc: str) -> None:
    assert scores.bclc_2022(ecog, liver, burden, spread) == bclc
    assert scores.cnlc_2022(ecog, liver, burden, spread) == cnlc


@pytest.mark.parametrize(
    ("albumin", "bilirubin", "afp", "burden", "hap", "hap2"),
    [
        (36, 17, 400, Burden(1, 7.0), "A", "A"),
        (35, 17, 400, Burden(2, 7.0), "B", "C"),
        (35, 18, 400, Burden(1, 7.0), "C", "C"),
        (35, 18, 401, Burden(2, 7.1), "D", "D"),
    ],
)
def test_hap(albumin: float, bilirubin: float, afp: float, burden: Burden, hap: str, hap2: str) -> None:
    assert scores.hap(albumin, bilirubin, afp, burden) == hap
    assert scores.modified_hap2(albumin, bilirubin, afp, burden) == hap2


def test_albi_tae() -> None:
    assert scores.albi_tae(-2.7, 200, Burden(1, 10.0)) == "A"
    assert scores.albi_tae(-2.5, 201, Burden(2, 10.0)) == "D"


@pytest.mark.parametrize(
    ("afp", "albi", "burden", "group"),
    [
        (200, -2.61, Burden(1, 10.0), "A"),
        (201, -2.61, Burden(1, 10.0), "B"),
        (200, -2.59, Burden(1, 10.0), "B"),
        (200, -2.61, Burden(1, 10.1), "B"),
        (201, -2.59, Burden(1, 10.0), "C"),
        (201, -2.59, Burden(1, 10.1), "D"),
    ],
)
def test_albi_tae_has_a_point_for_each(afp: float, albi: float, burden: Burden, group: str) -> None:
    assert scores.albi_tae(albi, afp, burden) == group


@pytest.mark.parametrize(
    ("burden", "within"),
    [
        (Burden(1, 5.0), True),
        (Burden(1, 5.1), False),
        (Burden(3, 3.0), True),
        (Burden(2, 3.1), False),
        (Burden(4, 1.0), False),
    ],
)
def test_milan(burden: Burden, within: bool) -> None:
    assert scores.milan(burden) is within


@pytest.mark.parametrize(
    ("ecog", "points", "burden", "substage"),
    [
        (0, 5, Burden(3, 4.0), "B1"),
        (0, 7, Burden(3, 4.0), "B1"),
        (0, 5, Burden(3, 4.1), "B2"),
        (0, 6, Burden(3, 4.1), "B2"),
        (0, 7, Burden(3, 4.1), "B3"),
        (0, 8, Burden(3, 4.0), "B4"),
        (1, 9, Burden(3, 4.1), "B4"),
        (1, 7, Burden(3, 4.1), "none"),
        (2, 9, Burden(3, 4.1), "none"),
        (0, 10, Burden(3, 4.1), "none"),
        (0, 5, Burden(3, 3.0), "none"),
    ],
)
def test_bolondi(ecog: int, points: float, burden: Burden, substage: str) -> None:
    assert scores.bolondi(ecog, points, burden, NO_SPREAD) == substage
    for spread in (Spread(vascular=True, extrahepatic=False), Spread(vascular=False, extrahepatic=True)):
        assert scores.bolondi(ecog, points, burden, spread) == "none"
