from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.bundle_store import BundleKind, describe
from inference.errors import TrainingDataError
from inference.evaluation.predictions.folder import read_predictions
from inference.evaluation.seed_systems import write_system_predictions
from inference.models.catalogue import load_model
from inference.models.second_opinions.dlop_reader import DlopReader
from inference.models.survival.hazards import HazardGrid, log_likelihood
from inference.results import AssessedPatient, NotAssessed, Reason, StudyResults
from inference.training.cohort import Cohort
from inference.training.seed_systems.dlop import train_dlop
from inference.training.seed_systems.dlop_networks import YearlyTargets
from tests.builders.seed_cohorts import dlop_training

MODELS = {"dlop-combin", "dlop-ctr", "dlop-cox", "radiomics-cox", "clinical-cox"}


def _quiet(text: str, share: float) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def cohort(seed_patients: Cohort) -> Cohort:
    return seed_patients


@pytest.fixture(scope="module")
def bundle(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dlop")
    train_dlop(cohort, folder / "bundle", folder / "work", dlop_training(), _quiet)
    return folder / "bundle"


def _patient(study: StudyResults) -> AssessedPatient:
    return AssessedPatient(study.baseline, study.segmentation, study.baseline_lesions, study.clinical.used)


def test_the_loss_is_minus_the_likelihood_of_piecewise_constant_hazards() -> None:
    grid = HazardGrid(np.array([0.0, 9.0, 21.0, 33.0, 45.0]))
    rng = np.random.default_rng(0)
    log_rates = rng.normal(-3.0, 0.5, size=(6, 4))
    months = np.array([1.0, 9.0, 15.0, 30.0, 44.0, 45.0])
    event = np.array([True, True, False, True, False, True])
    targets = YearlyTargets.of(grid, months, event)
    loss = targets.loss(torch.from_numpy(log_rates).float(), torch.arange(6))
    assert float(loss) == pytest.approx(-log_likelihood(grid, log_rates, months, event).mean(), rel=1e-5)


def test_a_death_after_the_last_year_is_not_seen() -> None:
    grid = HazardGrid(np.array([0.0, 9.0, 21.0, 33.0, 45.0]))
    targets = YearlyTargets.of(grid, np.array([90.0]), np.array([True]))
    assert float(targets.event[0]) == 0.0
    assert targets.exposure[0].tolist() == [9.0, 12.0, 12.0, 12.0]


def test_the_bundle_says_who_was_not_used_and_measures_five_models(cohort: Cohort, bundle: Path) -> None:
    told = describe(bundle)
    assert told.kind is BundleKind.SECOND_OPINION
    landmark = told.metadata["landmark"]
    train = cohort.patients[cohort.patients["split"] == "train"]
    early = train["os_months"] <= 3.0
    assert early.any()
    assert landmark["months"] == 3.0
    assert landmark["training"]["used"] == int((~early).sum())
    assert landmark["training"]["died_before"] == int((early & (train["os_event"] == 1)).sum())
    assert landmark["training"]["left_before"] == int((early & (train["os_event"] == 0)).sum())
    assert "response" in told.metadata["training"]["factors"]
    assert {f"{name} C" for name in MODELS} <= set(told.metrics)
    assert "random weights" in told.metadata["started_from"]


def test_predictions_are_those_of_patients_alive_at_the_landmark(
    cohort: Cohort, bundle: Path, tmp_path: Path
) -> None:
    write_system_predictions("dlop-combin", bundle, cohort, tmp_path, _quiet)
    found = read_predictions(tmp_path)
    assert {m.entry.name for m in found.models} == MODELS
    months = found.patients.survival["os"].months
    due = ~found.patients.in_split("train") & (months > 3.0)
    for model in found.models:
        survival = model.survival["os"]
        assert model.entry.landmark_months == 3.0
        np.testing.assert_array_equal(survival.predicted, due)
        np.testing.assert_allclose(survival.at(3.0)[due], 1.0)
    combin = next(m for m in found.models if m.entry.name == "dlop-combin")
    cut = DlopReader.from_bundle(bundle).model.file.risk_cut
    assert cut is not None
    assert combin.entry.risk_cut is not None
    # The same patients are at high risk by survival below the cut and by risk above it.
    survival = combin.survival["os"]
    np.testing.assert_array_equal(survival.at(36.0)[due] < cut, survival.risk[due] > combin.entry.risk_cut)


def test_the_reader_answers_for_response_and_for_none(bundle: Path, study: StudyResults) -> None:
    reader = load_model(bundle, BundleKind.SECOND_OPINION)
    assert isinstance(reader, DlopReader)
    (opinion,) = reader.opinions(_patient(study), ())
    assert not isinstance(opinion.values, NotAssessed)
    values = {v.name: v.value for v in opinion.values}
    for scenario in ("response", "no response"):
        survival = [float(values[f"overall survival at {m} months, if {scenario}"]) for m in (12, 24, 36)]
        assert 1 >= survival[0] >= survival[1] >= survival[2] >= 0
        assert values[f"risk group, if {scenario}"] in ("high", "low")
    assert opinion.pictures[0].rgb.std() > 5
    assert "3 months" in opinion.about


def test_a_system_of_other_regimens_refuses(bundle: Path, study: StudyResults) -> None:
    reader = DlopReader.from_bundle(bundle)
    model = reader.model
    other = type(model)(
        model.info,
        model.file.model_copy(update={"regimens": ("tace",)}),
        model.networks,
        model.comparators,
    )
    (opinion,) = DlopReader(other.info, other).opinions(_patient(study), ())
    assert isinstance(opinion.values, NotAssessed)
    assert opinion.values.reason is Reason.REGIMEN_NOT_COVERED


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bundle(cohort: Cohort, bundle: Path, tmp_path: Path) -> None:
    again = train_dlop(cohort, tmp_path / "bundle", tmp_path / "work", dlop_training(), _quiet)
    assert describe(tmp_path / "bundle").info == describe(bundle).info
    assert json.loads(json.dumps(again["metrics"])) == describe(bundle).metrics


def test_too_few_patients_are_refused(cohort: Cohort, tmp_path: Path) -> None:
    few = Cohort(cohort.folder, cohort.info, cohort.patients.head(8), cohort.outcomes)
    with pytest.raises(TrainingDataError, match="after the landmark"):
        train_dlop(few, tmp_path / "bundle", tmp_path / "work", dlop_training(), _quiet)
