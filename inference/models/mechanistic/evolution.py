"""The simulation: growth, kill, lipiodol, clearance of dead tissue, month by month."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.models.mechanistic.exposure import Plan
from inference.models.mechanistic.growth import FrontProfile
from inference.models.mechanistic.parameters import MechanisticParameters
from inference.models.mechanistic.patient import TumourFields
from inference.results import FloatArray, Voxels

_TRACE = np.float32(1e-3)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The tumours at one step, on the simulation grid (z, y, x).

    Attributes
    ----------
    depth_change : array of float32
        mm by which the tumour's edge has moved outwards, as seen from each node.
    viable : array of float32
        Viable share of what tissue there is, 0 to 1.
    lipiodol : array of float32
        Deposit, in typical deposits.
    """

    step: int
    depth_change: Voxels
    viable: Voxels
    lipiodol: Voxels


@dataclass(slots=True)
class _State:
    viable: Voxels
    dead: Voxels
    lipiodol: Voxels
    since_deposit_days: float


def evolve(
    fields: TumourFields,
    plan: Plan,
    parameters: MechanisticParameters,
    keep: Sequence[int],
    sensitivity: dict[str, float] | None = None,
) -> tuple[Snapshot, ...]:
    """Run the model and return the snapshots before the steps in `keep`, in that order.

    Parameters
    ----------
    keep : ascending step numbers; 0 is the baseline.
    sensitivity : factor on the exposure of each component; without one, the median patient.
    """
    front = FrontProfile.of_width(parameters.growth.front_width_mm)
    density = front.density_at(fields.depth) * fields.operator.inside
    old = fields.old_dead * density
    state = _State(density - old, np.zeros_like(density), np.zeros_like(density), np.inf)
    reach = _reach(fields, plan, sensitivity or {})
    start_depth = front.depth_of(density)
    snapshots = []
    for step in range(max(keep) + 1):
        if step in keep:
            snapshots.append(_snapshot(step, state, old, start_depth, front))
        if step < len(plan.days):
            _deposit(state, fields, plan, parameters, step)
            _advance(state, old, fields, plan, parameters, reach, step)
    return tuple(snapshots)


def _reach(
    fields: TumourFields, plan: Plan, sensitivity: dict[str, float]
) -> list[tuple[Voxels, FloatArray]]:
    """Exposure over tolerance of each component: a field, and a factor for each step."""
    return [
        (
            np.exp(c.delivery_weight * fields.log_delivery - fields.log_tolerance),
            sensitivity.get(c.name, 1.0) * c.exposure,
        )
        for c in plan.components
    ]


def _snapshot(step: int, state: _State, old: Voxels, start_depth: Voxels, front: FrontProfile) -> Snapshot:
    total = state.viable + state.dead + old
    return Snapshot(
        step,
        front.depth_of(total) - start_depth,
        (state.viable + _TRACE) / (total + _TRACE),
        state.lipiodol.copy(),
    )


def _deposit(
    state: _State, fields: TumourFields, plan: Plan, parameters: MechanisticParameters, step: int
) -> None:
    """Oil goes where arterial blood goes, into tissue that is alive."""
    dose = plan.deposits[step]
    if dose <= 0:
        return
    oil = parameters.lipiodol
    deposit = np.float32(dose) * np.exp(fields.log_delivery) * fields.granularity * state.viable
    state.lipiodol = np.minimum(state.lipiodol + deposit, np.float32(oil.saturation))
    state.since_deposit_days = 0.0


def _washout(state: _State, parameters: MechanisticParameters, days: float, total: Voxels) -> None:
    oil = parameters.lipiodol
    if not np.isfinite(state.since_deposit_days):
        return
    early = (
        -np.log(oil.early_retention) / oil.early_days if state.since_deposit_days < oil.early_days else 0.0
    )
    slow = np.float32(np.exp(-days * (np.log(2) / oil.half_life_days + early)))
    fast = np.float32(np.exp(-days * np.log(2) / oil.half_life_viable_days))
    alive = state.viable > 0.5 * np.maximum(total, 0.2)
    state.lipiodol *= np.where(alive, fast, slow)
    state.since_deposit_days += days


def _advance(
    state: _State,
    old: Voxels,
    fields: TumourFields,
    plan: Plan,
    parameters: MechanisticParameters,
    reach: list[tuple[Voxels, FloatArray]],
    step: int,
) -> None:
    days = np.float32(plan.step_days)
    u, dead = state.viable, state.dead
    total = u + dead
    total += old
    _washout(state, parameters, float(days), total)

    room = 1.0 - u - old - np.float32(parameters.clearance.invasion_barrier) * dead
    np.clip(room, 0.0, 1.0, out=room)
    growth = fields.operator.laplacian(u) * fields.diffusion
    growth += fields.proliferation * u * room
    grown = u + (days * np.float32(1.0 - plan.suppression[step])) * growth
    np.clip(grown, 0.0, 1.0, out=grown)
    grown *= fields.operator.inside

    killed = grown * _killed_share(reach, parameters, step, float(days))
    edge = np.clip(1.0 - total, 0.0, 1.0)
    dead = dead * np.exp(-days * np.float32(parameters.clearance.rate_per_day) * edge) + killed
    state.viable = grown - killed
    state.dead = np.minimum(dead, np.maximum(1.0 - state.viable - old, 0.0))


def _killed_share(
    reach: list[tuple[Voxels, FloatArray]], parameters: MechanisticParameters, step: int, days: float
) -> Voxels:
    if not reach or all(course[step] == 0 for _, course in reach):
        return np.zeros((1, 1, 1), np.float32)
    exposure = sum(field * np.float32(course[step]) for field, course in reach)
    tolerance = parameters.tolerance
    power = np.float32(1.0 / tolerance.sharpness)
    # x^p / (1 + x^p): a switch at exposure = tolerance (Hill's equation)
    switched = np.minimum(np.asarray(exposure, dtype=np.float32), np.float32(4.0)) ** power
    switched /= 1.0 + switched
    switched *= np.float32(-days * tolerance.kill_rate_per_day)
    return np.asarray(-np.expm1(switched), dtype=np.float32)
