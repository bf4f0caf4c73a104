"""A regimen that the generator does not cover: every output gives the reason, and nothing is made of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from inference.results import NotAssessed, StudyResults
from reporting import report
from reporting.pictures import chart_images
from reporting.result_json import result_document
from tests.builders.results import (
    REFUSAL,
    REFUSED_REGIMEN,
    context,
    results,
    with_comparison,
    with_refused_regimen,
)

NOT_ASSESSED, REASON, NOT_COVERED, REGIMEN, FOLLOW_UP = "HC403", "HC404", "HC412", "HC502", "HC501"


def _walk(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from _walk(child)


def _coded(group: Dataset) -> dict[str, str]:
    """Return the coded evaluations of a group, value by concept."""
    return {
        str(i.ConceptNameCodeSequence[0].CodeValue): str(i.ConceptCodeSequence[0].CodeValue)
        for i in group.get("ContentSequence", ())
        if i.ValueType == "CODE"
    }


def _texts(document: Dataset) -> str:
    return "\n".join(str(i.TextValue) for i in _walk(document) if i.ValueType == "TEXT")


def _reordered(found: StudyResults) -> StudyResults:
    """Return the same forecast with the refused regimen first."""
    return replace(found, forecasts=found.forecasts[::-1])


def test_result_json_gives_the_reason_in_place_of_time_points(phantom_refused):
    found = result_document(phantom_refused.results, phantom_refused.objects, report_s=0.0)
    document = json.loads(json.dumps(found, allow_nan=False))
    *forecast, refused = document["regimens"]
    assert set(refused) == {"id", "name", "time_points", "os", "pfs", "ttp"}
    assert refused["id"] == "sirt"
    assert refused["time_points"] == {
        "assessed": False,
        "reason": "RegimenNotCovered: the generator was not trained on the regimen SIRT.",
    }
    assert all(len(r["time_points"]) == 3 for r in forecast)
    assert document["comparison"]["recommended"] is None


def test_the_other_regimens_are_told_as_without_it(phantom_refused):
    alone = replace(phantom_refused.results, forecasts=phantom_refused.results.forecasts[:-1])
    without = result_document(alone, phantom_refused.objects, report_s=0.0)
    beside = result_document(phantom_refused.results, phantom_refused.objects, report_s=0.0)
    assert beside["regimens"][:-1] == without["regimens"]
    assert {k: v for k, v in beside.items() if k != "regimens"} == {
        k: v for k, v in without.items() if k != "regimens"
    }


def test_it_has_no_virtual_series_and_no_segmentation(phantom_refused):
    kinds = {}
    for written in phantom_refused.objects:
        kinds.setdefault(written.kind, set()).add(written.series_instance_uid)
    assert len(kinds["virtual_series"]) == 6  # two regimens at three times
    for path in (*phantom_refused.paths("virtual_series"), *phantom_refused.paths("segmentation")):
        assert REFUSED_REGIMEN not in str(pydicom.dcmread(path, stop_before_pixels=True))


def test_the_report_has_a_group_with_the_coded_reason(phantom_refused):
    document = pydicom.dcmread(phantom_refused.paths("report")[0])
    groups = [_coded(item) for item in _walk(document) if item.ValueType == "CONTAINER"]
    refused = [g for g in groups if g.get(FOLLOW_UP) == NOT_ASSESSED]
    assert len(refused) == 1
    assert refused[0][REGIMEN] == "R-SIRT"
    assert refused[0][REASON] == NOT_COVERED
    assert f"Predicted follow-up under {REFUSED_REGIMEN}: {REFUSAL.detail}" in _texts(document)


def test_a_study_that_is_fully_assessed_has_no_such_group(phantom):
    document = pydicom.dcmread(phantom.paths("report")[0])
    assert not [i for i in _walk(document) if FOLLOW_UP in _coded(i)]
    assert "Predicted follow-up under" not in _texts(document)


def test_the_pdf_gives_the_reason_at_the_regimen_and_among_the_refusals(
    phantom_refused, needs_judge, tmp_path
):
    ds = pydicom.dcmread(phantom_refused.paths("pdf")[0])
    (tmp_path / "report.pdf").write_bytes(ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength])
    command = [needs_judge("pdftotext"), "-layout", str(tmp_path / "report.pdf"), "-"]
    text = " ".join(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert f"{REFUSED_REGIMEN} Not assessed: {REFUSAL.detail}" in text
    assert f"Predicted follow-up under {REFUSED_REGIMEN}: {REFUSAL.detail}" in text


def test_the_course_chart_shows_the_reason_and_keeps_the_other_panels():
    found = with_refused_regimen(results(phases=("portal_venous",)))
    shown = {p.name: p.pixels for p in chart_images(found)}
    (reason,) = (f for f in found.forecasts if f.not_assessed)
    said = NotAssessed(REFUSAL.reason, "another reason altogether.")
    other = replace(found, forecasts=(*found.forecasts[:-1], replace(reason, not_assessed=said)))
    changed = {p.name: p.pixels for p in chart_images(other)}
    differs = (shown["course"] != changed["course"]).any(axis=2)
    third = 2 * differs.shape[1] // 3
    assert differs[:, third:].any()
    assert not differs[:, :third].any()
    assert np.array_equal(shown["slices-1"], changed["slices-1"])


@pytest.mark.parametrize("order", [lambda found: found, _reordered], ids=["last", "first"])
def test_charts_are_drawn_wherever_it_stands(order):
    names = [p.name for p in chart_images(order(with_refused_regimen(results(phases=("portal_venous",)))))]
    assert names == ["survival", "survival-numbers", "course", "slices-1"]


def test_a_regimen_that_was_not_forecast_cannot_be_recommended():
    compared = with_comparison(with_refused_regimen(results(phases=("portal_venous",))))
    for wanted in ("sirt", "no such regimen"):
        with pytest.raises(ValueError, match="recommends a regimen that was not forecast"):
            replace(compared, comparison=replace(compared.comparison, recommended=wanted))
    nobody = replace(compared, comparison=replace(compared.comparison, recommended=None))
    assert "longer expected survival" in _texts(next(report.build(nobody, context())))
