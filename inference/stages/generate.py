"""Stage: draw the course of the disease under each regimen."""

from __future__ import annotations

import logging
from typing import Protocol, runtime_checkable

from inference.case import ClinicalRecord
from inference.errors import UnsupportedRegimen
from inference.models.protocols import Generator, Progress
from inference.randomness import RandomStreams
from inference.results import Baseline, GeneratedCourse, NotAssessed, Reason, Segmentation
from inference.settings import PipelineSettings

_log = logging.getLogger(__name__)


@runtime_checkable
class SharesPreparation(Protocol):
    """A generator that can do once what all regimens of a patient share."""

    def prepared(self, baseline: Baseline, segmentation: Segmentation, streams: RandomStreams) -> Generator:
        """Return a generator for this patient alone, with the same results."""
        ...


def generate(
    baseline: Baseline,
    segmentation: Segmentation,
    clinical: ClinicalRecord,
    settings: PipelineSettings,
    generator: Generator,
    streams: RandomStreams,
    progress: Progress,
) -> tuple[GeneratedCourse, ...]:
    """Return one course for each regimen of the settings, in their order.

    A regimen that the generator does not cover, or not so many months ahead, has a course without
    time points and with the reason.

    Raises
    ------
    UnsupportedRegimen
        The generator covers none of the regimens; with the reasons of all.
    ModelError
        The generator failed.
    """
    if isinstance(generator, SharesPreparation):
        progress("preparing the follow-up images", 0.0)
        generator = generator.prepared(baseline, segmentation, streams)
    courses: list[GeneratedCourse] = []
    refused: dict[str, UnsupportedRegimen] = {}
    for done, regimen in enumerate(settings.regimens):
        progress(f"follow-up images under {regimen.name}", done / len(settings.regimens))
        try:
            course = generator.generate(baseline, segmentation, clinical, regimen, settings, streams)
        except UnsupportedRegimen as error:
            refused[regimen.id] = error
            reason = NotAssessed(Reason.REGIMEN_NOT_COVERED, f"{error}.")
            course = GeneratedCourse(regimen.id, (), (), reason)
        courses.append(course)
    if refused and len(refused) == len(courses):
        reasons = dict.fromkeys(map(str, refused.values()))
        raise UnsupportedRegimen("; ".join(reasons)) from next(iter(refused.values()))
    for regimen_id, refusal in refused.items():
        _log.warning("the regimen %s is not assessed: %s", regimen_id, refusal)
    progress("follow-up images", 1.0)
    return tuple(courses)
