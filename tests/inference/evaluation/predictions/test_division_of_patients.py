"""Division of a cohort by centre, with whole centres kept as external sets."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from inference.errors import PredictionsError
from inference.evaluation.predictions.division import divide
from inference.training.site_splits import SplitSettings


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
    with pytest.raises(PredictionsError, match="no patient comes from the centre west"):
        divide(patients, SplitSettings(), ["west"])
    with pytest.raises(PredictionsError, match="lack the column centre"):
        divide(patients.drop(columns="centre"), SplitSettings())
    with pytest.raises(PredictionsError, match="there twice"):
        divide(pd.concat([patients, patients.head(1)]), SplitSettings())
