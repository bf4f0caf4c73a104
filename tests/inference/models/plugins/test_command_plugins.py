"""nnU-Net v2 and TotalSegmentator: available or why not, their command lines, and what they return.

The real programs are not run here: programs of the same names answer with thresholds of the image.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.case import Case
from inference.errors import ImplausibleSegmentation, ModelError, SegmentationMissing
from inference.model_settings import ModelSettings, NnunetSettings, TotalSegmentatorSettings
from inference.models.plugins.availability import NotAvailable
from inference.models.plugins.table import plugin_states, site_segmenter
from inference.results import Baseline, Grid, Tissue
from tests.builders.label_programs import write_program
from tests.builders.studies import Phantom
from tests.builders.waiting import until

NNUNET = "nnUNetv2_predict_from_modelfolder"
LIVER_AND_TUMOUR = """
source = next(Path(value("-i")).glob("*_0000.nii.gz"))
liver = labels_of(source, 60, 130)
tumour = labels_of(source, 78, 97)
sitk.WriteImage(liver + tumour, str(Path(value("-o")) / "case.nii.gz"))
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only one on PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "Dataset501_HCC"
    (folder / "fold_0").mkdir(parents=True)
    (folder / "fold_0" / "checkpoint_final.pth").write_bytes(b"weights")
    (folder / "plans.json").write_text("{}")
    description = {"channel_names": {"0": "CT"}, "file_ending": ".nii.gz", "labels": {"background": 0}}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def nnunet(model: Path, **values: Any) -> NnunetSettings:
    known = {"name": "our nnU-Net", "folder": model, "folds": ["0"], "labels": {1: "liver", 2: "tumour"}}
    return NnunetSettings.model_validate({**known, **values})


def reason(settings: Any) -> str:
    found = site_segmenter(settings).available()
    assert isinstance(found, NotAvailable)
    return found.reason


# ------------------------------------------------------------------ nnU-Net


def test_nnunet_says_why_it_is_not_available(programs: Path, model: Path):
    assert "not on PATH" in reason(nnunet(model))
    write_program(programs / NNUNET, "")
    assert "fold_all" in reason(nnunet(model, folds=["all"]))
    description = json.loads((model / "dataset.json").read_text())
    (model / "dataset.json").write_text(json.dumps({**description, "file_ending": ".png"}))
    assert "only NIfTI" in reason(nnunet(model))
    two = {**description, "channel_names": {"0": "arterial", "1": "portal"}}
    (model / "dataset.json").write_text(json.dumps(two))
    assert "wants 2 images" in reason(nnunet(model))


def test_nnunet_is_called_with_its_folder_and_its_labels_become_liver_and_tumours(
    programs: Path, model: Path, case: Case, baseline: Baseline, phantom: Phantom
):
    program = write_program(programs / NNUNET, LIVER_AND_TUMOUR)
    segmenter = site_segmenter(nnunet(model))
    segmenter.check(case)
    found = segmenter.segment(case, baseline)
    call = program.with_suffix(".log").read_text().split()
    assert call[call.index("-m") + 1] == str(model)
    assert call[call.index("-f") + 1] == "0"
    assert call[call.index("-device") + 1] == "cpu"
    assert found.bundle.name == "our nnU-Net"
    truth = phantom.masks["liver"][found.labels.box.slices]
    drawn = found.labels.tissue != Tissue.BACKGROUND
    overlap = 2 * (truth & drawn).sum() / (truth.sum() + drawn.sum())
    assert overlap > 0.85
    assert len(found.lesions) >= 1
    assert any("outlined by a program (our nnU-Net)" in w for w in found.warnings)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("sys.exit(3)", "ended with code 3"),
        ("time.sleep(60)", "did not end within"),
        ("pass", "wrote no segmentation"),
        (LIVER_AND_TUMOUR.replace("liver + tumour", "(liver + tumour)[1:]"), "another size"),
        (
            LIVER_AND_TUMOUR.replace(
                "sitk.WriteImage", "liver.SetOrigin((0, 0, 0)); tumour.SetOrigin((0, 0, 0));sitk.WriteImage"
            ),
            "another place",
        ),
        (LIVER_AND_TUMOUR.replace("liver + tumour", "liver * 7"), "label 7"),
        (
            LIVER_AND_TUMOUR.replace("liver + tumour", "sitk.Cast(liver, sitk.sitkFloat32) * 0.5"),
            "no labels",
        ),
    ],
)
def test_a_wrong_answer_is_an_error_and_never_a_segmentation(
    programs: Path, model: Path, case: Case, baseline: Baseline, body: str, error: str
):
    write_program(programs / NNUNET, body)
    segmenter = site_segmenter(nnunet(model, time_limit_s=1 if "sleep" in body else 280))
    with pytest.raises(ModelError, match=error):
        segmenter.segment(case, baseline)


def test_the_end_of_what_a_failing_program_said_is_in_the_log(
    programs: Path, model: Path, case: Case, baseline: Baseline, caplog: pytest.LogCaptureFixture
):
    write_program(
        programs / NNUNET, "print('x' * 5000); print('out of memory', file=sys.stderr); sys.exit(3)"
    )
    with pytest.raises(ModelError, match="the log has the end"):
        site_segmenter(nnunet(model)).segment(case, baseline)
    (record,) = (r for r in caplog.records if r.name == "inference.models.plugins.running")
    assert record.levelname == "WARNING"
    assert "out of memory" in record.getMessage()
    assert len(record.getMessage()) < 2200


