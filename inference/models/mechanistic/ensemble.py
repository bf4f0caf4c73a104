"""The 80 % interval: many sampled patients on a scalar version of the simulation.

The scalar version keeps the exposure, the tolerances and the deliveries of a sample of the
patient's own tissue, and replaces the grid by two growth laws: the outer edge of each lesion
grows with its doubling time, and killed tissue is taken back from surviving nodules at the speed
of the front. The interval is the spread of the sampled patients around the median patient of this
scalar version, laid around the simulation's own course.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.models.mechanistic.exposure import Plan
from inference.models.mechanistic.growth import DAYS_PER_MONTH
from inference.models.mechanistic.parameters import MechanisticParameters
from inference.models.mechanistic.patient import Patient
from inference.randomness import RandomStreams
from inference.results import FloatArray

_TISSUE_SAMPLES = 400
_COMPONENTS = ("tace", "haic", "tki", "anti_vegf", "immunotherapy")


@dataclass(frozen=True, slots=True)
class TissueSample:
    """Tissue of all lesions: `log_delivery` and `log_tolerance` of each piece, and its lesion."""

    log_delivery: FloatArray
    log_tolerance: FloatArray
    volume_ml: FloatArray
    radius_mm: FloatArray
    room_ml: float


@dataclass(frozen=True, slots=True)
class SampledPatients:
    """Latent values of the sampled patients, arrays of (samples,); the first is the median patient."""

    sensitivity: dict[str, FloatArray]
    tvdt_months: FloatArray


def sample_tissue(patient: Patient, liver_ml: float) -> TissueSample:
    """Take pieces of viable tissue at regular ranks, each with the volume it stands for."""
    fields, parts = patient.fields, []
    share = max(_TISSUE_SAMPLES // len(patient.lesions), 24)
    for lesion in patient.lesions:
        chosen = (fields.nearest == lesion.number) & (fields.depth > 0) & (fields.old_dead < 0.5)
        delivery, tolerance = fields.log_delivery[chosen], fields.log_tolerance[chosen]
        if not delivery.size or lesion.viable_ml <= 0:
            continue
        rank = np.argsort(delivery - tolerance, kind="stable")
        rank = rank[np.linspace(0, len(rank) - 1, min(share, len(rank))).astype(int)]
        one = np.ones(len(rank))
        parts.append(
            np.stack(
                [delivery[rank], tolerance[rank], one * lesion.viable_ml / len(rank), one * lesion.radius_mm]
            )
        )
    table = np.concatenate(parts, axis=1) if parts else np.zeros((4, 0))
    return TissueSample(table[0], table[1], table[2], table[3], max(0.9 * liver_ml, 1.0))


def sample_patients(parameters: MechanisticParameters, streams: RandomStreams) -> SampledPatients:
    """Draw the patients; the streams bear no regimen's name, so that all regimens see the same ones."""
    n = parameters.ensemble.samples
    shared = streams.derive("ensemble", "shared").standard_normal(n) * parameters.ensemble.shared_log_sd

    def factors(name: str) -> FloatArray:
        own = streams.derive("ensemble", name).standard_normal(n)
        spread = parameters.components[name].sensitivity_log_sd
        return np.concatenate([[1.0], np.exp(spread * own + shared)])

    pace = streams.derive("ensemble", "growth").standard_normal(n) * parameters.growth.tvdt_log_sd
    months = parameters.growth.tvdt_months * np.exp(np.concatenate([[0.0], np.clip(pace, -1.6, 1.6)]))
    return SampledPatients({name: factors(name) for name in _COMPONENTS}, months)


def viable_course(
    tissue: TissueSample, patients: SampledPatients, plan: Plan, parameters: MechanisticParameters
) -> FloatArray:
    """Return the viable volume in ml, shape (samples, steps + 1)."""
    alive = np.ones((len(patients.tvdt_months), tissue.volume_ml.size))
    radius = np.ones_like(alive)
    doubling = math.log(2.0) / (patients.tvdt_months[:, None] * DAYS_PER_MONTH)
    regrowth = doubling * tissue.radius_mm / parameters.ensemble.regrowth_length_mm
    reach = {
        c.name: np.exp(c.delivery_weight * tissue.log_delivery - tissue.log_tolerance)
        for c in plan.components
    }
    course = [alive @ tissue.volume_ml]
    total = max(float(tissue.volume_ml.sum()), 1e-9)
    power, days = 1.0 / parameters.tolerance.sharpness, plan.step_days
    for step in range(len(plan.days)):
        exposure = np.zeros_like(alive)
        for c in plan.components:
            exposure += patients.sensitivity[c.name][:, None] * c.exposure[step] * reach[c.name]
        switched = np.minimum(exposure, 4.0) ** power
        kill = parameters.tolerance.kill_rate_per_day * switched / (1.0 + switched)
        pace = days * (1.0 - plan.suppression[step])
        left = (alive @ tissue.volume_ml / total)[:, None]
        alive = alive + pace * regrowth * left * (1.0 - alive)
        alive = np.clip(alive, 0.0, 1.0) * np.exp(-days * kill)
        radius = radius + pace * doubling * left / 3.0
        burden = (alive * radius**3) @ tissue.volume_ml
        # No more than the liver holds: x / (1 + x^4)^(1/4) is x until it nears its limit.
        course.append(burden / (1.0 + (burden / tissue.room_ml) ** 4) ** 0.25)
    return np.stack(course, axis=1)


def interval80(course: FloatArray, central: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return lower and upper limits (steps + 1,) around the simulation's own course.

    Parameters
    ----------
    course : array, (samples, steps + 1)
        Of the sampled patients; the first row is the median patient.
    central : array, (steps + 1,)
        What the simulation shows, in ml. It is always inside the limits.
    """
    shown = np.asarray(central, dtype=np.float64)
    low, high = np.quantile(course[1:], [0.1, 0.9], axis=0)
    # Ratios to the median patient, with an offset that keeps them finite where nothing is left.
    offset = max(0.05 * float(shown[0]), 1e-9)
    lower = (shown + offset) * np.minimum((low + offset) / (course[0] + offset), 1.0) - offset
    upper = (shown + offset) * np.maximum((high + offset) / (course[0] + offset), 1.0) - offset
    return np.clip(lower, 0.0, None), upper
