"""The simulated cohort: one patient in its parts, files that can be taken up again, studies as DICOM."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicom_node.settings import load_settings
from inference.errors import TrainingDataError
from inference.simulation.cohort import write_cohort
from inference.simulation.cohort_dicom import COLUMNS, StudyGrid, write_studies
from inference.simulation.cohort_patient import (
    ARMS,
    Kind,
    Request,
    SimulatedPatient,
    assignment,
    imaged_follow_ups,
    patient_row,
    simulate,
)
from inference.simulation.parameters import load_parameters
from inference.training.cohort import OUTCOME_COLUMNS, PATIENT_COLUMNS, Cohort, Split
from inference.training.site_table import read_site_table

SMALL = StudyGrid(shape=(28, 60, 76), step_mm=(8.0, 5.5, 5.5))


def quiet(text: str, share: float) -> None:
    """Show no progress."""


@pytest.fixture(scope="module")
def request_ct() -> Request:
    """A request of few regimens, among them those that the first two patients had."""
    names = {assignment(n, 5)[1] for n in (0, 1)} | {"tace", "haic", "tace_lenvatinib"}
    return Request(seed=5, regimens=tuple(r for r in load_settings().regimens if r.id in names))


@pytest.fixture(scope="module")
def cohort(request_ct: Request, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return write_cohort(request_ct, 1, tmp_path_factory.mktemp("cohort"), 1, quiet)


@pytest.fixture(scope="module")
def patient(request_ct: Request) -> SimulatedPatient:
    return simulate(0, request_ct, load_parameters())


def test_patients_are_assigned_in_balanced_blocks() -> None:
    given = [assignment(n, 3) for n in range(10 * len(ARMS))]
    arms = [(source, regimen) for source, regimen, _ in given]
    assert {arms.count(arm) for arm in ARMS} == {10}
    splits = [split for _, _, split in given[:100]]
    assert (splits.count(Split.TRAIN), splits.count(Split.VALIDATION), splits.count(Split.TEST)) == (
        70,
        10,
        20,
    )


def test_a_test_patient_is_imaged_under_two_regimens_at_one_month() -> None:
    names = ("tace", "haic", "tace_systemic")
    for seed in range(20):
        seen = imaged_follow_ups("haic", names, Split.TEST, np.random.default_rng(seed))
        assert seen[0][0] == "haic"
        assert seen[1][0] != "haic"
        assert seen[0][1] == seen[1][1]


def test_the_cohort_is_in_the_form_that_training_reads(cohort: Cohort, request_ct: Request) -> None:
    assert set(PATIENT_COLUMNS) <= set(cohort.patients.columns)
    assert set(OUTCOME_COLUMNS) <= set(cohort.outcomes.columns)
    assert len(cohort.outcomes) == 5 * len(request_ct.regimens)
    assert set(cohort.outcomes["regimen_id"]) == {r.id for r in request_ct.regimens}
    assert cohort.info.note.endswith(request_ct.parameters_sha256[:16])


def test_images_hold_the_volumes_of_the_table(cohort: Cohort) -> None:
    row = cohort.patients.iloc[0]
    seen = cohort.images(row["patient_id"])
    voxel_ml = cohort.info.spacing_mm**3 / 1000.0
    viable = seen.fractions[0].sum() / 255.0 * voxel_ml
    assert viable == pytest.approx(row["baseline_viable_ml"], rel=0.05, abs=0.3)
    table = cohort.outcomes.set_index(["regimen_id", "months"])
    assert len(seen.follow_ups) == 3
    for later in seen.follow_ups:
        wanted = table.loc[(later.regimen_id, later.months)]
        assert wanted["imaged"] == 1
        assert later.fractions[0].sum() / 255.0 * voxel_ml == pytest.approx(
            wanted["viable_ml"], rel=0.05, abs=0.5
        )
        # Outside the liver a noise-free follow-up is the noise-free baseline.
        assert seen.clean is not None
        assert np.array_equal(later.images[:, seen.liver == 0], seen.clean[:, seen.liver == 0])


def test_a_patient_that_is_there_is_not_made_again(cohort: Cohort, request_ct: Request) -> None:
    image = next((cohort.folder / "images").iterdir())
    before = image.stat().st_mtime_ns
    assert write_cohort(request_ct, 1, cohort.folder, 1, quiet).info == cohort.info
    assert image.stat().st_mtime_ns == before


def test_a_folder_keeps_to_its_request(cohort: Cohort, request_ct: Request) -> None:
    other = request_ct.model_copy(update={"seed": 6})
    with pytest.raises(TrainingDataError, match="another folder"):
        write_cohort(other, 1, cohort.folder, 1, quiet)


def test_counterfactuals_share_the_patient_and_differ_by_treatment(patient: SimulatedPatient) -> None:
    first = {name: course[0].viable_ml for name, course in patient.courses.items()}
    assert len(set(first.values())) == len(first)
    assert all(volume <= 1.3 * patient.baseline.viable_ml + 5.0 for volume in first.values())


def test_studies_are_a_site_archive(patient: SimulatedPatient, request_ct: Request, tmp_path: Path) -> None:
    regimens = {r.id: r for r in request_ct.regimens}
    patient = replace(patient, imaged=patient.imaged[:2])
    rows = write_studies(patient, patient_row(patient, regimens), request_ct, tmp_path, SMALL)
    table = tmp_path / "studies.csv"
    lines = [",".join(COLUMNS), *(",".join(str(r.get(c, "")) for c in COLUMNS) for r in rows)]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    (read,) = read_site_table(table, tuple(regimens))
    assert read.regimen_id == patient.regimen_id
    assert [s.study_instance_uid for s in read.studies] == [r["study_instance_uid"] for r in rows]
    archive = {
        pydicom.dcmread(p, stop_before_pixels=True).StudyInstanceUID
        for p in (tmp_path / "archive").rglob("*.dcm")
    }
    assert archive == {r["study_instance_uid"] for r in rows}
    assert len(list((tmp_path / "counterfactual").rglob("seg.dcm"))) == len(patient.imaged) - 1


@pytest.mark.slow
def test_processes_and_interruptions_change_nothing(
    cohort: Cohort, request_ct: Request, tmp_path: Path
) -> None:
    done = write_cohort(request_ct, 2, tmp_path / "whole", 2, quiet)
    shutil.copytree(cohort.folder, tmp_path / "begun")
    (tmp_path / "begun" / "images" / "S00001.npz").write_bytes(b"cut off")
    assert write_cohort(request_ct, 2, tmp_path / "begun", 1, quiet).info == done.info


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_the_same_dicom_patient_is_the_same_bytes(modality: str, tmp_path: Path) -> None:
    order = Request(
        seed=9, modality=modality, kind=Kind.DICOM, months=(3.0,), regimens=load_settings().regimens
    )
    for folder in ("a", "b"):
        made = simulate(0, order, load_parameters())
        row = patient_row(made, {r.id: r for r in order.regimens})
        write_studies(made, row, order, tmp_path / folder, SMALL)
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert len(files) == 2 * (len(made.acquired.protocols) * SMALL.shape[0] + 1)
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