def test_no_liver_is_refused_and_no_tumour_is_a_liver_alone(
    programs: Path, model: Path, case: Case, baseline: Baseline
):
    write_program(programs / NNUNET, LIVER_AND_TUMOUR.replace("liver + tumour", "liver * 0"))
    with pytest.raises(ImplausibleSegmentation, match="found no liver"):
        site_segmenter(nnunet(model)).segment(case, baseline)
    write_program(programs / NNUNET, LIVER_AND_TUMOUR.replace("liver + tumour", "liver"))
    found = site_segmenter(nnunet(model)).segment(case, baseline)
    assert found.lesions == ()
    assert (found.labels.tissue == Tissue.LIVER).any()


def test_a_program_that_leaves_children_behind_leaves_none(
    programs: Path, model: Path, case: Case, baseline: Baseline, tmp_path: Path
):
    note = tmp_path / "child"
    program = programs / NNUNET
    program.write_text(f"#!/bin/sh\n/bin/sleep 120 &\necho $! > {note}\nwait\n")
    program.chmod(0o755)
    with pytest.raises(ModelError, match="did not end"):
        site_segmenter(nnunet(model, time_limit_s=2)).segment(case, baseline)
    child = int(note.read_text())
    until(lambda: not _runs(child))  # a killed process still has to be scheduled once to end


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().split()[2]
    except OSError:
        return False
    return state != "Z"


# ------------------------------------------------------------------ TotalSegmentator

TOTAL = """
import os
seen = os.environ["TOTALSEG_WEIGHTS_PATH"] + " " + os.environ["https_proxy"]
Path(sys.argv[0]).with_suffix(".env").write_text(seen)
task = value("--task")
name, low, high = {"total": ("liver", 60, 130), "liver_lesions": ("liver_lesions", 78, 97)}[task]
sitk.WriteImage(labels_of(value("-i"), low, high), str(Path(value("-o")) / (name + ".nii.gz")))
"""


def total(weights: Path, **values: Any) -> TotalSegmentatorSettings:
    return TotalSegmentatorSettings.model_validate(
        {"weights_folder": weights, "modalities": ["CT"], **values}
    )


def test_totalsegmentator_says_why_it_is_not_available(programs: Path, tmp_path: Path):
    assert "not on PATH" in reason(total(tmp_path))
    write_program(programs / "TotalSegmentator", TOTAL)
    why = reason(total(tmp_path))
    assert "totalseg_download_weights -t total" in why
    (tmp_path / "Dataset291_TotalSegmentator_part1_organs_1559subj").mkdir()
    assert plugin_states(ModelSettings(segmenters=(total(tmp_path),)))[0].available
    assert "total_mr" in reason(total(tmp_path, modalities=["CT", "MR"]))
    assert "total" in reason(total(tmp_path, fast=True))


def test_totalsegmentator_is_asked_for_liver_and_tumours_without_a_network(
    programs: Path, tmp_path: Path, case: Case, baseline: Baseline, phantom: Phantom
):
    program = write_program(programs / "TotalSegmentator", TOTAL)
    (tmp_path / "Dataset291_organs").mkdir()
    segmenter = site_segmenter(total(tmp_path, tumour_task="liver_lesions"))
    found = segmenter.segment(case, baseline)
    calls = [line.split() for line in program.with_suffix(".log").read_text().splitlines()]
    assert [c[c.index("--task") + 1] for c in calls] == ["total", "liver_lesions"]
    assert calls[0][calls[0].index("--roi_subset") + 1] == "liver"
    assert "--roi_subset" not in calls[1]
    assert program.with_suffix(".env").read_text() == f"{tmp_path} http://127.0.0.1:9"
    assert found.lesions
    truth = phantom.masks["liver"][found.labels.box.slices]
    assert (truth & (found.labels.tissue > 0)).sum() > 0.8 * truth.sum()


def test_without_a_tumour_task_there_are_no_lesions(
    programs: Path, tmp_path: Path, case: Case, baseline: Baseline
):
    write_program(programs / "TotalSegmentator", TOTAL)
    found = site_segmenter(total(tmp_path)).segment(case, baseline)
    assert found.lesions == ()


# ------------------------------------------------------------------ grids


def test_a_tilted_gantry_is_left_to_the_next(programs: Path, model: Path, case: Case, baseline: Baseline):
    from dataclasses import replace

    write_program(programs / NNUNET, LIVER_AND_TUMOUR)
    primary = baseline.primary
    affine = primary.grid.affine.copy()
    affine[1, 0] += 2.0
    tilted = replace(primary, grid=Grid(primary.grid.shape, affine, "1.2.3"))
    with pytest.raises(SegmentationMissing, match="gantry was tilted"):
        site_segmenter(nnunet(model)).segment(case, replace(baseline, volumes=(tilted,)))


def test_oblique_and_flipped_grids_come_back_in_place(tmp_path: Path):
    from inference.models.plugins.nifti import read_labels, write_volume

    angle = np.deg2rad(20.0)
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    for signs in ((1, 1, 1), (-1, 1, 1), (1, -1, -1)):
        affine = np.eye(4)
        axes = rotation * np.array([0.7, 0.8, 3.0]) * np.array(signs)
        affine[:3, :3] = axes[:, ::-1]
        affine[:3, 3] = (-120.3, 40.7, 812.5)
        grid = Grid((4, 5, 6), affine, "1.2.3")
        values = np.arange(120, dtype=np.float32).reshape(grid.shape)
        path = tmp_path / "a.nii"
        write_volume(values, grid, path)
        np.testing.assert_array_equal(read_labels(path, grid, "x"), values.astype(np.uint8))
