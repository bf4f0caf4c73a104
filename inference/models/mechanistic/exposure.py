"""What a regimen does over time: the exposure of each of its components.

The dose-response is a tolerance model (probit analysis): a piece of tissue dies while the exposure
it gets exceeds its tolerance, so what survives is a set of sharp nodules and not a grey fraction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.errors import UnsupportedRegimen
from inference.models.mechanistic.growth import DAYS_PER_MONTH
from inference.models.mechanistic.parameters import Component, MechanisticParameters
from inference.results import FloatArray
from inference.settings import Regimen, TaceSession


@dataclass(frozen=True, slots=True)
class ComponentCourse:
    """One component of a regimen.

    Attributes
    ----------
    exposure : array, (steps,)
        In median tolerances, of the median patient, where delivery is 1.
    """

    name: str
    exposure: FloatArray
    delivery_weight: float
    growth_suppression: float
    sensitivity_log_sd: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A regimen on the time steps of the simulation.

    Attributes
    ----------
    days : array, (steps,)
        Start of each step.
    suppression : array, (steps,)
        Share of growth that is stopped.
    deposits : array, (steps,)
        Dose of lipiodol given in each step.
    """

    regimen_id: str
    days: FloatArray
    step_days: float
    components: tuple[ComponentCourse, ...]
    suppression: FloatArray
    deposits: FloatArray


def plan(regimen: Regimen, parameters: MechanisticParameters, months: int) -> Plan:
    """Lay a regimen out on the time steps.

    Raises
    ------
    UnsupportedRegimen
        The bundle has no parameters for this regimen.
    """
    terms = parameters.regimens.get(regimen.id)
    if terms is None:
        raise UnsupportedRegimen(f"the mechanistic model has no parameters for the regimen {regimen.id}")
    step = DAYS_PER_MONTH / parameters.numerics.steps_per_month
    days = np.asarray(np.arange(months * parameters.numerics.steps_per_month) * step, dtype=np.float64)
    courses = _courses(regimen, parameters, days, step)
    leading = next(iter(courses), "")
    scaled = tuple(
        ComponentCourse(
            name,
            (1.0 if name == leading else terms.interaction) * parameters.components[name].amplitude * course,
            parameters.components[name].delivery_weight,
            parameters.components[name].growth_suppression,
            parameters.components[name].sensitivity_log_sd,
        )
        for name, course in courses.items()
    )
    growing = np.ones_like(days)
    for name, course in courses.items():
        growing *= 1.0 - parameters.components[name].growth_suppression * np.minimum(course, 1.0)
    return Plan(regimen.id, days, step, scaled, 1.0 - growing, _deposits(regimen.tace, days, step))


def _courses(
    regimen: Regimen, parameters: MechanisticParameters, days: FloatArray, step: float
) -> dict[str, FloatArray]:
    """Time course of each component that the regimen has, 1 at the peak of one full dose.

    The leading component comes first: embolisation, then infusion, then drugs.
    """
    repeated = {
        "tace": [(s.day, s.dose) for s in regimen.tace],
        "haic": [(day, 1.0) for day in regimen.haic_days],
    }
    lasting = {
        "tki": regimen.tki,
        "anti_vegf": regimen.anti_vegf,
        "immunotherapy": regimen.immunotherapy,
    }
    courses = {n: _doses(d, parameters.components[n], days, step) for n, d in repeated.items() if d}
    courses |= {n: level * _lasting(parameters.components[n], days) for n, level in lasting.items() if level}
    return courses


def _doses(
    doses: list[tuple[float, float]], component: Component, days: FloatArray, step: float
) -> FloatArray:
    total = np.zeros_like(days)
    for day, dose in doses:
        since = days + step / 2.0 - day
        total += np.where(since >= 0, dose * np.exp(-np.maximum(since, 0.0) / component.decay_days), 0.0)
    return total


def _lasting(component: Component, days: FloatArray) -> FloatArray:
    since = np.maximum(days - component.delay_days, 0.0)
    onset = 1.0 - np.exp(-since / max(component.onset_days, 1e-6))
    return np.asarray(onset * np.exp(-since / component.decay_days))


def _deposits(sessions: tuple[TaceSession, ...], days: FloatArray, step: float) -> FloatArray:
    deposits = np.zeros_like(days)
    for session in sessions:
        index = int(session.day // step)
        if session.lipiodol and index < len(deposits):
            deposits[index] += session.dose
    return deposits
