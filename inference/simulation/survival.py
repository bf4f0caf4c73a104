"""Response, progression and survival of a simulated patient.

Death comes by a hazard on viable burden over time, liver function, thrombus and aggressiveness, and on
what nothing shows; not by the response. The random numbers bear no regimen's name, so that a
patient's survival under two regimens differs by what the regimens do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.clinical.response import (
    MEASURABLE_MM,
    NonTarget,
    mrecist_category,
    recist11_category,
)
from inference.randomness import RandomStreams
from inference.results import FloatArray, ResponseCategory
from inference.settings import Regimen
from inference.simulation.course import Course, FollowUp
from inference.simulation.treatment import new_lesion_intensity, plan

HORIZON_MONTHS = 120
GRID = np.arange(HORIZON_MONTHS + 1, dtype=np.float64)
_REFERENCE_ML = 100.0
_REFERENCE_ALBI = -2.6
_RESPONDED = (ResponseCategory.CR, ResponseCategory.PR)


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a reader without error would say at one month."""

    months: float
    recist11: ResponseCategory
    mrecist: ResponseCategory
    whole_mm: float
    viable_mm: float
    new_lesions: int


def targets(baseline: FollowUp) -> tuple[int, ...]:
    """Return the numbers of the target lesions: the two largest of at least 10 mm."""
    fit = sorted((-v.whole_mm, v.number) for v in baseline.lesions if v.whole_mm >= MEASURABLE_MM)
    return tuple(number for _, number in fit[:2])


def assess(baseline: FollowUp, follow_ups: Sequence[FollowUp]) -> tuple[Assessment, ...]:
    """Return the categories at each follow-up, in order of time."""
    chosen = targets(baseline)
    whole, viable = _sums(baseline, chosen)
    nadir_whole, nadir_viable = whole, viable
    out = []
    for seen in follow_ups:
        now_whole, now_viable = _sums(seen, chosen)
        arrived = len(seen.new) > 0
        rest = _non_target(baseline, seen, chosen)
        out.append(
            Assessment(
                seen.months,
                recist11_category(whole, now_whole, nadir_whole, arrived, non_target=NonTarget.NON_CR_NON_PD)
                if now_whole > 0
                else ResponseCategory.CR,
                mrecist_category(viable, now_viable, nadir_viable, arrived, non_target=rest),
                now_whole,
                now_viable,
                len(seen.new),
            )
        )
        nadir_whole, nadir_viable = min(nadir_whole, now_whole), min(nadir_viable, now_viable)
    return tuple(out)


def _sums(seen: FollowUp, chosen: Sequence[int]) -> tuple[float, float]:
    lesions = [v for v in seen.lesions if v.number in chosen]
    return sum(v.whole_mm for v in lesions), sum(v.viable_mm for v in lesions)


def _non_target(baseline: FollowUp, seen: FollowUp, chosen: Sequence[int]) -> NonTarget:
    before = [v for v in baseline.lesions if v.number not in chosen]
    if not before and baseline.thrombus_ml <= 0:
        return NonTarget.NONE
    left = sum(v.viable_ml for v in seen.lesions if v.number not in chosen) + seen.thrombus_ml
    start = sum(v.viable_ml for v in before) + baseline.thrombus_ml
    if left < 0.05:
        return NonTarget.CR
    # Unequivocal progression: the rest of the disease has more than doubled, and is large.
    return NonTarget.PD if left > 2.0 * start and left > 15.0 else NonTarget.NON_CR_NON_PD


def best_response(assessments: Sequence[Assessment]) -> ResponseCategory:
    """Return the best mRECIST category before progression, without confirmation."""
    best = ResponseCategory.PD
    order = {ResponseCategory.PD: 0, ResponseCategory.SD: 1, ResponseCategory.PR: 2, ResponseCategory.CR: 3}
    for seen in assessments:
        if seen.mrecist is ResponseCategory.PD:
            break
        if order.get(seen.mrecist, 0) > order[best]:
            best = seen.mrecist
    return best


def responded(assessments: Sequence[Assessment]) -> bool:
    """Whether the best response is objective."""
    return best_response(assessments) in _RESPONDED


