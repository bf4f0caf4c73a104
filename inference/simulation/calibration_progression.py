"""Expected progression of a followed population: what chance decides alone is integrated, not drawn.

Death, progression outside the liver and new lesions come when a cumulated intensity passes an
exponential number that depends on nothing else. Given a patient's intensities their part of the curve is
known exactly, and a median from some hundred patients has the error of a far larger population.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from inference.results import FloatArray
from inference.settings import Regimen
from inference.simulation.calibration_population import Followed
from inference.simulation.survival import (
    GRID,
    Fate,
    assess,
    cumulative_hazard,
    extrahepatic_rate,
    log_hazard,
    target_progression,
)
from inference.simulation.treatment import new_lesion_intensity, plan

MONTHS_FINE = np.arange(0.0, float(GRID[-1]) + 0.125, 0.25)

_LUCK = ((0.125, 0.47), (0.375, 2.08), (0.625, 0.13), (0.875, 0.98))
"""Days of assessment (uniform) and times to relapse (exponential) over which progression is averaged."""


def log_hazards(followed: Sequence[Followed], regimen: Regimen) -> FloatArray:
    """Return the log hazards of death of all patients, (patients, months of `GRID`)."""
    return np.stack(
        [
            log_hazard(f.member.course, f.member.fate, regimen, f.member.baseline, f.follow_ups)
            for f in followed
        ]
    )


def undisturbed(followed: Sequence[Followed], regimen: Regimen) -> FloatArray:
    """Return each patient's probability of being without progression, death apart, at `MONTHS_FINE`."""
    return np.stack([_undisturbed(f, regimen) for f in followed])


def _undisturbed(followed: Followed, regimen: Regimen) -> FloatArray:
    member = followed.member
    course = member.course
    seen = [replace(f, new=()) for f in followed.follow_ups]
    judged = assess(member.baseline, seen)
    times = [
        target_progression(course, _lucky(member.fate, *luck), regimen, member.baseline, seen, judged)
        for luck in _LUCK
    ]
    in_targets = np.mean([time > MONTHS_FINE for time in times], axis=0)
    held = plan(member.person, course.luck, regimen, course.parameters, (1.0,)).control_months
    knots = np.unique(np.clip([0.0, held, MONTHS_FINE[-1]], 0.0, MONTHS_FINE[-1]))
    course_of = [
        new_lesion_intensity(member.person, regimen, held, float(m), course.parameters) for m in knots
    ]
    arriving = np.interp(MONTHS_FINE, knots, course_of) + extrahepatic_rate(course) * MONTHS_FINE
    return np.asarray(in_targets * np.exp(-arriving))


def _lucky(fate: Fate, visit: float, relapse: float) -> Fate:
    return replace(fate, visit=visit, relapse=relapse)


def progression_free(alone: FloatArray, logs: FloatArray, hazard: float, shape: float) -> FloatArray:
    """Return the expected share alive without progression at `MONTHS_FINE`."""
    dead = cumulative_hazard(logs, hazard, shape)
    alive = np.stack([np.interp(MONTHS_FINE, GRID, np.exp(-row)) for row in dead])
    return np.asarray((alone * alive).mean(axis=0))


def median_of(curve: FloatArray) -> float:
    """Return the month at which a falling curve on `MONTHS_FINE` reaches one half."""
    return float(np.interp(-0.5, -curve, MONTHS_FINE))


def survival_at(logs: FloatArray, hazard: float, shape: float, months: FloatArray) -> FloatArray:
    """Return the expected share of a population alive at some months."""
    curve = np.exp(-cumulative_hazard(logs, hazard, shape)).mean(axis=0)
    return np.asarray(np.interp(months, GRID, curve))
