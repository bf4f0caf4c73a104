"""Learning a comparison from a cohort: the survival model, the propensity, and what may be asked of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from inference.comparison import effects, overlap
from inference.comparison.cohort import ComparisonCohort
from inference.comparison.confidence import ConfidenceMap
from inference.comparison.effects import Draws, Layout, Scaling
from inference.comparison.gate import tests_of_effects
from inference.comparison.overlap import Neighbourhood, Propensity
from inference.comparison.results import GlobalTests
from inference.comparison.rule import ComparisonRule
from inference.results import FloatArray, NotAssessed, Reason


@dataclass(frozen=True, slots=True)
class RegimenData:
    """What a cohort holds of one regimen.

    Attributes
    ----------
    follow_up_months : float
        Until when at least `ComparisonRule.least_at_risk` patients were under observation; 0 if never.
    """

    regimen_id: str
    patients: int
    events: int
    follow_up_months: float


@dataclass(frozen=True, slots=True)
class LearnedComparison:
    """A cohort's answer to which regimen is better for whom.

    Attributes
    ----------
    names : tuple of str
        Of the covariates that a patient must have.
    regimens : tuple of RegimenData
        Compared; the first is the reference.
    excluded : tuple of RegimenData
        With too few deaths; their patients taught nothing.
    """

    rule: ComparisonRule
    confidence: ConfidenceMap
    names: tuple[str, ...]
    regimens: tuple[RegimenData, ...]
    excluded: tuple[RegimenData, ...]
    scaling: Scaling
    draws: Draws
    propensity: Propensity
    neighbourhood: Neighbourhood
    tests: GlobalTests

    @property
    def passes(self) -> bool:
        """Whether the regimens were shown to differ in any way."""
        return self.tests.any_effect_p <= self.rule.any_effect_p


def learn(
    cohort: ComparisonCohort, rule: ComparisonRule, confidence: ConfidenceMap, rng: np.random.Generator
) -> LearnedComparison | NotAssessed:
    """Learn a comparison.

    Parameters
    ----------
    cohort : ComparisonCohort
        Covariates at the start of treatment only, see there.
    rule : ComparisonRule
    confidence : ConfidenceMap
    rng : Generator
        Draws the parameters.

    Returns
    -------
    NotAssessed
        The reference, or all other regimens, have too few deaths.

    Raises
    ------
    ModelError
        A fit came to no maximum.
    """
    data = [_data_of(cohort, k, rule) for k in range(len(cohort.regimens))]
    kept = [k for k, d in enumerate(data) if d.events >= rule.least_events]
    if 0 not in kept or len(kept) < 2:
        return _nothing_to_compare(data, rule)
    part = _part(cohort, kept)
    scaling = Scaling.of(part.covariates)
    standard = scaling.standard(part.covariates)
    propensity = overlap.fit_propensity(standard, part.regimen, len(kept))
    rows, layout = effects.survival_rows(part, scaling), effects.layout_of(part, scaling)
    components = effects.fit_components(rows, layout)
    best = max(components, key=lambda c: c.weight).fit
    weights = overlap.overlap_weights(propensity.of(standard), part.regimen)
    return LearnedComparison(
        rule=rule,
        confidence=confidence,
        names=cohort.names,
        regimens=tuple(data[k] for k in kept),
        excluded=tuple(d for k, d in enumerate(data) if k not in kept),
        scaling=scaling,
        draws=effects.draw_parameters(components, layout, rule.draws, rng),
        propensity=propensity,
        neighbourhood=overlap.fit_neighbourhood(standard, rule.distance_quantile),
        tests=tests_of_effects(rows, layout, weights, best.shape, best.theta),
    )


def among(learned: LearnedComparison, regimen_ids: Collection[str]) -> LearnedComparison:
    """Return what was learned of some regimens and of the reference, which stays whatever is asked for.

    Benefits, overlap and refusals of two regimens that stay are those of the whole comparison.
    """
    kept = [k for k, d in enumerate(learned.regimens) if k == 0 or d.regimen_id in regimen_ids]
    others = [k - 1 for k in kept[1:]]
    names = len(learned.names)
    layout = Layout(names, int(learned.scaling.squared.sum()), len(learned.regimens) - 1)
    terms = [
        *range(layout.regimens.start),
        *(layout.regimens.start + k for k in others),
        *(layout.interactions.start + k * names + c for k in others for c in range(names)),
    ]
    return replace(
        learned,
        regimens=tuple(learned.regimens[k] for k in kept),
        excluded=tuple(d for d in learned.excluded if d.regimen_id in regimen_ids),
        draws=replace(learned.draws, coefficients=learned.draws.coefficients[terms]),
        propensity=Propensity(learned.propensity.coefficients[:, others]),
    )


def _data_of(cohort: ComparisonCohort, k: int, rule: ComparisonRule) -> RegimenData:
    own = cohort.regimen == k
    months = np.sort(cohort.months[own])[::-1]
    enough = len(months) >= rule.least_at_risk
    return RegimenData(
        cohort.regimens[k],
        int(own.sum()),
        int(cohort.event[own].sum()),
        float(months[rule.least_at_risk - 1]) if enough else 0.0,
    )


def _part(cohort: ComparisonCohort, kept: list[int]) -> ComparisonCohort:
    """Leave out patients of other regimens, and number the remaining ones anew."""
    rows = np.isin(cohort.regimen, kept)
    return ComparisonCohort(
        cohort.names,
        cohort.covariates[rows],
        tuple(cohort.regimens[k] for k in kept),
        np.searchsorted(np.asarray(kept), cohort.regimen[rows]),
        cohort.months[rows],
        cohort.event[rows],
    )


def _nothing_to_compare(data: list[RegimenData], rule: ComparisonRule) -> NotAssessed:
    counted = ", ".join(f"{d.regimen_id} {d.events}" for d in data)
    return NotAssessed(
        Reason.TOO_FEW_EVENTS,
        f"A comparison needs at least {rule.least_events} deaths under {data[0].regimen_id} and under "
        f"another regimen; there are: {counted}.",
    )


def months_of(learned: LearnedComparison) -> FloatArray:
    """Follow-up of the compared regimens in months, (regimens,)."""
    return np.array([d.follow_up_months for d in learned.regimens])