@dataclass(frozen=True, slots=True)
class Fate:
    """Random numbers of one patient that decide when things happen."""

    death: float
    extrahepatic: float
    frailty: float
    visit: float
    relapse: float
    follow_up: float

    @classmethod
    def draw(cls, streams: RandomStreams) -> Fate:
        """Draw them."""
        rng = streams.derive("fate")
        death, extrahepatic, relapse = (float(v) for v in rng.exponential(1.0, 3))
        return cls(
            death,
            extrahepatic,
            float(rng.standard_normal()),
            float(rng.random()),
            relapse,
            float(rng.random()),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """True times in months, without censoring; the last two as a study would record them."""

    death_months: float
    progression_months: float
    follow_up_months: float

    @property
    def os_event(self) -> bool:
        """Whether death falls into follow-up."""
        return self.death_months <= self.follow_up_months

    @property
    def os_months(self) -> float:
        """Time to death or last contact."""
        return min(self.death_months, self.follow_up_months)

    @property
    def pfs_event(self) -> bool:
        """Whether progression or death falls into follow-up."""
        return self.progression_months <= self.follow_up_months

    @property
    def pfs_months(self) -> float:
        """Time to progression, death or last assessment."""
        return min(self.progression_months, self.follow_up_months)


def log_hazard(
    course: Course, fate: Fate, regimen: Regimen, baseline: FollowUp, follow_ups: Sequence[FollowUp]
) -> FloatArray:
    """Return the log hazard relative to the reference patient of the source, at each month of `GRID`."""
    person, parameters = course.person, course.parameters
    table = parameters.survival
    burden = viable_over_time(course, regimen, baseline, follow_ups)
    fixed = (
        table.albi * (person.albi - _REFERENCE_ALBI)
        + table.thrombus * (person.plan.thrombus > 0)
        + table.metastasis * bool(person.clinical["metastasis"])
        + table.aggressiveness * person.latents.aggressiveness
        + table.ascites * (person.clinical["ascites"] != "none")
        + table.frailty_sd * fate.frailty
        + parameters.found.regimen_log_hazard.get(regimen.id, 0.0)
    )
    return np.asarray(fixed + table.burden * np.log((burden + 10.0) / (_REFERENCE_ML + 10.0)))


def viable_over_time(
    course: Course, regimen: Regimen, baseline: FollowUp, follow_ups: Sequence[FollowUp]
) -> FloatArray:
    """Return viable tumour in ml at each month of `GRID`; after the last follow-up, by its growth."""
    months = [0.0, *(f.months for f in follow_ups)]
    volumes = [baseline.viable_ml, *(f.viable_ml for f in follow_ups)]
    seen = np.exp(np.interp(GRID, months, np.log(np.array(volumes) + 1.0))) - 1.0
    parameters = course.parameters
    held = plan(course.person, course.luck, regimen, parameters, (months[-1],)).control_months
    free = np.maximum(GRID - max(held, months[-1]), 0.0)
    pace = parameters.survival.later_growth * math.log(2.0) / course.person.plan.tvdt_months
    late = (volumes[-1] + 2.0) * np.exp(np.minimum(pace * free, 12.0))
    burden = np.where(months[-1] >= GRID, seen, late)
    return np.asarray(np.minimum(burden, parameters.survival.capacity_ml))


def cumulative_hazard(log_hazards: FloatArray, hazard: float, shape: float) -> FloatArray:
    """Return the cumulated hazard at each month of `GRID`; the Weibull part has its scale at a year."""
    middle = (log_hazards[..., 1:] + log_hazards[..., :-1]) / 2.0
    weibull = 12.0 * (GRID / 12.0) ** shape
    steps = hazard * np.exp(middle) * np.diff(weibull)
    start = np.zeros((*steps.shape[:-1], 1))
    return np.asarray(np.concatenate([start, np.cumsum(steps, axis=-1)], axis=-1))


def crossing(cumulated: FloatArray, threshold: float) -> float:
    """Return the month at which a cumulated hazard reaches a threshold; beyond the grid, extrapolated."""
    if cumulated[-1] >= threshold:
        return float(np.interp(threshold, cumulated, GRID))
    pace = max(float(cumulated[-1] - cumulated[-13]) / 12.0, 1e-5)
    return float(HORIZON_MONTHS + (threshold - cumulated[-1]) / pace)


def outcome(
    course: Course,
    fate: Fate,
    regimen: Regimen,
    baseline: FollowUp,
    follow_ups: Sequence[FollowUp],
    assessments: Sequence[Assessment],
) -> Outcome:
    """Return when a patient dies and progresses under a regimen."""
    found = course.parameters.found
    source = course.person.source
    logs = log_hazard(course, fate, regimen, baseline, follow_ups)
    death = crossing(cumulative_hazard(logs, found.hazard[source], found.shape[source]), fate.death)
    local = local_progression(course, fate, regimen, baseline, follow_ups, assessments)
    low, high = course.parameters.survival.follow_up_months
    return Outcome(
        death_months=death,
        progression_months=min(local, extrahepatic(course, fate), death),
        follow_up_months=low + (high - low) * fate.follow_up,
    )


def extrahepatic(course: Course, fate: Fate) -> float:
    """Return the month of progression outside the liver."""
    return fate.extrahepatic / extrahepatic_rate(course)


def extrahepatic_rate(course: Course) -> float:
    """Return the monthly rate of progression outside the liver."""
    table, person = course.parameters.progression, course.person
    return table.extrahepatic_per_month * math.exp(
        table.aggressiveness * person.latents.aggressiveness
        + table.metastasis * bool(person.clinical["metastasis"])
    )


def local_progression(
    course: Course,
    fate: Fate,
    regimen: Regimen,
    baseline: FollowUp,
    follow_ups: Sequence[FollowUp],
    assessments: Sequence[Assessment],
) -> float:
    """Return the month of progression in the liver by mRECIST.

    Assessments of real patients fall on any day, so progression is dated within the interval before
    the assessment that shows it. After the last one it is when targets have regrown by a fifth over
    their nadir, or a tumour has appeared.
    """
    return min(
        target_progression(course, fate, regimen, baseline, follow_ups, assessments),
        _next_new_lesion(course, regimen, follow_ups[-1], assessments[-1].months),
    )


def target_progression(
    course: Course,
    fate: Fate,
    regimen: Regimen,
    baseline: FollowUp,
    follow_ups: Sequence[FollowUp],
    assessments: Sequence[Assessment],
) -> float:
    """Return the month of progression in the liver, tumours left out that are yet to appear."""
    before = 0.0
    for seen in assessments:
        if seen.mrecist is ResponseCategory.PD:
            return before + (0.15 + 0.85 * fate.visit) * (seen.months - before)
        before = seen.months
    return _regrowth(course, fate, regimen, baseline, follow_ups, assessments)


def _regrowth(
    course: Course,
    fate: Fate,
    regimen: Regimen,
    baseline: FollowUp,
    follow_ups: Sequence[FollowUp],
    assessments: Sequence[Assessment],
) -> float:
    parameters = course.parameters
    last = assessments[-1]
    held = plan(course.person, course.luck, regimen, parameters, (last.months,)).control_months
    start = max(held, last.months)
    if last.viable_mm <= 0:
        return start + 6.0 * fate.relapse
    chosen = targets(baseline)
    speed = sum(v.speed for v in course.disease.lesions if v.number in chosen)
    nadir = min(_sums(f, chosen)[1] for f in (baseline, *follow_ups))
    rise = max(1.2 * nadir - last.viable_mm, 0.0)
    return start + rise / max(2.0 * speed * parameters.treatment.after_control, 1e-3)


def _next_new_lesion(course: Course, regimen: Regimen, last: FollowUp, month: float) -> float:
    waiting = [s for s in course.disease.seeds if s.number not in {n.number for n in last.new}]
    if not waiting:
        return math.inf
    held = plan(course.person, course.luck, regimen, course.parameters, (month,)).control_months
    now, later = (
        new_lesion_intensity(course.person, regimen, held, m, course.parameters)
        for m in (month, float(HORIZON_MONTHS))
    )
    share = (min(s.threshold for s in waiting) - now) / max(later - now, 1e-9)
    return month + share * (HORIZON_MONTHS - month)
