"""Follow-ups that the simulator draws again: the same patient, another luck."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dicom_node.settings import load_settings
from inference.errors import TrainingDataError
from inference.evaluation.adapters import REDRAW_COLUMNS, Redraws
from inference.evaluation.redraws import other_luck, write_redraws
from inference.randomness import RandomStreams
from inference.results import Box
from inference.simulation.cohort import write_cohort
from inference.simulation.cohort_patient import Request, assignment
from inference.simulation.course import MONTHS
from inference.simulation.tumours import Disease, Lesion, Seed
from inference.training.cohort import Cohort
from tests.builders.small_cohorts import small_cohort


def quiet(_text: str, _share: float) -> None:
    return None


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """One patient of the shifted simulator, where every patient is a test patient."""
    names = {assignment(0, 3)[1], "tace", "haic"}
    regimens = tuple(r for r in load_settings().regimens if r.id in names)
    request = Request(seed=3, shifted=True, regimens=regimens)
    return write_cohort(request, 1, tmp_path_factory.mktemp("simulated"), 1, quiet)


@pytest.fixture(scope="module")
def redraws(cohort: Cohort) -> pd.DataFrame:
    return pd.read_csv(write_redraws(cohort.folder, 6, 1, quiet))


@pytest.mark.slow
def test_imaged_regimens_are_drawn_again_at_every_month(cohort: Cohort, redraws: pd.DataFrame) -> None:
    assert tuple(redraws.columns) == REDRAW_COLUMNS
    imaged = cohort.outcomes[cohort.outcomes["imaged"] == 1]
    assert set(redraws["regimen_id"]) == set(imaged["regimen_id"])
    counts = redraws.groupby(["regimen_id", "months"])["draw"].nunique()
    assert set(counts) == {6}
    assert set(redraws["months"]) == set(MONTHS)


@pytest.mark.slow
def test_draws_differ_and_lie_about_what_happened(cohort: Cohort, redraws: pd.DataFrame) -> None:
    row = cohort.patients.iloc[0]
    mine = redraws[(redraws["regimen_id"] == row["regimen_id"]) & (redraws["months"] == 6.0)]["viable_ml"]
    assert mine.std() > 0.0
    truth = cohort.outcomes.set_index(["regimen_id", "months"])["viable_ml"][row["regimen_id"], 6.0]
    spread = np.log(mine + 1.0)
    assert abs(np.log(truth + 1.0) - spread.mean()) < 4.0 * spread.std() + 0.7


@pytest.mark.slow
def test_the_oracle_reads_them_and_a_second_run_gives_the_same(cohort: Cohort, redraws: pd.DataFrame) -> None:
    assert Redraws.of(cohort.folder) is not None
    pd.testing.assert_frame_equal(pd.read_csv(write_redraws(cohort.folder, 6, 1, quiet)), redraws)


def test_a_cohort_that_was_not_simulated_is_refused(tmp_path: Path) -> None:
    folder = small_cohort(tmp_path, patients=5).folder
    with pytest.raises(TrainingDataError, match="no cohort of the simulator"):
        write_redraws(folder, 2, 1, quiet)
    request = Request(seed=0, regimens=()).model_dump_json()
    digest = Request(seed=0, regimens=()).parameters_sha256
    (folder / "request.json").write_text(request.replace(digest, "0" * 64), encoding="utf-8")
    with pytest.raises(TrainingDataError, match="other parameters"):
        write_redraws(folder, 2, 1, quiet)


def test_tumours_stay_and_luck_is_another() -> None:
    nothing = np.zeros((2, 2, 2), dtype=np.float32)
    box = Box((0, 0, 0), (2, 2, 2))
    lesion = Lesion(
        1,
        box,
        nothing + 1,
        nothing > -1,
        nothing,
        nothing,
        nothing,
        nothing,
        speed=1.0,
        diameter_mm=40.0,
        luck=0.5,
    )
    seeds = tuple(Seed(k, float(k), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 4.0) for k in (1, 2, 3))
    disease = Disease(2.25, nothing > -1, (lesion,), None, seeds)
    again = other_luck(disease, RandomStreams(0).derive("x"))
    assert again.lesions[0].luck != 0.5
    assert again.lesions[0].depth is lesion.depth
    arrivals = [s.threshold for s in again.seeds]
    assert arrivals == sorted(arrivals)
    assert arrivals != [1.0, 2.0, 3.0]
    assert [s.number for s in again.seeds] == [1, 2, 3]


@pytest.mark.slow
def test_a_cohort_of_another_simulator_is_refused(cohort: Cohort, tmp_path: Path) -> None:
    text = (cohort.folder / "request.json").read_text(encoding="utf-8")
    for name in ("cohort.json", "patients.csv", "outcomes.csv"):
        (tmp_path / name).write_bytes((cohort.folder / name).read_bytes())
    (tmp_path / "request.json").write_text(text, encoding="utf-8")
    patients = pd.read_csv(tmp_path / "patients.csv")
    patients["baseline_viable_ml"] += 5.0
    patients.to_csv(tmp_path / "patients.csv", index=False)
    with pytest.raises(TrainingDataError, match="not what this version"):
        write_redraws(tmp_path, 2, 1, quiet)
