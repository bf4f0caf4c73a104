"""``result.json`` has the form of the architecture, and tells the truth about what was written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pydicom
import pytest

from inference.clinical.variables import VARIABLES
from inference.results import SurvivalBasis, SurvivalCurve
from reporting.outputs import build, write_objects
from reporting.result_json import patient_hash, result_document
from reporting.survival_numbers import basis_words
from tests.builders.results import context, results, with_comparison

TOP = {
    "schema", "study", "bundles", "seed", "timings_s", "segmentation", "clinical", "regimens",
    "second_opinions", "comparison", "objects",
}  # fmt: skip


@pytest.fixture(scope="module")
def document(phantom):
    found = result_document(phantom.results, phantom.objects, report_s=1.5)
    return json.loads(json.dumps(found, allow_nan=False))


def test_the_keys_of_the_schema_are_there(document):
    assert set(document) >= TOP
    assert document["schema"] == 1
    assert set(document["study"]) >= {
        "study_instance_uid",
        "patient_hash",
        "modality",
        "series",
        "marker_box",
    }
    assert set(document["study"]["series"]) == {"arterial", "portal_venous"}
    assert set(document["bundles"]) == {"segmenter", "generator", "survival"}
    assert all(set(b) == {"name", "version", "sha256", "trained_on"} for b in document["bundles"].values())
    assert set(document["clinical"]) == {"used", "missing", "scores", "eligibility"}
    assert set(document["comparison"]) >= {
        "recommended", "benefit_months", "confidence", "reasons", "demonstration",
    }  # fmt: skip
    assert document["timings_s"]["total"] == pytest.approx(4.0)
    lesion = document["segmentation"]["lesions"][0]
    assert set(lesion) == {"id", "volume_ml", "long_axis_mm", "short_axis_mm", "viable_ml", "center_mm"}
    for regimen in document["regimens"]:
        assert set(regimen) == {"id", "name", "time_points", "os", "pfs", "ttp"}


def test_an_assessed_curve_and_a_refused_one(document):
    tace, haic = document["regimens"]
    assert set(tace["os"]) >= {
        "months", "survival", "lower", "upper", "p12", "p24", "p36", "median", "rmst36",
    }  # fmt: skip
    assert tace["os"]["median"] == 23.1
    assert tace["os"]["p12_interval95"] == [0.6041, 0.7772]
    assert tace["ttp"]["p36_interval95"] is None
    assert tace["ttp"]["median"] is None
    assert tace["ttp"]["p36"] is None
    assert tace["pfs"]["assessed"] is False
    assert "no progression-free survival" in tace["pfs"]["reason"]
    assert "RegimenNotCovered" in haic["os"]["reason"]


def test_what_a_curve_rests_on_is_told_where_the_model_says_it():
    curve = results().forecasts[0].survival.os
    assert isinstance(curve, SurvivalCurve)
    basis = SurvivalBasis({"afp": 0.4, "albumin": -0.2, "age": 0.001}, {"afp": 1.0}, {"clinical": 0.8}, 0.25)
    first, *others = results().forecasts
    told = replace(first, survival=replace(first.survival, os=replace(curve, basis=basis)))
    found = result_document(replace(results(), forecasts=(told, *others)), (), report_s=0.0)
    assert found["regimens"][0]["os"]["basis"] == {
        "log_hazard": {"afp": 0.4, "albumin": -0.2, "age": 0.001},
        "attention": {"afp": 1.0},
        "gates": {"clinical": 0.8},
        "networks": 0.25,
    }
    assert found["regimens"][0]["ttp"]["basis"] is None
    assert basis_words(basis) == (
        f"The hazard was moved most by: {VARIABLES['afp'].title} (x 1.49), {VARIABLES['albumin'].title} "
        "(x 0.82). The networks have a weight of 25% and are open for clinical 80%."
    )


def test_a_study_without_arterial_phase_has_no_mrecist(phantom_mr):
    found = result_document(phantom_mr.results, phantom_mr.objects, report_s=0.0)
    point = found["regimens"][0]["time_points"][0]
    assert point["mrecist"]["assessed"] is False
    assert "PhaseMissing" in point["mrecist"]["reason"]
    assert point["recist11"]["category"] == "PR"


def test_series_of_time_points_are_those_that_were_written(document, phantom):
    texts = {}
    for path in phantom.paths("virtual_series"):
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        source = ds.ReferencedSeriesSequence[0].SeriesInstanceUID
        texts[ds.SeriesInstanceUID] = ds.DerivationDescription, source
    for regimen in document["regimens"]:
        for point in regimen["time_points"]:
            assert point["series_instance_uid"] == point["series_instance_uids"]["arterial"]
            for phase, uid in point["series_instance_uids"].items():
                text, source = texts.pop(uid)
                assert f"regimen {regimen['id']} " in text
                assert f"{point['months']:g} months" in text
                assert point["kind"] in text
                assert source == document["study"]["series"][phase]
    assert not texts


def test_objects_are_the_files_on_disk(document, phantom):
    for entry in document["objects"]:
        files = list((phantom.folder / entry["path"]).glob("*.dcm"))
        assert len(files) == entry["instances"]
        ds = pydicom.dcmread(files[0], stop_before_pixels=True)
        assert ds.SOPClassUID == entry["sop_class_uid"]
        assert ds.SeriesInstanceUID == entry["series_instance_uid"]
    assert sum(e["instances"] for e in document["objects"]) == len(phantom.objects)


def test_the_marker_box_holds_the_label(document, phantom):
    row0, column0, row1, column1 = document["study"]["marker_box"]
    ds = pydicom.dcmread(phantom.paths("virtual_series")[0])
    volume = phantom.results.baseline.primary
    different = ds.pixel_array != volume.stored[int(ds.InstanceNumber) - 1]
    assert different[row0:row1, column0:column1].any()


def test_without_virtual_series_there_is_no_label_and_no_series(tmp_path):
    found = results()
    written = write_objects(build(found, context(), ["segmentation"]), tmp_path)
    document = result_document(found, written, report_s=0.0)
    assert document["study"]["marker_box"] is None
    assert document["regimens"][0]["time_points"][0]["series_instance_uid"] is None


def test_patient_hash_is_of_issuer_and_id_and_null_without_an_id():
    found = results(phases=("portal_venous",))
    header = found.baseline.primary.headers[0]
    assert patient_hash(found) == hashlib.sha256(b"\x1fPH1").hexdigest()
    header.IssuerOfPatientID = "HOSPITAL"
    assert patient_hash(found) == hashlib.sha256(b"HOSPITAL\x1fPH1").hexdigest()
    header.PatientID = ""
    assert patient_hash(found) is None


def test_a_comparison_that_was_made(phantom):
    found = with_comparison(phantom.results)
    comparison = result_document(found, phantom.objects, report_s=0.0)["comparison"]
    assert comparison["recommended"] == "tace"
    assert comparison["benefit_months"] == 4.5
    assert comparison["demonstration"] is True
