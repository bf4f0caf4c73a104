"""The whole report as sections, from an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inference.evaluation.report.blocks import Report, Section
from inference.evaluation.report.checklist import FilledItem, unknown_items
from inference.evaluation.report.end_point import EndPointResult
from inference.evaluation.report.evaluation import Evaluation
from inference.evaluation.report.other_sections import (
    checklist_section,
    gaps_section,
    methods_section,
    models_section,
    patients_section,
    published_section,
    response_section,
    size_section,
    summary_section,
)
from inference.evaluation.report.plain_figures import Gap
from inference.evaluation.report.response import ResponseResult
from inference.evaluation.report.survival_section import survival_section


def report_of(evaluation: Evaluation, missing: Sequence[Gap], checklist: Sequence[FilledItem]) -> Report:
    """Return the report.

    Parameters
    ----------
    missing : sequence of Gap
        What could not be computed.
    checklist : sequence of FilledItem
    """
    models = len(evaluation.predictions.models)
    patients = sum(s.patients for s in evaluation.sets)
    subtitle = (
        f"{models} models, {patients} patients who were kept for it, {evaluation.plan.draws} draws of a "
        f"bootstrap. Predictions: sha256 {evaluation.predictions.digest[:16]}."
    )
    sections = tuple(_sections(evaluation, missing, checklist))
    return Report(evaluation.predictions.study.title, subtitle, sections)


def _sections(
    evaluation: Evaluation, missing: Sequence[Gap], checklist: Sequence[FilledItem]
) -> Iterator[Section]:
    yield summary_section(evaluation)
    yield models_section(evaluation)
    yield patients_section(evaluation)
    for chosen in evaluation.sets:
        for result in chosen.end_points.values():
            if isinstance(result, EndPointResult):
                yield survival_section(evaluation, chosen, result)
        if isinstance(chosen.response, ResponseResult):
            yield response_section(evaluation, chosen, chosen.response)
    yield size_section(evaluation)
    yield published_section()
    yield gaps_section(missing)
    yield methods_section(evaluation)
    yield checklist_section(checklist, unknown_items(evaluation))
