"""Clinical variables as numbers for the networks of second opinions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from inference.case import ClinicalRecord, ClinicalValue
from inference.clinical.scores import albi
from inference.models.second_opinions.clinical_inputs import (
    DELICAITE_VARIABLES,
    SELECTION_VARIABLES,
    ClinicalScale,
    raw_values,
)


def record(**values: float | str | bool) -> ClinicalRecord:
    return ClinicalRecord({k: ClinicalValue(k, v) for k, v in values.items()})


def test_selection_takes_twenty_variables() -> None:
    assert len(set(SELECTION_VARIABLES)) == 20
    assert len(set(DELICAITE_VARIABLES)) == len(DELICAITE_VARIABLES) == 23


def test_words_and_answers_become_numbers_in_the_order_of_the_table() -> None:
    given = record(bclc_stage="C", hepatitis_b=True, metastasis=False, ascites="slight", afp=math.e - 1)
    names = ("bclc_stage", "hepatitis_b", "metastasis", "ascites", "afp", "age")
    np.testing.assert_allclose(raw_values(given, names), [3, 1, 0, 1, 1, np.nan])


def test_scores_are_computed_where_their_parts_are_given() -> None:
    given = record(albumin=38.0, bilirubin=20.0)
    assert raw_values(given, ("albi",))[0] == pytest.approx(albi(38.0, 20.0))
    assert math.isnan(raw_values(record(albumin=38.0), ("albi",))[0])
    parts = record(albumin=38.0, bilirubin=20.0, inr=1.1, ascites="none", encephalopathy="none")
    assert raw_values(parts, ("child_pugh_score",)) == [5.0]


def test_scale_is_that_of_the_training_patients() -> None:
    scale = ClinicalScale.of([record(age=50.0), record(age=70.0), record()], ("age", "inr"))
    value, known = scale.apply(record(age=80.0))
    np.testing.assert_allclose(value, [2.0, 0.0])
    assert known.tolist() == [True, False]
    far, _known = scale.apply(record(age=1000.0))
    assert far[0] == 5.0


def test_unknown_variable_is_refused() -> None:
    with pytest.raises(ValueError, match="shoe_size"):
        ClinicalScale(names=("shoe_size",), mean=(0.0,), sd=(1.0,))
