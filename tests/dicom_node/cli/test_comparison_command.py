"""``hepatocast comparison``: learning from a table, comparing patients, and the benchmark."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from dicom_node.cli import comparison
from inference.bundle_store import BundleKind
from inference.comparison.benchmark_cohort import draw_replicate, load_benchmark
from inference.comparison.engine import compare_patient
from inference.comparison.stored import FACTS, load_comparison
from inference.errors import ModelError, RejectedInput, TrainingDataError
from inference.models.catalogue import load_model
from inference.randomness import RandomStreams

RUNNER = CliRunner()
SECRET = "MRN-SECRET-77"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort as a table, two new patients, and the comparison learned from the cohort."""
    folder = tmp_path_factory.mktemp("comparison")
    replicate = draw_replicate(load_benchmark(), "heterogeneous", RandomStreams(100_777), 0)
    cohort = replicate.cohort
    with (folder / "cohort.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["patient_id", "regimen_id", "os_months", "os_event", *cohort.names])
        for k in range(len(cohort.months)):
            values = [f"{v:.6f}" for v in cohort.covariates[k]]
            regimen, event = cohort.regimens[cohort.regimen[k]], int(cohort.event[k])
            writer.writerow([SECRET, regimen, f"{cohort.months[k]:.4f}", event, *values])
        writer.writerow([SECRET, "tace", "3.0", "1", *[""] * len(cohort.names)])
    with (folder / "new.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["patient_id", *cohort.names])
        writer.writerow([SECRET, *(f"{v:.6f}" for v in replicate.covariates[0])])
        writer.writerow([SECRET, "", *(f"{v:.6f}" for v in replicate.covariates[1][1:])])
    options = [word for name in cohort.names for word in ("--covariate", name)]
    result = RUNNER.invoke(
        comparison.app,
        ["learn", str(folder / "cohort.csv"), "--out", str(folder / "learned"), *options]
        + ["--trained-on", "simulated: benchmark"],
    )
    assert result.exit_code == 0, result.output
    assert "1 rows lack a value" in result.output
    assert SECRET not in result.output
    return folder


def test_patients_of_a_table_get_heat_maps_and_reasons(written: Path) -> None:
    out = written / "compared"
    arguments = ["patients", str(written / "learned"), str(written / "new.csv"), "--out", str(out)]
    result = RUNNER.invoke(comparison.app, arguments)
    assert result.exit_code == 0, result.output
    assert SECRET not in result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("row 1: ")
    assert "log_diameter" in lines[1]
    found = json.loads((out / "comparisons.json").read_text())
    assert found["bundle"]["trained_on"] == "simulated: benchmark"
    assert {r["regimen_id"] for r in found["comparisons"][0]["regimens"]} == {"tace", "haic", "tace_systemic"}
    assert found["comparisons"][1]["not_assessed"]["reason"] == "ClinicalValuesMissing"
    assert SECRET not in (out / "comparisons.json").read_text()
    assert np.asarray(Image.open(out / "row-1.png")).shape == (1000, 1600, 3)
    assert not (out / "row-2.png").exists()


def test_a_stored_comparison_answers_as_before_and_is_verified(written: Path) -> None:
    learned = load_comparison(written / "learned").learned
    again = load_model(written / "learned", BundleKind.COMPARISON).learned
    values = dict.fromkeys(learned.names, 0.5)
    assert compare_patient(learned, values) == compare_patient(again, values)
    facts = written / "learned" / FACTS
    kept = facts.read_text()
    facts.write_text(kept.replace('"benefit_months": 3.0', '"benefit_months": 1.0'))
    with pytest.raises(ModelError, match="damaged"):
        load_comparison(written / "learned")
    facts.write_text(kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [("os_months", "no column os_months"), ("tace,", "no patients under tace"), ("number", "not a number")],
)
def test_a_wrong_table_is_refused_by_name(written: Path, tmp_path: Path, change: str, message: str) -> None:
    text = (written / "cohort.csv").read_text()
    changed = {
        "os_months": lambda: text.replace("os_months", "months"),
        "tace,": lambda: text.replace(",tace,", ",other,"),
        "number": lambda: text.replace("tace,", "tace,x", 1),
    }[change]()
    (tmp_path / "cohort.csv").write_text(changed)
    arguments = ["learn", str(tmp_path / "cohort.csv"), "--out", str(tmp_path / "o"), "--covariate", "age"]
    result = RUNNER.invoke(comparison.app, arguments)
    assert isinstance(result.exception, TrainingDataError)
    assert message in str(result.exception)
    assert SECRET not in str(result.exception)


def test_too_few_deaths_are_a_refusal(tmp_path: Path) -> None:
    rows = [f"{regimen},{5 + k},1,{k % 7}" for k in range(20) for regimen in ("tace", "haic")]
    (tmp_path / "c.csv").write_text("regimen_id,os_months,os_event,age\n" + "\n".join(rows) + "\n")
    arguments = ["learn", str(tmp_path / "c.csv"), "--out", str(tmp_path / "o"), "--covariate", "age"]
    result = RUNNER.invoke(comparison.app, arguments)
    assert isinstance(result.exception, RejectedInput)
    assert "at least 30 deaths" in str(result.exception)


def test_the_benchmark_prints_a_row_for_each_scenario_and_the_bars(tmp_path: Path) -> None:
    arguments = ["benchmark", "--replicates", "2", "--workers", "1", "--seed", "100005", "--quiet"]
    chosen = ["--scenario", "heterogeneous", "--scenario", "no_difference", "--out", str(tmp_path / "b.json")]
    result = RUNNER.invoke(comparison.app, arguments + chosen)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "b.json").read_text())
    assert [s["scenario"] for s in found["scenarios"]] == ["heterogeneous", "no_difference"]
    assert found["scenarios"][1]["positives"]["estimate"] == 0
    assert 0.3 < found["scenarios"][0]["positives"]["estimate"] < 1
    assert "no_difference, recommended" in result.stdout
    assert "cannot be detected" in result.stdout


def test_an_unknown_scenario_names_the_known_ones() -> None:
    result = RUNNER.invoke(comparison.app, ["benchmark", "--scenario", "nothing"])
    assert result.exit_code == 2


def test_calibration_refuses_the_seeds_of_the_report(tmp_path: Path) -> None:
    result = RUNNER.invoke(comparison.app, ["calibrate", "--out", str(tmp_path / "m.yaml"), "--seed", "5"])
    assert result.exit_code == 2
