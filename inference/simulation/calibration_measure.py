"""What the calibrated simulator gives, arm by arm, beside what it was calibrated to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from inference.evaluation.measures import auroc
from inference.randomness import RandomStreams
from inference.results import FloatArray, Mask, ResponseCategory
from inference.settings import Regimen
from inference.simulation.anatomy import Anatomy
from inference.simulation.calibration_information import (
    concordance,
    cross_validated,
    observables,
    ridge_cross_validated,
    traits,
)
from inference.simulation.calibration_population import (
    Followed,
    Member,
    Targets,
    follow,
    interval,
    population,
)
from inference.simulation.calibration_progression import (
    MONTHS_FINE,
    log_hazards,
    median_of,
    progression_free,
    survival_at,
    undisturbed,
)
from inference.simulation.calibration_response import Crowd, ResponseCurve, of_member
from inference.simulation.parameters import CONTROL_ARM, SimulationParameters
from inference.simulation.survival import Outcome, assess, best_response, outcome, responded

INFORMED = 1000
"""Patients from whom the AUROC of response is measured."""
_ORDER = (ResponseCategory.CR, ResponseCategory.PR, ResponseCategory.SD, ResponseCategory.PD)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of the simulator beside its target.

    Attributes
    ----------
    low, high : the bar, as a rule the 95 % interval that the source's n leaves open; NaN without one
    """

    topic: str
    source: str
    regimen: str
    quantity: str
    target: float
    low: float
    high: float
    simulated: float
    patients: int
    kind: str

    @property
    def miss(self) -> float:
        """How far the simulated figure lies outside the bar; 0 within, NaN without one."""
        if np.isnan(self.low):
            return float("nan")
        return float(max(self.low - self.simulated, self.simulated - self.high, 0.0))


@dataclass(frozen=True, slots=True)
class Arm:
    """One source under one regimen."""

    source: str
    regimen: Regimen
    followed: tuple[Followed, ...]

    @property
    def members(self) -> tuple[Member, ...]:
        """The patients."""
        return tuple(f.member for f in self.followed)

    def outcomes(self) -> tuple[Outcome, ...]:
        """Return the true times of all patients."""
        return tuple(
            outcome(
                f.member.course,
                f.member.fate,
                self.regimen,
                f.member.baseline,
                f.follow_ups,
                f.assessments,
            )
            for f in self.followed
        )

    def progression_free(self, parameters: SimulationParameters) -> FloatArray:
        """Return the expected share without progression at `MONTHS_FINE`."""
        found = parameters.found
        logs = log_hazards(self.followed, self.regimen)
        alone = undisturbed(self.followed, self.regimen)
        return progression_free(alone, logs, found.hazard[self.source], found.shape[self.source])

    def alive(self, parameters: SimulationParameters, months: FloatArray) -> FloatArray:
        """Return the expected share alive at some months."""
        found = parameters.found
        logs = log_hazards(self.followed, self.regimen)
        return survival_at(logs, found.hazard[self.source], found.shape[self.source], months)

    def responses(self) -> FloatArray:
        """Return 1 for each objective response."""
        return np.array([float(responded(f.assessments)) for f in self.followed])


