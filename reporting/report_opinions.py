"""Second opinions in the ``report``: a group for each, numbers as measurements, words as text.

Their values have no codes in any scheme, and their systems may be those of a site; a value is coded in
the private scheme by a digest of its name, which the meaning spells out.
"""

from __future__ import annotations

from collections.abc import Iterator

from highdicom import sr
from pydicom.sr.coding import Code

from inference.results import NotAssessed, OpinionValue, SecondOpinion, StudyResults
from reporting import codes
from reporting.comparison_words import name_of, regimen_names
from reporting.context import Context
from reporting.opinion_words import title_of, value_text
from reporting.report_parts import Group, reason, tracking
from reporting.structured import algorithm_of


def opinion_groups(results: StudyResults, context: Context) -> list[Group]:
    """Return one group for each second opinion, in their order."""
    return [_group(results, context, number, o) for number, o in enumerate(results.second_opinions, start=1)]


def opinion_texts(results: StudyResults) -> Iterator[tuple[Code, str]]:
    """Yield what each second opinion is about, its words, and why one was not given."""
    names = regimen_names(results)
    for opinion in results.second_opinions:
        title = title_of(opinion, names)
        yield codes.SECOND_OPINION, f"{title}: {opinion.about}"
        if isinstance(opinion.values, NotAssessed):
            yield codes.NOT_ASSESSED, f"{title}: {opinion.values.detail}"
            continue
        for value in opinion.values:
            if isinstance(value.value, str):
                yield codes.SECOND_OPINION, f"{title}: {value.name}: {value_text(value)}"


def _group(results: StudyResults, context: Context, number: int, opinion: SecondOpinion) -> Group:
    evaluations = [
        sr.QualitativeEvaluation(codes.SECOND_OPINION, codes.named_concept("system", opinion.system))
    ]
    if opinion.regimen_id is not None:
        regimen = codes.regimen(opinion.regimen_id, name_of(opinion.regimen_id, regimen_names(results)))
        evaluations.append(sr.QualitativeEvaluation(codes.REGIMEN, regimen))
    numbers: list[sr.Measurement] = []
    if isinstance(opinion.values, NotAssessed):
        evaluations.append(sr.QualitativeEvaluation(codes.OPINION_STATE, codes.NOT_ASSESSED))
        evaluations.append(reason(opinion.values))
    else:
        numbers = [m for value in opinion.values for m in _numbers(value)]
    return Group(
        tracking_identifier=tracking(context, f"Second opinion {number} {opinion.system}"[:64]),
        finding_type=codes.SECOND_OPINION,
        # Of a bundle that could not be read nothing is known but the name of its folder.
        algorithm_id=algorithm_of(results, opinion.bundle) if opinion.bundle.sha256 else None,
        measurements=numbers or None,
        qualitative_evaluations=evaluations,
    )


def _numbers(value: OpinionValue) -> Iterator[sr.Measurement]:
    if isinstance(value.value, str):
        return
    low, high = value.interval95 or (None, None)
    for number, derivation in (
        (value.value, codes.ESTIMATED if value.interval95 else None),
        (low, codes.LOWER_95),
        (high, codes.UPPER_95),
    ):
        if number is not None:
            yield sr.Measurement(
                name=codes.named_concept("value", value.name),
                value=float(f"{number:.6g}"),
                unit=codes.unit(value.unit),
                derivation=derivation,
            )
