"""The rule and its gate on many patients at once, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.comparison import effects
from inference.comparison.learned import LearnedComparison, months_of
from inference.results import FloatArray

NOBODY = -1
"""In place of a regimen where none is recommended."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Every regimen against every other; arrays are (patients, regimens, regimens).

    Attributes
    ----------
    benefit : array
        Median of the draws of the benefit of the first regimen over the second, months.
    raw, confidence : array
        Share of draws in which the benefit exceeds the rule's, and the calibrated probability.
    overlapping : array of bool
        Patients like this one had either regimen.
    usable : array of bool
        The groups overlap, the patient is not foreign, and the second median is within follow-up.
    """

    benefit: FloatArray
    raw: FloatArray
    confidence: FloatArray
    overlapping: npt.NDArray[np.bool_]
    usable: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the rule says of each patient.

    Attributes
    ----------
    locations, medians : array, (patients, regimens, draws)
        Location of log survival time, and median in months.
    propensity : array, (patients, regimens)
    foreign : array of bool, (patients,)
        Outside the cohort.
    beyond : array of bool, (patients, regimens)
        The median lies beyond the follow-up of the regimen.
    recommended, against : array of int, (patients,)
        Index of regimens, or `NOBODY`.
    """

    locations: FloatArray
    medians: FloatArray
    propensity: FloatArray
    foreign: npt.NDArray[np.bool_]
    beyond: npt.NDArray[np.bool_]
    pairs: Pairs
    recommended: npt.NDArray[np.intp]
    against: npt.NDArray[np.intp]


def judge(learned: LearnedComparison, covariates: FloatArray) -> Judgement:
    """Apply the rule to patients.

    Parameters
    ----------
    covariates : array, (patients, covariates)
        Complete, in the order of `learned.names`.

    Notes
    -----
    Nothing is extrapolated in favour of a regimen. The median of the better one is cut at the end of its
    follow-up, so that a benefit is a lower bound where that median lies beyond; a regimen whose own median
    lies beyond cannot be what another one is held against.
    """
    standard = learned.scaling.standard(covariates)
    locations = effects.locations(learned.scaling, standard, len(learned.regimens), learned.draws)
    medians = effects.medians(locations, learned.draws)
    propensity = learned.propensity.of(standard)
    foreign = learned.neighbourhood.distances(standard) > learned.neighbourhood.limit
    beyond = np.median(medians, axis=2) > months_of(learned)
    benefit, raw = _benefits(learned, medians)
    overlapping = _overlapping(propensity, learned.rule.least_propensity)
    usable = overlapping & ~foreign[:, None, None] & ~beyond[:, None, :]
    pairs = Pairs(benefit, raw, learned.confidence.of(raw), overlapping, usable)
    recommended, against = _choice(learned, pairs)
    return Judgement(locations, medians, propensity, foreign, beyond, pairs, recommended, against)


def cut_benefit(learned: LearnedComparison, medians: FloatArray, first: int, second: int) -> FloatArray:
    """Benefit of the first regimen, its median cut at the end of follow-up, over the second.

    Parameters
    ----------
    medians : array, (..., regimens, draws)

    Returns
    -------
    array, (..., draws)
    """
    end = learned.regimens[first].follow_up_months
    return np.asarray(np.minimum(medians[..., first, :], end) - medians[..., second, :])


def _benefits(learned: LearnedComparison, medians: FloatArray) -> tuple[FloatArray, FloatArray]:
    patients, regimens, _ = medians.shape
    benefit = np.zeros((patients, regimens, regimens))
    raw = np.zeros_like(benefit)
    for a in range(regimens):
        for b in range(regimens):
            if a != b:
                drawn = cut_benefit(learned, medians, a, b)
                benefit[:, a, b] = np.median(drawn, axis=1)
                raw[:, a, b] = (drawn > learned.rule.benefit_months).mean(axis=1)
    return benefit, raw


def _overlapping(propensity: FloatArray, least: float) -> npt.NDArray[np.bool_]:
    pair = propensity[:, :, None] / (propensity[:, :, None] + propensity[:, None, :])
    return np.asarray((pair >= least) & (pair <= 1.0 - least))


def _choice(learned: LearnedComparison, pairs: Pairs) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Choose, of the regimens that beat the reference, the one with the longest benefit; else the reference.

    The reference is chosen when it beats every other regimen, each by the rule.
    """
    benefit = pairs.benefit
    recommended = np.full(len(benefit), NOBODY, dtype=np.intp)
    against = np.full(len(benefit), NOBODY, dtype=np.intp)
    if not learned.passes:
        return recommended, against
    rule = learned.rule
    holds = pairs.usable & (benefit > rule.benefit_months) & (pairs.confidence >= rule.confidence)
    over_reference = holds[:, 1:, 0]
    better = over_reference.any(axis=1)
    longest = 1 + np.argmax(np.where(over_reference, benefit[:, 1:, 0], -np.inf), axis=1)
    recommended[better], against[better] = longest[better], 0
    standard = holds[:, 0, 1:].all(axis=1)
    recommended[standard] = 0
    against[standard] = 1 + np.argmin(benefit[standard][:, 0, 1:], axis=1)
    return recommended, against
