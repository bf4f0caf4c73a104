"""Calibration of a fitted model on patients that it was not fitted to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from inference.models.survival.fitted import Calibration, FittedSurvival
from inference.results import FloatArray
from inference.training.survival.linear import Outcomes
from inference.training.survival.rows import Followed, SurvivalRows

PRIOR_EVENTS = 10.0
"""Events that the uncalibrated forecast is worth: few validation patients change it little."""
_STEPS = 25


def calibrate(model: FittedSurvival, validation: SurvivalRows) -> FittedSurvival:
    """Return the model with intercept and slope of the predictor that the validation patients ask for.

    References
    ----------
    van Houwelingen 2000, Stat Med 19:3401 (recalibration of a survival model).
    """
    endpoints = {}
    for name, part in model.endpoints.items():
        followed = validation.outcomes[name]
        before = model.predictor(name, validation.inputs)
        log_hazards = model.log_hazards(name, validation.inputs)
        centred = before - part.calibration.centre
        found = _intercept_and_slope(model, log_hazards, centred, followed)
        calibration = Calibration(part.calibration.centre, found[0], 1.0 + found[1])
        endpoints[name] = replace(part, calibration=calibration)
    return replace(model, endpoints=endpoints)


def _intercept_and_slope(
    model: FittedSurvival, log_hazards: FloatArray, centred: FloatArray, followed: Followed
) -> FloatArray:
    """Return (intercept, slope - 1), penalised towards 0, by Newton's method."""
    known = followed.known
    outcomes = Outcomes.on(model.grid, followed.months[known], followed.event[known])
    expected = (np.exp(log_hazards[known]) * outcomes.exposure).sum(axis=1)
    x = np.stack((np.ones(int(known.sum())), centred[known]), axis=1)
    spread = max(float(centred[known].var()), 1e-6)
    prior = PRIOR_EVENTS * np.array([1.0, spread])
    change = np.zeros(2)
    for _ in range(_STEPS):
        hazard = expected * np.exp(np.clip(x @ change, -5.0, 5.0))
        gradient = x.T @ (outcomes.event - hazard) - prior * change
        information = (x * hazard[:, None]).T @ x + np.diag(prior)
        step = np.linalg.solve(information, gradient)
        change = np.clip(change + step, [-1.5, -0.9], [1.5, 1.0])
        if float(np.abs(step).max()) < 1e-9:
            break
    return change
