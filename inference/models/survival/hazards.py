"""Hazards that are constant within the intervals of a grid, and what follows from them.

The chance to die within interval j of those who enter it, the discrete hazard, is
``1 - exp(-rate_j * width_j)``; survival falls log-linearly between nodes, so that it is defined at every
time and a patient censored within an interval counts for the part that was seen.

Notation: n patients, J intervals, m times. Times are in the unit of the data, months in the protocol.

References
----------
Friedman 1982, Ann Stat 10:101 (piecewise exponential model); Kvamme & Borgan 2021, Lifetime Data Anal
27:710, section 3 (as the output of a network).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.results import FloatArray

IntArray = npt.NDArray[np.intp]
LEAST_EVENTS = 2
"""Events of an interval, about: fewer make the hazard of an interval noise."""


@dataclass(frozen=True, slots=True)
class HazardGrid:
    """Nodes of the grid, (J + 1,): rising, the first 0. The last interval has no end.

    Raises
    ------
    ValueError
        Fewer than two nodes, the first is not 0, or they do not rise.
    """

    nodes: FloatArray

    def __post_init__(self) -> None:
        nodes = np.asarray(self.nodes, dtype=np.float64)
        if nodes.ndim != 1 or len(nodes) < 2 or nodes[0] != 0 or not (np.diff(nodes) > 0).all():
            raise ValueError("a grid of hazards needs rising nodes of which the first is 0")
        object.__setattr__(self, "nodes", nodes)

    def __len__(self) -> int:
        return len(self.nodes) - 1

    @property
    def widths(self) -> FloatArray:
        """Lengths of the intervals, (J,)."""
        return np.diff(self.nodes)

    def exposure(self, times: npt.ArrayLike) -> FloatArray:
        """Time spent in each interval until `times` (m,), to (m, J)."""
        t = np.asarray(times, dtype=np.float64)[:, None]
        ends = np.append(self.nodes[1:-1], np.inf)
        return np.asarray(np.clip(np.minimum(t, ends[None, :]) - self.nodes[None, :-1], 0.0, None))

    def interval(self, times: npt.ArrayLike) -> IntArray:
        """Index of the interval (node_j, node_j+1] that each time lies in, (m,)."""
        return np.asarray(np.searchsorted(self.nodes[1:-1], np.asarray(times), side="left"), dtype=np.intp)


def grid_of_events(
    time: FloatArray, event: npt.NDArray[np.bool_], intervals: int, fixed: Sequence[float] = ()
) -> HazardGrid:
    """Choose nodes at quantiles of the event times, so that intervals hold about as many events.

    Parameters
    ----------
    time, event : array, (n,)
    intervals : int
        At most so many, and not more than one for each `LEAST_EVENTS` events.
    fixed : sequence of float
        Times that must be nodes, such as 12, 24 and 36 months; those outside of follow-up are left out.

    Raises
    ------
    ValueError
        No event, or no time above 0.
    """
    if not event.any() or time.max() <= 0:
        raise ValueError("a grid of hazards needs an event and a time above 0")
    count = int(np.clip(event.sum() // LEAST_EVENTS, 1, intervals))
    inner = np.quantile(time[event], np.arange(1, count) / count)
    last = float(time.max())
    wanted = [t for t in fixed if 0 < t < last]
    nodes = np.unique(np.concatenate(([0.0, last], inner[(inner > 0) & (inner < last)], wanted)))
    return HazardGrid(_apart(nodes, frozenset([0.0, last, *wanted])))


def _apart(nodes: FloatArray, needed: frozenset[float]) -> FloatArray:
    """Leave out nodes that nearly coincide with the one before, but none that is needed."""
    least = 1e-6 * nodes[-1]
    kept = [float(nodes[0])]
    for node in map(float, nodes[1:]):
        if node - kept[-1] > least:
            kept.append(node)
        elif node in needed:
            kept[-1] = node
    return np.array(kept)


def survival_at(grid: HazardGrid, log_rates: FloatArray, times: npt.ArrayLike) -> FloatArray:
    """Survival at `times` (m,) from log rates (..., J), to (..., m)."""
    return np.asarray(np.exp(-np.exp(log_rates) @ grid.exposure(times).T))


def discrete_hazards(grid: HazardGrid, log_rates: FloatArray) -> FloatArray:
    """Return the chance to die within each interval of those who enter it, (..., J)."""
    return np.asarray(-np.expm1(-np.exp(log_rates) * grid.widths))


def log_likelihood(
    grid: HazardGrid, log_rates: FloatArray, time: FloatArray, event: npt.NDArray[np.bool_]
) -> FloatArray:
    """Log likelihood of each patient, (n,), from log rates (n, J)."""
    at_end = np.take_along_axis(log_rates, grid.interval(time)[:, None], axis=1)[:, 0]
    return np.asarray(np.where(event, at_end, 0.0) - (np.exp(log_rates) * grid.exposure(time)).sum(axis=1))


def median_time(times: FloatArray, survival: FloatArray) -> float | None:
    """Return when a curve (m,) at rising times first is at .5, by linear interpolation; None: not reached."""
    below = np.flatnonzero(survival <= 0.5)
    if not len(below):
        return None
    i = int(below[0])
    if i == 0:
        return float(times[0])
    share = (survival[i - 1] - 0.5) / (survival[i - 1] - survival[i])
    return float(times[i - 1] + share * (times[i] - times[i - 1]))


def restricted_mean(times: FloatArray, survival: FloatArray, until: float) -> float | None:
    """Return the area under a curve that begins at 0, up to `until`; None where the curve ends before."""
    if times[-1] < until:
        return None
    within = times < until
    t = np.append(times[within], until)
    s = np.append(survival[within], np.interp(until, times, survival))
    return float(np.trapezoid(s, t))
