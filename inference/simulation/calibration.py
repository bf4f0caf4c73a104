"""Calibration of the simulated cohort: response first, then progression with survival, arm by arm.

Response is fitted on the level of each regimen, with a logistic curve of response over the level that
smooths the sampling noise of a small population; progression on the time for which a regimen holds the
disease; survival on the hazard of each source. What an arm found holds for the arms after it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

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
from inference.simulation.calibration_progression import (
    log_hazards,
    median_of,
    progression_free,
    survival_at,
    undisturbed,
)
from inference.simulation.calibration_response import Crowd, ResponseCurve, of_member
from inference.simulation.parameters import CONTROL_ARM, Found, SimulationParameters
from inference.simulation.survival import responded

_log = logging.getLogger(__name__)

_RESPONSE_MONTHS = (1.0, 3.0, 6.0)
_CROWD = 1000
_SCATTER = (-0.8, 0.0, 0.8)
_TRIED_MONTHS = (4.5, 11.0, 27.0)
SHORTEST_MONTHS, LONGEST_MONTHS = 3.0, 36.0
"""Bounds of the median time for which a regimen holds the disease: beyond, nothing would be learned
from progression that other causes of it do not decide."""
_BASE = frozenset({"seed004_tace", "seed004_haic", "seed001", "launch", "seed004_tc", "seed004_hc"})
"""Sources whose technique is the reference; the others differ in how well the same regimen works."""
SAME_AS = {"tace_bevacizumab_atezolizumab": "tace_durvalumab_bevacizumab"}
_HELD_LIKE = {"haic": "tace"}
_HELD_BETWEEN = {
    "tace_systemic": ("tace", "tace_lenvatinib"),
    "haic_systemic": ("tace", "tace_lenvatinib"),
}
COMPARED: Mapping[str, tuple[str, ...]] = {
    "launch": ("lenvatinib",),
    "leap012": ("tace_lenvatinib_pembrolizumab",),
}
"""Arms that a trial compares with the one that the hazard of its source is fitted to."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class _Judged:
    """Whether patients responded, and what that depends on."""

    rows: FloatArray
    responded: FloatArray


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
    _members: dict[str, tuple[Member, ...]] = field(default_factory=dict)
    _crowds: dict[str, Crowd] = field(default_factory=dict)
    _judged: dict[tuple[str, str], list[_Judged]] = field(default_factory=dict)

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
        return cls(parameters, targets, known, bodies, patients, seed, progress)

    def run(self) -> Found:
        """Run all stages and return what was found."""
        self.response()
        self.progression()
        self.remaining_arms()
        self.levels()
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

    def _share(self) -> None:
        found = self.parameters.found
        intercept, held = dict(found.intercept), dict(found.control_months)
        self.share(intercept, held)
        changed = found.model_copy(update={"intercept": intercept, "control_months": held})
        self.parameters = self.parameters.with_found(changed)

    # ------------------------------------------------------------ response

    def response(self) -> None:
        """Follow all arms at scattered levels and fit the level of each to its response rate."""
        for index, target in enumerate(self.targets.response):
            self.progress(f"response {target.source} {target.regimen}", 0.45 * index / 12)
            self._scattered(target.source, self.regimens[target.regimen])
        self.levels()

    def levels(self) -> None:
        """Fit the level of each regimen, or the technique of a source, to all responses seen so far."""
        seen = [judged for arm in self._judged.values() for judged in arm]
        curve = ResponseCurve.fit(
            np.concatenate([j.rows for j in seen]), np.concatenate([j.responded for j in seen])
        )
        for target in self.targets.response:
            arm = self._judged[target.source, target.regimen]
            rows = np.concatenate([j.rows for j in arm])
            bias = curve.bias_of(rows, np.concatenate([j.responded for j in arm]))
            self._set_level(target, curve, bias)
        self._share()

    def _set_level(self, target: ResponseTarget, curve: ResponseCurve, bias: float) -> None:
        group, key = self.level_of(target.source, target.regimen)
        start = getattr(self.parameters.found, group).get(key, 0.0)
        if target.source not in self._crowds:
            self._crowds[target.source] = Crowd.draw(target.source, _CROWD, self.parameters, self.seed)
        crowd = self._crowds[target.source].features(self.regimens[target.regimen], self.parameters)
        self._set(group, key, start + curve.offset_for(crowd, target.rate, bias))

    @staticmethod
    def level_of(source: str, regimen: str) -> tuple[str, str]:
        """Return group and key of the parameter that an arm's response decides."""
        technique = source not in _BASE and regimen == "tace"
        return ("technique", source) if technique else ("intercept", regimen)

    @staticmethod
    def control_of(source: str, regimen: str) -> tuple[str, str]:
        """Return group and key of the parameter that an arm's progression decides."""
        second = source == "leap012" and regimen == "tace"
        return ("hold", source) if second else ("control_months", regimen)

    @staticmethod
    def share(intercept: dict[str, float], control_months: dict[str, float]) -> None:
        """Give regimens without figures of their own what others found."""
        for regimen, like in SAME_AS.items():
            intercept[regimen] = intercept[like]
        for regimen, like in {**SAME_AS, **_HELD_LIKE}.items():
            control_months[regimen] = control_months[like]
        for regimen, (low, high) in _HELD_BETWEEN.items():
            control_months[regimen] = math.sqrt(control_months[low] * control_months[high])

    def _scattered(self, source: str, regimen: Regimen) -> None:
        """Follow a population at scattered levels, which shows how response depends on the level."""
        before = self.parameters
        members = self.members(source)
        for number, scatter in enumerate(_SCATTER):
            self._set("intercept", regimen.id, before.found.intercept[regimen.id] + scatter)
            some = [m.with_parameters(self.parameters) for m in members[number :: len(_SCATTER)]]
            self._judge(source, regimen, follow(some, regimen, _RESPONSE_MONTHS))
        self.parameters = before

    def _judge(self, source: str, regimen: Regimen, followed: tuple[Followed, ...]) -> None:
        rows = np.stack([of_member(f.member, regimen) for f in followed])
        values = np.array([float(responded(f.assessments)) for f in followed])
        self._judged.setdefault((source, regimen.id), []).append(_Judged(rows, values))

    # ------------------------------------------------------------ progression, with survival

    def progression(self) -> None:
        """Fit how long each regimen holds the disease, and the hazards of the same arms."""
        for index, target in enumerate(self.targets.progression):
            self.progress(f"progression {target.source} {target.regimen}", 0.45 + 0.4 * index / 7)
            self._hold(target.source, self.regimens[target.regimen], target.months)
        self._share()

    def _hold(self, source: str, regimen: Regimen, wanted: float) -> None:
        """Try some times of control; medians and hazards lie on lines over their logarithm."""
        group, key = self.control_of(source, regimen.id)
        unit = self.parameters.found.control_months[regimen.id] if group == "hold" else 1.0
        medians, logs = [], []
        for number, months in enumerate(_TRIED_MONTHS):
            self._set(group, key, months / unit)
            followed = follow(self.members(source), regimen)
            if number == 1:
                self._judge(source, regimen, followed)
            logs.append(log_hazards(followed, regimen))
            hazard, shape = self._hazard(source, regimen.id, logs[-1])
            medians.append(
                median_of(progression_free(undisturbed(followed, regimen), logs[-1], hazard, shape))
            )
        found = _crossing(np.log(_TRIED_MONTHS), np.array(medians), wanted)
        bounds = math.log(SHORTEST_MONTHS), math.log(LONGEST_MONTHS)
        months = math.exp(float(np.clip(found, *bounds)))
        _log.info(
            "%s %s: medians %s, wanted %.1f, held for %.1f months",
            source,
            regimen.id,
            np.round(medians, 1),
            wanted,
            months,
        )
        self._set(group, key, months / unit)
        self._set_hazard(source, regimen.id, _between(np.log(_TRIED_MONTHS), logs, math.log(months)))

    def _hazard(self, source: str, regimen: str, logs: FloatArray) -> tuple[float, float]:
        """Return hazard and shape of an arm that meet its survival, or those of its source."""
        target = self._survival_target(source, regimen)
        if target is None:
            return self.parameters.found.hazard[source], self.parameters.found.shape[source]
        months, wanted = np.array(list(target.at)), np.array(list(target.at.values()))
        if regimen in COMPARED.get(source, ()):
            shape = self.parameters.found.shape[source]
            return _hazard_for(logs, shape, months, wanted), shape
        if len(months) == 1:
            return _hazard_for(logs, 1.0, months, wanted), 1.0
        return _weibull_for(logs, months, wanted)

    def _set_hazard(self, source: str, regimen: str, logs: FloatArray) -> None:
        if self._survival_target(source, regimen) is None:
            return
        hazard, shape = self._hazard(source, regimen, logs)
        if regimen in COMPARED.get(source, ()):
            start = self.parameters.found.regimen_log_hazard.get(regimen, 0.0)
            ratio = hazard / self.parameters.found.hazard[source]
            self._set("regimen_log_hazard", regimen, start + math.log(ratio))
            return
        self._set("hazard", source, hazard)
        self._set("shape", source, shape)

    def _survival_target(self, source: str, regimen: str) -> SurvivalTarget | None:
        wanted = [t for t in self.targets.survival if (t.source, t.regimen) == (source, regimen)]
        return wanted[0] if wanted else None

    def remaining_arms(self) -> None:
        """Fit survival of the arms for which no progression is published."""
        done = {(t.source, t.regimen) for t in self.targets.progression}
        waiting = [t for t in self.targets.survival if (t.source, t.regimen) not in done]
        for index, target in enumerate(waiting):
            self.progress(f"survival {target.source} {target.regimen}", 0.85 + 0.15 * index / len(waiting))
            regimen = self.regimens[target.regimen]
            followed = follow(self.members(target.source), regimen)
            self._judge(target.source, regimen, followed)
            self._set_hazard(target.source, regimen.id, log_hazards(followed, regimen))


