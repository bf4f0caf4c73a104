"""The text part of the ``report``: statements, clinical values, refusals in words, warnings, models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from inference.case import ClinicalValue
from inference.results import ClinicalSummary, NotAssessed, StudyResults, Survival
from reporting import codes
from reporting.common import DEMONSTRATION, STATEMENT, bundle_text, time_point_text
from reporting.comparison_words import hidden_confounding, named, refused_parts, regimen_names
from reporting.report_opinions import opinion_texts

FOLLOW_UP = "Predicted follow-up"
"""What people call all images and measurements under one regimen."""

_CONTAINS = sr.RelationshipTypeValues.CONTAINS


def text_items(results: StudyResults) -> Dataset:
    """Return the container of Qualitative Evaluations (PS3.16 TID 1500) with all texts."""
    container = sr.ContainerContentItem(name=codes.QUALITATIVE_EVALUATIONS, relationship_type=_CONTAINS)
    container.ContentSequence = sr.ContentSequence(
        [
            sr.TextContentItem(name=concept, value=text, relationship_type=_CONTAINS)
            for concept, text in _texts(results)
        ]
    )
    return container


def refusals(results: StudyResults) -> list[str]:
    """Return every part that was not assessed with its reason in words, each reason once."""
    return _grouped((part, refusal.detail) for part, refusal in _refused_parts(results))


def comparison_refusals(results: StudyResults) -> list[str]:
    """Return regimens and pairs that were not compared, each reason once; none that `Comparison` tells."""
    behind, names = results.regimen_comparison, regimen_names(results)
    if behind is None or isinstance(results.comparison, NotAssessed):
        return []
    told = set(results.comparison.reasons)
    return _grouped(
        (part, named(refusal.detail, names))
        for part, refusal in refused_parts(behind, names)
        if refusal.detail not in told
    )


def _grouped(parts: Iterable[tuple[str, str]]) -> list[str]:
    found: dict[str, list[str]] = {}
    for part, detail in parts:
        found.setdefault(detail, []).append(part)
    return [f"{_listed(several)}: {detail}" for detail, several in found.items()]


def clinical_text(value: ClinicalValue) -> str:
    """Return a clinical value as people write it."""
    name = value.name.replace("_", " ")
    if isinstance(value.value, bool):
        return f"{name}: {'yes' if value.value else 'no'}"
    number = (
        f"{value.value:g}" if isinstance(value.value, float) and abs(value.value) < 1e4 else str(value.value)
    )
    if isinstance(value.value, float):
        number = f"{value.value:.4g}" if isinstance(value.value, float) else str(value.value)
    return f"{name}: {number} {value.unit}".rstrip()


def _texts(results: StudyResults) -> Iterator[tuple[Code, str]]:
    yield codes.STATEMENT, STATEMENT
    if results.demonstration:
        yield codes.STATEMENT, DEMONSTRATION
    for part, info in results.bundles.items():
        yield codes.MODEL_USED, f"{part.replace('_', ' ')}: {bundle_text(info)}"
    yield from _clinical_texts(results.clinical)
    for refusal in refusals(results):
        yield codes.NOT_ASSESSED, refusal
    names = regimen_names(results)
    if not isinstance(results.comparison, NotAssessed):
        for reason in results.comparison.reasons:
            yield codes.COMPARISON, named(reason, names)
        yield from _compared_texts(results)
    yield from opinion_texts(results)
    for warning in results.warnings:
        yield codes.WARNING, warning
    for rejected in results.baseline.rejected:
        yield codes.WARNING, f"A series was not used ({rejected.modality}): {rejected.reason}"


def _compared_texts(results: StudyResults) -> Iterator[tuple[Code, str]]:
    """Yield what each compared regimen and pair lacks, and what hidden confounding would do."""
    behind = results.regimen_comparison
    if behind is None:
        return
    for refusal in comparison_refusals(results):
        yield codes.NOT_ASSESSED, refusal
    if behind.recommended is not None and behind.against is not None:
        told = hidden_confounding(behind.pair(behind.recommended, behind.against))
        if told:
            yield codes.COMPARISON, told


def _clinical_texts(clinical: ClinicalSummary) -> Iterator[tuple[Code, str]]:
    for value in clinical.used.values.values():
        yield codes.CLINICAL_VALUE, clinical_text(value)
    if clinical.missing:
        yield codes.CLINICAL_MISSING, ", ".join(_words(clinical.missing))
    for name, score in clinical.scores.items():
        yield codes.CLINICAL_SCORE, f"{name.replace('_', ' ')}: {score_text(score)}"
    for criterion, state in clinical.eligibility.items():
        yield codes.ELIGIBILITY, f"{criterion}: {state.replace('_', ' ')}"


def score_text(score: float | str) -> str:
    """Return a clinical score as people write it."""
    return f"{score:.3g}" if isinstance(score, float) else str(score)


def _words(names: Iterable[str]) -> list[str]:
    return [name.replace("_", " ") for name in names]


def _refused_parts(results: StudyResults) -> Iterator[tuple[str, NotAssessed]]:
    for forecast in results.forecasts:
        if forecast.not_assessed is not None:
            yield f"{FOLLOW_UP} under {forecast.name}", forecast.not_assessed
        for point in forecast.time_points:
            where = f"{forecast.name} {time_point_text(point)}"
            for name, response in (("RECIST 1.1", point.recist11), ("mRECIST", point.mrecist)):
                if isinstance(response, NotAssessed):
                    yield f"{name} {where}", response
    for forecast in results.forecasts:
        for name, refusal in _refused_endpoints(forecast.survival):
            yield f"{name} under {forecast.name}", refusal
    if isinstance(results.comparison, NotAssessed):
        yield "Comparison of regimens", results.comparison


def _refused_endpoints(survival: Survival) -> Iterator[tuple[str, NotAssessed]]:
    """Yield end points that were not assessed; one word for all of them when the reason is the same."""
    if isinstance(survival.os, NotAssessed) and survival.os == survival.pfs == survival.ttp:
        yield "Survival", survival.os
        return
    for name, curve in (
        ("Overall survival", survival.os),
        ("Progression-free survival", survival.pfs),
        ("Time to progression", survival.ttp),
    ):
        if isinstance(curve, NotAssessed):
            yield name, curve


def _listed(parts: list[str]) -> str:
    """Return a short list; of many parts the first word group and how many there are."""
    if len(parts) <= 3:
        return ", ".join(parts)
    common = {part.split(" ")[0] for part in parts}
    if len(common) == 1:
        return f"{common.pop()} at all {len(parts)} time points"
    return f"{parts[0]} and {len(parts) - 1} more"
