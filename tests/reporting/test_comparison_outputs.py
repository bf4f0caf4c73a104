"""Where regimens were compared, every output says so: pairs, confidence, E-value, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from inference.comparison.rule import ComparisonRule
from inference.results import NotAssessed, Reason
from reporting import codes
from reporting.comparison_words import name_of, named, pair_rows, percent, regimen_names, verdict
from reporting.pictures import chart_images
from reporting.regressions_picture import MOST_POINTS, shown_points
from reporting.result_json import result_document
from tests.builders.results import results, with_regimens_compared
from tests.reporting.conftest import Written, pdf_words


def _walk(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from _walk(child)


def groups_of(document: Dataset, tracked: str) -> list[Dataset]:
    """Return the groups whose tracking identifier begins with some words."""
    return [
        item
        for item in _walk(document)
        if item.ValueType == "CONTAINER"
        and any(
            child.get("TextValue", "").startswith(tracked)
            for child in item.get("ContentSequence", ())
            if child.ConceptNameCodeSequence[0].CodeValue == "112039"
        )
    ]


def numbers_of(group: Dataset) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for item in group.ContentSequence:
        if item.ValueType == "NUM":
            name = item.ConceptNameCodeSequence[0].CodeValue
            found.setdefault(name, []).append(float(item.MeasuredValueSequence[0].NumericValue))
    return found


def coded_of(group: Dataset) -> dict[str, str]:
    return {
        str(i.ConceptNameCodeSequence[0].CodeValue): str(i.ConceptCodeSequence[0].CodeMeaning)
        for i in group.ContentSequence
        if i.ValueType == "CODE"
    }


@pytest.fixture(scope="module")
def report(phantom_compared: Written) -> Dataset:
    return pydicom.dcmread(phantom_compared.paths("report")[0])


def test_the_report_has_a_group_for_each_pair(report: Dataset) -> None:
    (pair,) = groups_of(report, "Compared haic against tace")
    numbers = numbers_of(pair)
    assert numbers[codes.BENEFIT.value] == [8.0, 4.0, 12.0]
    assert numbers[codes.RMST36_DIFFERENCE.value] == [2.0, 1.0, 3.0]
    assert numbers["HC216"] == [0.91]
    assert numbers[codes.E_VALUE.value] == [2.7]
    assert numbers[codes.E_VALUE_OF_LIMIT.value] == [1.9]
    assert coded_of(pair)[codes.HELD_AGAINST.value] == "TACE"
    assert len(groups_of(report, "Compared tace against haic")) == 1


def test_the_report_has_a_group_for_each_regimen_with_its_refusal(report: Dataset) -> None:
    (tace,) = groups_of(report, "Compared tace")[:1]
    assert numbers_of(tace)[codes.MEDIAN_SURVIVAL.value] == [14.0, 11.0, 18.0]
    assert numbers_of(tace)[codes.PROPENSITY.value] == [0.4]
    (few,) = groups_of(report, "Compared tace_systemic")
    assert numbers_of(few) == {}
    assert coded_of(few)["HC404"] == codes.REASONS[Reason.TOO_FEW_EVENTS].meaning


def test_the_report_says_in_words_what_hidden_confounding_would_do(report: Dataset) -> None:
    texts = "\n".join(str(i.TextValue) for i in _walk(report) if i.ValueType == "TEXT")
    assert "would leave +3.0 months at a confidence of 30 %" in texts
    assert "8 deaths were seen" in texts


def test_a_refused_pair_is_coded_with_its_reason(phantom_compared: Written) -> None:
    from reporting.report_comparison import comparison_groups
    from tests.builders.results import context

    found = phantom_compared.results
    behind = found.regimen_comparison
    assert behind is not None
    refusal = NotAssessed(Reason.NO_OVERLAP, "Of patients like this one, 3 % had haic.")
    pairs = tuple(
        replace(p, benefit_months=refusal, rmst36_difference=refusal, confidence=refusal, e_value=None)
        for p in behind.pairs
    )
    changed = replace(
        found, regimen_comparison=replace(behind, pairs=pairs, rule=ComparisonRule(benefit_months=6))
    )
    group = comparison_groups(changed, context())[-1]
    assert coded_of(group[0])["HC404"] == codes.REASONS[Reason.NO_OVERLAP].meaning
    assert numbers_of(group[0]) == {}


def test_the_confidence_is_named_after_the_rule() -> None:
    assert codes.confidence(3.0).value == "HC216"
    assert codes.confidence(3.0).meaning == "Confidence of benefit above 3 months"
    assert codes.confidence(4.5).meaning == "Confidence of benefit above 4.5 months"
    assert codes.confidence(4.5).value not in {"HC216", codes.confidence(6.0).value}


def test_result_json_has_regimens_and_pairs(phantom_compared: Written) -> None:
    document = result_document(phantom_compared.results, phantom_compared.objects, report_s=1.0)
    comparison = json.loads(json.dumps(document, allow_nan=False))["comparison"]
    assert (comparison["recommended"], comparison["against"]) == ("haic", "tace")
    assert comparison["rule"] == {"benefit_months": 3.0, "confidence": 0.8}
    assert comparison["tests"]["any_effect_p"] == pytest.approx(0.002)
    assert [r["id"] for r in comparison["regimens"]] == ["tace", "haic", "tace_systemic"]
    assert comparison["regimens"][2]["median_months"]["assessed"] is False
    pair = next(p for p in comparison["pairs"] if p["id"] == "haic")
    assert pair["benefit_months"] == {"estimate": 8.0, "lower": 4.0, "upper": 12.0}
    assert pair["e_value"] == {"estimate": 2.7, "limit": 1.9}
    assert pair["hidden_confounding"][0]["benefit_months"] == 3.0


def test_without_a_learned_comparison_the_parts_are_empty(phantom: Written) -> None:
    comparison = result_document(phantom.results, phantom.objects, report_s=1.0)["comparison"]
    assert comparison["pairs"] == []
    assert comparison["rule"] is None
    assert {p.name for p in chart_images(phantom.results)} == {
        "survival",
        "survival-numbers",
        "course",
        "slices-1",
    }


def test_heat_map_and_courses_are_charts(phantom_compared: Written) -> None:
    pictures = {p.name: p for p in chart_images(phantom_compared.results)}
    assert {"comparison", "regressions-1"} <= set(pictures)
    assert len(phantom_compared.paths("charts")) == len(pictures) == 6
    assert pictures["regressions-1"].pixels.shape == (1000, 1600, 3)


def _colours(pixels: np.ndarray) -> tuple[int, int]:
    """Return how many pixels are rather green, and rather red."""
    red, green, blue = (pixels[120:900, 250:, k].astype(int) for k in range(3))
    return int(((green > red + 30) & (green > blue + 10)).sum()), int(
        ((red > green + 60) & (red > blue + 60)).sum()
    )


def test_courses_show_what_went_and_what_stayed(phantom_compared: Written) -> None:
    found = phantom_compared.results
    shrunk = next(p for p in chart_images(found) if p.name == "regressions-1").pixels
    unchanged = tuple(
        replace(
            f,
            time_points=tuple(
                replace(p, generated=replace(p.generated, labels=found.segmentation.labels))
                for p in f.time_points
            ),
        )
        for f in found.forecasts
    )
    same = next(
        p for p in chart_images(replace(found, forecasts=unchanged)) if p.name == "regressions-1"
    ).pixels
    gone, stayed = _colours(shrunk)
    gone_if_same, stayed_if_same = _colours(same)
    assert gone > 2000
    assert gone_if_same < 200
    assert stayed_if_same > stayed > 2000


def test_a_row_has_room_for_the_first_and_the_last_time_point() -> None:
    forecast = results().forecasts[0]
    scheduled = [p for p in forecast.time_points if p.generated.months != 2.5]
    many = replace(forecast, time_points=tuple(scheduled) * 3)
    shown = shown_points(many)
    assert len(shown) == MOST_POINTS
    assert (shown[0], shown[-1]) == (many.time_points[0], many.time_points[-1])
    assert shown_points(forecast) == scheduled


def test_the_pdf_has_the_tables(phantom_compared: Written, needs_judge, tmp_path: Path) -> None:
    text = pdf_words(phantom_compared.paths("pdf")[0], needs_judge("pdftotext"), tmp_path)
    assert "Longer expected survival under HAIC than under TACE: by 8.0 months, confidence 91 %." in text
    assert "+8.0 (+4.0 to +12.0)" in text
    assert "2.7 (1.9)" in text
    assert "For research, never advice." in text


def test_words_name_regimens_as_people_do() -> None:
    found = with_regimens_compared(results())
    names = {**regimen_names(found), "tace_systemic": "TACE + systemic"}
    assert named("Under tace_systemic and tace; replacement stays.", names) == (
        "Under TACE + systemic and TACE; replacement stays."
    )
    assert named("tace", {}) == "tace"
    assert name_of("sirt", names) == "sirt"
    behind = found.regimen_comparison
    assert behind is not None
    assert verdict(replace(behind, recommended=None), names) == "No regimen is preferred."
    at_least = replace(behind, pairs=tuple(replace(p, at_least=True) for p in behind.pairs))
    assert "by at least 8.0 months" in verdict(at_least, names)
    assert next(pair_rows(at_least, names))[2].startswith("at least -8.0")
    assert [percent(p) for p in (0.999, 0.5, 0.001)] == ["> 99 %", "50 %", "< 1 %"]