def _crossing(x: FloatArray, y: FloatArray, wanted: float) -> float:
    """Return where a rising broken line reaches a value; beyond its ends it goes on straight."""
    rising = np.maximum.accumulate(y + 1e-6 * np.arange(len(y)))
    part = int(np.clip(np.searchsorted(rising, wanted) - 1, 0, len(x) - 2))
    slope = max((rising[part + 1] - rising[part]) / (x[part + 1] - x[part]), 1e-3)
    return float(x[part] + (wanted - rising[part]) / slope)


def _between(x: FloatArray, rows: list[FloatArray], at: float) -> FloatArray:
    part = int(np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2))
    share = (at - x[part]) / (x[part + 1] - x[part])
    return np.asarray((1.0 - share) * rows[part] + share * rows[part + 1])


def _hazard_for(logs: FloatArray, shape: float, months: FloatArray, wanted: FloatArray) -> float:
    def miss(log_value: float) -> float:
        return float((survival_at(logs, math.exp(log_value), shape, months) - wanted).sum())

    return math.exp(float(brentq(miss, -12.0, 3.0)))


def _weibull_for(logs: FloatArray, months: FloatArray, wanted: FloatArray) -> tuple[float, float]:
    def miss(x: FloatArray) -> FloatArray:
        return survival_at(logs, math.exp(x[0]), math.exp(x[1]), months) - wanted

    best = least_squares(miss, np.array([math.log(0.03), 0.0]), bounds=([-9.0, -1.6], [2.0, 0.7])).x
    return math.exp(float(best[0])), math.exp(float(best[1]))
