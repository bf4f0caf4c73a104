"""Linear predictors of hazards that are constant in intervals, with a ridge penalty for each term.

The rates of the intervals are profiled out, which leaves a smooth function of the coefficients alone,
much like Cox's partial likelihood, at a cost that grows with patients times terms squared.

References
----------
Breslow 1974, Biometrics 30:89 (rates at known coefficients); Verweij & van Houwelingen 1993, Stat Med
12:2305 (cross-validated likelihood) and 1994, Stat Med 13:2427 (ridge).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inference.evaluation.metrics import BoolArray
from inference.models.survival.hazards import HazardGrid
from inference.results import FloatArray

_ROUNDS = 2
_MAXIMUM_STEPS = 60
_MAXIMUM_HALVINGS = 30
_TOLERANCE = 1e-7
_BOUND = 30.0
PRIOR_EVENTS = 0.05
"""Events at the overall rate that are added to each interval, so that no rate is 0."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Follow-up of n patients on a grid of J intervals.

    Attributes
    ----------
    grid : HazardGrid
    time, event : array, (n,)
    exposure : array, (n, J)
    interval : array of int, (n,)
        Where the follow-up ends.
    """

    grid: HazardGrid
    time: FloatArray
    event: BoolArray
    exposure: FloatArray
    interval: np.ndarray

    @classmethod
    def on(cls, grid: HazardGrid, time: FloatArray, event: BoolArray) -> Outcomes:
        """Place follow-up on a grid."""
        return cls(grid, time, event, grid.exposure(time), grid.interval(time))

    def of(self, patients: np.ndarray) -> Outcomes:
        """Return the outcomes of some patients."""
        return Outcomes(
            self.grid,
            self.time[patients],
            self.event[patients],
            self.exposure[patients],
            self.interval[patients],
        )

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True, slots=True)
class LinearFit:
    """Coefficients (p,) and log rates at a linear predictor of 0, (J,)."""

    beta: FloatArray
    log_rates: FloatArray


@dataclass(frozen=True, slots=True)
class _Profile:
    value: float
    gradient: FloatArray
    information: FloatArray


@dataclass(frozen=True, slots=True)
class _Problem:
    x: FloatArray
    outcomes: Outcomes
    offset: FloatArray
    weights: FloatArray
    penalty: FloatArray
    deaths: FloatArray
    prior_time: FloatArray

    def predictor(self, beta: FloatArray) -> FloatArray:
        return np.asarray(np.clip(self.offset + self.x @ beta, -_BOUND, _BOUND))

    def value(self, beta: FloatArray) -> float:
        eta = self.predictor(beta)
        at_risk = (self.weights * np.exp(eta)) @ self.outcomes.exposure + self.prior_time
        seen = float((self.weights * self.outcomes.event) @ eta)
        return seen - float(self.deaths @ np.log(at_risk)) - 0.5 * float(self.penalty @ beta**2)

    def profile(self, beta: FloatArray) -> _Profile:
        eta = self.predictor(beta)
        risk = self.weights * np.exp(eta)
        at_risk = risk @ self.outcomes.exposure + self.prior_time
        rates = self.deaths / at_risk
        expected = risk * (self.outcomes.exposure @ rates)
        seen = self.weights * self.outcomes.event
        means = ((risk[:, None] * self.outcomes.exposure).T @ self.x) / at_risk[:, None]
        information = (self.x * expected[:, None]).T @ self.x - (means * self.deaths[:, None]).T @ means
        return _Profile(
            value=float(seen @ eta - self.deaths @ np.log(at_risk) - 0.5 * self.penalty @ beta**2),
            gradient=self.x.T @ (seen - expected) - self.penalty * beta,
            information=information + np.diag(self.penalty),
        )

    def rates(self, beta: FloatArray) -> FloatArray:
        at_risk = (self.weights * np.exp(self.predictor(beta))) @ self.outcomes.exposure
        return np.asarray(np.log(self.deaths / (at_risk + self.prior_time)))


def _problem(
    x: FloatArray,
    outcomes: Outcomes,
    penalty: FloatArray,
    offset: FloatArray | None,
    weights: FloatArray | None,
) -> _Problem:
    n = len(outcomes)
    weights = np.ones(n) if weights is None else weights
    seen = weights * outcomes.event
    deaths = np.bincount(outcomes.interval, seen, minlength=len(outcomes.grid))
    total = float((weights @ outcomes.exposure).sum())
    overall = max(float(deaths.sum()), PRIOR_EVENTS) / max(total, 1e-300)
    prior = PRIOR_EVENTS * np.ones(len(outcomes.grid))
    return _Problem(
        x=x,
        outcomes=outcomes,
        offset=np.zeros(n) if offset is None else offset,
        weights=weights,
        penalty=penalty,
        deaths=deaths + prior,
        prior_time=prior / overall,
    )


def fit_linear(
    x: FloatArray,
    outcomes: Outcomes,
    penalty: FloatArray,
    offset: FloatArray | None = None,
    weights: FloatArray | None = None,
    start: FloatArray | None = None,
) -> LinearFit:
    """Fit coefficients and rates by Newton's method.

    Parameters
    ----------
    x : array, (n, p)
        Terms on one scale.
    penalty : array, (p,)
        Of the squared coefficients, > 0; infinite: the coefficient is 0.
    offset : array, (n,), optional
        Known part of the linear predictor.
    weights : array, (n,), optional
        How often each patient counts.
    start : array, (p,), optional
        Coefficients to begin with.
    """
    free = np.isfinite(penalty)
    problem = _problem(x[:, free], outcomes, penalty[free], offset, weights)
    beta = np.zeros(int(free.sum())) if start is None else start[free]
    if len(beta):
        beta = _newton(problem, beta)
    full = np.zeros(len(free))
    full[free] = beta
    return LinearFit(full, problem.rates(beta))


def _newton(problem: _Problem, beta: FloatArray) -> FloatArray:
    for _ in range(_MAXIMUM_STEPS):
        at = problem.profile(beta)
        step = np.linalg.solve(at.information, at.gradient)
        gain = float(at.gradient @ step)
        if gain < _TOLERANCE:
            break
        for _ in range(_MAXIMUM_HALVINGS):
            if problem.value(beta + step) >= at.value:
                break
            step = step / 2
        beta = beta + step
    return beta


def loss(fit: LinearFit, x: FloatArray, outcomes: Outcomes, offset: FloatArray | None = None) -> FloatArray:
    """Negative log likelihood of each patient, (n,)."""
    eta = x @ fit.beta if offset is None else offset + x @ fit.beta
    eta = np.clip(eta, -_BOUND, _BOUND)
    hazard = np.exp(eta) * (outcomes.exposure @ np.exp(fit.log_rates))
    return np.asarray(hazard - outcomes.event * (eta + fit.log_rates[outcomes.interval]))


# ------------------------------------------------------------------ choosing penalties

GRIDS: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, np.inf)
"""Penalties that are tried for each kind of term; the last leaves the terms out."""
LEAST_GAIN = 1.0
"""Log likelihood, over all held-out patients, that any kind of term but the first must gain."""


@dataclass(frozen=True, slots=True)
class Penalties:
    """The penalty of each kind of term, and the cross-validated loss of a patient with them."""

    of_kind: Mapping[str, float]
    loss: float


def choose_penalties(
    x: FloatArray,
    kinds: Sequence[str],
    outcomes: Outcomes,
    folds: Sequence[np.ndarray],
    offset: FloatArray | None = None,
    start: Mapping[str, float] | None = None,
) -> Penalties:
    """Choose the penalty of each kind of term by cross-validated likelihood, one kind after the other.

    Parameters
    ----------
    x : array, (n, p)
    kinds : sequence of str, (p,)
        Kind of each term; terms of a kind share a penalty.
    folds : sequence of array of int
        Held-out patients of each fold.
    offset : array, (n,), optional
        Known part of the linear predictor.
    start : mapping, optional
        Penalties to begin with, such as those of the same terms on another scale: one round then is
        enough.
    """
    names = list(dict.fromkeys(kinds))
    first = {name: (30.0 if i == 0 else np.inf) for i, name in enumerate(names)}
    chosen = {name: (start or {}).get(name, first[name]) for name in names}
    search = _Search(x, kinds, outcomes, folds, offset)
    for _ in range(_ROUNDS if start is None else 1):
        for name in names:
            figures = [search.loss({**chosen, name: penalty}) for penalty in GRIDS]
            # The least of several noisy figures is too low: terms must gain more than chance would give.
            figures[-1] -= 0.0 if name == names[0] else LEAST_GAIN / len(outcomes)
            chosen[name] = GRIDS[int(np.argmin(figures))]
    return Penalties(chosen, search.loss(chosen))


class _Search:
    """Cross-validated losses of penalties, each computed once, from the coefficients found before."""

    def __init__(
        self,
        x: FloatArray,
        kinds: Sequence[str],
        outcomes: Outcomes,
        folds: Sequence[np.ndarray],
        offset: FloatArray | None,
    ) -> None:
        known = np.zeros(len(outcomes)) if offset is None else offset
        everybody = np.arange(len(outcomes))
        kept = [np.setdiff1d(everybody, held_out) for held_out in folds]
        free = np.zeros(x.shape[1])
        self._kinds = kinds
        self._all = _problem(x, outcomes, free, known, None)
        self._kept = [(x[k], outcomes.of(k), known[k]) for k in kept]
        self._unpenalised = [_problem(a, b, free, c, None) for a, b, c in self._kept]
        self._beta = [free.copy() for _ in kept]
        self._known: dict[tuple[float, ...], float] = {}

    def loss(self, penalties: Mapping[str, float]) -> float:
        """Return the loss of a patient, rates profiled out (Verweij & van Houwelingen 1993)."""
        key = tuple(penalties.values())
        if key not in self._known:
            penalty = np.array([penalties[kind] for kind in self._kinds])
            total = 0.0
            for fold, (x, outcomes, offset) in enumerate(self._kept):
                beta = fit_linear(x, outcomes, penalty, offset, start=self._beta[fold]).beta
                self._beta[fold] = beta
                total += self._unpenalised[fold].value(beta) - self._all.value(beta)
            self._known[key] = total / len(self._all.outcomes)
        return self._known[key]
