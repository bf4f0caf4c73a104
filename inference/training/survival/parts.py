"""The parts of one end point's linear model: clinical terms, then images, each beyond those before.

Images are fitted with the clinical predictor fixed, and follow-up images with both fixed: without images
the forecast is that of the clinical part alone, and what images add is what the clinical values do not
say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.models.survival.fitted import Inputs
from inference.models.survival.hazards import HazardGrid
from inference.models.survival.image_terms import ImageTerms
from inference.models.survival.skip import Skip
from inference.results import FloatArray
from inference.training.survival.linear import Outcomes, choose_penalties, fit_linear
from inference.training.survival.rows import Followed
from inference.training.survival.skip import FittedSkip, fit_skip, refit


@dataclass(frozen=True, slots=True)
class ImageParts:
    """Terms of the training patients' images, (n, q) each, and how they are made."""

    baseline_terms: ImageTerms
    follow_up_terms: ImageTerms
    baseline: FloatArray
    follow_up: FloatArray


@dataclass(frozen=True, slots=True)
class LinearParts:
    """Coefficients of all parts.

    Attributes
    ----------
    skip : Skip
    baseline, follow_up : array, (q,)
    predictor : array, (n,)
        Of all training patients.
    """

    skip: Skip
    baseline: FloatArray
    follow_up: FloatArray
    predictor: FloatArray


@dataclass(frozen=True, slots=True)
class EndpointFit:
    """The fit of one end point, with all that refitting needs.

    Attributes
    ----------
    outcomes : Outcomes
        Of all n patients; 0 months without an event where it is not known.
    known : array of bool, (n,)
    penalties : (float, float)
        Of baseline and of follow-up images.
    """

    outcomes: Outcomes
    known: np.ndarray
    inputs: Inputs
    images: ImageParts
    fitted_skip: FittedSkip
    penalties: tuple[float, float]
    parts: LinearParts

    def again(self, weights: FloatArray) -> LinearParts:
        """Refit with weights of the patients, (n,), at the same penalties."""
        weights = weights * self.known
        skip = refit(self.fitted_skip, self.inputs.table, self.outcomes, weights)
        return _with_images(self, skip, weights)


def fit_endpoint(
    inputs: Inputs,
    images: ImageParts,
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
    chosen, penalties = np.zeros(0), []
    for x in (images.baseline, images.follow_up):
        penalty, chosen = _image_penalty(x[here], outcomes.of(here), inner, offset[here])
        penalties.append(penalty)
        offset = offset + x @ chosen
    empty = LinearParts(skip.skip, np.zeros(0), np.zeros(0), offset)
    fit = EndpointFit(outcomes, known, inputs, images, skip, (penalties[0], penalties[1]), empty)
    parts = _with_images(fit, skip.skip, known.astype(np.float64))
    return EndpointFit(outcomes, known, inputs, images, skip, fit.penalties, parts)


def _image_penalty(
    x: FloatArray, outcomes: Outcomes, folds: Sequence[np.ndarray], offset: FloatArray
) -> tuple[float, FloatArray]:
    if not x.shape[1]:
        return float("inf"), np.zeros(0)
    chosen = choose_penalties(x, ["images"] * x.shape[1], outcomes, folds, offset).of_kind["images"]
    return chosen, fit_linear(x, outcomes, np.full(x.shape[1], chosen), offset).beta


def _with_images(fit: EndpointFit, skip: Skip, weights: FloatArray) -> LinearParts:
    counted = np.flatnonzero(weights > 0)
    outcomes = fit.outcomes.of(counted)
    predictor = skip.predictor(fit.inputs.table, len(fit.inputs))
    betas = []
    for x, penalty in zip((fit.images.baseline, fit.images.follow_up), fit.penalties, strict=True):
        full = np.full(x.shape[1], penalty)
        beta = fit_linear(x[counted], outcomes, full, predictor[counted], weights[counted]).beta
        predictor = predictor + x @ beta
        betas.append(beta)
    return LinearParts(skip, betas[0], betas[1], predictor)
