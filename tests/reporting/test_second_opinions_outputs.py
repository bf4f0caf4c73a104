"""Second opinions in every output, and a refusal where a system has none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from inference.results import BundleInfo, OpinionValue, Reason
from reporting import codes
from reporting.opinion_words import title_of, unit_text, value_text
from reporting.pdf_document import pdf_bytes
from reporting.result_json import result_document
from tests.builders.results import context, results, with_second_opinions
from tests.reporting.conftest import Written, pdf_words
from tests.reporting.test_comparison_outputs import _walk, coded_of, groups_of, numbers_of


@pytest.fixture(scope="module")
def report(phantom_compared: Written) -> Dataset:
    return pydicom.dcmread(phantom_compared.paths("report")[0])


def test_the_report_has_a_group_for_each_opinion(report: Dataset) -> None:
    assert len(groups_of(report, "Second opinion")) == 3
    (first,) = groups_of(report, "Second opinion 1 delicaite")
    numbers = numbers_of(first)
    response, volume = (codes.named_concept("value", n) for n in ("objective response", "tumour volume"))
    assert numbers == {response.value: [0.613, 0.5, 0.7], volume.value: [42.5]}
    assert coded_of(first)["HC502"] == "TACE"
    assert coded_of(first)[codes.SECOND_OPINION.value] == "delicaite"
    names = [i.TextValue for i in _walk(first) if i.ConceptNameCodeSequence[0].CodeValue == "111001"]
    assert names == ["other system"]


def test_words_and_refusals_of_opinions_are_texts(report: Dataset) -> None:
    texts = [str(i.TextValue) for i in _walk(report) if i.ValueType == "TEXT"]
    assert "delicaite: TACE: group: Maintain" in texts
    assert "broken: The system failed (ValueError)." in texts
    (broken,) = groups_of(report, "Second opinion 3 broken")
    assert coded_of(broken)["HC404"] == "Model failed or cannot be read"


def test_result_json_tells_every_opinion(phantom_compared: Written) -> None:
    document = result_document(phantom_compared.results, phantom_compared.objects, report_s=1.0)
    first, second, broken = json.loads(json.dumps(document, allow_nan=False))["second_opinions"]
    assert (first["model"], first["regimen"], first["pictures"]) == ("delicaite", "tace", ["Attention"])
    assert first["output"][0] == {
        "name": "objective response", "value": 0.613, "unit": "1", "interval95": [0.5, 0.7],
    }  # fmt: skip
    assert first["output"][1]["value"] == "Maintain"
    assert second["pictures"] == ["PFS"]
    assert broken["output"] == {"assessed": False, "reason": "ModelFailed: The system failed (ValueError)."}


def test_the_pdf_has_a_part_with_their_pictures(
    phantom_compared: Written, needs_judge, tmp_path: Path
) -> None:
    text = pdf_words(phantom_compared.paths("pdf")[0], needs_judge("pdftotext"), tmp_path)
    assert "Second opinions" in text
    assert "objective response 0.613 (0.5 to 0.7)" in text
    assert "Not assessed: The system failed (ValueError)." in text
    assert "delicaite: TACE: Attention (DEMONSTRATION MODEL - RESEARCH ONLY)" in text


def test_without_opinions_there_is_no_part() -> None:
    found = results()
    with_them = with_second_opinions(found)
    pages = [pdf_bytes(r, context()).count(b"/Type /Page\n") for r in (found, with_them)]
    assert pages[1] == pages[0] + 2


def test_an_opinion_of_a_simulated_system_makes_a_demonstration() -> None:
    real = BundleInfo("real", "1", "0", "real: patients")
    found = replace(results(), bundles=dict.fromkeys(("segmenter", "generator", "survival"), real))
    assert not found.demonstration
    with_them = with_second_opinions(found)
    assert not with_them.demonstration
    simulated = replace(with_them.second_opinions[0], bundle=replace(real, trained_on="simulated: n=40"))
    assert replace(with_them, second_opinions=(simulated,)).demonstration


def test_values_in_words() -> None:
    opinion = with_second_opinions(results()).second_opinions[0]
    assert title_of(opinion, {"tace": "TACE"}) == "delicaite: TACE"
    assert title_of(replace(opinion, regimen_id=None), {}) == "delicaite"
    assert value_text(OpinionValue("a", 12.3456, "mL")) == "12.35 mL"
    assert value_text(OpinionValue("a", 0.5, "1", (0.25, 0.75))) == "0.5 (0.25 to 0.75)"
    assert value_text(OpinionValue("a", "high")) == "high"
    assert unit_text("{points}") == "points"


def test_codes_of_names_are_short_and_the_same_every_time() -> None:
    first = codes.named_concept("value", "a" * 100)
    assert len(first.value) == 16
    assert len(first.meaning) == 64
    assert first == codes.named_concept("value", "a" * 100)
    assert first.value != codes.named_concept("system", "a" * 100).value
    assert codes.unit("") == codes.ONE
    assert codes.unit("mg/dL").value == "mg/dL"


def test_every_reason_has_a_code_of_its_own() -> None:
    assert set(codes.REASONS) == set(Reason)
    assert len({code.value for code in codes.REASONS.values()}) == len(Reason)
