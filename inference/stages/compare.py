"""Comparison of regimens: the seam, and what can honestly be said today.

The protocol prefers a regimen when its expected median survival is more than 3 months longer with more
than 80 % confidence. That needs survival estimates under every regimen for the same patient, overlap of
the treated groups and a test that treatment effects differ at all. A model that covers one regimen
gives none of these, so the comparison is refused and nothing is recommended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
        Always, until a survival model gives counterfactual estimates for more than one regimen.
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
