"""Fits the linear part of the survival model.

Terms are made on three scales of the numbers. Each is fitted with the penalties that inner folds choose,
and the linear predictors are averaged with weights that fall with the cross-validated likelihood, so
that one scale wins where it is clearly better, and none where they are alike.

References
----------
Yao et al. 2018, Bayesian Anal 13:917 (weights by cross-validated likelihood).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inference.models.survival.skip import ScaledSkip, Skip
from inference.models.survival.terms import Column, Scale, table_terms
from inference.results import FloatArray
from inference.training.survival.linear import Outcomes, choose_penalties, fit_linear

LEAST_WEIGHT = 0.02
SCALES = (Scale.NORMAL, Scale.RAW, Scale.RANK)
"""The first is searched most thoroughly; the others begin with its penalties."""


@dataclass(frozen=True, slots=True)
class FittedSkip:
    """The linear part, and the penalty of each term (p,) on each of its scales."""

    skip: Skip
    penalties: tuple[FloatArray, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    loss: float
    part: ScaledSkip
    penalty: FloatArray


def fit_skip(table: Mapping[str, Column], outcomes: Outcomes, folds: Sequence[np.ndarray]) -> FittedSkip:
    """Fit the linear part, choosing penalties and weights on inner folds.

    Parameters
    ----------
    table : mapping
        Column -> values of n patients, an array of numbers or a sequence of words.
    folds : sequence of array of int
        Held-out patients of each inner fold.
    """
    found: list[_Candidate] = []
    start: Mapping[str, float] | None = None
    for scale in SCALES:
        terms = table_terms(table, scale)
        matrix = terms(table, len(outcomes))
        if not matrix.x.shape[1]:
            return FittedSkip(Skip(()), ())
        chosen = choose_penalties(matrix.x, matrix.kinds, outcomes, folds, start=start)
        start = chosen.of_kind
        penalty = np.array([chosen.of_kind[kind] for kind in matrix.kinds], dtype=np.float64)
        beta = fit_linear(matrix.x, outcomes, penalty).beta
        found.append(_Candidate(chosen.loss, ScaledSkip(scale, terms, beta, 1.0), penalty))
    return _averaged(found, len(outcomes))


def _averaged(found: Sequence[_Candidate], patients: int) -> FittedSkip:
    losses = np.array([candidate.loss for candidate in found])
    weights = np.exp(-patients * (losses - losses.min()))
    weights[weights < LEAST_WEIGHT] = 0.0
    weights /= weights.sum()
    kept = [int(i) for i in np.argsort(-weights, kind="stable") if weights[i] > 0]
    parts = tuple(
        ScaledSkip(found[i].part.scale, found[i].part.terms, found[i].part.beta, float(weights[i]))
        for i in kept
    )
    return FittedSkip(Skip(parts), tuple(found[i].penalty for i in kept))


def refit(
    fitted: FittedSkip,
    table: Mapping[str, Column],
    outcomes: Outcomes,
    weights: FloatArray,
) -> Skip:
    """Return the linear part with coefficients of other weights of the patients (n,), such as 0 and 1."""
    counted = np.flatnonzero(weights > 0)
    among = outcomes.of(counted)
    parts = []
    for part, penalty in zip(fitted.skip.scales, fitted.penalties, strict=True):
        x = part.terms(table, len(outcomes)).x[counted]
        beta = fit_linear(x, among, penalty, weights=weights[counted], start=part.beta).beta
        parts.append(ScaledSkip(part.scale, part.terms, beta, part.weight))
    return Skip(tuple(parts))
