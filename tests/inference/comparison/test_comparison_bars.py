"""The bars of the comparison on a part of the benchmark; `hepatocast comparison benchmark` has all of it."""

from __future__ import annotations

import pytest

from inference.comparison.benchmark import scores_of, summarise, tasks_of
from inference.comparison.confidence import load_confidence_map
from inference.comparison.rule import ComparisonRule

REPLICATES = 20


@pytest.mark.slow
def test_recommendations_are_rare_where_nothing_differs_and_right_where_effects_do():
    """Limits are the bars less two standard errors of so few cohorts: .95 for PPV, .5 for sensitivity."""
    tasks = tasks_of(
        ("no_difference", "heterogeneous"), REPLICATES, 2, ComparisonRule(), load_confidence_map()
    )
    null, heterogeneous = summarise(list(scores_of(tasks, 1)))
    assert null.recommended.estimate <= 0.02 + 2 * null.recommended.standard_error
    assert heterogeneous.ppv.estimate >= 0.95 - 2 * heterogeneous.ppv.standard_error
    assert heterogeneous.sensitivity.estimate >= 0.5 - 2 * heterogeneous.sensitivity.standard_error
    assert heterogeneous.recommended.estimate > 0.2
