"""``hepatocast arms`` from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dicom_node.cli.main import DONE, FAILED, invoke
from inference.bundle_store import METADATA, seal
from inference.training.cohort import write_tables
from tests.builders.flow_bundles import write_flow_bundle
from tests.builders.image_encoders import write_small_encoder
from tests.builders.stand_in_cohort import write_stand_in

TEST, EXTERNAL = 10, 6


def cohort_of(folder, patients, seed):
    """Patients for testing with follow-up images and times of their own; the last four are for training."""
    found = write_stand_in(folder, patients, size=48, seed=seed, imaged=6)
    rng = np.random.default_rng(seed)
    n = patients
    death, lost = rng.exponential(24.0, n) + 1.0, rng.uniform(30.0, 60.0, n)
    alive = np.minimum(death, lost)
    progression = rng.exponential(15.0, n) + 1.0
    table = found.patients.assign(
        split=["test"] * (n - 4) + ["train"] * 4,
        os_months=alive.round(3),
        os_event=(death <= lost).astype(int),
        pfs_months=np.minimum(progression, alive).round(3),
        pfs_event=((progression < alive) | (death <= lost)).astype(int),
    )
    info = found.info.model_copy(update={"name": f"stand-in {seed}"})
    return write_tables(folder, info, table, found.outcomes)


def told(bundle, **more):
    """Seal a bundle again with what it says of its training."""
    metadata = json.loads((bundle / METADATA).read_text(encoding="utf-8"))
    metadata.pop("sha256"), metadata.pop("metadata_sha256")
    seal(bundle, {**metadata, **more})
    return str(bundle)


def test_a_generator_that_does_not_say_whom_it_saw_is_refused(tmp_path, capsys):
    cohort_of(tmp_path / "cohort", 6, 0)
    generator = write_flow_bundle(tmp_path / "generator", modalities=("CT",))
    vectors = write_small_encoder(tmp_path / "vectors")
    command = ["arms", str(tmp_path / "cohort"), "--generator", str(generator), "--vectors", str(vectors)]
    assert invoke([*command, "--out", str(tmp_path / "out")]) == FAILED
    assert "does not say on which cohorts it was trained" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_arms_are_compared_from_crops_to_predictions(tmp_path, capsys):
    cohort = cohort_of(tmp_path / "cohort", TEST + 4, 0)
    shifted = cohort_of(tmp_path / "shifted", EXTERNAL + 4, 1)
    cohorts = [{"name": cohort.info.name, "sha256": cohort.info.sha256}]
    generator = told(write_flow_bundle(tmp_path / "generator", modalities=("CT",)), cohorts=cohorts)
    vectors = told(write_small_encoder(tmp_path / "vectors"), cohort_sha256=cohort.info.sha256)
    out = tmp_path / "out"
    command = ["arms", str(cohort.folder), "--generator", generator, "--vectors", vectors, "--quiet"]
    command += ["--external", str(shifted.folder), "--out", str(out), "--month", "3", "--folds", "2"]
    command += ["--draws", "20", "--network-steps", "40", "--workers", "2"]
    assert invoke(command) == DONE
    said = capsys.readouterr().out
    assert "OS, test, from the start of treatment: 10 patients" in said
    assert "clinical + baseline + real follow-up: C " in said
    found = json.loads((out / "arms.json").read_text(encoding="utf-8"))
    assert {(t["set"], t["from"]) for t in found["tables"]} == {
        (name, origin) for name in ("test", "external-stand_in_1") for origin in ("treatment", "landmark")
    }
    kept = sorted((out / "work" / "vectors_test").glob("*.npz"))
    assert [p.stem for p in kept] == list(cohort.ids("test"))
    for name in ("arms.csv", "arms.md", "arms.png"):
        assert (out / name).stat().st_size > 0

    # The same command goes on from what is there, with the same figures.
    before = [p.stat().st_mtime_ns for p in kept]
    first = (out / "arms.json").read_bytes()
    assert invoke(command) == DONE
    assert [p.stat().st_mtime_ns for p in kept] == before
    assert (out / "arms.json").read_bytes() == first

    predictions = str(out / "predictions_from_landmark")
    report = ["evaluate", "--predictions", predictions, "--draws", "20", "--out", str(tmp_path / "report")]
    assert invoke(report) == DONE
    assert (tmp_path / "report" / "report.html").is_file()
