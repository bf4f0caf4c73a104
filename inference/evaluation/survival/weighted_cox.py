"""Cox regressions of many weightings of the same patients at once, without penalty.

Each row of weights says how often a patient counts, as a draw of the bootstrap does; all rows are fitted
together by Newton's method with Breslow's likelihood of ties, which treats copies of a patient as the
paper does. `inference.training.cox_fit` is the fit of a model: one weighting, ridge, Efron's ties.

References
----------
Cox 1972, J R Stat Soc B 34:187; Breslow 1974, Biometrics 30:89.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.evaluation.survival.follow_up import FollowUp
from inference.results import FloatArray

_MAXIMUM_STEPS = 60
_GRADIENT_TOLERANCE = 1e-9
_LARGEST_STEP = 4.0


@dataclass(frozen=True, slots=True)
class WeightedFits:
    """Fits of b weightings; NaN where one did not converge or had no event.

    Attributes
    ----------
    beta : array, (b, p)
    log_likelihood, null_log_likelihood : array, (b,)
        Log partial likelihood at `beta` and at 0.
    """

    beta: FloatArray
    log_likelihood: FloatArray
    null_log_likelihood: FloatArray


@dataclass(frozen=True, slots=True)
class _Moments:
    value: FloatArray
    gradient: FloatArray
    information: FloatArray


@dataclass(frozen=True, slots=True)
class WeightedCox:
    """Patients sorted by falling time, with their covariates and weights.

    Attributes
    ----------
    x : array, (n, p)
    weights : array, (b, n)
    moments : array, (m,)
        Times of events, falling.
    last : array of int, (m,)
        Position of the last patient at risk at each of them.
    deaths : array, (b, m)
        Weight of the events at each.
    event : array, (n,)
        1 for an event.
    """

    x: FloatArray
    weights: FloatArray
    moments: FloatArray
    last: npt.NDArray[np.intp]
    deaths: FloatArray
    event: FloatArray

    @classmethod
    def of(cls, x: FloatArray, follow_up: FollowUp, weights: FloatArray) -> WeightedCox:
        """Sort covariates (n, p) and weights (b, n)."""
        order = np.argsort(-follow_up.time, kind="stable")
        time, event = follow_up.time[order], follow_up.event[order]
        w = np.asarray(weights, dtype=np.float64)[:, order]
        dead = np.flatnonzero(event)
        start = np.flatnonzero(np.concatenate(([True], np.diff(time[dead]) < 0)))
        moments = time[dead][start]
        last = np.searchsorted(-time, -moments, side="right") - 1
        deaths = np.add.reduceat(w[:, dead], start, axis=1)
        return cls(x[order], w, moments, last, deaths, event.astype(np.float64))

    def fit(self) -> WeightedFits:
        """Maximise the likelihood of each weighting."""
        b, p = len(self.weights), self.x.shape[1]
        zero = np.zeros((b, p))
        at = self._likelihood(zero)
        null = at.value
        beta, best, step = zero, at.value, _newton(at)
        settled = np.abs(at.gradient).max(axis=1, initial=0.0) < self._tolerance
        for _ in range(_MAXIMUM_STEPS):
            if settled.all():
                break
            trial = beta + np.where(settled[:, None], 0.0, step)
            at = self._likelihood(trial)
            accepted = at.value >= best - 1e-10 * np.abs(best)
            beta = np.where(accepted[:, None], trial, beta)
            best = np.where(accepted, at.value, best)
            step = np.where(accepted[:, None], _newton(at), step / 2)
            flat = np.abs(at.gradient).max(axis=1, initial=0.0) < self._tolerance
            settled = settled | (accepted & flat)
        usable = settled & (self.deaths.sum(axis=1) > 0)
        return WeightedFits(
            np.where(usable[:, None], beta, np.nan),
            np.where(usable, best, np.nan),
            np.where(usable, null, np.nan),
        )

    @property
    def _tolerance(self) -> FloatArray:
        return np.asarray(_GRADIENT_TOLERANCE * np.maximum(self.weights.sum(axis=1), 1.0))

    def _risk_sums(self, beta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Linear predictors less their shift, the shift, and the sums over risk sets."""
        linear = beta @ self.x.T
        shift = linear.max(axis=1, keepdims=True)
        relative = self.weights * np.exp(linear - shift)
        return linear - shift, shift, relative

    def _sum_at_risk(self, values: FloatArray) -> FloatArray:
        return np.asarray(np.cumsum(values, axis=1)[:, self.last])

    def _likelihood(self, beta: FloatArray) -> _Moments:
        linear, _, relative = self._risk_sums(beta)
        p = self.x.shape[1]
        s0 = self._sum_at_risk(relative)
        safe = np.where(self.deaths > 0, s0, 1.0)
        died = self.weights * self.event
        value = (died * linear).sum(axis=1) - (self.deaths * np.log(safe)).sum(axis=1)
        mean = [self._sum_at_risk(relative * self.x[:, k]) / safe for k in range(p)]
        gradient = (
            died @ self.x - np.stack([(self.deaths * m).sum(axis=1) for m in mean], axis=1)
            if p
            else (np.zeros((len(beta), 0)))
        )
        information = np.zeros((len(beta), p, p))
        for k in range(p):
            for j in range(k + 1):
                square = self._sum_at_risk(relative * (self.x[:, k] * self.x[:, j])) / safe
                entry = (self.deaths * (square - mean[k] * mean[j])).sum(axis=1)
                information[:, k, j] = information[:, j, k] = entry
        return _Moments(value, gradient, information)

    def baseline_hazard(self, beta: FloatArray, at: float) -> FloatArray:
        """Breslow's cumulative hazard at covariates 0 up to one time, (b,)."""
        _, shift, relative = self._risk_sums(beta)
        s0 = self._sum_at_risk(relative)
        early = (self.moments <= at) & (self.deaths > 0)
        terms = np.divide(self.deaths, s0, out=np.zeros_like(s0), where=early)
        return np.asarray(terms.sum(axis=1) * np.exp(-shift[:, 0]))


def _newton(at: _Moments) -> FloatArray:
    """Newton's step, shortened where the likelihood is nearly flat and it would leap."""
    p = at.gradient.shape[1]
    damped = at.information + 1e-9 * np.eye(p)
    step = np.linalg.solve(damped, at.gradient[:, :, None])[:, :, 0]
    length = np.sqrt((step**2).sum(axis=1, keepdims=True))
    return np.asarray(step * np.minimum(1.0, _LARGEST_STEP / np.maximum(length, 1e-12)))
