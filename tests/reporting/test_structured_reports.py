"""The structured reports: what OHIF needs of ``axes``, and what ``report`` says and refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from inference.results import StudyResults
from reporting import axes, report
from tests.builders.results import context, with_comparison
from tests.reporting.conftest import Written

GROUP = "125007"


def _walk(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from _walk(child)


def _name(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""


def _groups(document: Dataset) -> list[Dataset]:
    return [item for item in _walk(document) if _name(item) == GROUP]


def _texts(document: Dataset) -> str:
    return "\n".join(str(item.TextValue) for item in _walk(document) if item.ValueType == "TEXT")


@pytest.fixture(scope="module")
def axes_document(phantom: Written) -> Dataset:
    return pydicom.dcmread(phantom.paths("axes")[0])


@pytest.fixture(scope="module")
def report_document(phantom: Written) -> Dataset:
    return pydicom.dcmread(phantom.paths("report")[0])


def test_titles(axes_document, report_document):
    assert axes_document.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert report_document.ConceptNameCodeSequence[0].CodeValue == "126001"
    for document in (axes_document, report_document):
        assert document.VerificationFlag == "UNVERIFIED"
        assert document.CompletionFlag == "COMPLETE"
        assert document.SyntheticData == "YES"
        scheme = document.CodingSchemeIdentificationSequence[0]
        assert scheme.CodingSchemeDesignator == "99HEPATOCAST"


def test_axes_are_what_ohif_hydrates(axes_document, phantom):
    groups = _groups(axes_document)
    points = sum(len(f.time_points) for f in phantom.results.forecasts)
    assert len(groups) == 2 * (1 + points)
    seen = set()
    for group in groups:
        identifiers = [i for i in group.ContentSequence if _name(i) == "112039"]
        assert identifiers[0].TextValue.startswith("Cornerstone3DTools@^0.1.0:Bidirectional")
        seen |= {i.UID for i in group.ContentSequence if _name(i) == "112040"}
        numbers = [i for i in group.ContentSequence if i.ValueType == "NUM"]
        assert [n.ConceptNameCodeSequence[0].CodeMeaning for n in numbers] == ["Long Axis", "Short Axis"]
        for number in numbers:
            assert [c.ValueType for c in number.ContentSequence] == ["SCOORD"]
    assert len(seen) == len(groups)


def test_coordinates_give_the_lengths(axes_document, phantom):
    _, rows, columns = phantom.results.baseline.primary.grid.spacing_mm
    for group in _groups(axes_document):
        for number in (i for i in group.ContentSequence if i.ValueType == "NUM"):
            x0, y0, x1, y1 = number.ContentSequence[0].GraphicData
            length = np.hypot((x1 - x0) * columns, (y1 - y0) * rows)
            assert length == pytest.approx(float(number.MeasuredValueSequence[0].NumericValue), abs=0.06)


def test_evidence_is_what_the_tree_refers_to(axes_document, report_document):
    for document in (axes_document, report_document):
        used = {
            r.ReferencedSOPInstanceUID
            for item in _walk(document)
            for r in item.get("ReferencedSOPSequence", ())
        }
        evidence = {
            r.ReferencedSOPInstanceUID
            for study in document.CurrentRequestedProcedureEvidenceSequence
            for series in study.ReferencedSeriesSequence
            for r in series.ReferencedSOPSequence
        }
        assert used
        assert used == evidence


def test_refusals_stand_in_the_report_with_their_reasons(report_document):
    texts = _texts(report_document)
    assert "The survival model says nothing about HAIC" in texts
    assert "no progression-free survival" in texts
    assert "The regimens cannot be compared" in texts
    assert "DEMONSTRATION MODEL" in texts


def test_clinical_values_warnings_and_models_stand_in_the_report(report_document):
    texts = _texts(report_document)
    assert "age: 63 years" in texts
    assert "The liver reaches the edge." in texts
    assert "cox_hcc_tace_seg 1.0.0" in texts


def test_survival_probabilities_with_limits(report_document):
    values = [
        (i.ConceptNameCodeSequence[0].CodeMeaning, float(i.MeasuredValueSequence[0].NumericValue))
        for i in _walk(report_document)
        if i.ValueType == "NUM" and "months" in i.ConceptNameCodeSequence[0].CodeMeaning
    ]
    overall = [v for name, v in values if "overall survival at 12 months" in name]
    assert overall == pytest.approx([np.exp(-0.36), np.exp(-0.504), np.exp(-0.252)], abs=1e-4)


def test_the_end_of_follow_up_explains_what_is_not_there(report_document):
    ends = [
        float(i.MeasuredValueSequence[0].NumericValue)
        for i in _walk(report_document)
        if i.ValueType == "NUM" and _name(i) == "HC223"
    ]
    assert ends == [48.0, 24.0]
    means = [i for i in _walk(report_document) if i.ValueType == "NUM" and _name(i) == "HC213"]
    assert len(means) == 1


def test_missing_arterial_phase_is_a_reason_in_the_report(phantom_mr):
    document = pydicom.dcmread(phantom_mr.paths("report")[0])
    assert "mRECIST needs an arterial phase" in _texts(document)


def test_a_comparison_is_told_with_its_reasons(phantom):
    document = next(report.build(with_comparison(phantom.results), context()))
    assert "longer expected survival" in _texts(document)


def test_without_any_lesion_left_there_is_no_axes_report(phantom):
    assert not list(axes.build(_without_lesions(phantom.results), context()))


def _without_lesions(found: StudyResults) -> StudyResults:
    forecasts = tuple(
        replace(f, time_points=tuple(replace(p, lesions=()) for p in f.time_points)) for f in found.forecasts
    )
    return replace(found, baseline_lesions=(), forecasts=forecasts)
