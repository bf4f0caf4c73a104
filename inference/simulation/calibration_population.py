"""Simulated populations for calibration: many patients of one source on a coarser grid, without images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources

import numpy as np
import yaml
from pydantic import Field

from inference.randomness import RandomStreams
from inference.settings import Frozen, Regimen
from inference.simulation.anatomy import Anatomy, build_anatomy
from inference.simulation.course import MONTHS, Course, FollowUp
from inference.simulation.latents import Person, draw_person
from inference.simulation.parameters import PACKAGE, SimulationParameters
from inference.simulation.survival import Assessment, Fate, assess
from inference.simulation.tumours import build_disease

COARSE_MM = 3.0
_EXTENT_MM = (216.0, 300.0, 340.0)


class ResponseTarget(Frozen):
    """Share of objective responses of one arm."""

    source: str
    regimen: str
    rate: float = Field(gt=0, lt=1)
    n: int
    kind: str
    citation: str


class CategoryTarget(Frozen):
    """Shares of CR, PR, SD and PD of one arm."""

    source: str
    regimen: str
    shares: tuple[float, float, float, float]
    n: int
    kind: str
    citation: str


class ProgressionTarget(Frozen):
    """Median progression-free survival of one arm in months, with its 95 % interval."""

    source: str
    regimen: str
    months: float
    interval: tuple[float, float]
    n: int
    kind: str
    citation: str


class SurvivalTarget(Frozen):
    """Shares alive at some months of one arm."""

    source: str
    regimen: str
    at: Mapping[float, float]
    n: int
    kind: str
    citation: str


class ChangeTarget(Frozen):
    """Quantiles of the change of summed diameters at the first follow-up."""

    probabilities: tuple[float, ...]
    recist11: tuple[float, ...]
    mrecist: tuple[float, ...]
    n: int
    source: str
    regimen: str


class Targets(Frozen):
    """Everything that the cohort is calibrated to or compared with."""

    response: tuple[ResponseTarget, ...]
    categories: tuple[CategoryTarget, ...]
    progression: tuple[ProgressionTarget, ...]
    survival: tuple[SurvivalTarget, ...]
    change: ChangeTarget


def load_targets() -> Targets:
    """Read the targets that ship with the product."""
    text = resources.files(PACKAGE).joinpath("targets.yaml").read_text(encoding="utf-8")
    return Targets.model_validate(yaml.safe_load(text))


@dataclass(frozen=True, slots=True)
class Member:
    """One patient of a calibration population."""

    course: Course
    fate: Fate
    baseline: FollowUp

    @property
    def person(self) -> Person:
        """Who it is."""
        return self.course.person

    def with_parameters(self, parameters: SimulationParameters) -> Member:
        """Return the same patient under another calibration."""
        course = Course(self.person, self.course.disease, parameters, self.course.streams)
        return Member(course, self.fate, self.baseline)


@dataclass(frozen=True, slots=True)
class Followed:
    """One patient under one regimen."""

    member: Member
    follow_ups: tuple[FollowUp, ...]
    assessments: tuple[Assessment, ...]


def anatomies(count: int, seed: int, step_mm: float = COARSE_MM) -> tuple[Anatomy, ...]:
    """Build a few abdomens that a population shares; most of the variety is in the tumours."""
    z, y, x = (int(round(extent / step_mm)) for extent in _EXTENT_MM)
    steps = (step_mm, step_mm, step_mm)
    return tuple(
        build_anatomy((z, y, x), steps, RandomStreams(seed).derive("shared anatomy", n)) for n in range(count)
    )


def population(
    source: str,
    patients: int,
    parameters: SimulationParameters,
    bodies: Sequence[Anatomy],
    seed: int,
) -> tuple[Member, ...]:
    """Draw patients of one source and place their tumours."""
    members = []
    for number in range(patients):
        streams = RandomStreams(int(RandomStreams(seed).derive(source, number).integers(2**62)))
        person = draw_person(source, parameters, streams)
        disease = build_disease(person, bodies[number % len(bodies)], parameters, streams)
        course = Course(person, disease, parameters, streams)
        # The fields of the baseline are not needed again, and weigh more than all the rest.
        members.append(Member(course, Fate.draw(streams), replace(course.baseline(), state=None)))
    return tuple(members)


def follow(
    members: Sequence[Member], regimen: Regimen, months: Sequence[float] = MONTHS
) -> tuple[Followed, ...]:
    """Follow all patients under one regimen."""
    out = []
    for member in members:
        seen = member.course.follow(regimen, months)
        out.append(Followed(member, seen, assess(member.baseline, seen)))
    return tuple(out)


def interval(rate: float, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share, which a source's n leaves open."""
    z = 1.959964
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)))
    return middle - half, middle + half
