"""``hepatocast cohort``: the template, the refusal of a table, and the check of a cohort."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from dicom_node.cli.cohort import Outlines, _Models
from dicom_node.cli.main import invoke
from dicom_node.settings import load_settings
from inference.models.seg_in_study import SegInStudy
from inference.training.cohort import (
    CROP,
    OUTCOME_COLUMNS,
    SPACING_MM,
    Cohort,
    CohortInfo,
    FollowUpImages,
    Origin,
    PatientImages,
    Split,
    cohort_digest,
    write_images,
    write_tables,
)
from tests.builders.model_bundles import variant
from tests.builders.site_archive import write_table
from tests.builders.small_cohorts import small_cohort
from tests.builders.studies import SeriesSpec, write_series

VOXEL_ML = SPACING_MM**3 / 1000.0


@pytest.fixture
def cohort(tmp_path):
    """A valid cohort of three patients, each a ball of tumour in a ball of liver."""
    folder = tmp_path / "cohort"
    distance = np.linalg.norm(np.indices(CROP) - 48.0, axis=0)
    liver = ((distance < 30) * 255).astype(np.uint8)
    images = np.where(distance < 30, 100, 0).astype(np.int16)[None]
    patients, outcomes = [], []
    for number, split in enumerate(("train", "validation", "test")):
        fractions = np.zeros((3, *CROP), dtype=np.uint8)
        fractions[0, distance < 6] = 255
        lesion = (distance < 6).astype(np.uint8)
        seen = FollowUpImages("tace", 3.0, images, fractions, lesion)
        name, ml = f"P{number}", float(lesion.sum()) * VOXEL_ML
        write_images(folder, PatientImages(name, images, None, liver, fractions, lesion, (seen,)))
        who = {"patient_id": name, "centre": "A", "split": split, "regimen_id": "tace"}
        volumes = {"baseline_viable_ml": ml, "baseline_total_ml": ml, "liver_ml": 1000.0}
        survival = {"os_months": 12.0, "os_event": 1, "pfs_months": 6.0, "pfs_event": 1}
        patients.append({**who, **volumes, **survival, "albumin": 38.0})
        values = (name, "tace", 3.0, 1, 1, ml, 0.0, 0.0, 0, "SD", "SD")
        outcomes.append(dict(zip(OUTCOME_COLUMNS, values, strict=True)))
    info = CohortInfo(name="tiny", origin=Origin.REAL, modality="CT", phases=("arterial",), patients=3)
    write_tables(folder, info, pd.DataFrame(patients), pd.DataFrame(outcomes))
    return folder


def test_template_is_written_and_explained(tmp_path, capsys):
    assert invoke(["cohort", "template", "--out", str(tmp_path / "t.csv")]) == 0
    assert (tmp_path / "t.csv").read_text(encoding="utf-8").startswith("patient_id,")
    assert "treatment_start" in capsys.readouterr().err


def test_check_of_a_valid_cohort(cohort, capsys):
    assert invoke(["cohort", "check", str(cohort), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["patients"] == 3
    assert document["findings"] == []
    assert invoke(["cohort", "check", str(cohort)]) == 0
    assert "nothing is wrong" in capsys.readouterr().out


def test_check_of_a_changed_cohort_fails_and_says_what(cohort, capsys):
    table = pd.read_csv(cohort / "patients.csv")
    table.loc[0, "albumin"] = 3800.0
    table.loc[1, "baseline_total_ml"] = 500.0
    table.loc[2, "split"] = "exam"
    table.to_csv(cohort / "patients.csv", index=False)
    assert invoke(["cohort", "check", str(cohort), "--json"]) == 1
    findings = {(f["where"], f["what"].split()[0]) for f in json.loads(capsys.readouterr().out)["findings"]}
    assert findings >= {("cohort.json", "the"), ("P0", "albumin"), ("P1", "baseline_total_ml"), ("P2", "its")}


def test_check_of_no_cohort(tmp_path, capsys):
    assert invoke(["cohort", "check", str(tmp_path)]) == 1
    assert "not a cohort" in capsys.readouterr().err


def test_prepare_lists_every_problem_and_names_nobody(tmp_path, capsys):
    def edit(_: int, ds) -> None:
        ds.PatientID, ds.StudyDate = "SECRET-1", "20240220"

    spec = SeriesSpec(edit=edit)
    write_series(tmp_path / "archive", spec, np.zeros((2, 8, 8), dtype=np.int16), (3.0, 2.0, 2.0))
    row = {"patient_id": "SECRET-1", "study_date": "2024-02-20", "treatment_start": "2024-03-01",
           "regimen_id": "tace", "centre": "A"}  # fmt: skip
    rows = [row, {**row, "study_date": "2024-04-20"}, {**row, "patient_id": "SECRET-2"}]
    write_table(tmp_path / "t.csv", rows)
    command = ["cohort", "prepare", str(tmp_path / "archive"), "--table", str(tmp_path / "t.csv")]
    salt = ["--salt", str(tmp_path / "salt")]
    assert invoke([*command, "--out", str(tmp_path / "out"), *salt]) == 3
    said = capsys.readouterr()
    assert "2 problem(s)" in said.err
    assert "SECRET" not in said.out + said.err
    assert not (tmp_path / "out").exists()


def test_the_salt_may_not_lie_in_the_cohort(tmp_path):
    out = tmp_path / "out"
    arguments = ["--table", "t.csv", "--out", str(out), "--salt", str(out / "salt")]
    assert invoke(["cohort", "prepare", str(tmp_path), *arguments]) == 2
    assert not out.exists()


def test_outlines_and_phases_are_made_with_what_is_in_force_at_the_site(tmp_path):
    """A retrained phase bundle that was activated, and a site's own segmenter after the studies' own."""
    file = tmp_path / "site.yaml"
    segmenter = {"program": "totalsegmentator", "name": "ours", "weights_folder": str(tmp_path)}
    settings = {"data_dir": str(tmp_path / "data"), "models": {"segmenters": [segmenter]}}
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    retrained = variant(tmp_path / "retrained", "phase", "9.9.9")
    for command in (["install", str(retrained)], ["activate", "phase@9.9.9"]):
        assert invoke(["models", *command, "--config", str(file)]) == 0
    models = _Models(load_settings([file]))
    assert models.phase_reader().info.version == "9.9.9"
    assert isinstance(models.segmenter(Outlines.IN_STUDY), SegInStudy)
    first, second, *_ = models.segmenter(Outlines.AUTOMATIC).segmenters
    assert isinstance(first, SegInStudy)
    assert second.info.name == "ours"


def test_a_cohort_is_divided_anew(tmp_path, capsys):
    small_cohort(tmp_path, 24)
    assert invoke(["cohort", "split", str(tmp_path), "--seed", "1"]) == 0
    assert "here, test: 7" in capsys.readouterr().out
    divided = Cohort.open(tmp_path)
    assert len(divided.ids(Split.TEST)) == 7
    assert divided.info.sha256 == cohort_digest(tmp_path)
    assert invoke(["cohort", "split", str(tmp_path), "--external", "nowhere"]) == 1
    assert "no patient comes from the centre nowhere" in capsys.readouterr().err


def test_reports_need_an_encoder(tmp_path, capsys):
    asked = ["cohort", "prepare", str(tmp_path), "--table", "t.csv", "--out", str(tmp_path / "out")]
    asked += ["--salt", str(tmp_path / "salt"), "--reports", "reports.csv"]
    assert invoke(asked) == 2
    assert "--text-encoder" in capsys.readouterr().err
    assert not (tmp_path / "salt").exists()
