from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from inference.errors import TrainingDataError
from inference.training.cohort import (
    NO_VALUE,
    OUTCOME_COLUMNS,
    PATIENT_COLUMNS,
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

_SHAPE = (6, 7, 8)


def _patient(name: str, seed: int) -> PatientImages:
    rng = np.random.default_rng(seed)
    images = rng.integers(-1000, 300, (2, *_SHAPE)).astype(np.int16)
    images[1, 0] = NO_VALUE
    fractions = rng.integers(0, 255, (3, *_SHAPE)).astype(np.uint8)
    lesion = rng.integers(0, 3, _SHAPE).astype(np.uint8)
    seen = images.copy()
    seen[0, 2] = 40
    return PatientImages(
        name,
        images,
        None,
        rng.integers(0, 255, _SHAPE).astype(np.uint8),
        fractions,
        lesion,
        (FollowUpImages("tace", 3.0, seen, fractions // 2, lesion),),
    )


def _write(folder: Path) -> Cohort:
    for k in range(3):
        write_images(folder, _patient(f"P{k}", k))
    splits = ["train", "validation", "test"]
    patients = pd.DataFrame(
        [dict.fromkeys(PATIENT_COLUMNS, 0) | {"patient_id": f"P{k}", "split": splits[k]} for k in range(3)]
    )
    outcomes = pd.DataFrame([dict.fromkeys(OUTCOME_COLUMNS, 0) | {"patient_id": "P0"}])
    info = CohortInfo(
        name="made up",
        origin=Origin.SIMULATED,
        modality="CT",
        phases=("arterial", "portal_venous"),
        patients=3,
    )
    return write_tables(folder, info, patients, outcomes)


def test_images_come_back_as_they_were_written(tmp_path: Path) -> None:
    cohort = _write(tmp_path)
    assert cohort.ids(Split.TRAIN, Split.TEST) == ("P0", "P2")
    assert cohort.ids(Split.VALIDATION) == ("P1",)
    wanted, got = _patient("P1", 1), cohort.images("P1")
    assert np.array_equal(got.images, wanted.images)
    assert np.array_equal(got.follow_ups[0].images, wanted.follow_ups[0].images)
    assert np.array_equal(got.follow_ups[0].fractions, wanted.follow_ups[0].fractions)
    assert (got.follow_ups[0].regimen_id, got.follow_ups[0].months) == ("tace", 3.0)


def test_the_same_arrays_give_the_same_bytes_and_digest(tmp_path: Path) -> None:
    first, second = _write(tmp_path / "a"), _write(tmp_path / "b")
    assert first.info.sha256 == second.info.sha256 == cohort_digest(first.folder)
    data = (tmp_path / "a" / "images" / "P0.npz").read_bytes()
    assert data == (tmp_path / "b" / "images" / "P0.npz").read_bytes()


def test_a_damaged_cohort_is_refused_without_naming_a_patient(tmp_path: Path) -> None:
    cohort = _write(tmp_path)
    path = tmp_path / "images" / "P2.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(TrainingDataError) as refused:
        cohort.images("P2")
    assert "P2" not in str(refused.value)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    _write(tmp_path)
    table = pd.read_csv(tmp_path / "patients.csv").drop(columns=["split"])
    table.to_csv(tmp_path / "patients.csv", index=False)
    with pytest.raises(TrainingDataError, match="split"):
        Cohort.open(tmp_path)
