"""Survival under every regimen as a distribution over parameters.

Log survival time is a sum of the prognosis (linear terms, and squares of continuous covariates), the effect
of the regimen, and its interaction with every covariate. Few covariates change what a regimen does, and
nobody knows which: interactions have a horseshoe prior, which leaves large ones alone and shrinks the others
to nothing (`shrinkage`). The model is averaged over error shapes by their marginal likelihood.

References
----------
Hoeting et al. 1999, Stat Sci 14:382 (model averaging). Nishimura & Suchard 2023, Bayesian Anal 18:367
(horseshoe times a wide normal prior).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular
from scipy.special import logsumexp
from scipy.stats import skew

from inference.comparison import burr
from inference.comparison.burr import BurrFit, SurvivalRows
from inference.comparison.cohort import ComparisonCohort
from inference.comparison.shrinkage import draw_horseshoe
from inference.results import FloatArray

SHAPES = (1e-3, 0.25, 0.5, 1.0, 2.0)
"""Error shapes that are averaged over: Weibull, between, log-logistic, heavier."""
PROGNOSIS_SD, SQUARE_SD, REGIMEN_SD, INTERACTION_SD = 1.0, 0.15, 0.6, 0.6
"""Widths of the normal priors, log of the ratio of times for one standard deviation of the covariate; for a
regimen, one width is a ratio of 1.8. Interactions have a horseshoe prior as well."""
SKEWNESS_OF_LOGS = 2.0
"""Covariates above 0 that are more skewed than this, as laboratory values are, enter as their logarithm: one
patient with an AFP of 500,000 would otherwise outweigh all others."""
_LEAST_WEIGHT = 0.01


@dataclass(frozen=True, slots=True)
class Scaling:
    """Covariates in standard units, which of them have squares, and which enter as logarithms.

    Attributes
    ----------
    least : array, (covariates,)
        Smallest value of a covariate that enters as its logarithm; a new patient's smaller value is taken
        as this one. 0 for a covariate that enters as it is.
    mean, sd : array, (covariates,)
        Of the covariate, or of its logarithm.
    squared : array of bool, (covariates,)
        Covariates with more than two values.
    squares_sd : array, (squares,)
        Standard deviation of z^2 - 1, so that squares have standard units as well.
    """

    least: FloatArray
    mean: FloatArray
    sd: FloatArray
    squared: npt.NDArray[np.bool_]
    squares_sd: FloatArray

    @classmethod
    def of(cls, covariates: FloatArray) -> Scaling:
        """Measure a cohort's covariates; one that never varies gets the unit 1."""
        squared = np.array([len(np.unique(column)) > 2 for column in covariates.T], dtype=np.bool_)
        logged = squared & (covariates > 0).all(axis=0)
        logged[logged] = skew(covariates[:, logged], axis=0) > SKEWNESS_OF_LOGS
        least = np.where(logged, covariates.min(axis=0), 0.0)
        entered = _with_logs(covariates, least)
        mean, sd = entered.mean(axis=0), entered.std(axis=0)
        sd = np.where(sd > 0, sd, 1.0)
        z = (entered - mean) / sd
        squares = z[:, squared] ** 2
        return cls(least, mean, sd, squared, np.maximum(squares.std(axis=0), 1e-9))

    def standard(self, covariates: FloatArray) -> FloatArray:
        """Return covariates in standard units, (patients, covariates)."""
        return np.asarray((_with_logs(covariates, self.least) - self.mean) / self.sd)

    def prognosis(self, standard: FloatArray) -> FloatArray:
        """Return the terms that do not depend on the regimen: 1, z, squares."""
        squares = (standard[:, self.squared] ** 2 - 1.0) / self.squares_sd
        return np.column_stack([np.ones(len(standard)), standard, squares])


def _with_logs(covariates: FloatArray, least: FloatArray) -> FloatArray:
    logged = least > 0
    entered = covariates.astype(np.float64)
    entered[:, logged] = np.log(np.maximum(entered[:, logged], least[logged]))
    return entered


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the terms stand in the design: prognosis, regimens, interactions."""

    covariates: int
    squares: int
    others: int

    @property
    def prior_sd(self) -> FloatArray:
        """Widths of the normal priors; infinite for the intercept."""
        return np.concatenate(
            [
                [np.inf],
                np.full(self.covariates, PROGNOSIS_SD),
                np.full(self.squares, SQUARE_SD),
                np.full(self.others, REGIMEN_SD),
                np.full(self.others * self.covariates, INTERACTION_SD),
            ]
        )

    @property
    def regimens(self) -> slice:
        """Columns of the effects of regimens at the mean of the covariates."""
        start = 1 + self.covariates + self.squares
        return slice(start, start + self.others)

    @property
    def interactions(self) -> slice:
        """Columns of the interactions; they come last."""
        stop = self.regimens.stop
        return slice(stop, stop + self.others * self.covariates)


def design(scaling: Scaling, standard: FloatArray, given: FloatArray) -> FloatArray:
    """Return the design, (patients, terms).

    Parameters
    ----------
    given : array, (patients, regimens - 1)
        1 in the column of the patient's regimen; all 0 under the reference.
    """
    interactions = [given[:, [k]] * standard for k in range(given.shape[1])]
    return np.column_stack([scaling.prognosis(standard), given, *interactions])


def survival_rows(
    cohort: ComparisonCohort, scaling: Scaling, weights: FloatArray | None = None
) -> SurvivalRows:
    """Return a cohort as rows of the model, with equal weights unless some are given."""
    given = np.eye(len(cohort.regimens))[cohort.regimen][:, 1:]
    return SurvivalRows(
        design(scaling, scaling.standard(cohort.covariates), given),
        np.log(cohort.months),
        cohort.event.astype(np.float64),
        np.ones(len(cohort.months)) if weights is None else weights,
    )


def layout_of(cohort: ComparisonCohort, scaling: Scaling) -> Layout:
    """Return where the terms of a cohort's design stand."""
    return Layout(len(cohort.names), int(scaling.squared.sum()), len(cohort.regimens) - 1)