class Measured:
    """Arms of all targets, followed once."""

    def __init__(
        self,
        parameters: SimulationParameters,
        targets: Targets,
        regimens: Mapping[str, Regimen],
        members: Mapping[str, Sequence[Member]],
    ) -> None:
        self.parameters, self.targets = parameters, targets
        known = {**regimens, CONTROL_ARM.id: CONTROL_ARM}
        wanted = {(t.source, t.regimen) for t in targets.response}
        self.arms = {
            (source, regimen): Arm(source, known[regimen], follow(members[source], known[regimen]))
            for source, regimen in sorted(wanted)
        }

    def rows(self) -> list[Row]:
        """Return all figures."""
        return [
            *self.response(),
            *self.categories(),
            *self.progression(),
            *self.survival(),
            *self.change(),
            *self.information(),
            *self.biology(),
        ]

    def response(self) -> list[Row]:
        """Objective response rates."""
        rows = []
        for t in self.targets.response:
            values = self.arms[t.source, t.regimen].responses()
            low, high = interval(t.rate, t.n)
            rows.append(
                Row(
                    "response",
                    t.source,
                    t.regimen,
                    "ORR",
                    t.rate,
                    low,
                    high,
                    values.mean(),
                    len(values),
                    t.kind,
                )
            )
        return rows

    def categories(self) -> list[Row]:
        """CR and PR as best response, PD as status at a year; and best responses of all arms."""
        rows = []
        for t in self.targets.categories:
            arm = self.arms[t.source, t.regimen]
            best = [best_response(f.assessments) for f in arm.followed]
            shares = [float(np.mean([b is c for b in best])) for c in _ORDER]
            free = np.interp(12.0, MONTHS_FINE, arm.progression_free(self.parameters))
            progressed = 1.0 - float(free)
            for name, target, value in (
                ("CR, best", t.shares[0], shares[0]),
                ("PR, best", t.shares[1], shares[1]),
                ("progressed at 12 months", t.shares[3], progressed),
            ):
                low, high = interval(target, t.n)
                rows.append(
                    Row("categories", t.source, t.regimen, name, target, low, high, value, len(best), t.kind)
                )
        for (source, regimen), arm in self.arms.items():
            best = [best_response(f.assessments) for f in arm.followed]
            for category in _ORDER:
                share = float(np.mean([b is category for b in best]))
                rows.append(_free("best response", source, regimen, str(category), share, len(best)))
        return rows

    def progression(self) -> list[Row]:
        """Median of the expected progression-free survival."""
        rows = []
        for t in self.targets.progression:
            arm = self.arms[t.source, t.regimen]
            median = median_of(arm.progression_free(self.parameters))
            rows.append(
                Row(
                    "progression",
                    t.source,
                    t.regimen,
                    "median PFS, months",
                    t.months,
                    *t.interval,
                    median,
                    len(arm.followed),
                    t.kind,
                )
            )
        return rows

    def survival(self) -> list[Row]:
        """Return expected shares alive beside those published."""
        rows = []
        for t in self.targets.survival:
            arm = self.arms[t.source, t.regimen]
            alive = arm.alive(self.parameters, np.array(list(t.at)))
            for (month, target), value in zip(t.at.items(), alive, strict=True):
                low, high = interval(target, t.n)
                name = f"alive at {month:g} months"
                count = len(arm.followed)
                rows.append(
                    Row(
                        "survival",
                        t.source,
                        t.regimen,
                        name,
                        target,
                        low,
                        high,
                        float(value),
                        count,
                        t.kind,
                    )
                )
        return rows

    def change(self) -> list[Row]:
        """Quantiles of the change of summed diameters at month 3 against the readers'."""
        t = self.targets.change
        arm = self.arms[t.source, t.regimen]
        rows = []
        for name, wanted in (("recist11", t.recist11), ("mrecist", t.mrecist)):
            values = np.array([_change(f, name) for f in arm.followed])
            found = np.quantile(values, t.probabilities)
            for p, target, value in zip(t.probabilities, wanted, found, strict=True):
                rows.append(
                    Row(
                        "change at first follow-up",
                        t.source,
                        t.regimen,
                        f"{name}, quantile {p:g}",
                        target,
                        target - 0.10,
                        target + 0.10,
                        float(value),
                        len(values),
                        "real",
                    )
                )
        return rows

    def information(self) -> list[Row]:
        """AUROC of response and C of survival from clinical values and simple radiomics, cross-validated.

        The AUROC is that of a thousand patients of whom only the traits were drawn, and whose response was
        drawn from the curve that was fitted to the followed ones: a regression on a hundred patients
        says too little.
        """
        rows = []
        features = {
            key: np.stack([of_member(m, a.regimen) for m in a.members]) for key, a in self.arms.items()
        }
        seen = {key: arm.responses() for key, arm in self.arms.items()}
        curve = ResponseCurve.fit(
            np.concatenate(list(features.values())), np.concatenate(list(seen.values()))
        )
        for (source, regimen), arm in self.arms.items():
            bias = curve.bias_of(features[source, regimen], seen[source, regimen])
            reached, oracle = self._auroc(arm, curve, bias)
            name = "AUROC of response"
            bar = (0.775, 0.70, 0.85)
            rows.append(Row("information", source, regimen, name, *bar, reached, INFORMED, "published"))
            name = "AUROC of response, all traits known"
            rows.append(_free("information", source, regimen, name, oracle, INFORMED))
            table = np.stack([observables(m) for m in arm.members])
            deaths = np.array([o.death_months for o in arm.outcomes()])
            c = concordance(deaths, ridge_cross_validated(table, -np.log(deaths + 0.5)))
            bar = (0.675, 0.60, 0.75)
            rows.append(
                Row("information", source, regimen, "C of survival", *bar, c, len(deaths), "published")
            )
        return rows

    def _auroc(self, arm: Arm, curve: ResponseCurve, bias: float) -> tuple[float, float]:
        crowd = Crowd.draw(arm.source, INFORMED, self.parameters, INFORMED)
        share = expit(curve.logit(crowd.features(arm.regimen, self.parameters)) + bias)
        rng = RandomStreams(INFORMED).derive("information", arm.source, arm.regimen.id)
        labels = np.asarray(rng.random(len(share)) < share, dtype=np.float64)
        table = np.stack([traits(person, rng) for person, _, _ in crowd.people])
        return auroc(labels, cross_validated(table, labels)), auroc(labels, share)

    def biology(self) -> list[Row]:
        """Doubling times, thrombus, lipiodol and new lesions."""
        people = [m.person for arm in self.arms.values() for m in arm.members]
        tvdt = np.array([p.plan.tvdt_months for p in people])
        rows = [
            _share("growth", "volume doubles within 4 months", 0.35, tvdt < 4.0),
            _share("growth", "volume doubles within 4 to 9 months", 0.27, (tvdt >= 4.0) & (tvdt <= 9.0)),
            _share("growth", "volume doubles after 9 months", 0.38, tvdt > 9.0),
            _free(
                "growth", "all", "", "median doubling time, months (4.6)", float(np.median(tvdt)), len(tvdt)
            ),
        ]
        for (source, regimen), arm in self.arms.items():
            new = float(np.mean([len(f.follow_ups[-1].new) > 0 for f in arm.followed]))
            rows.append(
                _free(
                    "new lesions",
                    source,
                    regimen,
                    "share with new lesions at 12 months",
                    new,
                    len(arm.followed),
                )
            )
            if arm.regimen.tace:
                kept = [_retention(f) for f in arm.followed]
                rows.append(
                    _free(
                        "lipiodol",
                        source,
                        regimen,
                        "tumour that reads as lipiodol at 1 month",
                        float(np.mean(kept)),
                        len(kept),
                    )
                )
        return rows


