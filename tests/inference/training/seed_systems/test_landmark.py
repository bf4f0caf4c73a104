from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from inference.errors import TrainingDataError
from inference.training.cohort import Cohort, CohortInfo, Origin, Split
from inference.training.seed_systems.landmark import landmarked
from inference.training.seed_systems.outcomes import follow_up, objective_response, treated_with

_INFO = CohortInfo(name="table", origin=Origin.SIMULATED, modality="CT", phases=("arterial",), patients=6)


def _cohort() -> Cohort:
    patients = pd.DataFrame(
        {
            "patient_id": list("abcdef"),
            "split": ["train", "train", "train", "train", "train", "test"],
            "regimen_id": ["tace", "tace", "tace", "haic", "haic", "tace"],
            "os_months": [2.9, 3.0, 30.0, 3.1, None, 10.0],
            "os_event": [1, 0, 0, 1, None, 1],
        }
    )
    seen = [
        ("a", "tace", 1.0, 1, "CR"),
        ("c", "tace", 1.0, 1, "SD"),
        ("c", "tace", 6.0, 1, "PR"),
        ("c", "haic", 1.0, 0, "CR"),
        ("d", "haic", 3.0, 1, "PR"),
        ("f", "tace", 1.0, 1, "NE"),
    ]
    outcomes = pd.DataFrame(seen, columns=["patient_id", "regimen_id", "months", "observed", "mrecist"])
    return Cohort(Path(), _INFO, patients, outcomes)


def test_who_died_or_left_by_the_landmark_is_not_used_and_is_counted() -> None:
    found = landmarked(_cohort(), list("abcdef"), 3.0)
    assert found.ids == ("c", "d", "f")
    np.testing.assert_allclose(found.months, [27.0, 0.1, 7.0])
    assert found.event.tolist() == [False, True, True]
    assert (found.died, found.left, found.unknown) == (1, 1, 1)
    assert found.told()["used"] == 3


def test_response_after_the_landmark_is_not_known_at_the_landmark() -> None:
    cohort = _cohort()
    np.testing.assert_array_equal(landmarked(cohort, list("cdf"), 3.0).response, [0.0, 1.0, np.nan])
    # The best response of all is seen later; a counterfactual is never seen.
    np.testing.assert_array_equal(objective_response(cohort, list("cdf")), [1.0, 1.0, np.nan])
    np.testing.assert_array_equal(objective_response(cohort, ["b"]), [np.nan])


def test_follow_up_that_is_not_known_is_nan_in_both_parts() -> None:
    months, event = follow_up(_cohort(), ["e", "a"], "os")
    np.testing.assert_array_equal(months, [np.nan, 2.9])
    np.testing.assert_array_equal(event, [np.nan, 1.0])


def test_patients_are_chosen_by_regimen_and_split() -> None:
    cohort = _cohort()
    assert treated_with(cohort, ("tace",), Split.TRAIN) == ("a", "b", "c")
    assert treated_with(cohort, (), Split.TEST) == ("f",)
    assert treated_with(cohort, ("haic",), Split.TEST) == ()
    with pytest.raises(TrainingDataError, match="treated with nothing"):
        treated_with(cohort, ("nothing",), Split.TRAIN)
