from __future__ import annotations

import numpy as np

from inference.evaluation.splits import stratified_folds
from inference.models.survival.hazards import HazardGrid, grid_of_events
from inference.training.cox_fit import fit_cox
from inference.training.survival.linear import Outcomes, choose_penalties, fit_linear, loss
from tests.builders.survival_rows import censored


def _data(patients: int, effect: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(patients, 4))
    time, event = censored(effect * (x[:, 0] - 0.5 * x[:, 1]), rng)
    return x, time, event


def test_a_node_at_every_event_gives_the_coefficients_of_the_cox_model() -> None:
    x, time, _ = _data(150, 0.8)
    # Nobody is censored: those who are count for a part of an interval here, and not at all there.
    event = np.ones(150, dtype=np.bool_)
    grid = HazardGrid(np.concatenate(([0.0], np.unique(time))))

    ours = fit_linear(x, Outcomes.on(grid, time, event), np.full(4, 3.0)).beta

    np.testing.assert_allclose(ours, fit_cox(x, time, event, 3.0).beta, atol=0.03)


def test_rates_of_no_effect_are_events_over_time() -> None:
    _, time, event = _data(4000, 0.0)
    outcomes = Outcomes.on(grid_of_events(time, event, 5), time, event)

    fit = fit_linear(np.zeros((4000, 0)), outcomes, np.zeros(0))

    np.testing.assert_allclose(np.exp(fit.log_rates), 1 / 30.0, rtol=0.15)


def test_weights_count_patients_and_offsets_are_taken_as_known() -> None:
    x, time, event = _data(120, 1.0)
    outcomes = Outcomes.on(grid_of_events(time, event, 10), time, event)
    penalty = np.full(4, 1.0)
    weights = np.zeros(120)
    weights[:80] = 2.0
    twice = np.repeat(np.arange(80), 2)

    weighted = fit_linear(x, outcomes, penalty, weights=weights)
    repeated = fit_linear(x[twice], outcomes.of(twice), penalty)
    plain = fit_linear(x, outcomes, penalty * 1e-6)
    beyond = fit_linear(x, outcomes, penalty * 1e-6, offset=x @ plain.beta)

    np.testing.assert_allclose(weighted.beta, repeated.beta, atol=1e-5)
    np.testing.assert_allclose(beyond.beta, 0.0, atol=1e-4)


def test_terms_that_say_nothing_are_left_out_and_those_that_do_are_kept() -> None:
    x, time, event = _data(400, 1.0)
    outcomes = Outcomes.on(grid_of_events(time, event, 20), time, event)
    folds = stratified_folds(time, event, 5, np.random.default_rng(0))
    noise = np.random.default_rng(5).normal(size=(400, 20))

    found = choose_penalties(
        np.concatenate((x, noise), axis=1), ["linear"] * 4 + ["noise"] * 20, outcomes, folds
    )

    assert found.of_kind["linear"] <= 30.0
    assert found.of_kind["noise"] >= 100.0


def test_an_infinite_penalty_leaves_a_term_out() -> None:
    x, time, event = _data(100, 1.0)
    outcomes = Outcomes.on(grid_of_events(time, event, 10), time, event)

    fit = fit_linear(x, outcomes, np.array([1.0, np.inf, 1.0, np.inf]))

    assert fit.beta[1] == fit.beta[3] == 0.0
    assert fit.beta[0] > 0.3


def test_held_out_loss_is_lower_with_the_effect_than_without() -> None:
    x, time, event = _data(600, 1.0)
    outcomes = Outcomes.on(grid_of_events(time, event, 20), time, event)
    train, test = np.arange(400), np.arange(400, 600)

    with_effect = fit_linear(x[train], outcomes.of(train), np.full(4, 1.0))
    without = fit_linear(x[train], outcomes.of(train), np.full(4, np.inf))

    gain = loss(without, x[test], outcomes.of(test)) - loss(with_effect, x[test], outcomes.of(test))
    assert gain.mean() > 0.05
