"""The files of an evaluation: metrics.json, the page and the paper, and the reporting checklist."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest

from inference.evaluation.predictions.folder import Study, read_predictions, write_predictions
from inference.evaluation.report.checklist import State, filled_checklist, guidelines
from inference.evaluation.report.checklist_texts import TEXTS
from inference.evaluation.report.evaluation import evaluate_predictions
from inference.evaluation.report.metrics_document import SCHEMA, metrics_document
from inference.evaluation.report.plan import EvaluationPlan
from inference.evaluation.report.published import published_results
from inference.evaluation.report.writing import METRICS, PAGE, PAPER, write_evaluation
from tests.builders.predictions import four_arms, truth

PLAN = EvaluationPlan(draws=20, horizons=(12.0, 36.0))
WRITTEN = datetime(2026, 1, 2, tzinfo=UTC)
STUDY = Study(title="A <b>study</b> & more", items={"17": "Approved by the committee.", "99": "nothing"})


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    known = truth(200)
    folder = tmp_path_factory.mktemp("predictions")
    write_predictions(folder, known.patients, four_arms(known), STUDY)
    return evaluate_predictions(read_predictions(folder), PLAN, lambda _text, _share: None)


@pytest.fixture(scope="module")
def folder(evaluation, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    written = write_evaluation(out, evaluation, WRITTEN)
    assert [p.name for p in written] == [METRICS, PAGE, PAPER]
    return out


@pytest.fixture(scope="module")
def metrics(folder):
    return json.loads((folder / METRICS).read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_metrics_hold_every_figure(metrics):
    assert metrics["schema"] == SCHEMA
    (chosen,) = metrics["sets"]
    models = {m["model"]: m for m in chosen["end_points"]["os"]["models"]}
    assert set(models) == {"clinical", "baseline", "real", "virtual"}
    for key in ("harrell_c", "uno_c", "ibs", "nagelkerke_r2", "auc@12", "ici@12", "e90@12", "brier@36"):
        found = models["clinical"]["figures"][key]
        assert found["lower"] <= found["upper"]
        assert found["n"] == 70
    first = chosen["end_points"]["os"]["pairs"][0]
    assert {"value", "lower", "upper", "n"} == set(first["differences"]["harrell_c"])
    assert set(chosen["end_points"]["os"]["arms"]["figures"]) == {
        "clinical",
        "baseline_images",
        "real_follow_up",
        "virtual",
    }
    assert set(chosen["response"]["models"][0]["figures"]) >= {"auc", "accuracy", "f1", "ppv", "npv"}


def test_every_gap_is_in_the_list(metrics):
    def count(value):
        if isinstance(value, dict):
            return ("not_computed" in value) + sum(count(v) for k, v in value.items())
        return sum(map(count, value)) if isinstance(value, list) else 0

    listed = metrics["not_computed"]
    assert len(listed) == count({k: metrics[k] for k in ("sets", "sample_size")})
    assert all(g["why"] and g["where"] for g in listed)
    places = {" / ".join(g["where"]) for g in listed}
    assert any("pfs" in p and "auc@36" in p for p in places)


def test_the_same_predictions_give_the_same_metrics(evaluation, metrics):
    again = evaluate_predictions(evaluation.predictions, PLAN, lambda _text, _share: None)
    document = metrics_document(again, filled_checklist(again))
    assert json.loads(json.dumps(document, allow_nan=False)) == metrics


def test_the_page_stands_alone_and_names_no_patient(folder, evaluation):
    text = (folder / PAGE).read_text(encoding="utf-8")
    assert "A &lt;b&gt;study&lt;/b&gt; &amp; more" in text
    assert "<b>study" not in text
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', text)
    assert all(s.startswith(("data:image/png;base64,", "#part-")) for s in sources)
    links, parts = re.findall(r'href="#(part-\d+)"', text), re.findall(r'<section id="(part-\d+)"', text)
    assert links == parts
    assert not re.search(r"\bP\d{4}\b", re.sub(r"base64,[^\"]+", "", text))
    for words in (
        "other patients, cannot be compared",
        "What could not be computed",
        "Numbers",
        "D-calibration",
    ):
        assert words.lower() in text.lower()
    assert text.count("<table>") == text.count("</table>")


def test_the_paper_is_a_pdf_of_its_date(folder):
    paper = (folder / PAPER).read_bytes()
    assert paper.startswith(b"%PDF-")
    assert b"D:20260102" in paper
    assert len(re.findall(rb"/Type /Page\b", paper)) > 5


# ------------------------------------------------------------------ checklist


def test_the_checklist_has_all_items_of_tripod_ai():
    numbers = [i.number for g in guidelines() if g.guideline == "TRIPOD+AI" for i in g.items]
    letters = {3: "abc", 5: "ab", 6: "abc", 8: "abc", 9: "abc", 12: "abcdefg", 18: "abcdef", 20: "abc"}
    letters |= {23: "ab", 27: "abc"}
    expected = [f"{k}{x}" for k in range(1, 28) for x in letters.get(k, [""])]
    assert numbers == expected
    assert {i.fill for g in guidelines() for i in g.items if i.fill} == set(TEXTS)


def test_items_are_filled_or_left_to_a_person(evaluation, folder):
    found = {i.number: i for i in filled_checklist(evaluation)}
    assert found["17"].state is State.GIVEN
    assert found["17"].answer == "Approved by the committee."
    assert found["3a"].state is State.OPEN
    assert found["3a"].answer == ""
    assert found["23a"].state is State.FILLED
    assert "Clinical Cox 0." in found["23a"].answer
    assert "test 70" in found["12a"].answer
    assert found["18e"].state is State.PART
    assert "numbers that no guideline has: 99" in (folder / PAGE).read_text(encoding="utf-8")


def test_published_figures_name_their_source():
    results = published_results()
    assert len(results) >= 8
    assert all(r.source and all(0.5 <= v <= 1 for v in r.values.values()) for r in results)
