"""What a regimen does to one patient: level and pace of treatment, control, new lesions, lipiodol."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inference.errors import UnsupportedRegimen
from inference.randomness import RandomStreams
from inference.settings import Regimen
from inference.simulation.latents import Person
from inference.simulation.parameters import SimulationParameters
from inference.simulation.tumours import DAYS_PER_MONTH


@dataclass(frozen=True, slots=True)
class Luck:
    """Standard normal numbers of a patient that nothing observable carries."""

    shared: float
    own: Mapping[str, float]
    control: float
    retention: float
    clearance: float

    @classmethod
    def draw(cls, parameters: SimulationParameters, streams: RandomStreams) -> Luck:
        """Draw the numbers of one patient."""
        rng = streams.derive("luck")
        shared, control, retention, clearance = (float(v) for v in rng.standard_normal(4))
        own = {name: float(rng.standard_normal()) for name in sorted(parameters.treatment.own_sd)}
        return cls(shared, own, control, retention, clearance)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a regimen does to one patient.

    Attributes
    ----------
    level : reached in a tumour of 60 mm after the last session; -inf without treatment
    size_slope : change of the level per log(diameter / 60 mm)
    progress : share of the treatment that has been given, at each of `months`
    control_months : until the disease grows again
    suppression : of growth until then
    intensity : cumulated intensity of new lesions at each of `months`
    oil_dead, oil_live : deposits retained, of one session's, at each of `months`
    clearance_mm : by which the edge of dead tissue has receded at each of `months`
    """

    regimen_id: str
    months: tuple[float, ...]
    level: float
    size_slope: float
    progress: tuple[float, ...]
    control_months: float
    suppression: float
    intensity: tuple[float, ...]
    oil_dead: tuple[float, ...]
    oil_live: tuple[float, ...]
    clearance_mm: tuple[float, ...]


def exposures(regimen: Regimen) -> dict[str, float]:
    """Return the components of a regimen and their relative exposure."""
    found = {
        "tace": max((s.dose for s in regimen.tace), default=0.0),
        "haic": 1.0 if regimen.haic_days else 0.0,
        "tki": regimen.tki,
        "anti_vegf": regimen.anti_vegf,
        "immunotherapy": regimen.immunotherapy,
    }
    return {name: amount for name, amount in found.items() if amount > 0}


def predicted(person: Person, regimen: Regimen, parameters: SimulationParameters) -> tuple[float, float]:
    """Return what a patient's traits add to the level, at 60 mm, and its slope in log diameter.

    Local treatments are averaged, drugs are added at their dose.
    """
    traits = person.latents
    row = np.array(
        [
            traits.aggressiveness,
            traits.vascularity,
            traits.liver_reserve,
            traits.immunogenicity,
            0.0,
            person.plan.infiltrative,
            float(person.plan.thrombus > 0),
            person.plan.capsule,
        ]
    )
    weights = _weights(regimen)
    table = parameters.treatment.predictors
    level = sum(w * float(np.dot(table[name], row)) for name, w in weights.items())
    return level, sum(w * table[name][4] for name, w in weights.items())


def _weights(regimen: Regimen) -> dict[str, float]:
    parts = exposures(regimen)
    local = [name for name in ("tace", "haic") if name in parts]
    return {name: (1.0 / len(local) if name in local else amount) for name, amount in parts.items()}


def plan(
    person: Person,
    luck: Luck,
    regimen: Regimen,
    parameters: SimulationParameters,
    months: Sequence[float],
) -> Plan:
    """Lay out what a regimen does to a patient.

    Raises
    ------
    UnsupportedRegimen
        The simulator has no terms for this regimen.
    """
    parts = exposures(regimen)
    found = parameters.found
    if parts and regimen.id not in found.intercept:
        raise UnsupportedRegimen(f"the simulator has no terms for the regimen {regimen.id}")
    level, slope, control = -math.inf, 0.0, 0.0
    if parts:
        level, slope = _level(person, luck, regimen, parameters)
        control = _control(person, luck, regimen, level, parameters)
    at = tuple(months)
    oil = _retained(regimen, luck, parameters, at)
    return Plan(
        regimen_id=regimen.id,
        months=at,
        level=level,
        size_slope=slope,
        progress=tuple(_progress(regimen, m) for m in at),
        control_months=control,
        suppression=parameters.treatment.suppression,
        intensity=tuple(new_lesion_intensity(person, regimen, control, m, parameters) for m in at),
        oil_dead=oil[0],
        oil_live=oil[1],
        clearance_mm=tuple(_clearance(person, luck, regimen, m, parameters) for m in at),
    )


