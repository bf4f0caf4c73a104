"""Describe images, angiographies and reports as the vectors that the survival model was trained with."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inference.case import ClinicalRecord, Series
from inference.errors import ModelError
from inference.models.angiography import describe_angiographies
from inference.models.evidence import AngiogramEvidence, Evidence, EvidenceWanted, ImageEvidence
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
    angiographies: Sequence[Series] = (),
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
    angiographies : sequence of Series
        Those of the study, of modality XA.
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
    runs, note = _runs(wanted, angiographies)
    notes += note
    return Described(
        {
            course.regimen_id: Evidence(seen, texts, runs)
            for course, seen in zip(courses, images, strict=True)
        },
        tuple(notes),
    )


def _runs(
    wanted: EvidenceWanted, angiographies: Sequence[Series]
) -> tuple[AngiogramEvidence | None, tuple[str, ...]]:
    if not wanted.angiogram_encoder or not angiographies:
        return None, ()
    found = describe_angiographies(i.path for series in angiographies for i in series.instances)
    if found is None:
        return None, ("No angiography of the study could be read, and the survival forecast has none.",)
    if found.encoder != wanted.angiogram_encoder:
        return None, (
            "The survival model was trained with angiographies of another encoder, and takes none here.",
        )
    return found, ()


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
