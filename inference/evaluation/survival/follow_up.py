"""What is known of the outcome of patients, and the checks that every measure shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.evaluation.metrics import BoolArray
from inference.results import FloatArray


@dataclass(frozen=True, slots=True)
class FollowUp:
    """Right-censored follow-up of n patients.

    Attributes
    ----------
    time : array, (n,)
        Months to the event or to the end of follow-up; finite and not negative.
    event : array of bool, (n,)
        Whether the event was seen.

    Raises
    ------
    ValueError
        No patients, shapes that differ, a time that is not finite or is negative, an event that is
        neither true nor false.
    """

    time: FloatArray
    event: BoolArray

    def __post_init__(self) -> None:
        time = np.asarray(self.time, dtype=np.float64)
        event = np.asarray(self.event)
        if time.ndim != 1 or time.shape != event.shape or len(time) == 0:
            raise ValueError("times and events must be two lists of the same length, of at least one patient")
        if not np.isfinite(time).all() or (time < 0).any():
            raise ValueError("a time of follow-up is missing, infinite or negative")
        if event.dtype != np.bool_ and not np.isin(event, (0, 1)).all():
            raise ValueError("an event must be true or false")
        object.__setattr__(self, "time", time)
        object.__setattr__(self, "event", event.astype(np.bool_))

    def __len__(self) -> int:
        return len(self.time)

    def of(self, patients: npt.NDArray[np.intp] | BoolArray | slice) -> FollowUp:
        """Return the follow-up of some of the patients."""
        return FollowUp(self.time[patients], self.event[patients])


def need_events(follow_up: FollowUp) -> None:
    """Raise a ValueError where no event was seen."""
    if not follow_up.event.any():
        raise ValueError("no event was seen: all patients are censored")


def checked(values: npt.ArrayLike, follow_up: FollowUp, name: str) -> FloatArray:
    """Return predictions as an array whose first axis is the patients.

    Raises
    ------
    ValueError
        Another number of patients, or a prediction that is NaN or infinite.
    """
    found = np.asarray(values, dtype=np.float64)
    if found.ndim == 0 or len(found) != len(follow_up):
        raise ValueError(f"there must be one {name} for each patient")
    if not np.isfinite(found).all():
        raise ValueError(f"a {name} is missing or infinite")
    return found


def checked_probability(values: npt.ArrayLike, follow_up: FollowUp, name: str) -> FloatArray:
    """Return predicted probabilities, checked as by `checked` and to lie within 0 and 1."""
    found = checked(values, follow_up, name)
    if (found < 0).any() or (found > 1).any():
        raise ValueError(f"a {name} is not a probability between 0 and 1")
    return found


def checked_times(times: npt.ArrayLike, *follow_ups: FollowUp) -> FloatArray:
    """Return rising times at which measures are defined, (m,).

    Raises
    ------
    ValueError
        A time that is not above 0, not rising, or not before the last time of each of the follow-ups.
    """
    found = np.atleast_1d(np.asarray(times, dtype=np.float64))
    if len(found) == 0 or not (found > 0).all() or (np.diff(found) <= 0).any():
        raise ValueError("times must be above 0 and rise")
    last = min(float(f.time.max()) for f in follow_ups)
    if found[-1] >= last:
        raise ValueError(f"time {found[-1]:g} lies beyond the follow-up, which ends at {last:g}")
    return found