def _level(
    person: Person, luck: Luck, regimen: Regimen, parameters: SimulationParameters
) -> tuple[float, float]:
    terms, found = parameters.treatment, parameters.found
    level, slope = predicted(person, regimen, parameters)
    weights = _weights(regimen)
    own = [w * terms.own_sd[name] * luck.own[name] for name, w in weights.items()]
    level += terms.shared_sd * luck.shared + sum(own)
    level += found.intercept[regimen.id] + found.technique.get(person.source, 0.0)
    return level, slope


def _control(
    person: Person, luck: Luck, regimen: Regimen, level: float, parameters: SimulationParameters
) -> float:
    terms, found = parameters.treatment, parameters.found
    median = found.control_months[regimen.id] * found.hold.get(person.source, 1.0)
    exponent = (
        terms.control_log_sd * luck.control
        - terms.control_aggressiveness * person.latents.aggressiveness
        + terms.control_level * float(np.clip(level - found.intercept[regimen.id], -2.0, 2.0))
    )
    return median * math.exp(exponent)


def _progress(regimen: Regimen, month: float) -> float:
    """Share of the treatment that has been given and has acted."""
    days = month * DAYS_PER_MONTH
    shares = []
    if regimen.tace:
        shares.append(sum(s.day <= days for s in regimen.tace) / len(regimen.tace))
    if regimen.haic_days:
        shares.append(sum(d <= days for d in regimen.haic_days) / len(regimen.haic_days))
    if regimen.tki or regimen.anti_vegf:
        shares.append(min(month / 2.0, 1.0))
    if regimen.immunotherapy:
        shares.append(min(month / 4.0, 1.0))
    return sum(shares) / len(shares) if shares else 0.0


def new_lesion_intensity(
    person: Person, regimen: Regimen, control: float, month: float, parameters: SimulationParameters
) -> float:
    """Return the cumulated intensity of new lesions at a month."""
    table = parameters.new_lesions
    rate = table.rate_per_month * math.exp(
        table.aggressiveness * person.latents.aggressiveness
        + table.number * math.log(len(person.plan.diameters_mm))
        + table.infiltrative * person.plan.infiltrative
    )
    systemic = min(regimen.tki + regimen.anti_vegf + regimen.immunotherapy, 1.0)
    return rate * (month - systemic * table.systemic_control * min(month, control))


def _retained(
    regimen: Regimen, luck: Luck, parameters: SimulationParameters, months: tuple[float, ...]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    table = parameters.lipiodol
    kept = float(np.clip(table.retention[0] + table.retention[1] * luck.retention, 0.08, 1.0))
    dead, live = [], []
    for month in months:
        since = [month - s.day / DAYS_PER_MONTH for s in regimen.tace if s.lipiodol]
        doses = [s.dose for s in regimen.tace if s.lipiodol]
        given = [(t, d) for t, d in zip(since, doses, strict=True) if t >= 0]
        dead.append(
            sum(
                d * kept ** min(t, 1.0) * 0.5 ** (max(t - 1.0, 0.0) / table.half_life_months)
                for t, d in given
            )
        )
        live.append(sum(d * 0.6 * 0.5 ** (t / table.live_half_life_months) for t, d in given))
    return tuple(dead), tuple(live)


def _clearance(
    person: Person, luck: Luck, regimen: Regimen, month: float, parameters: SimulationParameters
) -> float:
    mean, sd = parameters.treatment.clearance_mm_per_month
    pace = mean * math.exp(sd / mean * luck.clearance - 0.5 * (sd / mean) ** 2)
    pace *= math.exp(0.15 * person.latents.liver_reserve)
    return pace * month * (parameters.treatment.clearance_lipiodol if regimen.tace else 1.0)
