from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inference.errors import TrainingDataError
from inference.models.lasso_cox import LassoCox
from inference.training.cohort import Cohort, Split
from inference.training.radiomics_cox import (
    RadiomicsCoxTraining,
    outcomes_of,
    radiomics_table,
    train_radiomics_cox,
)
from tests.builders.small_cohorts import small_cohort


def _quiet(text: str, share: float) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    found = small_cohort(tmp_path_factory.mktemp("cohort"), 15)
    patients = found.patients.copy()
    patients.loc[patients["split"] == "test", "split"] = "validation"
    return replace(found, patients=patients)


def test_a_bundle_is_fitted_and_measured_on_patients_that_chose_nothing(
    cohort: Cohort, tmp_path: Path
) -> None:
    metadata = train_radiomics_cox(
        cohort, tmp_path / "out", tmp_path / "work", RadiomicsCoxTraining(), _quiet
    )
    model = LassoCox.read(tmp_path / "out")
    assert metadata["chosen"] == list(model.file.names)
    assert metadata["trained_on"].startswith("simulated: small 0, n=9")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "work").glob("*.npz")}
    assert len(before) == 15
    again = train_radiomics_cox(cohort, tmp_path / "again", tmp_path / "work", RadiomicsCoxTraining(), _quiet)
    assert again == metadata
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "work").glob("*.npz")} == before


def test_the_table_is_in_the_order_that_was_asked_for(cohort: Cohort, tmp_path: Path) -> None:
    ids = cohort.ids(Split.TRAIN)[:2]
    straight = radiomics_table(cohort, ids, tmp_path, _quiet)
    turned = radiomics_table(cohort, ids[::-1], tmp_path, _quiet)
    assert np.array_equal(straight.values, turned.values[::-1], equal_nan=True)
    time, event = outcomes_of(cohort, ids[::-1], "os")
    assert time.tolist() == [cohort.row(p)["os_months"] for p in ids[::-1]]
    assert event.tolist() == [bool(cohort.row(p)["os_event"]) for p in ids[::-1]]
    with pytest.raises(TrainingDataError, match="end point"):
        outcomes_of(cohort, ids, "response")
    other = replace(cohort, info=cohort.info.model_copy(update={"sha256": "other"}))
    with pytest.raises(TrainingDataError, match="another cohort"):
        radiomics_table(other, ids, tmp_path, _quiet)
