from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dicom_node.cli.main import app
from inference.bundle_store import BundleKind, describe
from inference.case import ClinicalRecord, ClinicalValue
from inference.errors import ModelError, TrainingDataError
from inference.evaluation.predictions.folder import read_predictions
from inference.evaluation.seed_systems import SYSTEMS, write_system_predictions
from inference.models.catalogue import load_model
from inference.models.second_opinions.resnet50 import Resnet50Model, clinical_inputs
from inference.models.second_opinions.resnet50_reader import Resnet50Reader
from inference.results import AssessedPatient, NotAssessed, StudyResults
from inference.training.cohort import Cohort
from inference.training.seed_systems.resnet50 import train_resnet50
from inference.training.seed_systems.resnet50_figures import nomogram_values
from inference.training.seed_systems.slices import slice_batch, stopping_part
from tests.builders.results import results
from tests.builders.seed_cohorts import resnet50_training

_ANSWERS = {"afp": 900.0, "pvtt_class": "Vp0", "largest_tumour": 80.0, "capsule": True, "diffuse_type": False}


def _quiet(text: str, share: float) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def cohort(seed_patients: Cohort) -> Cohort:
    return seed_patients


@pytest.fixture(scope="module")
def bundle(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resnet50")
    train_resnet50(cohort, folder / "bundle", folder / "work", resnet50_training(), _quiet)
    return folder / "bundle"


def _patient(study: StudyResults, **values: object) -> AssessedPatient:
    record = ClinicalRecord({k: ClinicalValue(k, v) for k, v in values.items()})  # type: ignore[arg-type]
    return AssessedPatient(study.baseline, study.segmentation, study.baseline_lesions, record)


def test_the_bundle_says_what_it_is(cohort: Cohort, bundle: Path) -> None:
    told = describe(bundle)
    assert told.kind is BundleKind.SECOND_OPINION
    assert told.info.trained_on.startswith("simulated: small 0, n=24, responders=")
    assert "random weights" in told.metadata["started_from"]
    assert told.metrics["validation_n"] == 8
    assert {"response_n", "pfs_c", "pfs_c_clinical"} <= set(told.metrics)
    model = Resnet50Model.from_bundle(bundle)
    clinical = [p.name for p in model.nomogram.file.predictors if not p.name.startswith("image_feature")]
    # Diffuse type is the same in everybody and has no line.
    assert clinical == ["afp_400", "vp4", "over_10_cm", "capsule"]
    assert len(model.nomogram.file.predictors) <= 5 + 6


def test_predictions_cover_everybody_who_was_not_trained_on(
    cohort: Cohort, bundle: Path, tmp_path: Path
) -> None:
    write_system_predictions("resnet50-mlp", bundle, cohort, tmp_path, _quiet)
    found = read_predictions(tmp_path)
    held = ~found.patients.in_split("train")
    whole = found.models[0]
    assert whole.entry.end_points == ("response", "pfs")
    assert whole.response is not None
    np.testing.assert_array_equal(np.isfinite(whole.response), held)
    for model in found.models:
        np.testing.assert_array_equal(model.survival["pfs"].predicted, held)
    assert [m.entry.name for m in found.models][1] == "clinical-nomogram"


def test_the_reader_gives_response_points_and_the_nomogram(bundle: Path, study: StudyResults) -> None:
    reader = load_model(bundle, BundleKind.SECOND_OPINION)
    assert isinstance(reader, Resnet50Reader)
    (opinion,) = reader.opinions(_patient(study, **_ANSWERS), ())
    assert not isinstance(opinion.values, NotAssessed)
    values = {v.name: v.value for v in opinion.values}
    assert 0 < float(values["objective response by mRECIST"]) < 1
    assert opinion.nomogram is not None
    assert opinion.nomogram.patient is not None
    assert float(values["total points"]) == opinion.nomogram.patient.total
    assert values["progression-free survival at 12 months"] == opinion.nomogram.patient.survival[12.0]


def test_without_a_value_there_is_response_and_no_nomogram_points(bundle: Path, study: StudyResults) -> None:
    (opinion,) = Resnet50Reader.from_bundle(bundle).opinions(_patient(study, afp=20.0), ())
    assert not isinstance(opinion.values, NotAssessed)
    response, survival = opinion.values
    assert isinstance(response.value, float)
    assert "not assessed" in str(survival.value)
    assert opinion.nomogram is not None
    assert opinion.nomogram.patient is None


def test_another_modality_is_refused(bundle: Path) -> None:
    mr = results("MR", ("t1_arterial", "t1_portal_venous"))
    (opinion,) = Resnet50Reader.from_bundle(bundle).opinions(_patient(mr, **_ANSWERS), ())
    assert isinstance(opinion.values, NotAssessed)


def test_a_value_that_is_not_known_is_the_median_in_an_evaluation(bundle: Path) -> None:
    model = Resnet50Model.from_bundle(bundle)
    features = {p.name: 1.0 for p in model.nomogram.file.predictors if p.name.startswith("image")}
    unknown = dict.fromkeys(("afp_400", "vp4", "over_10_cm", "capsule", "diffuse_type"), float("nan"))
    found = nomogram_values(model.nomogram, {**unknown, "vp4": 1.0}, features, model.file.typical)
    assert found["vp4"] == 1.0
    assert found["capsule"] == model.file.typical["capsule"]
    assert clinical_inputs(unknown).tolist() == [0.5] * 5 + [0.0] * 5


def test_a_slice_is_shifted_and_what_was_not_acquired_stays_so() -> None:
    slices = np.zeros((1, 3, 12, 12), dtype=np.uint8)
    slices[:, 1], slices[:, 2, 6, 6] = 128, 255
    batch = slice_batch([slices], np.zeros(16, dtype=int), np.random.default_rng(0))
    assert batch.shape == (16, 3, 12, 12)
    assert (batch[:, 0] == 0).all()
    assert (batch[:, 2].sum(dim=(1, 2)) == 1).all()
    assert len({tuple(np.argwhere(b[2].numpy() > 0)[0]) for b in batch}) > 4


def test_the_part_that_stops_training_has_its_share_of_each_stratum() -> None:
    strata = np.repeat([0.0, 1.0], [60, 20])
    part = stopping_part(strata, 0.15, np.random.default_rng(0))
    assert part[:60].sum() == 9
    assert part[60:].sum() == 3


def test_patients_who_all_responded_alike_are_refused(cohort: Cohort, tmp_path: Path) -> None:
    alike = replace(cohort, outcomes=cohort.outcomes.assign(mrecist="SD"))
    with pytest.raises(TrainingDataError, match="some of whom responded"):
        train_resnet50(alike, tmp_path / "bundle", tmp_path / "work", resnet50_training(), _quiet)


def test_a_bundle_of_another_system_is_refused(cohort: Cohort, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no dlop-combin"):
        write_system_predictions("dlop-combin", bundle, cohort, tmp_path, _quiet)


@pytest.mark.slow
def test_the_command_measures_a_system(cohort: Cohort, bundle: Path, tmp_path: Path) -> None:
    asked = ["evaluate", "--model", "resnet50-mlp", "--bundle", str(bundle), "--cohort", str(cohort.folder)]
    done = CliRunner().invoke(app, [*asked, "--draws", "20", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "report.html").is_file()
    assert "Yin et al." in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "nomogram: C" in done.output


def test_the_command_says_which_systems_there_are(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["evaluate", "--model", "nothing", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert all(name in done.output for name in SYSTEMS)


def test_the_command_asks_for_bundle_and_one_cohort(cohort: Cohort, tmp_path: Path) -> None:
    asked = ["evaluate", "--model", "resnet50-mlp", "--out", str(tmp_path), "--cohort", str(cohort.folder)]
    assert "--bundle" in CliRunner().invoke(app, asked).output
    twice = [*asked, "--bundle", "any", "--cohort", str(cohort.folder)]
    assert "one prepared cohort" in CliRunner().invoke(app, twice).output
