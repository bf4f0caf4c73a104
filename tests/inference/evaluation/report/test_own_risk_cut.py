from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from inference.evaluation.predictions.models import Arm, EndPoint, ModelEntry
from inference.evaluation.report.curves import OWN_CUT, Cuts, cuts_of
from inference.evaluation.report.plan import EvaluationPlan

RISKS = np.linspace(0.0, 1.0, 40)
NONE = np.zeros(0)


def test_the_cut_that_a_model_brings_is_used() -> None:
    assert cuts_of(RISKS, NONE, EvaluationPlan(), 0.9) == Cuts((0.9,), OWN_CUT)


def test_without_one_or_with_three_groups_cuts_are_quantiles() -> None:
    assert cuts_of(RISKS, NONE, EvaluationPlan()).values == pytest.approx((0.5,))
    three = cuts_of(RISKS, NONE, EvaluationPlan(risk_groups=3), 0.9)
    assert three.values == pytest.approx((1 / 3, 2 / 3))
    assert three.source == "40 validation patients"


def test_a_cut_belongs_to_one_survival_end_point() -> None:
    def entry(*ends: EndPoint) -> ModelEntry:
        return ModelEntry(name="m", title="M", arm=Arm.OTHER, end_points=ends, risk_cut=0.1)

    assert entry(EndPoint.OS, EndPoint.RESPONSE).risk_cut == 0.1
    with pytest.raises(ValidationError, match="one survival end point"):
        entry(EndPoint.OS, EndPoint.PFS)
