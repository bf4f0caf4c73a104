from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from inference.bundle_store import METADATA, BundleKind
from inference.case import ClinicalRecord, ClinicalValue
from inference.errors import ModelError, TrainingDataError
from inference.models.catalogue import load_model
from inference.models.evidence import NOTHING_MORE, Evidence, ImageEvidence, ImageKind
from inference.models.survival.fitted import REGIMEN
from inference.models.survival.model import ProtocolSurvivalModel
from inference.models.survival.network import NetworkSize
from inference.models.survival.tokens import IMAGE_WIDTH
from inference.results import SurvivalCurve
from inference.settings import Regimen
from inference.training.cohort import OUTCOME_COLUMNS, Cohort, CohortInfo, Origin, write_tables
from inference.training.survival.bundle import train_bundle
from inference.training.survival.fit import SurvivalSettings
from inference.training.survival.networks import NetworkSettings
from inference.training.survival.sources import (
    ImageFile,
    read_image_file,
    rows_of_cohort,
    write_image_file,
)
from tests.builders.survival_rows import KINDS, Planted, planted_rows

SETTINGS = SurvivalSettings(
    intervals=10,
    inner_folds=3,
    network_folds=2,
    draws=4,
    networks=NetworkSettings(size=NetworkSize(width=8, heads=2), networks=1, steps=10, note_every=10),
)


@pytest.fixture(scope="module")
def planted() -> Planted:
    return planted_rows(200, seed=8)


