"""The published networks, narrow but of full depth, trained on 40 patients, measured and asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node.cli.main import app
from inference.bundle_store import BundleKind, describe
from inference.case import ClinicalRecord, ClinicalValue
from inference.evaluation.predictions.folder import read_predictions
from inference.evaluation.report.evaluation import evaluate_predictions
from inference.evaluation.report.plan import EvaluationPlan
from inference.evaluation.seed_systems import write_system_predictions
from inference.models.catalogue import load_model
from inference.models.second_opinions.residual import Depth, ResidualSettings
from inference.results import AssessedPatient, NotAssessed, SecondOpinion
from inference.training.cohort import Cohort
from inference.training.loop import LoopSettings
from inference.training.seed_systems.dlop import train_dlop
from inference.training.seed_systems.resnet50 import train_resnet50
from tests.builders.results import results
from tests.builders.seed_cohorts import dlop_training, resnet50_training, seed_cohort, seed_stand_in

pytestmark = pytest.mark.slow

LOOP = LoopSettings(steps=6, learning_rate=1e-3, warm_up_steps=2, validate_every=3, average_decay=0.5)
_ANSWERS = {"afp": 900.0, "pvtt_class": "Vp0", "largest_tumour": 80.0, "capsule": True}


def _quiet(text: str, share: float) -> None:
    """Show nothing."""


def _residual(depth: Depth) -> ResidualSettings:
    return ResidualSettings(depth=depth, width=8, stem_stride=2, slices=4)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return seed_stand_in(tmp_path_factory.mktemp("cohort"), 40)


def _asked(bundle: Path) -> SecondOpinion:
    study = results()
    record = ClinicalRecord({k: ClinicalValue(k, v) for k, v in _ANSWERS.items()})
    patient = AssessedPatient(study.baseline, study.segmentation, study.baseline_lesions, record)
    (opinion,) = load_model(bundle, BundleKind.SECOND_OPINION).opinions(patient, ())
    assert isinstance(opinion, SecondOpinion)
    return opinion


def _measured(name: str, bundle: Path, cohort: Cohort, folder: Path) -> set[str]:
    write_system_predictions(name, bundle, cohort, folder, _quiet)
    plan = EvaluationPlan(draws=20, fewest_events=2, fewest_at_risk=2)
    (chosen,) = evaluate_predictions(read_predictions(folder), plan, _quiet).sets
    return set(chosen.end_points)


def test_resnet50(cohort: Cohort, tmp_path: Path) -> None:
    plain = resnet50_training()
    network = plain.network.model_copy(update={"residual": _residual(Depth.RESNET50)})
    settings = plain.model_copy(update={"network": network, "loop": LOOP})
    train_resnet50(cohort, tmp_path / "bundle", tmp_path / "work", settings, _quiet)
    assert "n=24" in describe(tmp_path / "bundle").info.trained_on
    assert _measured("resnet50-mlp", tmp_path / "bundle", cohort, tmp_path / "predictions") == {"pfs"}
    opinion = _asked(tmp_path / "bundle")
    assert not isinstance(opinion.values, NotAssessed)
    assert opinion.nomogram is not None
    assert opinion.nomogram.patient is not None


def test_dlop_combin(cohort: Cohort, tmp_path: Path) -> None:
    plain = dlop_training()
    network = plain.network.model_copy(update={"loop": LOOP})
    settings = plain.model_copy(update={"residual": _residual(Depth.RESNET101), "network": network})
    metadata = train_dlop(cohort, tmp_path / "bundle", tmp_path / "work", settings, _quiet)
    assert metadata["landmark"]["training"]["used"] < 24
    assert _measured("dlop-combin", tmp_path / "bundle", cohort, tmp_path / "predictions") == {"os"}
    opinion = _asked(tmp_path / "bundle")
    assert not isinstance(opinion.values, NotAssessed)
    assert len(opinion.pictures) == 1


def test_the_command_trains_the_whole_network(tmp_path: Path) -> None:
    cohort = seed_cohort(tmp_path / "cohort", 40)
    asked = ["train", "resnet50-mlp", str(cohort.folder), "--every-regimen", "--steps", "1", "--quiet"]
    done = CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "bundle")])
    assert done.exit_code == 0, done.output
    assert "validation patients, pfs c:" in done.output
    assert describe(tmp_path / "bundle").format == "resnet50_mlp"
