"""Describe the images and reports of a patient as the vectors that the survival model was trained with."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inference.case import ClinicalRecord
from inference.errors import ModelError
from inference.models.evidence import Evidence, EvidenceWanted, ImageEvidence
from inference.models.protocols import ImageDescriber, SurvivalModel
from inference.results import Baseline, GeneratedCourse, Segmentation

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Described:
    """What the survival model is given beside clinical values.

    Attributes
    ----------
    evidence : mapping of str to Evidence
        By regimen id.
    notes : tuple of str
        What the model would have taken and did not get, for people.
    """

    evidence: Mapping[str, Evidence]
    notes: tuple[str, ...] = ()


def describe(
    baseline: Baseline,
    segmentation: Segmentation,
    clinical: ClinicalRecord,
    courses: Sequence[GeneratedCourse],
    describer: ImageDescriber | None,
    model: SurvivalModel,
) -> Described:
    """Return the vectors that a survival model takes; nothing is computed for a model that takes none.

    Images of another encoder than the one of the model's training are not given to it: their numbers
    would mean something else. Survival then rests on clinical values, and a note says so.

    Parameters
    ----------
    courses : sequence of GeneratedCourse
        One for each regimen; a regimen under which nothing was drawn has the baseline alone.
    describer : ImageDescriber or None
        None where no image encoder is active.
    """
    wanted = model.wants
    texts = tuple(token for token in clinical.texts if token.encoder == wanted.text_encoder)
    images: Sequence[ImageEvidence | None] = [None] * len(courses)
    notes: list[str] = []
    if wanted.image_encoder:
        refusal = _refusal(wanted, describer, baseline.primary.modality)
        if refusal is None and describer is not None:
            images, refusal = _vectors(baseline, segmentation, courses, describer)
        if refusal is not None:
            notes.append(f"Survival rests on clinical values and regimen alone: {refusal}.")
    if wanted.text_encoder and clinical.texts and not texts:
        notes.append(
            "The reports of the study were encoded by another encoder than that of the survival model."
        )
    return Described(
        {course.regimen_id: Evidence(seen, texts) for course, seen in zip(courses, images, strict=True)},
        tuple(notes),
    )


def _refusal(wanted: EvidenceWanted, describer: ImageDescriber | None, modality: str) -> str | None:
    """Say why the images cannot be described for the model; None where they can."""
    if describer is None:
        return "the survival model takes image vectors, and no image encoder is active"
    if describer.info.sha256 != wanted.image_encoder:
        return (
            f"the active image encoder {describer.info.name} {describer.info.version} is not the one that "
            "the survival model was trained with"
        )
    if not describer.covers(modality):
        return f"the image encoder {describer.info.name} does not read {modality}"
    return None


def _vectors(
    baseline: Baseline,
    segmentation: Segmentation,
    courses: Sequence[GeneratedCourse],
    describer: ImageDescriber,
) -> tuple[Sequence[ImageEvidence | None], str | None]:
    try:
        return describer.describe(baseline, segmentation, courses), None
    except ModelError as error:
        _log.warning("the images could not be described: %s", error)
        return [None] * len(courses), f"the images could not be described ({error})"
