from __future__ import annotations

import numpy as np
import pytest

from inference.models.survival.hazards import (
    HazardGrid,
    discrete_hazards,
    grid_of_events,
    log_likelihood,
    median_time,
    restricted_mean,
    survival_at,
)

GRID = HazardGrid(np.array([0.0, 2.0, 5.0, 10.0]))


def test_time_spent_in_intervals_adds_up_and_goes_on_beyond_the_last_node() -> None:
    exposure = GRID.exposure([0.0, 1.5, 2.0, 7.0, 25.0])

    np.testing.assert_allclose(exposure.sum(axis=1), [0.0, 1.5, 2.0, 7.0, 25.0])
    np.testing.assert_allclose(exposure[3], [2.0, 3.0, 2.0])
    np.testing.assert_allclose(exposure[4], [2.0, 3.0, 20.0])


def test_an_event_at_a_node_belongs_to_the_interval_that_ends_there() -> None:
    assert GRID.interval([0.0, 2.0, 2.1, 5.0, 10.0, 99.0]).tolist() == [0, 0, 1, 1, 2, 2]


def test_survival_is_exponential_within_an_interval() -> None:
    rates = np.log([0.1, 0.2, 0.05])

    found = survival_at(GRID, rates, [1.0, 3.0, 10.0])

    np.testing.assert_allclose(found, np.exp([-0.1, -0.4, -(0.2 + 0.6 + 0.25)]))
    products = np.cumprod(1.0 - discrete_hazards(GRID, rates))
    np.testing.assert_allclose(survival_at(GRID, rates, [2.0, 5.0, 10.0]), products)


def test_likelihood_of_a_constant_rate_is_that_of_the_exponential_distribution() -> None:
    time, event = np.array([0.5, 2.0, 4.0, 12.0]), np.array([True, False, True, False])

    found = log_likelihood(GRID, np.full((4, 3), np.log(0.3)), time, event)

    np.testing.assert_allclose(found, event * np.log(0.3) - 0.3 * time)


def test_grid_holds_the_wanted_nodes_and_about_as_many_events_between_them() -> None:
    rng = np.random.default_rng(0)
    time = rng.exponential(20.0, 500)

    grid = grid_of_events(time, np.ones(500, dtype=np.bool_), 20, (12.0, 24.0, 36.0, 1e6))

    assert {12.0, 24.0, 36.0} <= set(grid.nodes.tolist())
    assert 20 <= len(grid) <= 23
    assert np.bincount(grid.interval(time)).max() <= 27


def test_few_events_make_few_intervals() -> None:
    event = np.zeros(50, dtype=np.bool_)
    event[:6] = True

    assert len(grid_of_events(np.arange(1.0, 51.0), event, 40)) == 3


def test_median_and_restricted_mean_of_a_straight_line() -> None:
    times = np.array([0.0, 10.0, 40.0])
    survival = np.array([1.0, 0.75, 0.0])

    assert median_time(times, survival) == pytest.approx(20.0)
    assert median_time(times, np.array([1.0, 0.9, 0.6])) is None
    assert restricted_mean(times, survival, 40.0) == pytest.approx(8.75 + 11.25)
    assert restricted_mean(times[:2], survival[:2], 36.0) is None


@pytest.mark.parametrize("nodes", [[0.0], [1.0, 2.0], [0.0, 2.0, 2.0]])
def test_a_grid_that_does_not_rise_from_0_is_refused(nodes: list[float]) -> None:
    with pytest.raises(ValueError, match="rising nodes"):
        HazardGrid(np.array(nodes))
