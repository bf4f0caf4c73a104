"""Radiomics LASSO-Cox and nomogram as second opinions."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from inference.bundle_store import METADATA, BundleKind, seal
from inference.case import ClinicalRecord, ClinicalValue
from inference.errors import ModelError
from inference.models.catalogue import load_model
from inference.models.flow.study import crop_study
from inference.models.image_features.patient_radiomics import patient_radiomics
from inference.models.second_opinions.nomogram import NomogramReader
from inference.models.second_opinions.radiomics_cox import RadiomicsCoxReader
from inference.results import AssessedPatient, NotAssessed, Reason, SecondOpinion
from tests.builders.results import results
from tests.builders.second_opinions import write_nomogram, write_radiomics_cox

KIND = BundleKind.SECOND_OPINION


@pytest.fixture(scope="module")
def patient() -> AssessedPatient:
    found = results()
    clinical = ClinicalRecord(
        {
            "afp": ClinicalValue("afp", 900.0, "ng/mL"),
            "largest_tumour": ClinicalValue("largest_tumour", 60.0, "mm"),
        }
    )
    return AssessedPatient(found.baseline, found.segmentation, found.baseline_lesions, clinical)


@pytest.fixture(scope="module")
def radiomics(patient: AssessedPatient) -> dict[str, float]:
    found = patient_radiomics(crop_study(patient.baseline, patient.segmentation).crop, "CT")
    return dict(zip(found.names, found.values.tolist(), strict=True))


@pytest.fixture(scope="module")
def feature(radiomics: dict[str, float]) -> str:
    return next(name for name, value in radiomics.items() if math.isfinite(value) and 1 < value < 400)


def values_of(opinion: SecondOpinion) -> dict[str, float | str]:
    assert not isinstance(opinion.values, NotAssessed)
    return {value.name: value.value for value in opinion.values}


def test_radiomics_cox_measures_the_study(
    patient: AssessedPatient, radiomics: dict[str, float], feature: str, tmp_path: Path
) -> None:
    reader = load_model(write_radiomics_cox(tmp_path / "bundle", feature, "no_such_feature"), KIND)
    assert isinstance(reader, RadiomicsCoxReader)
    (found,) = reader.opinions(patient, ())
    assert (found.system, found.regimen_id) == ("radiomics-cox", None)
    values = values_of(found)
    risk = 0.2 * radiomics[feature] / 100.0
    assert values["log hazard ratio to the mean patient"] == pytest.approx(risk)
    assert values["overall survival at 12 months"] == pytest.approx(math.exp(-0.3 * math.exp(risk)))
    assert values["features measured"] == "1 of 2"
    # The last event was at 26 months: nothing is said of later ones.
    assert "overall survival at 24 months" in values
    assert "overall survival at 36 months" not in values


def test_radiomics_cox_refuses_what_it_cannot_know(patient: AssessedPatient, tmp_path: Path) -> None:
    mr = load_model(write_radiomics_cox(tmp_path / "mr", "a", modality="MR"), KIND)
    (found,) = mr.opinions(patient, ())
    assert found.values == NotAssessed(
        Reason.OUT_OF_DISTRIBUTION, "The model was fitted on MR, and the study is CT."
    )
    none = load_model(write_radiomics_cox(tmp_path / "none"), KIND)
    (found,) = none.opinions(patient, ())
    assert isinstance(found.values, NotAssessed)
    assert found.values.reason is Reason.NOTHING_MEASURABLE


def test_the_nomogram_of_clinical_predictors_has_points_and_a_drawing(
    patient: AssessedPatient, tmp_path: Path
) -> None:
    reader = load_model(write_nomogram(tmp_path / "bundle"), KIND)
    assert isinstance(reader, NomogramReader)
    (found,) = reader.opinions(patient, ())
    values = values_of(found)
    assert values["total points"] == pytest.approx(100.0)
    assert values["points for AFP 400 ng/ml or more"] == pytest.approx(100.0)
    assert values["points for Largest tumour above 10 cm"] == 0.0
    assert values["progression-free survival at 12 months"] == pytest.approx(math.exp(-0.3 * math.exp(0.8)))
    assert found.nomogram is not None
    assert found.nomogram.patient is not None
    assert found.nomogram.patient.total == pytest.approx(100.0)


def test_the_nomogram_measures_its_image_features(
    patient: AssessedPatient, radiomics: dict[str, float], feature: str, tmp_path: Path
) -> None:
    reader = load_model(write_nomogram(tmp_path / "bundle", feature), KIND)
    (found,) = reader.opinions(patient, ())
    values = values_of(found)
    points = min(radiomics[feature], 50.0) * 0.01 / 0.008
    assert values[f"points for {feature}"] == pytest.approx(points)
    assert ("taken at the end of its line" in values) == (radiomics[feature] > 50.0)


def test_the_nomogram_has_no_line_for_what_is_missing(patient: AssessedPatient, tmp_path: Path) -> None:
    reader = load_model(write_nomogram(tmp_path / "bundle"), KIND)
    (found,) = reader.opinions(replace(patient, clinical=ClinicalRecord()), ())
    assert isinstance(found.values, NotAssessed)
    assert found.values.reason is Reason.CLINICAL_VALUES_MISSING
    assert "AFP 400 ng/ml or more, Largest tumour above 10 cm" in found.values.detail
    assert found.nomogram is not None
    assert found.nomogram.patient is None


def test_the_nomogram_of_other_images_refuses_only_where_it_needs_them(
    patient: AssessedPatient, feature: str, tmp_path: Path
) -> None:
    clinical = load_model(write_nomogram(tmp_path / "clinical", modality="MR"), KIND)
    assert not isinstance(clinical.opinions(patient, ())[0].values, NotAssessed)
    imaged = load_model(write_nomogram(tmp_path / "imaged", feature, modality="MR"), KIND)
    refused = imaged.opinions(patient, ())[0].values
    assert isinstance(refused, NotAssessed)
    assert "fitted on MR" in refused.detail


def test_a_bundle_must_say_its_end_point_and_modality(tmp_path: Path) -> None:
    folder = write_nomogram(tmp_path / "bundle", modality="US")
    with pytest.raises(ModelError, match="does not say its modality: one of CT, MR"):
        load_model(folder, KIND)
    (folder / METADATA).unlink()
    told = {"kind": KIND.value, "format": "nomogram", "trained_on": "simulated", "modality": "CT"}
    seal(folder, {"name": "nomogram", "version": "1", **told})
    with pytest.raises(ModelError, match="does not say its endpoint"):
        load_model(folder, KIND)
