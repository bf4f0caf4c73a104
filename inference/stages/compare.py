"""Comparison of regimens: by a learned comparison where the site has one, otherwise a refusal.

The protocol prefers a regimen when its expected median survival is more than 3 months longer with more
than 80 % confidence. That needs survival estimates under every regimen for the same patient, overlap of
the treated groups and a test that treatment effects differ at all; `inference.comparison` has them. A
survival model that covers one regimen gives none of these: without a learned comparison nothing is
recommended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from inference.case import ClinicalRecord
from inference.comparison.engine import compare_patient
from inference.comparison.learned import among
from inference.comparison.results import RegimenComparison
from inference.comparison.stored import ComparisonModel
from inference.models.protocols import SurvivalModel
from inference.results import (
    Comparison,
    GeneratedCourse,
    NotAssessed,
    Reason,
    Survival,
    SurvivalCurve,
)
from inference.settings import PipelineSettings


@dataclass(frozen=True, slots=True)
class Compared:
    """What the comparison says.

    Attributes
    ----------
    behind : RegimenComparison or None
        Every regimen and pair that was looked at; None where none could be.
    """

    said: Comparison | NotAssessed
    behind: RegimenComparison | None


def compare(
    survival: Mapping[str, Survival],
    settings: PipelineSettings,
    model: SurvivalModel,
    courses: Sequence[GeneratedCourse] = (),
) -> Comparison | NotAssessed:
    """Compare the regimens by overall survival.

    Parameters
    ----------
    survival : mapping of str to Survival
        By regimen id, as `inference.stages.survive.survive` returns it.
    courses : sequence of GeneratedCourse
        What was drawn; the comparison names each regimen under which nothing was, with the reason.

    Returns
    -------
    NotAssessed
        Always: a survival model alone says nothing of what another treatment would have done.
    """
    names = {regimen.id: regimen.name for regimen in settings.regimens}
    covered = [names[key] for key, value in survival.items() if isinstance(value.os, SurvivalCurve)]
    said = f"covers {', '.join(covered)} only" if covered else "covers none of them for this patient"
    return NotAssessed(
        Reason.COMPARISON_NOT_SUPPORTED,
        f"The regimens cannot be compared: of {len(names)}, the survival model {model.info.name} {said}, "
        "and it was not built to estimate what another treatment would have done."
        + "".join(
            f" {names[course.regimen_id]} was not forecast: {course.not_assessed.detail}"
            for course in courses
            if course.not_assessed is not None
        ),
    )


def compare_learned(
    clinical: ClinicalRecord,
    settings: PipelineSettings,
    model: ComparisonModel,
    courses: Sequence[GeneratedCourse] = (),
) -> Compared:
    """Compare the regimens that are asked for by what was learned from patients who were treated with each.

    What else the cohort had is no candidate: the site does not ask for it.

    Parameters
    ----------
    clinical : ClinicalRecord
        The model's covariates are looked up by the names of the variable table, in its units.
    model : ComparisonModel
    courses : sequence of GeneratedCourse
        What was drawn; a regimen under which nothing was is never recommended.

    Returns
    -------
    Compared
        `NotAssessed` where a covariate of the model is missing, or it knows no regimen that is asked for
        beside its reference.
    """
    asked = among(model.learned, {regimen.id for regimen in settings.regimens})
    if len(asked.regimens) + len(asked.excluded) < 2:
        return Compared(_nothing_asked(asked.regimens[0].regimen_id, settings, model), None)
    found = compare_patient(asked, _numbers(clinical))
    if isinstance(found, NotAssessed):
        return Compared(found, None)
    drawn = {course.regimen_id for course in courses if course.not_assessed is None}
    reasons = (*(reason.detail for reason in found.reasons), *_told(found, settings), *found.notes)
    if found.recommended is not None and found.recommended not in drawn:
        withheld = (
            f"{found.recommended} meets the rule, but nothing was forecast under it, so it is not preferred."
        )
        said = Comparison(None, None, None, (withheld, *reasons), model.demonstration)
        return Compared(said, _without_recommendation(found, withheld))
    said = Comparison(found.recommended, found.benefit_months, found.confidence, reasons, model.demonstration)
    return Compared(said, found)


def _nothing_asked(reference: str, settings: PipelineSettings, model: ComparisonModel) -> NotAssessed:
    others = [regimen.name for regimen in settings.regimens if regimen.id != reference]
    why = f"the cohort of {model.info.name} had no patients under {', '.join(others)}"
    return NotAssessed(
        Reason.COMPARISON_NOT_SUPPORTED,
        f"The regimens cannot be compared: {why if others else f'{reference} alone was asked for'}.",
    )


def _without_recommendation(found: RegimenComparison, withheld: str) -> RegimenComparison:
    return replace(
        found,
        recommended=None,
        against=None,
        benefit_months=None,
        confidence=None,
        notes=(withheld, *found.notes),
    )


def _numbers(clinical: ClinicalRecord) -> dict[str, float | None]:
    return {
        name: float(given.value)
        for name, given in clinical.values.items()
        if isinstance(given.value, int | float)
    }


def _told(found: RegimenComparison, settings: PipelineSettings) -> list[str]:
    """Say what the preferred regimen was held against, and which ones the comparison does not know."""
    told = []
    if found.recommended is not None and found.against is not None:
        pair = found.pair(found.recommended, found.against)
        told.append(
            f"Held against {found.against}{'; the benefit is a lower bound' if pair.at_least else ''}."
        )
        if pair.e_value is not None:
            told.append(
                f"E-value {pair.e_value.of_estimate:.1f}, limit {pair.e_value.of_limit:.1f}: so strongly "
                "would a hidden confounder have to be tied to regimen and death to explain the benefit away."
            )
    known = {estimate.regimen_id for estimate in found.regimens}
    unknown = [regimen.name for regimen in settings.regimens if regimen.id not in known]
    if unknown:
        told.append(f"Not compared, for the cohort had no such patients: {', '.join(unknown)}.")
    return told
