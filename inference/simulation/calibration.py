"""Calibration of the simulated cohort: response first, then progression, then survival.

Each stage holds what the earlier ones found. Response is fitted on the level of each regimen, with a
logistic curve of response over the level that smooths the sampling noise of a small population;
progression on the time for which a regimen holds the disease; survival on the hazard of each source.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, least_squares

from inference.results import FloatArray
from inference.settings import Regimen
from inference.simulation.anatomy import Anatomy
from inference.simulation.calibration_population import (
    Followed,
    Member,
    ResponseTarget,
    SurvivalTarget,
    Targets,
    follow,
    population,
)
from inference.simulation.calibration_response import Crowd, ResponseCurve, of_member
from inference.simulation.parameters import CONTROL_ARM, Found, SimulationParameters
from inference.simulation.survival import GRID, cumulative_hazard, log_hazard, outcome, responded

_log = logging.getLogger(__name__)

_RESPONSE_MONTHS = (1.0, 3.0, 6.0)
_ROUNDS = 2
_CROWD = 1200
_SCATTER = (-0.8, 0.0, 0.8)
_BASE = frozenset({"seed004_tace", "seed004_haic", "seed001", "launch", "seed004_tc", "seed004_hc"})
"""Sources whose technique is the reference; the others differ in how well the same regimen works."""
_SAME_AS = {"tace_bevacizumab_atezolizumab": "tace_durvalumab_bevacizumab"}
_HELD_LIKE = {"haic": "tace"}
_HELD_BETWEEN = {
    "tace_systemic": ("tace", "tace_lenvatinib"),
    "haic_systemic": ("tace", "tace_lenvatinib"),
}

Progress = Callable[[str, float], None]


@dataclass(slots=True)
class Calibration:
    """One run of the calibration, stage by stage."""

    parameters: SimulationParameters
    targets: Targets
    regimens: Mapping[str, Regimen]
    bodies: tuple[Anatomy, ...]
    patients: int
    seed: int
    progress: Progress
    _members: dict[str, tuple[Member, ...]]
    _crowds: dict[str, Crowd]

    @classmethod
    def start(
        cls,
        parameters: SimulationParameters,
        targets: Targets,
        regimens: Mapping[str, Regimen],
        bodies: tuple[Anatomy, ...],
        patients: int,
        seed: int,
        progress: Progress,
    ) -> Calibration:
        """Prepare a run over populations of `patients` a source."""
        known = {**regimens, CONTROL_ARM.id: CONTROL_ARM}
        return cls(parameters, targets, known, bodies, patients, seed, progress, {}, {})

    def run(self) -> Found:
        """Run all stages and return what was found."""
        self.response()
        self.hold()
        self.mortality()
        return self.parameters.found

    def members(self, source: str) -> tuple[Member, ...]:
        """Return the population of a source under the parameters found so far."""
        if source not in self._members:
            self._members[source] = population(source, self.patients, self.parameters, self.bodies, self.seed)
        return tuple(m.with_parameters(self.parameters) for m in self._members[source])

    def _set(self, group: str, key: str, value: float) -> None:
        found = self.parameters.found
        values = {**getattr(found, group), key: float(value)}
        self.parameters = self.parameters.with_found(found.model_copy(update={group: values}))

    # ------------------------------------------------------------ response

    def response(self) -> None:
        """Fit the level of each regimen, or the technique of a source, to its response rate."""
        rows: list[FloatArray] = []
        judged: list[FloatArray] = []
        for round_ in range(_ROUNDS):
            for index, target in enumerate(self.targets.response):
                self.progress(f"response {target.source} {target.regimen}", 0.2 * round_ + index / 60)
                found = self._responses(target.source, self.regimens[target.regimen])
                rows.append(found[0])
                judged.append(found[1])
            curve = ResponseCurve.fit(np.concatenate(rows), np.concatenate(judged))
            for index, target in enumerate(self.targets.response):
                last = len(rows) - len(self.targets.response) + index
                bias = curve.bias_of(rows[last], judged[last])
                self._set_level(target, curve, bias)
        for regimen, like in _SAME_AS.items():
            self._set("intercept", regimen, self.parameters.found.intercept[like])

    def _set_level(self, target: ResponseTarget, curve: ResponseCurve, bias: float) -> None:
        technique = target.source not in _BASE and target.regimen == "tace"
        group, key = ("technique", target.source) if technique else ("intercept", target.regimen)
        start = getattr(self.parameters.found, group).get(key, 0.0)
        if target.source not in self._crowds:
            self._crowds[target.source] = Crowd.draw(target.source, _CROWD, self.parameters, self.seed)
        crowd = self._crowds[target.source].features(self.regimens[target.regimen], self.parameters)
        self._set(group, key, start + curve.offset_for(crowd, target.rate, bias))

    def _responses(self, source: str, regimen: Regimen) -> tuple[FloatArray, FloatArray]:
        """Follow a population at scattered levels, which shows how response depends on the level."""
        before = self.parameters
        members = self.members(source)
        rows, judged = [], []
        for number, scatter in enumerate(_SCATTER):
            self._set("intercept", regimen.id, before.found.intercept[regimen.id] + scatter)
            some = [m.with_parameters(self.parameters) for m in members[number :: len(_SCATTER)]]
            for seen in follow(some, regimen, _RESPONSE_MONTHS):
                rows.append(of_member(seen.member, regimen))
                judged.append(float(responded(seen.assessments)))
        self.parameters = before
        return np.stack(rows), np.array(judged)

    # ------------------------------------------------------------ progression

    def hold(self) -> None:
        """Fit how long each regimen holds the disease to its median progression-free survival."""
        for index, target in enumerate(self.targets.progression):
            self.progress(f"progression {target.source} {target.regimen}", 0.4 + index / 20)
            second = target.source == "leap012" and target.regimen == "tace"
            group, key = ("hold", target.source) if second else ("control_months", target.regimen)
            start = getattr(self.parameters.found, group).get(key, 1.0)
            self._set(group, key, self._held(group, key, start, target.source, target.regimen, target.months))
        held = self.parameters.found.control_months
        for regimen, like in {**_SAME_AS, **_HELD_LIKE}.items():
            self._set("control_months", regimen, held[like])
        for regimen, (low, high) in _HELD_BETWEEN.items():
            self._set("control_months", regimen, math.sqrt(held[low] * held[high]))

    def _held(self, group: str, key: str, start: float, source: str, regimen: str, months: float) -> float:
        """Search the time of control in its logarithm, by secants."""
        points: list[tuple[float, float]] = []
        value = math.log(start)
        for _ in range(4):
            self._set(group, key, math.exp(value))
            points.append((value, self.median_progression(source, regimen) - months))
            value = _secant(points)
        return math.exp(value)

    def median_progression(self, source: str, regimen: str) -> float:
        """Return the median progression-free survival of an arm in months."""
        times = [
            outcome(
                f.member.course,
                f.member.fate,
                self.regimens[regimen],
                f.member.baseline,
                f.follow_ups,
                f.assessments,
            ).progression_months
            for f in follow(self.members(source), self.regimens[regimen])
        ]
        return float(np.median(times))

    # ------------------------------------------------------------ survival

    def mortality(self) -> None:
        """Fit the hazard of each source, and of regimens that a trial compares, to survival."""
        for index, target in enumerate(self.targets.survival):
            self.progress(f"survival {target.source} {target.regimen}", 0.8 + index / 60)
            self._fit_survival(target)

    def _fit_survival(self, target: SurvivalTarget) -> None:
        regimen = self.regimens[target.regimen]
        followed = follow(self.members(target.source), regimen)
        logs = np.stack([_log_hazards(f, regimen) for f in followed])
        months = np.array(list(target.at))
        wanted = np.array(list(target.at.values()))
        if target.regimen in _COMPARED.get(target.source, ()):
            hazard, shape = (getattr(self.parameters.found, g)[target.source] for g in ("hazard", "shape"))
            start = self.parameters.found.regimen_log_hazard.get(target.regimen, 0.0)
            ratio = _hazard_for(logs, shape, months, wanted) / hazard
            self._set("regimen_log_hazard", target.regimen, start + math.log(ratio))
        elif len(months) == 1:
            self._set("shape", target.source, 1.0)
            self._set("hazard", target.source, _hazard_for(logs, 1.0, months, wanted))
        else:
            hazard, shape = _weibull_for(logs, months, wanted)
            self._set("shape", target.source, shape)
            self._set("hazard", target.source, hazard)


_COMPARED: Mapping[str, tuple[str, ...]] = {
    "launch": ("lenvatinib",),
    "leap012": ("tace_lenvatinib_pembrolizumab",),
}
"""Arms that a trial compares with the one that the hazard of its source is fitted to."""


def _secant(points: list[tuple[float, float]]) -> float:
    """Return the next point of a search for a root of a rising function of a logarithm."""
    if len(points) == 1:
        x, y = points[0]
        return x - float(np.clip(y / 8.0, -0.7, 0.7))
    (x0, y0), (x1, y1) = sorted(sorted(points, key=lambda p: abs(p[1]))[:2])
    slope = max((y1 - y0) / max(x1 - x0, 1e-6), 1.5)
    return x1 - float(np.clip(y1 / slope, -0.8, 0.8))


def _log_hazards(followed: Followed, regimen: Regimen) -> FloatArray:
    member = followed.member
    return log_hazard(member.course, member.fate, regimen, member.baseline, followed.follow_ups)


def survival_at(logs: FloatArray, hazard: float, shape: float, months: FloatArray) -> FloatArray:
    """Return the expected share of a population alive at some months."""
    cumulated = cumulative_hazard(logs, hazard, shape)
    curve = np.exp(-cumulated).mean(axis=0)
    return np.asarray(np.interp(months, GRID, curve))


def _hazard_for(logs: FloatArray, shape: float, months: FloatArray, wanted: FloatArray) -> float:
    def miss(log_value: float) -> float:
        return float((survival_at(logs, math.exp(log_value), shape, months) - wanted).sum())

    return math.exp(float(brentq(miss, -12.0, 3.0)))


def _weibull_for(logs: FloatArray, months: FloatArray, wanted: FloatArray) -> tuple[float, float]:
    def miss(x: FloatArray) -> FloatArray:
        return survival_at(logs, math.exp(x[0]), math.exp(x[1]), months) - wanted

    best = least_squares(miss, np.array([math.log(0.03), 0.0]), bounds=([-9.0, -1.6], [2.0, 0.7])).x
    return math.exp(float(best[0])), math.exp(float(best[1]))
