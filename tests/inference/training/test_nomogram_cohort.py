from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from inference.bundle_store import load_metadata
from inference.case import ClinicalRecord, ClinicalValue
from inference.clinical.nomogram import Nomogram
from inference.clinical.nomogram_predictors import clinical_predictors
from inference.training.cohort import Cohort, write_tables
from inference.training.nomogram_cohort import (
    NomogramTraining,
    chosen_features,
    image_names,
    train_nomogram,
)
from tests.builders.small_cohorts import small_cohort


def _quiet(text: str, share: float) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    folder = tmp_path_factory.mktemp("cohort")
    found = small_cohort(folder, 40)
    rng = np.random.default_rng(1)
    n = len(found.patients)
    afp = np.where(rng.random(n) < 0.5, 20.0, 900.0)
    months = rng.exponential(np.where(afp > 400, 8.0, 24.0)) + 0.5
    patients = found.patients.assign(
        split=np.where(np.arange(n) % 4 == 0, "validation", "train"),
        afp=afp,
        pvtt_class=np.where(rng.random(n) < 0.3, "Vp4", "Vp0"),
        largest_tumour=rng.uniform(40, 160, n),
        capsule=(rng.random(n) < 0.5).astype(int),
        diffuse_type=0,
        pfs_months=months,
        pfs_event=1,
    )
    return write_tables(folder, found.info, patients, found.outcomes)


def test_clinical_predictors_are_cut_where_the_study_cut_them() -> None:
    def of(**values: float | str | bool) -> dict[str, float]:
        return clinical_predictors(ClinicalRecord({k: ClinicalValue(k, v) for k, v in values.items()}))

    at = of(afp=400.0, pvtt_class="Vp4", largest_tumour=100.0, capsule=True, diffuse_type=False)
    assert at == {"afp_400": 1.0, "vp4": 1.0, "over_10_cm": 0.0, "capsule": 1.0, "diffuse_type": 0.0}
    assert of(afp=399.0, pvtt_class="Vp3", largest_tumour=100.1)["over_10_cm"] == 1.0
    assert of(afp=399.0)["afp_400"] == 0.0
    assert np.isnan(list(of().values())).all()


def test_a_nomogram_of_clinical_predictors(cohort: Cohort, tmp_path: Path) -> None:
    settings = NomogramTraining(image_features=0)
    metadata = train_nomogram(cohort, tmp_path / "out", tmp_path / "work", settings, _quiet)
    found = Nomogram.read(tmp_path / "out")
    assert metadata["left_out"] == ["diffuse_type"]
    assert [p.name for p in found.file.predictors] == ["afp_400", "vp4", "over_10_cm", "capsule"]
    afp = found.file.predictors[0]
    assert afp.beta == max(p.beta for p in found.file.predictors) > 0.3
    assert metadata["complete_patients"] == 30
    assert metadata["metrics"]["validation_n"] == 10
    assert metadata["metrics"]["validation_c"] > 0.5
    assert not image_names(found)


def test_the_lasso_chooses_at_most_so_many() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((120, 20))
    time = rng.exponential(np.exp(-features[:, 4] + features[:, 9]))
    event = np.ones(120, dtype=bool)
    assert set(chosen_features(features, time, event, 2).tolist()) <= {4, 9}
    assert 2 <= len(chosen_features(features, time, event, 6)) <= 6
    assert not len(chosen_features(features, time, event, 0))


def test_the_command_writes_bundle_and_picture(cohort: Cohort, tmp_path: Path) -> None:
    from dicom_node.cli.train import app

    arguments = ["nomogram", str(cohort.folder), "--out", str(tmp_path / "bundle"), "--image-features", "2"]
    picture = tmp_path / "nomogram.png"
    done = CliRunner().invoke(app, [*arguments, "--picture", str(picture), "--quiet"])
    assert done.exit_code == 0, done.output
    info, metadata = load_metadata(tmp_path / "bundle")
    assert info.trained_on.startswith("simulated")
    assert metadata["format"] == "nomogram"
    found = Nomogram.read(tmp_path / "bundle")
    assert len(image_names(found)) <= 2
    assert picture.stat().st_size > 10_000
    wrong = CliRunner().invoke(app, [*arguments, "--endpoint", "response"])
    assert wrong.exit_code == 2


def test_without_validation_patients_there_are_no_figures(cohort: Cohort, tmp_path: Path) -> None:
    only = replace(cohort, patients=cohort.patients.assign(split="train"))
    settings = NomogramTraining(image_features=0)
    assert train_nomogram(only, tmp_path / "out", tmp_path / "work", settings, _quiet)["metrics"] == {}
