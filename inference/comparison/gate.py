"""Do the regimens differ at all: the global tests in front of the rule.

Without them the rule of the protocol recommends regimens where none differs: with many patients, regimens and
covariates, some estimate is always large.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2

from inference.comparison import burr
from inference.comparison.burr import SurvivalRows
from inference.comparison.effects import Layout
from inference.comparison.results import GlobalTests
from inference.results import FloatArray


def tests_of_effects(
    rows: SurvivalRows, layout: Layout, overlap: FloatArray, shape: float, start: FloatArray
) -> GlobalTests:
    """Test the effects of all regimens together.

    Parameters
    ----------
    rows : SurvivalRows
        Weights 1.
    overlap : array, (patients,)
        Overlap weights. The average effect is tested in the population that they describe, by a Wald test
        with a sandwich variance (White 1982, Econometrica 50:1): it holds when either the survival model or
        the propensity is right.
    shape : float
        Error shape.
    start : array, (terms + 1,)

    Notes
    -----
    Heterogeneity is tested by the likelihood ratio of all interactions, not shrunk.
    """
    weighted = SurvivalRows(rows.design, rows.log_months, rows.died, overlap)
    return GlobalTests(_average(weighted, layout, shape, start), _heterogeneity(rows, layout, shape, start))


def _without_interactions(
    rows: SurvivalRows, layout: Layout, start: FloatArray
) -> tuple[SurvivalRows, FloatArray]:
    kept = np.ones(rows.design.shape[1], dtype=np.bool_)
    kept[layout.interactions] = False
    return rows.columns(kept), start[np.append(kept, True)]


def _open_prior(layout: Layout) -> FloatArray:
    """Priors of the prognosis stay; what regimens do is not shrunk, for it is tested."""
    widths = layout.prior_sd
    widths[layout.regimens] = np.inf
    widths[layout.interactions] = np.inf
    return widths


def _average(rows: SurvivalRows, layout: Layout, shape: float, start: FloatArray) -> float:
    reduced, guess = _without_interactions(rows, layout, start)
    prior = _open_prior(layout)[: reduced.design.shape[1]]
    fitted = burr.fit(reduced, shape, prior, guess)
    each = burr.scores(fitted.theta, reduced, shape)
    n, p = reduced.design.shape
    bread = np.linalg.inv(fitted.curvature)
    covariance = bread @ (each.T @ each) @ bread * n / (n - p)
    effect = fitted.theta[layout.regimens]
    part = covariance[layout.regimens, layout.regimens]
    return float(chi2.sf(effect @ np.linalg.solve(part, effect), len(effect)))


def _heterogeneity(rows: SurvivalRows, layout: Layout, shape: float, start: FloatArray) -> float:
    reduced, guess = _without_interactions(rows, layout, start)
    prior = _open_prior(layout)
    small = burr.fit(reduced, shape, prior[: reduced.design.shape[1]], guess)
    full = burr.fit(rows, shape, prior, start)
    terms = rows.design.shape[1] - reduced.design.shape[1]
    return float(chi2.sf(max(2.0 * (full.log_likelihood - small.log_likelihood), 0.0), terms))