@dataclass(frozen=True, slots=True)
class Component:
    """One member of the average over error shapes."""

    fit: BurrFit
    weight: float


def fit_components(rows: SurvivalRows, layout: Layout) -> tuple[Component, ...]:
    """Fit every error shape under wide priors, and weigh it by its marginal likelihood.

    Shapes that the data speak against are left out; the weights of the others add up to 1.

    Raises
    ------
    ModelError
        A fit came to no maximum.
    """
    prior_sd = layout.prior_sd
    fits, start = [], burr.first_guess(rows)
    for shape in SHAPES:
        fits.append(burr.fit(rows, shape, prior_sd, start))
        start = fits[-1].theta
    logs = np.array([_evidence(f, prior_sd) for f in fits])
    weights = np.exp(logs - logsumexp(logs))
    weights[weights < _LEAST_WEIGHT] = 0.0
    weights /= weights.sum()
    return tuple(Component(f, float(w)) for f, w in zip(fits, weights, strict=True) if w > 0)


def _evidence(fitted: BurrFit, prior_sd: FloatArray) -> float:
    """Laplace approximation of the log marginal likelihood, up to what all members share."""
    known = np.isfinite(prior_sd)
    scaled = fitted.theta[:-1][known] / prior_sd[known]
    log_prior = -0.5 * float(scaled @ scaled) - float(np.log(prior_sd[known]).sum())
    half_log_det = float(np.log(np.diag(np.linalg.cholesky(fitted.curvature))).sum())
    return fitted.log_likelihood + log_prior - half_log_det


@dataclass(frozen=True, slots=True)
class Draws:
    """Parameters drawn from the average.

    Attributes
    ----------
    coefficients : array, (terms, draws)
    scale, shape : array, (draws,)
    """

    coefficients: FloatArray
    scale: FloatArray
    shape: FloatArray


def draw_parameters(
    components: Sequence[Component], layout: Layout, number: int, rng: np.random.Generator
) -> Draws:
    """Draw parameters, of each error shape as often as its weight says.

    The likelihood under the wide priors is taken as normal about its mode. Interactions are drawn from it
    times a horseshoe prior; all other parameters follow from them as normal.
    """
    counts = rng.multinomial(number, [c.weight for c in components])
    thetas, shapes = [], []
    for component, count in zip(components, counts, strict=True):
        if count:
            thetas.append(_drawn(component.fit, layout, int(count), rng))
            shapes.append(np.full(count, component.fit.shape))
    theta = np.concatenate(thetas)
    return Draws(theta[:, :-1].T, np.exp(theta[:, -1]), np.concatenate(shapes))


def _drawn(fitted: BurrFit, layout: Layout, number: int, rng: np.random.Generator) -> FloatArray:
    """Draws of all parameters of one error shape, (draws, terms + 1)."""
    inner = np.zeros(len(fitted.theta), dtype=np.bool_)
    inner[layout.interactions] = True
    covariance = np.linalg.inv(fitted.curvature)
    interactions = draw_horseshoe(
        fitted.theta[inner], np.linalg.inv(covariance[np.ix_(inner, inner)]), number, rng
    )
    rest = fitted.curvature[np.ix_(~inner, ~inner)]
    shift = np.linalg.solve(rest, fitted.curvature[np.ix_(~inner, inner)])
    lower = np.linalg.cholesky(rest)
    noise = solve_triangular(lower.T, rng.standard_normal((len(rest), number))).T
    theta = np.empty((number, len(fitted.theta)))
    theta[:, inner] = interactions
    theta[:, ~inner] = fitted.theta[~inner] - (interactions - fitted.theta[inner]) @ shift.T + noise
    return theta


def locations(scaling: Scaling, standard: FloatArray, regimens: int, draws: Draws) -> FloatArray:
    """Location of log survival time, (patients, regimens, draws)."""
    found = []
    for k in range(regimens):
        given = np.zeros((len(standard), regimens - 1))
        if k > 0:
            given[:, k - 1] = 1.0
        found.append(design(scaling, standard, given) @ draws.coefficients)
    return np.stack(found, axis=1)


def medians(location: FloatArray, draws: Draws) -> FloatArray:
    """Median survival in months, of the shape of `location`."""
    return np.asarray(np.exp(location + burr.log_median_offset(draws.shape, draws.scale)))


def restricted_means(location: FloatArray, draws: Draws, horizon: float) -> FloatArray:
    """Mean of survival within `horizon` months, of the shape of `location`; 32-point Gauss-Legendre rule."""
    nodes, weights = np.polynomial.legendre.leggauss(32)
    total = np.zeros_like(location)
    for node, weight in zip(nodes, weights, strict=True):
        months = horizon * (node + 1.0) / 2.0
        alive = burr.survival(np.log(months), location, draws.scale, draws.shape)
        total += weight * alive * horizon / 2.0
    return total
