from __future__ import annotations

import datetime as dt
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from inference.imaging.reading import read_case
from inference.models.seg_in_study import SegInStudy
from inference.provenance import is_made_here
from inference.results import Tissue
from inference.settings import SegmentationLimits
from inference.simulation.dicom_study import write_study
from inference.simulation.patient import PatientSpec, SimulatedPatient, simulate_patient
from inference.stages.load import load
from inference.stages.segment import segment
from inference.stages.selection import select

SMALL = PatientSpec(shape=(24, 88, 88), step_mm=(7.5, 4.2, 4.2))
WHEN = dt.datetime(2026, 1, 5, 9, 30, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def patient() -> SimulatedPatient:
    return simulate_patient(3, SMALL)


@pytest.fixture(scope="module")
def study(patient, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_study(patient, folder, WHEN)
    return folder


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.dcm"))


def test_same_patient_at_the_same_time_is_the_same_bytes(patient, study, tmp_path) -> None:
    write_study(patient, tmp_path, WHEN)
    assert [p.relative_to(study) for p in files(study)] == [p.relative_to(tmp_path) for p in files(tmp_path)]
    for one, two in zip(files(study), files(tmp_path), strict=True):
        assert one.read_bytes() == two.read_bytes()


def test_objects_are_one_study_of_a_person_who_is_not_real(study) -> None:
    headers = [pydicom.dcmread(p, stop_before_pixels=True) for p in files(study)]
    assert len(headers) == 2 * SMALL.shape[0] + 1
    assert len({h.SOPInstanceUID for h in headers}) == len(headers)
    assert len({h.StudyInstanceUID for h in headers}) == 1
    assert len({h.FrameOfReferenceUID for h in headers}) == 1
    assert {str(h.PatientName) for h in headers} == {"SIMULATED^PATIENT"}
    assert {h.PatientID for h in headers} == {"SIM-3"}
    assert not any(is_made_here(h) for h in headers)


def test_pipeline_reads_back_voxels_and_masks(patient, study) -> None:
    case = read_case(study)
    baseline = load(select(case))
    assert {v.phase for v in baseline.volumes} == set(SMALL.phases)
    for volume in baseline.volumes:
        assert np.array_equal(volume.values(), patient.volumes[volume.phase])
        assert np.allclose(volume.grid.affine, patient.affine, atol=1e-3)
    baseline, found = segment(case, baseline, SegInStudy(), SegmentationLimits())
    labels = np.zeros(patient.liver.shape, np.uint8)
    lesion = np.zeros_like(labels)
    labels[found.labels.box.slices] = found.labels.tissue
    lesion[found.labels.box.slices] = found.labels.lesion
    assert np.array_equal(labels > 0, patient.liver)
    assert np.array_equal(lesion > 0, patient.tumour > 0)
    assert np.array_equal(labels == Tissue.NECROSIS, patient.core)


def test_objects_are_valid(study, needs_judge) -> None:
    dciodvfy = needs_judge("dciodvfy")
    for name in ("arterial/0001.dcm", "portal_venous/0015.dcm", "seg.dcm"):
        said = subprocess.run([dciodvfy, str(study / name)], capture_output=True, text=True, check=False)
        assert "Error" not in said.stderr + said.stdout, said.stderr
        assert said.returncode == 0


@pytest.mark.benchmark
def test_demonstration_patient_is_simulated_and_written_in_15_seconds(tmp_path) -> None:
    import time

    started = time.perf_counter()
    write_study(simulate_patient(0), tmp_path, WHEN)
    assert time.perf_counter() - started < 15.0
