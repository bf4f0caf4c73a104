"""Stage: draw the course of the disease under each regimen."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from inference.case import ClinicalRecord
from inference.models.protocols import Generator, Progress
from inference.randomness import RandomStreams
from inference.results import Baseline, GeneratedCourse, Segmentation
from inference.settings import PipelineSettings


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

    Raises
    ------
    UnsupportedRegimen
        The generator does not cover a regimen.
    ModelError
        The generator failed.
    """
    if isinstance(generator, SharesPreparation):
        progress("preparing the follow-up images", 0.0)
        generator = generator.prepared(baseline, segmentation, streams)
    courses = []
    for done, regimen in enumerate(settings.regimens):
        progress(f"follow-up images under {regimen.name}", done / len(settings.regimens))
        courses.append(generator.generate(baseline, segmentation, clinical, regimen, settings, streams))
    progress("follow-up images", 1.0)
    return tuple(courses)
