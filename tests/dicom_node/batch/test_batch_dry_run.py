"""What the rules would do, from what an archive tells: never a wrong certainty."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dicom_node.batch.archive import Answer
from dicom_node.batch.dry_run import UNKNOWN, Expected, expect, input_series, query_facts
from dicom_node.routing.rules import Router
from dicom_node.settings import Action, PeerSettings, Rule

PACS = PeerSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
STUDY: Answer = {"StudyInstanceUID": "1.2", "StudyDate": "20190105", "StudyDescription": "LIVER"}
CT: Answer = {
    "SeriesInstanceUID": "1.2.1",
    "Modality": "CT",
    "SeriesDescription": "arterial",
    "NumberOfSeriesRelatedInstances": "80",
}
MR: Answer = {"SeriesInstanceUID": "1.2.2", "Modality": "MR", "NumberOfSeriesRelatedInstances": "40"}
REST = Rule(name="rest", when="true", action=Action.IGNORE, reason="no rule")


def expected(when: str, *series: Answer, calling_ae: str = "PACS") -> Expected:
    router = Router((Rule(name="first", when=when), REST), [PACS])
    return expect(router, query_facts(STUDY, series or (CT,), calling_ae))


@pytest.mark.parametrize(
    "when",
    [
        'series.exists(s, s.modality == "CT" && s.instances >= 80)',
        'study.attributes.StudyDate.startsWith("2019")',
        'series.exists(s, s.description.contains("art"))',
        'calling_ae == "PACS"',
        "study.instances == 80 && study.segmentations == 0",
        # The second part is unknown, and does not matter.
        'series.exists(s, s.modality == "CT" || s.slice_thickness_mm < 3.0)',
    ],
)
def test_what_the_query_tells_decides(when: str) -> None:
    assert expected(when) == Expected("forecast", "first")


@pytest.mark.parametrize(
    "when",
    [
        'series.exists(s, s.modality == "MR")',
        'series.exists(s, s.modality == "MR" && s.slice_thickness_mm < 3.0)',
        "series.exists(s, s.instances > 100 && s.attributes.KVP > 100.0)",
    ],
)
def test_a_rule_that_is_false_whatever_the_images_say_is_passed_over(when: str) -> None:
    assert expected(when) == Expected("ignore", "rest", "no rule")


@pytest.mark.parametrize(
    "when",
    [
        "series.exists(s, s.slice_thickness_mm < 3.0)",
        "series.all(s, s.pixel_spacing_mm < 1.0)",
        'series.exists(s, s.body_part == "LIVER")',
        "series.exists(s, has(s.attributes.ContrastBolusAgent))",
        "!series.exists(s, has(s.attributes.ContrastBolusAgent))",
        'series.exists(s, "KVP" in s.attributes)',
        'series.exists(s, s.attributes.ConvolutionKernel == "B30f")',
    ],
)
def test_what_only_the_images_tell_cannot_be_known(when: str) -> None:
    found = expected(when)
    assert (found.action, found.rule) == (UNKNOWN, "first")
    assert found.reason


def test_the_presence_of_an_attribute_that_the_archive_tells_is_known() -> None:
    when = "series.exists(s, has(s.attributes.Manufacturer))"
    assert expected(when, {**CT, "Manufacturer": "X"}) == Expected("forecast", "first")
    assert expected(when, {**CT, "Manufacturer": "X"}, MR).action == UNKNOWN


def test_results_that_could_go_nowhere_are_expected_to_be_held() -> None:
    found = expected("true", calling_ae="STRANGER")
    assert found.action == "hold"
    assert "no peer has the AE title 'STRANGER'" in found.reason


def test_only_series_that_can_be_input_count() -> None:
    others: Sequence[Answer] = [
        {"SeriesInstanceUID": "1.2.9", "Modality": "PR"},
        {"SeriesInstanceUID": "1.2.8", "Modality": "CT"},
        CT,
    ]
    assert input_series(others, frozenset({"1.2.8"})) == (CT,)
    router = Router((REST,), [PACS])
    found = expect(router, query_facts(STUDY, (), "PACS"))
    assert found == Expected("ignore", "", "the archive has no series of it that can be input")
