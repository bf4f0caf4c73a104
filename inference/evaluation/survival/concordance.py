"""Concordance of predicted risk and observed time: Harrell's and Uno's C.

A pair counts where one patient had the event, and the other lived longer or was censored at the same
time. Two patients whose risks are equal count a half. Weights of a bootstrap enter as the number of
copies of a patient; copies of one patient are no pair, because their times are equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.evaluation.bootstrap import Statistic
from inference.evaluation.metrics import BoolArray
from inference.evaluation.survival.censoring import InverseCensoring, inverse_censoring_of, weighed
from inference.evaluation.survival.follow_up import FollowUp, checked, need_events
from inference.results import FloatArray

TIED_RISK = 1e-8
_BLOCK = 256
_EXACT_IN_SINGLE = 2**22


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Patients in the order of time, at a tie events first, and the events that open pairs.

    Attributes
    ----------
    order : array of int, (n,)
    risk : array, (n,)
        In this order.
    opener : array of int, (d,)
        Positions of the events that count.
    start : array of int, (d,)
        Position of the first patient that an event is compared with; all later ones follow.
    """

    order: npt.NDArray[np.intp]
    risk: FloatArray
    opener: npt.NDArray[np.intp]
    start: npt.NDArray[np.intp]


def _pairs(follow_up: FollowUp, risk: FloatArray, counted: BoolArray) -> _Pairs:
    order = np.lexsort((~follow_up.event, follow_up.time))
    time, event = follow_up.time[order], follow_up.event[order]
    opener = np.flatnonzero(counted[order])
    # Events precede censorings of the same time, so those compared begin after the last tied event.
    tied = np.searchsorted(time, time[opener], side="left")
    deaths = np.concatenate(([0], np.cumsum(event)))
    after = np.searchsorted(time, time[opener], side="right")
    start = tied + deaths[after] - deaths[tied]
    open_pairs = start < len(time)
    if not open_pairs.any():
        raise ValueError("no pair of patients can be compared")
    return _Pairs(order, risk[order], opener[open_pairs], start[open_pairs])


def _statistic(pairs: _Pairs, factor: InverseCensoring) -> Statistic:
    def statistic(weights: FloatArray) -> FloatArray:
        w = np.asarray(weights, dtype=np.float64)[:, pairs.order]
        beyond = np.concatenate((np.zeros((len(w), 1)), np.cumsum(w, axis=1)), axis=1)
        left = beyond[:, -1:] - beyond[:, pairs.start]
        opening = weighed(w[:, pairs.opener], factor(weights) ** 2)
        comparable = (opening * left).sum(axis=1)
        won = _won(pairs, opening, w.astype(_precision(w)))
        return np.asarray(np.divide(won, comparable, out=np.full(len(w), np.nan), where=comparable > 0))

    return statistic


def _precision(weights: FloatArray) -> type[np.floating]:
    """Single precision is exact for counts and their halves, and twice as fast; else double."""
    whole = np.array_equal(weights, np.rint(weights))
    small = float(weights.sum(axis=1).max(initial=0.0)) < _EXACT_IN_SINGLE
    return np.float32 if whole and small else np.float64


def _won(pairs: _Pairs, opening: FloatArray, weights: npt.NDArray[np.floating]) -> FloatArray:
    total = np.zeros(len(weights))
    for low in range(0, len(pairs.opener), _BLOCK):
        part = slice(low, low + _BLOCK)
        first = int(pairs.start[part].min())
        gap = pairs.risk[pairs.opener[part], None] - pairs.risk[None, first:]
        win = (gap > TIED_RISK) + 0.5 * (np.abs(gap) <= TIED_RISK)
        win[np.arange(first, len(pairs.risk))[None, :] < pairs.start[part, None]] = 0.0
        beaten = weights[:, first:] @ win.T.astype(weights.dtype)
        total += np.einsum("bd,bd->b", opening[:, part], beaten, dtype=np.float64)
    return total


def harrell_of(follow_up: FollowUp, risk: npt.ArrayLike) -> Statistic:
    """Harrell's C as a function of bootstrap weights.

    Parameters
    ----------
    follow_up : FollowUp
        Of n patients.
    risk : array, (n,)
        Higher for an earlier event.

    Raises
    ------
    ValueError
        No event, a risk that is NaN, or no pair that can be compared.

    References
    ----------
    Harrell et al. 1996, Stat Med 15:361, section 5.5.
    """
    need_events(follow_up)
    pairs = _pairs(follow_up, checked(risk, follow_up, "risk"), follow_up.event)
    return _statistic(pairs, lambda _weights: np.ones((1, 1)))


def harrell_c(follow_up: FollowUp, risk: npt.ArrayLike) -> float:
    """Harrell's C; see `harrell_of`."""
    return float(harrell_of(follow_up, risk)(np.ones((1, len(follow_up))))[0])


def uno_of(train: FollowUp, follow_up: FollowUp, risk: npt.ArrayLike, tau: float) -> Statistic:
    """Uno's C up to `tau` as a function of bootstrap weights.

    Pairs weigh 1 / G(time)^2, where G is the probability of being uncensored; see
    `inference.evaluation.survival.censoring` for what the draws do to it.

    Parameters
    ----------
    train : FollowUp
        Of the patients that the censoring distribution comes from.
    follow_up : FollowUp
        Of the n patients of the evaluation.
    risk : array, (n,)
        Higher for an earlier event.
    tau : float
        Months; pairs opened at or after it do not count.

    Raises
    ------
    ValueError
        No event before `tau`, a risk that is NaN, no pair that can be compared, or an event later than
        all training patients.

    References
    ----------
    Uno et al. 2011, Stat Med 30:1105, section 2.
    """
    r = checked(risk, follow_up, "risk")
    seen = follow_up.event & (follow_up.time < tau)
    if not seen.any():
        raise ValueError("no event was seen before tau")
    pairs = _pairs(follow_up, r, seen)
    at = follow_up.time[pairs.order[pairs.opener]]
    return _statistic(pairs, inverse_censoring_of(train, follow_up, at, "the last event"))


def uno_c(train: FollowUp, follow_up: FollowUp, risk: npt.ArrayLike, tau: float) -> float:
    """Uno's C; see `uno_of`."""
    return float(uno_of(train, follow_up, risk, tau)(np.ones((1, len(follow_up))))[0])
