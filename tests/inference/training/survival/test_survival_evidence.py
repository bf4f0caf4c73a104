"""Laboratory values over time, texts and angiographies in training and serving of the survival model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from inference.bundle_store import BundleKind
from inference.case import ClinicalRecord, ClinicalValue, DatedValue, TextToken
from inference.errors import TrainingDataError
from inference.evaluation.survival.concordance import harrell_c
from inference.evaluation.survival.follow_up import FollowUp
from inference.models.catalogue import load_model
from inference.models.evidence import AngiogramEvidence, Evidence
from inference.models.survival.fitted import FittedSurvival, Inputs
from inference.models.survival.model import ProtocolSurvivalModel
from inference.models.survival.network import NetworkSize
from inference.models.survival.tokens import ANGIOGRAPHY, LABORATORY
from inference.results import SurvivalCurve
from inference.settings import Regimen
from inference.training.cohort import (
    OUTCOME_COLUMNS,
    Cohort,
    CohortInfo,
    Origin,
    Split,
    cohort_digest,
    write_tables,
)
from inference.training.cohort_evidence import (
    CohortEvidence,
    PatientVectors,
    read_evidence,
    write_evidence,
)
from inference.training.survival.bundle import train_bundle
from inference.training.survival.fit import SurvivalSettings
from inference.training.survival.networks import NetworkSettings
from inference.training.survival.rows import SurvivalRows
from inference.training.survival.sources import rows_of_cohort
from tests.builders.survival_rows import censored

PATIENTS = 360
TEXTS, RUNS = "notes 1", "runs 1"
SETTINGS = SurvivalSettings(
    intervals=10,
    inner_folds=3,
    network_folds=2,
    draws=4,
    # Kept whatever inner folds say, so that every part of the model is at work.
    networks=NetworkSettings(
        size=NetworkSize(width=8, heads=2),
        networks=1,
        steps=10,
        note_every=10,
        batch=64,
        shares=(0.25,),
        needed_gain=-1e9,
    ),
)
TACE = Regimen(id="tace", name="TACE", source="none")


def _evidence(signal: np.ndarray, rng: np.random.Generator) -> CohortEvidence:
    """Albumin falls, words change and vessels fill with a signal each, (n, 3); every sixth has none of it."""
    dated, texts, runs = {}, {}, {}
    for i, (slope, words, vessels) in enumerate(signal):
        if i % 6 == 0:
            continue
        patient = f"S{i:04d}"
        dated[patient] = tuple(
            DatedValue("albumin", day, round(float(36.0 * np.exp(0.05 * slope * day / 30.0)), 3))
            for day in (-90, -60, -35)
        )
        texts[patient] = (rng.normal(size=(1, 12)) + 3.0 * words * np.eye(12)[:1]).astype(np.float32)
        runs[patient] = (rng.normal(size=(2, 6)) + 3.0 * vessels * np.eye(6)[:1]).astype(np.float32)
    return CohortEvidence(dated, PatientVectors(TEXTS, texts), PatientVectors(RUNS, runs))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    rng = np.random.default_rng(5)
    signal = rng.normal(size=(PATIENTS, 3))
    bilirubin = np.exp(rng.normal(3.0, 0.6, PATIENTS))
    hazard = 0.5 * (np.log(bilirubin) - 3.0) + signal @ np.array([-0.8, 0.8, 0.8])
    table = {
        "patient_id": [f"S{i:04d}" for i in range(PATIENTS)],
        "centre": "one",
        "split": np.array(["train"] * 7 + ["validation"] + ["test"] * 2)[np.arange(PATIENTS) % 10],
        "regimen_id": rng.choice(["tace", "haic"], PATIENTS),
        "baseline_viable_ml": 10.0,
        "baseline_total_ml": 10.0,
        "liver_ml": 1500.0,
        "bilirubin": bilirubin.round(2),
    }
    for name in ("os", "pfs"):
        months, event = censored(hazard + (name == "pfs"), rng)
        table |= {f"{name}_months": months, f"{name}_event": event.astype(int)}
    folder = tmp_path_factory.mktemp("cohort")
    write_evidence(folder, _evidence(signal, rng))
    info = CohortInfo(
        name="planted", origin=Origin.SIMULATED, modality="CT", phases=("arterial",), patients=PATIENTS
    )
    return write_tables(folder, info, pd.DataFrame(table), pd.DataFrame(columns=list(OUTCOME_COLUMNS)))


@pytest.fixture(scope="module")
def rows(cohort: Cohort) -> SurvivalRows:
    return rows_of_cohort(cohort, None, read_evidence(cohort.folder))


@pytest.fixture(scope="module")
def model(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> ProtocolSurvivalModel:
    out = tmp_path_factory.mktemp("bundle")
    train_bundle(cohort.folder, None, out, SETTINGS, 0, lambda *_: None)
    found = load_model(out, BundleKind.SURVIVAL)
    assert isinstance(found, ProtocolSurvivalModel)
    return found


def _without(inputs: Inputs, modality: str) -> Inputs:
    if modality == "text":
        return replace(inputs, text=np.full_like(inputs.text, np.nan))
    hidden = inputs.beside[modality]
    return replace(
        inputs, beside={**inputs.beside, modality: replace(hidden, known=np.zeros_like(hidden.known))}
    )


def _c(model: FittedSurvival, inputs: Inputs, rows: SurvivalRows) -> float:
    followed = rows.outcomes["os"]
    risk = 1.0 - model.survival("os", inputs, [24.0])[:, 0]
    return harrell_c(FollowUp(followed.months, followed.event), risk)


MODALITIES = (LABORATORY, "text", ANGIOGRAPHY)


@pytest.mark.parametrize("modality", MODALITIES)
def test_each_modality_that_tells_something_improves_the_forecast(
    model: ProtocolSurvivalModel, rows: SurvivalRows, modality: str
) -> None:
    test = rows.part(Split.TEST)
    assert test is not None
    whole, less = (_c(model.fitted, x, test) for x in (test.inputs, _without(test.inputs, modality)))
    assert whole > less + 0.02
    assert less > 0.5


@pytest.mark.parametrize("modality", MODALITIES)
def test_what_is_not_known_changes_nothing_whatever_stands_in_its_place(
    model: ProtocolSurvivalModel, rows: SurvivalRows, modality: str
) -> None:
    hidden = _without(rows.inputs, modality)
    if modality == "text":
        absent = replace(hidden, text=hidden.text.copy())
        absent.text[:, 0] = 5.0  # A vector that is not whole is none.
    else:
        other = {name: tokens for name, tokens in hidden.beside.items() if name != modality}
        absent = replace(hidden, beside=other)
        changed = replace(hidden.beside[modality], features=hidden.beside[modality].features + 7.0)
        filled = replace(hidden, beside={**other, modality: changed})
        np.testing.assert_allclose(
            model.fitted.log_hazards("os", filled), model.fitted.log_hazards("os", hidden), rtol=1e-6
        )
    np.testing.assert_allclose(
        model.fitted.log_hazards("os", absent), model.fitted.log_hazards("os", hidden), rtol=1e-6
    )
    gates = model.explain("os", hidden).gates
    assert not gates[modality].any()
    assert not model.explain("os", hidden).parts[modality].any()


def _served(cohort: Cohort, patient: str) -> tuple[ClinicalRecord, Evidence]:
    """Return one patient as a study that arrives brings it."""
    evidence, row = read_evidence(cohort.folder), cohort.row(patient)
    values = {"bilirubin": ClinicalValue("bilirubin", row["bilirubin"], "umol/L")}
    record = ClinicalRecord(values, evidence.dated.get(patient, ()))
    texts = tuple(
        TextToken("report", TEXTS, tuple(float(x) for x in vector))
        for vector in evidence.texts.of.get(patient, ())
    )
    runs = evidence.angiographies.of.get(patient)
    return record, Evidence(None, texts, None if runs is None else AngiogramEvidence(RUNS, runs))


@pytest.mark.parametrize("place", [0, 1, 12, 200, 359])
def test_a_study_that_arrives_is_seen_as_the_patient_was_in_training(
    cohort: Cohort, rows: SurvivalRows, model: ProtocolSurvivalModel, place: int
) -> None:
    record, evidence = _served(cohort, f"S{place:04d}")
    own = model.inputs(record, str(cohort.row(f"S{place:04d}")["regimen_id"]), evidence)
    trained = rows.inputs.of(np.array([place]))
    for endpoint in ("os", "pfs"):
        np.testing.assert_allclose(
            model.fitted.log_hazards(endpoint, own), model.fitted.log_hazards(endpoint, trained), rtol=1e-6
        )


def test_values_from_after_the_study_reach_neither_training_nor_serving(
    cohort: Cohort, rows: SurvivalRows, model: ProtocolSurvivalModel, tmp_path: Path
) -> None:
    told = read_evidence(cohort.folder)
    later = {
        patient: (*values, *(DatedValue("albumin", day, 5.0) for day in (1, 30, 200)))
        for patient, values in told.dated.items()
    }
    write_evidence(tmp_path, replace(told, dated=later))
    again = rows_of_cohort(cohort, None, read_evidence(tmp_path))
    for name, column in rows.inputs.table.items():
        np.testing.assert_array_equal(again.inputs.table[name], column)
    for part in ("features", "months", "known", "kind"):
        np.testing.assert_array_equal(
            getattr(again.inputs.beside[LABORATORY], part), getattr(rows.inputs.beside[LABORATORY], part)
        )
    record, evidence = _served(cohort, "S0001")
    dead_soon = replace(record, dated=(*record.dated, DatedValue("albumin", 3, 5.0)))
    assert model.predict(dead_soon, (), TACE, evidence) == model.predict(record, (), TACE, evidence)


def test_a_forecast_tells_what_each_modality_adds(cohort: Cohort, model: ProtocolSurvivalModel) -> None:
    record, evidence = _served(cohort, "S0001")
    curve = model.predict(record, (), TACE, evidence).os
    assert isinstance(curve, SurvivalCurve)
    assert curve.basis is not None
    added = curve.basis.log_hazard
    titles = ("laboratory values over time", "texts of reports", "angiography")
    assert all(added[title] != 0 for title in titles)
    assert sum(added.values()) == pytest.approx(curve.risk_score)
    assert set(curve.basis.gates) == {"clinical", "text", "regimen", LABORATORY, ANGIOGRAPHY}


def test_vectors_of_another_encoder_are_not_taken(cohort: Cohort, model: ProtocolSurvivalModel) -> None:
    assert (model.wants.text_encoder, model.wants.angiogram_encoder) == (TEXTS, RUNS)
    record, evidence = _served(cohort, "S0001")
    assert evidence.angiographies is not None
    others = Evidence(
        None,
        tuple(replace(t, encoder="notes 2") for t in evidence.texts),
        replace(evidence.angiographies, encoder="runs 2"),
    )
    assert model.predict(record, (), TACE, others) == model.predict(record, (), TACE)


def test_the_digest_of_a_cohort_covers_its_evidence(cohort: Cohort, tmp_path: Path) -> None:
    evidence = read_evidence(cohort.folder)
    info = cohort.info.model_copy(update={"sha256": ""})
    bare = write_tables(tmp_path, info, cohort.patients, cohort.outcomes)
    assert bare.info.sha256 == cohort_digest(tmp_path) != cohort.info.sha256
    write_evidence(tmp_path, replace(evidence, texts=PatientVectors()))
    assert cohort_digest(tmp_path) not in (bare.info.sha256, cohort.info.sha256)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("S1,-3,child_pugh_class,1", "no laboratory value"),
        ("S1,-3.5,albumin,30", "whole number"),
        ("S1,-3,albumin,much", "must be numbers"),
        ("S1,-3,albumin,30\nS1,-3,albumin,31", "two different values on one day"),
    ],
)
def test_a_wrong_row_of_laboratory_values_is_refused(tmp_path: Path, row: str, reason: str) -> None:
    (tmp_path / "laboratory.csv").write_text(f"patient_id,days,variable,value\n{row}\n", encoding="utf-8")
    with pytest.raises(TrainingDataError, match=reason):
        read_evidence(tmp_path)
