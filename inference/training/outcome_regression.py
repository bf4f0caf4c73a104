"""The regressions of an outcome model: cross-fitted ridge means, and the rate of new lesions."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from inference.models.outcome.design import own_design, shared_design
from inference.results import FloatArray
from inference.training.outcome_rows import Rows

_log = logging.getLogger(__name__)

PENALTIES = (30.0, 300.0, 3000.0, 30000.0)
OWN_PENALTIES = (10.0, 100.0, 1000.0, 10000.0)
FOLDS = 5


@dataclass(frozen=True, slots=True)
class _Gram:
    """Sums that a ridge is solved from."""

    xx: FloatArray
    xy: FloatArray
    x: FloatArray
    y: FloatArray
    n: float

    @classmethod
    def of(cls, x: FloatArray, y: FloatArray) -> _Gram:
        return cls(x.T @ x, x.T @ y, x.sum(axis=0), y.sum(axis=0), float(len(x)))

    def __add__(self, other: _Gram) -> _Gram:
        return _Gram(
            self.xx + other.xx, self.xy + other.xy, self.x + other.x, self.y + other.y, self.n + other.n
        )

    def __sub__(self, other: _Gram) -> _Gram:
        return _Gram(
            self.xx - other.xx, self.xy - other.xy, self.x - other.x, self.y - other.y, self.n - other.n
        )

    def ridge(self, penalty: float) -> tuple[FloatArray, FloatArray]:
        """Return intercept and slopes; the intercept is not penalised."""
        mean_x, mean_y = self.x / self.n, self.y / self.n
        xx = self.xx - self.n * np.outer(mean_x, mean_x)
        xy = self.xy - self.n * np.outer(mean_x, mean_y)
        slope = np.linalg.solve(xx + penalty * np.eye(len(xx)), xy)
        return mean_y - mean_x @ slope, np.asarray(slope)


def fold_of(patients: int, seed: int) -> np.ndarray:
    """Return the fold of each patient."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.permutation(patients) % FOLDS)


@dataclass(frozen=True, slots=True)
class Means:
    """Ridge means of the log ratios.

    Attributes
    ----------
    intercept, shared : of the part that all regimens share, (3,) and (features, 3)
    own : of each regimen's part, (regimens, features, 3)
    out_of_fold : array, (n, 3)
        Of each row by a fit without its patient.
    """

    intercept: FloatArray
    shared: FloatArray
    own: FloatArray
    out_of_fold: FloatArray


def fit_means(
    x: FloatArray, rows: Rows, basis: FloatArray, fold: np.ndarray, regimens: int, scale: FloatArray
) -> Means:
    """Fit shared part and parts of regimens with cross-validated penalties."""
    shared = shared_design(x, rows.doses, rows.months)
    own = own_design(x, basis)
    y = rows.value / scale
    parts = [_Gram.of(shared[fold == k], y[fold == k]) for k in range(FOLDS)]
    whole = sum(parts[1:], parts[0])
    first = {p: [(whole - part).ridge(p) for part in parts] for p in PENALTIES}
    loss = {p: _held_loss(fits, shared, y, fold) for p, fits in first.items()}
    penalty = min(loss, key=lambda p: loss[p])
    rest = np.empty_like(y)
    best: tuple[float, float, FloatArray] | None = None
    for own_penalty in OWN_PENALTIES:
        for k, (intercept, slope) in enumerate(first[penalty]):
            residual = y - intercept - shared @ slope
            fitted = _own(own, residual, rows.regimen, fold != k, regimens, own_penalty)
            held = fold == k
            rest[held] = residual[held] - np.einsum("np,npt->nt", own[held], fitted[rows.regimen[held]])
        figure = float((rest**2).mean())
        if best is None or figure < best[0]:
            best = (figure, own_penalty, rest.copy())
    assert best is not None  # the table of penalties is not empty
    intercept, slope = whole.ridge(penalty)
    residual = y - intercept - shared @ slope
    everyone = np.ones(len(y), dtype=bool)
    coefficients = _own(own, residual, rows.regimen, everyone, regimens, best[1])
    _log.info("ridge penalties %g and %g, cross-fitted error %.3f", penalty, best[1], best[0])
    return Means(intercept * scale, slope * scale, coefficients * scale, (y - best[2]) * scale)


def _held_loss(
    fits: list[tuple[FloatArray, FloatArray]], design: FloatArray, y: FloatArray, fold: np.ndarray
) -> float:
    total = 0.0
    for k, (intercept, slope) in enumerate(fits):
        held = fold == k
        total += float(((y[held] - intercept - design[held] @ slope) ** 2).sum())
    return total


def _own(
    design: FloatArray,
    residual: FloatArray,
    regimen: np.ndarray,
    used: np.ndarray,
    count: int,
    penalty: float,
) -> FloatArray:
    found = np.zeros((count, design.shape[1], residual.shape[1]))
    for r in range(count):
        chosen = used & (regimen == r)
        if chosen.any():
            x, y = design[chosen], residual[chosen]
            found[r] = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
    return found


def fit_rate(
    x: FloatArray, rows: Rows, basis: FloatArray, regimens: int, penalty: float = 30.0
) -> tuple[FloatArray, FloatArray]:
    """Poisson regression of the number of new lesions by Newton's method, with a level for each regimen."""
    knots = basis.shape[1]
    level = np.zeros((len(x), regimens * knots))
    for k in range(knots):
        level[np.arange(len(x)), rows.regimen * knots + k] = basis[:, k]
    design = np.concatenate([level, x], axis=1)
    ridge = np.concatenate([np.full(regimens * knots, 0.3), np.full(x.shape[1], penalty)])
    start = np.log(max(rows.new_lesions.mean(), 1e-3))
    beta = np.zeros(design.shape[1])
    beta[: regimens * knots] = start
    centre = beta.copy()
    for _ in range(12):
        rate = np.exp(np.clip(design @ beta, -12, 4))
        gradient = design.T @ (rate - rows.new_lesions) + ridge * (beta - centre)
        hessian = (design * rate[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(hessian, gradient)
        beta = beta - step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-9))
        if float(np.abs(step).max()) < 1e-4:
            break
    # What has appeared does not vanish: the level never falls from one month to the next.
    levels = np.maximum.accumulate(beta[: regimens * knots].reshape(regimens, knots), axis=1)
    return levels, beta[regimens * knots :]
