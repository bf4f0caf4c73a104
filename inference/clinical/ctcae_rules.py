"""How CTCAE v5.0 turns a figure into a grade: a few rules, each with its limits as data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import ge, gt
from typing import Protocol, TypeAlias

Step: TypeAlias = tuple[Callable[[float, float], bool], float]
"""How a value is compared with a limit, and the limit."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A value, and what it may have to be graded against; None is not known.

    Attributes
    ----------
    upper_limit, lower_limit : float or None
        Limits of normal of the laboratory.
    baseline : float or None
        Value before treatment.
    anticoagulated : bool or None
        Whether the patient takes anticoagulants.
    """

    value: float
    upper_limit: float | None = None
    lower_limit: float | None = None
    baseline: float | None = None
    anticoagulated: bool | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """What of a reading would be needed, the name of an attribute."""

    name: str


UPPER, LOWER, BASELINE = Missing("upper_limit"), Missing("lower_limit"), Missing("baseline")
ANTICOAGULATED = Missing("anticoagulated")


class Rule(Protocol):
    """Turns a reading into a grade, 0 for none."""

    @property
    def against(self) -> tuple[Missing, ...]:
        """What the rule may need beside the value."""
        ...

    def grade(self, reading: Reading) -> int | Missing:
        """Return the grade, or what is missing to know it."""
        ...


def _times(value: float, reference: float) -> float:
    """Return value / reference, without the last digits, so that 3 x 10.2 is 3 times 10.2."""
    return round(value / reference, 9)


def _above(multiple: float, limits: Sequence[float]) -> int:
    return sum(multiple > limit for limit in limits)


@dataclass(frozen=True, slots=True)
class Steps:
    """Absolute limits, of rising grade."""

    steps: tuple[Step, ...]
    against: tuple[Missing, ...] = ()

    def grade(self, reading: Reading) -> int | Missing:
        """Return how many limits are reached."""
        return sum(reached(reading.value, limit) for reached, limit in self.steps)


def at_least(*limits: float) -> Steps:
    """Return steps that are reached by the limit itself."""
    return Steps(tuple((ge, limit) for limit in limits))


@dataclass(frozen=True, slots=True)
class MultiplesOfNormal:
    """Multiples of the upper limit of normal, or of the baseline where that was above normal.

    Attributes
    ----------
    limits : tuple of float
        Multiples that grade 1, 2, ... lie above.
    from_baseline : Step
        How grade 1 begins where the baseline was above normal.
    """

    limits: tuple[float, ...]
    from_baseline: Step
    against: tuple[Missing, ...] = (UPPER, BASELINE)

    def grade(self, reading: Reading) -> int | Missing:
        """Return 0 for a value within normal, whatever the baseline was."""
        if reading.upper_limit is None:
            return UPPER
        if reading.value <= reading.upper_limit:
            return 0
        if reading.baseline is None:
            return BASELINE
        if reading.baseline <= reading.upper_limit:
            return _above(_times(reading.value, reading.upper_limit), self.limits)
        multiple = _times(reading.value, reading.baseline)
        begins, limit = self.from_baseline
        return 1 + _above(multiple, self.limits[1:]) if begins(multiple, limit) else 0


@dataclass(frozen=True, slots=True)
class NormalOrBaseline:
    """The worse of multiples of the upper limit of normal and multiples of the baseline (creatinine).

    Attributes
    ----------
    limits : tuple of float
        Multiples of the upper limit that grade 1, 2, ... lie above.
    baseline : tuple of (int, float)
        Grades and the multiples of the baseline that they lie above, rising.
    """

    limits: tuple[float, ...]
    baseline: tuple[tuple[int, float], ...]
    against: tuple[Missing, ...] = (UPPER, BASELINE)

    def grade(self, reading: Reading) -> int | Missing:
        """Return the grade; the baseline is not needed where it could not make it higher."""
        if reading.upper_limit is None:
            return UPPER
        by_normal = _above(_times(reading.value, reading.upper_limit), self.limits)
        if by_normal >= max(grade for grade, _ in self.baseline):
            return by_normal
        if reading.baseline is None:
            return BASELINE
        multiple = _times(reading.value, reading.baseline)
        return max(by_normal, *(grade for grade, limit in self.baseline if multiple > limit), 0)


@dataclass(frozen=True, slots=True)
class BelowNormal:
    """Grade 1 below the lower limit of normal, 2 and more below absolute limits, which fall."""

    limits: tuple[float, ...]
    against: tuple[Missing, ...] = (LOWER,)

    def grade(self, reading: Reading) -> int | Missing:
        """Return the grade; the limit of normal is needed for grades 0 and 1 only."""
        below = sum(reading.value < limit for limit in self.limits)
        if below:
            return 1 + below
        return LOWER if reading.lower_limit is None else int(reading.value < reading.lower_limit)


@dataclass(frozen=True, slots=True)
class AboveNormal:
    """Grade 1 from the upper limit of normal, 2 and more from absolute limits, which rise."""

    limits: tuple[float, ...]
    against: tuple[Missing, ...] = (UPPER,)

    def grade(self, reading: Reading) -> int | Missing:
        """Return the grade; the limit of normal is needed for grades 0 and 1 only."""
        reached = sum(reading.value >= limit for limit in self.limits)
        if reached:
            return 1 + reached
        return UPPER if reading.upper_limit is None else int(reading.value >= reading.upper_limit)


@dataclass(frozen=True, slots=True)
class Anticoagulation:
    """Absolute limits, or multiples of the baseline under anticoagulants (INR).

    Under anticoagulants the absolute limits are not used: the value that is aimed at would be an event.
    """

    limits: tuple[float, ...]
    multiples: tuple[float, ...]
    against: tuple[Missing, ...] = (ANTICOAGULATED, BASELINE)

    def grade(self, reading: Reading) -> int | Missing:
        """Return how many limits the value is above."""
        if reading.anticoagulated is None:
            return ANTICOAGULATED
        if not reading.anticoagulated:
            return _above(reading.value, self.limits)
        if reading.baseline is None:
            return BASELINE
        return _above(_times(reading.value, reading.baseline), self.multiples)


@dataclass(frozen=True, slots=True)
class StepsOrRise:
    """Absolute limits; a rise from the baseline above `rise` has the highest of their grades (QTc)."""

    steps: tuple[Step, ...]
    rise: float
    against: tuple[Missing, ...] = (BASELINE,)

    def grade(self, reading: Reading) -> int | Missing:
        """Return the grade; the baseline is not needed for the highest."""
        top = len(self.steps)
        reached = sum(comparison(reading.value, limit) for comparison, limit in self.steps)
        if reached == top:
            return top
        if reading.baseline is None:
            return BASELINE
        return top if gt(reading.value - reading.baseline, self.rise) else reached