def _share(topic: str, quantity: str, target: float, values: Mask) -> Row:
    return Row(
        topic,
        "all",
        "",
        quantity,
        target,
        target - 0.05,
        target + 0.05,
        float(values.mean()),
        len(values),
        "published",
    )


def _free(topic: str, source: str, regimen: str, quantity: str, value: float, n: int) -> Row:
    nan = float("nan")
    return Row(topic, source, regimen, quantity, nan, nan, nan, value, n, "")


def _change(followed: Followed, criterion: str) -> float:
    base = followed.member.baseline
    start = assess(base, (base,))[0]
    seen = next(a for a in followed.assessments if a.months == 3.0)
    if criterion == "recist11":
        return seen.whole_mm / max(start.whole_mm, 1e-6) - 1.0
    return seen.viable_mm / max(start.viable_mm, 1e-6) - 1.0


def _retention(followed: Followed) -> float:
    first = followed.follow_ups[0]
    tumour = sum(v.viable_ml + v.necrosis_ml + v.lipiodol_ml for v in first.lesions)
    return sum(v.lipiodol_ml for v in first.lesions) / max(tumour, 1e-6)


def populations(
    parameters: SimulationParameters,
    targets: Targets,
    patients: int,
    bodies: Sequence[Anatomy],
    seed: int,
) -> dict[str, tuple[Member, ...]]:
    """Draw a population of every source that a target names."""
    sources = sorted({t.source for t in targets.response})
    return {s: population(s, patients, parameters, bodies, seed) for s in sources}