@pytest.fixture(scope="module")
def cohort(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    folder = tmp_path_factory.mktemp("cohort")
    rows = planted.rows
    count = len(rows.split)
    patients = pd.DataFrame(
        {
            "patient_id": [f"S{i:04d}" for i in range(count)],
            "centre": "one",
            "split": rows.split,
            "regimen_id": rows.inputs.table[REGIMEN],
            "baseline_viable_ml": 10.0,
            "baseline_total_ml": 10.0,
            "liver_ml": 1500.0,
            **{f"{name}_months": followed.months for name, followed in rows.outcomes.items()},
            **{f"{name}_event": followed.event.astype(int) for name, followed in rows.outcomes.items()},
            "bilirubin": rows.inputs.table["bilirubin"],
            "age": rows.inputs.table["age"],
            "latent_luck": planted.truth,
        }
    )
    info = CohortInfo(
        name="planted", origin=Origin.SIMULATED, modality="CT", phases=("arterial",), patients=count
    )
    return write_tables(folder, info, patients, pd.DataFrame(columns=list(OUTCOME_COLUMNS)))


@pytest.fixture(scope="module")
def image_file(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "images.npz"
    some = np.arange(150)
    ids = tuple(f"S{i:04d}" for i in some)
    write_image_file(path, ImageFile(ids, planted.rows.inputs.images.of(some), KINDS))
    return path


def test_rows_follow_the_table_and_take_no_truth(planted: Planted, cohort: Cohort, image_file: Path) -> None:
    rows = rows_of_cohort(cohort, read_image_file(image_file))

    assert not any("latent" in name for name in rows.inputs.table)
    np.testing.assert_allclose(rows.inputs.table["bilirubin"], planted.rows.inputs.table["bilirubin"])
    images = planted.rows.inputs.images
    np.testing.assert_array_equal(rows.inputs.images.known[:150], images.known[:150])
    assert not rows.inputs.images.known[150:].any()
    np.testing.assert_array_equal(rows.inputs.images.features[7], images.features[7])


def test_a_cohort_becomes_a_bundle_that_the_node_serves(
    cohort: Cohort, image_file: Path, tmp_path: Path
) -> None:
    train_bundle(cohort.folder, image_file, tmp_path / "bundle", SETTINGS, 0, lambda *_: None)

    metadata = json.loads((tmp_path / "bundle" / METADATA).read_text(encoding="utf-8"))
    assert metadata["trained_on"].startswith("simulated: planted, n=140, events=")
    assert set(metadata["metrics"]) == {"test", "test_without_images"}
    model = load_model(tmp_path / "bundle", BundleKind.SURVIVAL)
    values = {
        "bilirubin": ClinicalValue("bilirubin", 20.0, "umol/L"),
        "age": ClinicalValue("age", 60.0, "years"),
    }
    found = model.predict(ClinicalRecord(values), (), Regimen(id="haic", name="HAIC", source="none"))
    assert isinstance(found.os, SurvivalCurve)
    assert 0 < found.os.probabilities[12][0] < 1


SERVED_KINDS = (ImageKind.BASELINE.value, ImageKind.VIRTUAL.value)
RECORD = ClinicalRecord(
    {
        "bilirubin": ClinicalValue("bilirubin", 20.0, "umol/L"),
        "age": ClinicalValue("age", 60.0, "years"),
    }
)
HAIC = Regimen(id="haic", name="HAIC", source="none")


def seen(encoder: str, *kinds: ImageKind, signal: float = 2.0) -> Evidence:
    vectors = np.full((len(kinds), IMAGE_WIDTH), signal, dtype=np.float32)
    return Evidence(ImageEvidence(encoder, vectors, 6.0 * np.arange(len(kinds)), kinds))


@pytest.fixture(scope="module")
def with_images(
    planted: Planted, cohort: Cohort, tmp_path_factory: pytest.TempPathFactory
) -> ProtocolSurvivalModel:
    folder = tmp_path_factory.mktemp("with_images")
    ids = tuple(f"S{i:04d}" for i in range(len(planted.rows.split)))
    file = ImageFile(ids, planted.rows.inputs.images, SERVED_KINDS, encoder="e" * 64)
    write_image_file(folder / "images.npz", file)
    assert read_image_file(folder / "images.npz").encoder == "e" * 64
    train_bundle(cohort.folder, folder / "images.npz", folder / "bundle", SETTINGS, 0, lambda *_: None)
    found = load_model(folder / "bundle", BundleKind.SURVIVAL)
    assert isinstance(found, ProtocolSurvivalModel)
    return found


def risk(model: ProtocolSurvivalModel, evidence: Evidence) -> float:
    found = model.predict(RECORD, (), HAIC, evidence).os
    assert isinstance(found, SurvivalCurve)
    return found.risk_score


def test_images_of_its_encoder_change_the_forecast_in_their_direction(
    with_images: ProtocolSurvivalModel,
) -> None:
    assert with_images.wants.image_encoder == "e" * 64
    kinds = (ImageKind.BASELINE, ImageKind.VIRTUAL)
    without = risk(with_images, NOTHING_MORE)
    worse, better = (risk(with_images, seen("e" * 64, *kinds, signal=s)) for s in (2.0, -2.0))
    assert better < without < worse


def test_a_forecast_tells_what_it_rests_on(with_images: ProtocolSurvivalModel) -> None:
    values = {**RECORD.values, "bilirubin": ClinicalValue("bilirubin", 45.0, "umol/L")}
    found = [with_images.predict(record, (), HAIC).os for record in (RECORD, ClinicalRecord(values))]
    told = []
    for curve in found:
        assert isinstance(curve, SurvivalCurve)
        assert curve.basis is not None
        told.append(curve.basis)
    before, after = told
    assert set(before.log_hazard) >= {"bilirubin", "age"}
    assert after.log_hazard["age"] == before.log_hazard["age"]
    moved = after.log_hazard["bilirubin"] - before.log_hazard["bilirubin"]
    risks = [curve.risk_score for curve in found if isinstance(curve, SurvivalCurve)]
    # The networks of so small a training add nothing and were left out: the linear part is all there is.
    assert (after.networks, after.gates, after.attention) == (0.0, {}, {})
    assert risks[1] - risks[0] == pytest.approx(moved, abs=1e-6)
    assert moved != 0.0


def test_images_of_another_encoder_are_refused(with_images: ProtocolSurvivalModel) -> None:
    with pytest.raises(ModelError, match="was not trained with image vectors of the encoder aaaa"):
        with_images.predict(RECORD, (), HAIC, seen("a" * 64, ImageKind.BASELINE))


def test_images_of_a_kind_that_no_training_patient_had_are_not_taken(
    with_images: ProtocolSurvivalModel,
) -> None:
    alone = seen("e" * 64, ImageKind.REAL, signal=5.0)
    assert risk(with_images, alone) == risk(with_images, NOTHING_MORE)


def test_vectors_of_an_encoder_without_a_name_are_not_taken_when_served(
    cohort: Cohort, image_file: Path, tmp_path: Path
) -> None:
    train_bundle(cohort.folder, image_file, tmp_path / "bundle", SETTINGS, 0, lambda *_: None)
    model = load_model(tmp_path / "bundle", BundleKind.SURVIVAL)
    assert model.wants.image_encoder == ""


def test_another_file_is_no_file_of_image_vectors(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    (tmp_path / "text.npz").write_text("text")

    for name in ("other.npz", "text.npz", "absent.npz"):
        with pytest.raises(TrainingDataError, match="no file of image vectors"):
            read_image_file(tmp_path / name)
