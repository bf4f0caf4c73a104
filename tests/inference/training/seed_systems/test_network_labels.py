"""Outcomes of networks as zeros and ones, the landmark, and who is kept aside."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from inference.models.second_opinions.links import ScaledOn, SurvivalLink
from inference.training.seed_systems.figures import Scored, auc_figures, fit_link
from inference.training.seed_systems.labels import after_landmark, held_out, progression, survival_of


class _Outcomes:
    """As much of a cohort as the labels look at."""

    def __init__(self, rows: list[tuple[str, float, int, str]]) -> None:
        self.outcomes = pd.DataFrame(rows, columns=["patient_id", "months", "observed", "mrecist"])


def test_progression_counts_only_the_treatment_that_was_given_and_the_time_asked_for() -> None:
    cohort = _Outcomes(
        [
            ("progressed", 3, 1, "PD"),
            ("later", 3, 1, "SD"),
            ("later", 9, 1, "PD"),
            ("elsewhere", 3, 1, "PR"),
            ("elsewhere", 3, 0, "PD"),
            ("seen once", 1, 1, "SD"),
            ("not evaluable", 3, 1, "NE"),
        ]
    )
    ids = ["progressed", "later", "elsewhere", "seen once", "not evaluable", "unknown"]
    found = progression(cohort, ids, 6.0)
    np.testing.assert_array_equal(found, [1, 0, 0, np.nan, np.nan, np.nan])
    assert progression(cohort, ["later"], 12.0)[0] == 1


def test_patients_of_known_outcome_stand_for_those_who_left() -> None:
    """One of four left at 6 months with three beside her: each of those counts 4/3 from then on."""
    months, event = np.array([3.0, 6.0, 9.0, 20.0, 30.0]), np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    found = survival_of(months, event)
    np.testing.assert_array_equal(found.value, [0, np.nan, 0, 1, 1])
    np.testing.assert_allclose(found.weight, [1, 0, 4 / 3, 4 / 3, 4 / 3])
    assert found.weight.sum() == pytest.approx(len(months))


def test_survival_of_nobody_known() -> None:
    found = survival_of(np.array([np.nan, 2.0]), np.array([np.nan, 0.0]))
    assert not found.known.any()
    assert not found.weight.any()


def test_landmark_leaves_out_the_dead_and_those_who_left() -> None:
    months = np.array([2.0, 3.0, 3.1, np.nan])
    assert after_landmark(months, 3.0).tolist() == [False, False, True, False]
    assert after_landmark(months, 0.0).tolist() == [True, True, True, False]


def test_kept_aside_are_as_many_of_each_outcome_or_nobody() -> None:
    value = np.array([1.0] * 20 + [0.0] * 40 + [np.nan] * 5)
    held = held_out(value, 0.25, 3, np.random.default_rng(0))
    assert (held[:20].sum(), held[20:60].sum(), held[60:].sum()) == (5, 10, 0)
    assert not held_out(value[:30], 0.25, 3, np.random.default_rng(0)).any()


def test_figures_are_those_of_pairs() -> None:
    """Of six pairs of a patient with and one without, five are in order."""
    outcome = np.array([1.0, 1.0, 0.0, 0.0, 0.0, np.nan])
    found = auc_figures(outcome, np.array([0.9, 0.4, 0.5, 0.2, 0.1, 0.0]))
    assert found["auc"] == pytest.approx(5 / 6, abs=1e-4)
    assert found["n"] == 5
    assert found["outcomes"] == 2
    assert auc_figures(outcome[1:], np.zeros(5)) == {"n": 4.0, "outcomes": 1.0}


def scored(score: float, months: list[float], event: float) -> Scored:
    return np.full(len(months), score), np.array(months), np.full(len(months), event)


def test_link_without_effect_is_the_hazard_of_all() -> None:
    """Five patients of equal score who die: Breslow's hazard grows by 1/5, 1/4, ... at each death."""
    link = fit_link([scored(0.0, [1, 2], 1.0), scored(0.0, [3, 4, 5], 1.0)], scored(9.0, [1, 1, 1], 0.0))
    assert link is not None
    assert link.scaled_on is ScaledOn.KEPT_ASIDE
    np.testing.assert_allclose(link.hazard, np.cumsum([1 / 5, 1 / 4, 1 / 3, 1 / 2, 1]))
    found = link.survival(np.zeros(1), np.array([0.5, 2.0]))
    np.testing.assert_allclose(found, [[1.0, np.exp(-0.45)]])


def test_link_says_where_too_few_were_kept_aside() -> None:
    link = fit_link([scored(0.0, [1, 2], 1.0)], scored(1.0, [3, 4], 1.0))
    assert link is not None
    assert (link.scaled_on, link.patients, link.events) == (ScaledOn.EVERYBODY, 4, 4)
    assert link.beta < 0, "the higher score lived longer"
    assert fit_link([scored(0.0, [1, 2], 0.0)], scored(1.0, [3], 0.0)) is None


def test_link_is_a_hazard_ratio() -> None:
    link = SurvivalLink(mean=1.0, sd=2.0, beta=np.log(3.0), times=(4.0,), hazard=(0.1,), patients=9, events=5)
    survival = link.survival(np.array([1.0, 3.0, -1.0]), np.array([3.0, 5.0]))
    np.testing.assert_allclose(survival[:, 0], 1.0)
    np.testing.assert_allclose(-np.log(survival[:, 1]), [0.1, 0.3, 0.1 / 3])
