"""``hepatocast train generator``: refusals, and on 20 patients a bundle that forecasts a study."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dicom_node.cli.main import invoke
from inference.bundle_store import BundleKind
from inference.imaging.reading import read_case
from inference.models.catalogue import default_folders, load_model
from inference.models.flow.generator import LearnedGenerator
from inference.models.flow.sampler import Draw
from inference.pipeline import Bundles, run
from inference.randomness import RandomStreams
from inference.results import Response, ResponseCategory, StudyResults
from inference.settings import PipelineSettings
from inference.training.cohort import Split
from inference.training.cohort_split import patients_of_part
from inference.training.generator_losses import GeneratorTraining
from inference.training.never_seen import never_seen
from tests.builders.flow_bundles import HAIC, TACE, TRIPLE, write_flow_bundle
from tests.builders.stand_in_cohort import write_stand_in
from tests.builders.studies import write_study


def test_folder_that_is_no_cohort_is_refused(tmp_path, capsys) -> None:
    assert invoke(["train", "generator", str(tmp_path), "--out", str(tmp_path / "bundle"), "--quiet"]) != 0
    assert "cohort" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_name_that_a_bundle_cannot_have_is_refused(tmp_path, capsys) -> None:
    asked = ["train", "generator", str(tmp_path), "--out", str(tmp_path / "bundle"), "--name", "My Model"]
    assert invoke(asked) == 2
    assert "--name" in capsys.readouterr().err


def test_a_part_that_is_none_is_refused(tmp_path, capsys) -> None:
    cohort = write_stand_in(tmp_path / "cohort", patients=6, size=32, imaged=1)
    asked = ["train", "generator", str(cohort.folder), "--out", str(tmp_path / "bundle"), "--quiet"]
    assert invoke([*asked, "--leave-out", "4/3"]) == 1
    assert "4/3 is no part of a cohort" in capsys.readouterr().err


def test_networks_without_steps_need_a_bundle(tmp_path, capsys) -> None:
    cohort = write_stand_in(tmp_path / "cohort", patients=6, size=32, imaged=1)
    asked = ["train", "generator", str(cohort.folder), "--out", str(tmp_path / "bundle"), "--quiet"]
    assert invoke([*asked, "--flow-steps", "0"]) == 1
    assert "needs a bundle to come from" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_is_not_written_over_the_one_it_goes_on_from(tmp_path, capsys) -> None:
    before = write_flow_bundle(tmp_path / "before", modalities=("CT",))
    asked = ["train", "generator", str(tmp_path), "--start-from", str(before), "--out", str(before)]
    assert invoke(asked) == 2
    assert "another folder" in capsys.readouterr().err


def test_networks_that_are_built_otherwise_are_refused(tmp_path, capsys) -> None:
    cohort = write_stand_in(tmp_path / "cohort", patients=6, size=32, imaged=1)
    before = write_flow_bundle(tmp_path / "before", modalities=("CT",))
    asked = ["train", "generator", str(cohort.folder), "--start-from", str(before)]
    assert invoke([*asked, "--out", str(tmp_path / "bundle"), "--quiet"]) == 1
    assert "built otherwise" in capsys.readouterr().err


def test_outcomes_of_one_modality_are_learned_anew_and_all_else_is_kept(tmp_path, capsys) -> None:
    widths = GeneratorTraining().widths
    before = write_flow_bundle(tmp_path / "before", widths, modalities=("CT", "MR"))
    cohort = write_stand_in(tmp_path / "cohort", patients=40, size=32, modality="MR", imaged=1)
    out = tmp_path / "bundle"
    asked = ["train", "generator", str(cohort.folder), "--out", str(out), "--quiet"]
    steps = ["--regression-steps", "0", "--flow-steps", "0"]
    assert invoke([*asked, *steps, "--start-from", str(before)]) == 0
    said = capsys.readouterr().out
    assert "MR: CRPS" in said
    assert "CT: CRPS" not in said

    same = {
        p.relative_to(before)
        for p in before.rglob("*")
        if p.is_file() and (out / p.relative_to(before)).read_bytes() == p.read_bytes()
    }
    kept = {p.relative_to(before) for folder in ("models", "ct") for p in (before / folder).iterdir()}
    assert kept <= same
    assert not any(p.parts[0] == "mr" for p in same)

    metadata = json.loads((out / "metadata.json").read_text(encoding="utf-8"))
    told = json.loads((before / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["started_from"]["sha256"] == told["sha256"]
    assert metadata["trained_on"].startswith("simulated: stand-in, n ")
    assert metadata["trained_on"].endswith(told["trained_on"])
    assert LearnedGenerator.from_bundle(out).settings.modalities == ("CT", "MR")
    study = write_study(tmp_path / "study", ("t1_arterial",), "MR")
    assert forecast(out, study).demonstration


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_network_goes_on_from_the_weights_of_a_bundle(tmp_path) -> None:
    cohort = write_stand_in(tmp_path / "cohort", patients=20, size=32, imaged=2)
    before = write_flow_bundle(tmp_path / "before", GeneratorTraining().widths, modalities=("CT",))
    out = tmp_path / "bundle"
    asked = ["train", "generator", str(cohort.folder), "--out", str(out), "--quiet"]
    assert invoke([*asked, "--start-from", str(before), "--regression-steps", "0", "--flow-steps", "2"]) == 0
    old, new = (load_file(folder / "models/flow.safetensors") for folder in (before, out))
    assert all((new[k] - old[k]).abs().max() < 0.05 for k in old)
    assert any(not torch.equal(new[k], old[k]) for k in old)

    # A part that is left out now was seen by the bundle that is gone on from.
    again = tmp_path / "again"
    asked = ["train", "generator", str(cohort.folder), "--out", str(again), "--quiet", "--leave-out", "1/2"]
    steps = ["--regression-steps", "0", "--flow-steps", "0"]
    assert invoke([*asked, *steps, "--start-from", str(out)]) == 0
    _, unseen = never_seen(str(again), "generator", cohort)
    assert unseen == set(cohort.ids(Split.TEST))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_part_that_was_left_out_was_never_seen(tmp_path) -> None:
    cohort = write_stand_in(tmp_path / "cohort", patients=40, size=32, imaged=1)
    out = tmp_path / "bundle"
    asked = ["train", "generator", str(cohort.folder), "--out", str(out), "--quiet", "--leave-out", "1/2"]
    assert invoke([*asked, "--regression-steps", "2", "--flow-steps", "2"]) == 0
    info, unseen = never_seen(str(out), "generator", cohort)
    part = patients_of_part(cohort, "1/2")
    assert unseen == part | set(cohort.ids(Split.TEST))
    assert info.trained_on.endswith(f"n {len(set(cohort.ids(Split.TRAIN)) - part)}")


def forecast(bundle: Path, study: Path) -> StudyResults:
    folders = {**default_folders(), BundleKind.GENERATOR: bundle}
    bundles = Bundles.load({k: folders[k] for k in (BundleKind.GENERATOR, BundleKind.SURVIVAL)})
    settings = PipelineSettings(regimens=(TACE, HAIC, TRIPLE), months=(1.0, 3.0, 6.0))
    return run(read_case(study), settings, bundles, RandomStreams(settings.seed), lambda *_: None)


def digest_of_images(results: StudyResults) -> str:
    total = hashlib.sha256()
    for course in results.forecasts:
        for point in course.time_points:
            for image in point.generated.images:
                total.update(image.stored.tobytes())
            total.update(point.generated.labels.tissue.tobytes())
    return total.hexdigest()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_twenty_patients_give_a_bundle_that_forecasts_a_study(tmp_path, modality, capsys) -> None:
    write_stand_in(tmp_path / "cohort", patients=20, size=48, modality=modality, imaged=3)
    out = tmp_path / "bundle"
    asked = ["train", "generator", str(tmp_path / "cohort"), "--out", str(out), "--quiet"]
    steps = ["--regression-steps", "60", "--flow-steps", "30"]
    assert invoke([*asked, *steps]) == 0
    assert "CRPS" in capsys.readouterr().out

    metadata = json.loads((out / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["trained_on"].startswith("simulated: stand-in, n ")
    assert metadata["metrics"]["networks"]["flow"]["steps"] == 30
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    assert size < 20e6
    curve = np.genfromtxt(tmp_path / "bundle.work/regression/learning_curve.csv", delimiter=",", names=True)
    # It starts at the make-up that is requested: sixty steps add little, but something.
    assert curve["validation"][-1] < 0.98 * curve["validation"][0]
    assert (tmp_path / "bundle.work/flow/learning_curve.png").is_file()

    # A second call continues from the finished checkpoints, and gives the same weights.
    weights = load_file(out / "models" / "flow.safetensors")
    assert invoke([*asked, *steps]) == 0
    again = load_file(out / "models" / "flow.safetensors")
    assert all(torch.equal(weights[k], again[k]) for k in weights)
    assert invoke([*asked, "--regression-steps", "61", "--flow-steps", "30"]) != 0

    assert isinstance(load_model(out, BundleKind.GENERATOR), LearnedGenerator)
    assert LearnedGenerator.from_bundle(out, draw=Draw.REGRESSION).settings.draw is Draw.REGRESSION
    phases = ("arterial", "portal_venous") if modality == "CT" else ("t1_arterial",)
    study = write_study(tmp_path / "study", phases, modality)
    results = forecast(out, study)
    assert results.demonstration
    assert [f.regimen_id for f in results.forecasts] == ["tace", "haic", "tace_haic_tki_pd1"]
    for course in results.forecasts:
        for point in course.time_points:
            low, high = point.generated.viable_ml_interval80
            assert low <= point.viable_ml * 1.05 + 0.05
            assert point.viable_ml * 0.95 - 0.05 <= high
            assert isinstance(point.recist11, Response)
            assert point.recist11.category in ResponseCategory
    assert digest_of_images(results) == digest_of_images(forecast(out, study))
