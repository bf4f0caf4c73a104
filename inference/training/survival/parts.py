"""The parts of one end point's linear model: clinical terms, then each part of the evidence in turn.

Every part is fitted with those before it fixed: without images, texts and the rest the forecast is that of
the clinical part alone, and what a part adds is what those before it do not say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from inference.models.survival.evidence_terms import PARTS, EvidenceTerms
from inference.models.survival.fitted import Inputs
from inference.models.survival.hazards import HazardGrid
from inference.models.survival.skip import Skip
from inference.results import FloatArray
from inference.training.survival.linear import Outcomes, choose_penalties, fit_linear
from inference.training.survival.rows import Followed
from inference.training.survival.skip import FittedSkip, fit_skip, refit


@dataclass(frozen=True, slots=True)
class EvidenceParts:
    """Terms of the training patients' evidence by part, (n, q) each, and how they are made."""

    terms: EvidenceTerms
    of: Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True)
class LinearParts:
    """Coefficients of all parts.

    Attributes
    ----------
    skip : Skip
    evidence : mapping
        Part of `PARTS` -> coefficients, (q,).
    predictor : array, (n,)
        Of all training patients.
    """

    skip: Skip
    evidence: Mapping[str, FloatArray]
    predictor: FloatArray


@dataclass(frozen=True, slots=True)
class EndpointFit:
    """The fit of one end point, with all that refitting needs.

    Attributes
    ----------
    outcomes : Outcomes
        Of all n patients; 0 months without an event where it is not known.
    known : array of bool, (n,)
    penalties : mapping
        Part of `PARTS` -> penalty; infinite where the part is left out.
    """

    outcomes: Outcomes
    known: np.ndarray
    inputs: Inputs
    evidence: EvidenceParts
    fitted_skip: FittedSkip
    penalties: Mapping[str, float]
    parts: LinearParts

    def again(self, weights: FloatArray) -> LinearParts:
        """Refit with weights of the patients, (n,), at the same penalties."""
        weights = weights * self.known
        skip = refit(self.fitted_skip, self.inputs.table, self.outcomes, weights)
        return _with_evidence(self, skip, weights)


def fit_endpoint(
    inputs: Inputs,
    evidence: EvidenceParts,
    followed: Followed,
    grid: HazardGrid,
    folds: Sequence[np.ndarray],
) -> EndpointFit:
    """Fit the linear parts of one end point; penalties are chosen on inner folds."""
    known = followed.known
    outcomes = Outcomes.on(grid, np.where(known, followed.months, 0.0), followed.event & known)
    here = np.flatnonzero(known)
    position = np.full(len(known), -1)
    position[here] = np.arange(len(here))
    inner = [position[fold[known[fold]]] for fold in folds]
    skip = fit_skip(inputs.of(here).table, outcomes.of(here), inner)
    offset = skip.skip.predictor(inputs.table, len(inputs))
    penalties: dict[str, float] = {}
    for name in PARTS:
        x = evidence.of[name]
        penalties[name], chosen = _penalty(name, x[here], outcomes.of(here), inner, offset[here])
        offset = offset + x @ chosen
    empty = LinearParts(skip.skip, {}, offset)
    fit = EndpointFit(outcomes, known, inputs, evidence, skip, penalties, empty)
    return replace(fit, parts=_with_evidence(fit, skip.skip, known.astype(np.float64)))


def _penalty(
    name: str, x: FloatArray, outcomes: Outcomes, folds: Sequence[np.ndarray], offset: FloatArray
) -> tuple[float, FloatArray]:
    if not x.shape[1]:
        return float("inf"), np.zeros(0)
    chosen = choose_penalties(x, [name] * x.shape[1], outcomes, folds, offset).of_kind[name]
    return chosen, fit_linear(x, outcomes, np.full(x.shape[1], chosen), offset).beta


def _with_evidence(fit: EndpointFit, skip: Skip, weights: FloatArray) -> LinearParts:
    counted = np.flatnonzero(weights > 0)
    outcomes = fit.outcomes.of(counted)
    predictor = skip.predictor(fit.inputs.table, len(fit.inputs))
    betas = {}
    for name in PARTS:
        x = fit.evidence.of[name]
        full = np.full(x.shape[1], fit.penalties[name])
        beta = fit_linear(x[counted], outcomes, full, predictor[counted], weights[counted]).beta
        predictor = predictor + x @ beta
        betas[name] = beta
    return LinearParts(skip, betas, predictor)
