"""Division of a cohort by centre, with whole centres kept as external sets, on disk."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from inference.errors import TrainingDataError
from inference.training.cohort import OUTCOME_COLUMNS, Cohort, CohortInfo, Origin, Split, write_tables
from inference.training.cohort_split import SplitSettings, divide, external_sets, write_split


@pytest.fixture
def patients():
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "patient_id": [f"P{k:03d}" for k in range(300)],
            "centre": rng.choice(["east", "south", "far north"], size=300, p=[0.5, 0.3, 0.2]),
            "regimen_id": rng.choice(["tace", "haic"], size=300),
        }
    )


def test_centres_are_divided_70_to_30(patients):
    found = divide(patients, SplitSettings(seed=1))
    for _, rows in patients.groupby("centre"):
        counts = Counter(found[p] for p in rows["patient_id"])
        assert abs(counts["test"] - 0.3 * len(rows)) <= 1.5
    assert found == divide(patients.sample(frac=1, random_state=1), SplitSettings(seed=1))
    assert found != divide(patients, SplitSettings(seed=2))


def test_a_whole_centre_can_be_external(patients):
    found = divide(patients, SplitSettings(seed=1), ["far north"])
    north = patients.loc[patients.centre == "far north", "patient_id"]
    assert {found[p] for p in north} == {"external-far_north"}
    assert set(found.values()) == {"train", "validation", "test", "external-far_north"}


def test_what_cannot_be_divided_is_refused(patients):
    with pytest.raises(TrainingDataError, match="no patient comes from the centre west"):
        divide(patients, SplitSettings(), ["west"])
    with pytest.raises(TrainingDataError, match="lack the column centre"):
        divide(patients.drop(columns="centre"), SplitSettings())
    with pytest.raises(TrainingDataError, match="there twice"):
        divide(pd.concat([patients, patients.head(1)]), SplitSettings())


@pytest.fixture
def cohort(patients, tmp_path):
    rows = patients.assign(
        split="train",
        baseline_viable_ml=10.0,
        baseline_total_ml=10.0,
        liver_ml=1500.0,
        os_months=12.0,
        os_event=1,
        pfs_months=6.0,
        pfs_event=1,
    )
    outcomes = pd.DataFrame({"patient_id": ["P000", "P001"]}, columns=list(OUTCOME_COLUMNS))
    info = CohortInfo(
        name="three centres", origin=Origin.REAL, modality="CT", phases=("arterial",), patients=len(rows)
    )
    return write_tables(tmp_path, info, rows, outcomes)


def test_all_that_opens_a_divided_cohort_goes_by_the_division(cohort):
    found = write_split(cohort, SplitSettings(seed=1), ["far north"])
    again = Cohort.open(cohort.folder)
    expected = divide(cohort.patients, SplitSettings(seed=1), ["far north"])
    assert dict(zip(again.patients["patient_id"], again.patients["split"], strict=True)) == expected
    assert set(again.ids(*Split)) == {p for p, s in expected.items() if not s.startswith("external")}
    # Whoever was trained under the former division may have seen the present test patients.
    assert again.info.sha256 == found.info.sha256 != cohort.info.sha256
    assert write_split(again, SplitSettings(seed=1), ["far north"]).info.sha256 == found.info.sha256


def test_an_external_centre_is_a_set_of_its_own(cohort):
    (north,) = external_sets(write_split(cohort, SplitSettings(seed=1), ["far north"]))
    assert set(north.patients["centre"]) == {"far north"}
    assert set(north.ids(Split.TEST)) == set(cohort.patients.query("centre == 'far north'")["patient_id"])
    assert north.info.name == "three centres far_north"
    assert north.info.sha256 != Cohort.open(cohort.folder).info.sha256
    assert set(north.outcomes["patient_id"]) <= set(north.patients["patient_id"])
    assert external_sets(cohort) == ()


@pytest.mark.parametrize("text", ["patient_id,split\nP000,train\n", "patient,split\nP000,train\n"])
def test_a_division_that_does_not_name_everybody_is_refused(cohort, text):
    (cohort.folder / "split.csv").write_text(text, encoding="utf-8")
    with pytest.raises(TrainingDataError, match="split.csv"):
        Cohort.open(cohort.folder)
