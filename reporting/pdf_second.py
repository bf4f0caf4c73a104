"""Parts of the PDF: the comparison of regimens, and the second opinions with their pictures."""

from __future__ import annotations

from collections.abc import Iterator

from inference.comparison.results import RegimenComparison
from inference.results import Comparison, NotAssessed, SecondOpinion, StudyResults
from reporting.chart_style import alert_of
from reporting.common import bundle_text
from reporting.comparison_words import (
    hidden_confounding,
    named,
    pair_rows,
    regimen_names,
    regimen_rows,
    verdict,
)
from reporting.drawing import Heading
from reporting.nomogram_picture import nomogram_picture
from reporting.opinion_words import title_of, value_text
from reporting.pdf_parts import Page, TableSpec, bullet, captioned, heading, paragraph, subheading, table
from reporting.pictures import Picture
from reporting.report_text import comparison_refusals

_MOST_PAIRS = 12
"""Pairs in the table; with more, only those held against the reference stand in it."""


def comparison_part(page: Page, results: StudyResults) -> None:
    """Write what is preferred and why not more, the regimens and the pairs."""
    heading(page, "Comparison of regimens")
    comparison, behind, names = results.comparison, results.regimen_comparison, regimen_names(results)
    if isinstance(comparison, NotAssessed):
        paragraph(page, f"Not assessed. {comparison.detail}")
        return
    paragraph(page, _said(results, comparison))
    if behind is not None:
        _tables(page, behind, names)
    for reason in (*comparison.reasons, *comparison_refusals(results)):
        bullet(page, named(reason, names))


def _said(results: StudyResults, comparison: Comparison) -> str:
    behind, names = results.regimen_comparison, regimen_names(results)
    if behind is not None:
        text = verdict(behind, names)
    elif comparison.recommended is None:
        text = "No regimen is preferred."
    else:
        text = f"Longer expected survival under {names.get(comparison.recommended, comparison.recommended)}"
        if comparison.benefit_months is not None and comparison.confidence is not None:
            text += f": {comparison.benefit_months:.1f} months, confidence {comparison.confidence:.0%}"
        text += "."
    if behind is not None and behind.recommended is not None and behind.against is not None:
        text += f" {hidden_confounding(behind.pair(behind.recommended, behind.against))}"
    return f"{text} For research, never advice." if comparison.demonstration else text


def _tables(page: Page, behind: RegimenComparison, names: dict[str, str]) -> None:
    paragraph(page, "Months of overall survival with 95 % limits, as the comparison expects them.")
    headings = ("Regimen", "Patients", "Deaths", "Share of such", "Median", "Mean within 36 months")
    rows = tuple(regimen_rows(behind, names))
    table(page, TableSpec(headings, (36, 18, 18, 24, 42, 44), rows))
    pairs = tuple(pair_rows(behind, names))
    if len(pairs) > _MOST_PAIRS:
        first = names.get(behind.regimens[0].regimen_id, behind.regimens[0].regimen_id)
        pairs = tuple(row for row in pairs if row[1] == first)
        paragraph(page, f"Held against {first}; all pairs are in the structured report.")
    asked = f"More than {behind.rule.benefit_months:g} months"
    headings = ("Regimen", "Against", "Benefit, months", "Difference of means", asked, "E-value (limit)")
    table(page, TableSpec(headings, (30, 30, 38, 36, 24, 24), pairs))


def opinion_part(page: Page, results: StudyResults) -> None:
    """Write the second opinions on pages of their own; nothing where none was asked for."""
    if not results.second_opinions:
        return
    page.add_page()
    heading(page, "Second opinions")
    paragraph(
        page,
        "Other systems on the same patient. They change nothing of the forecast, and what they say of other "
        "end points or treatments cannot be held against it number by number.",
    )
    names = regimen_names(results)
    for opinion in results.second_opinions:
        _opinion(page, opinion, title_of(opinion, names))
    drawn = [picture for opinion in results.second_opinions for picture in _pictures(results, opinion)]
    if drawn:
        page.add_page()
    for picture in drawn:
        captioned(page, picture, alert_of(results))


def _opinion(page: Page, opinion: SecondOpinion, title: str) -> None:
    subheading(page, title)
    paragraph(page, opinion.about)
    if isinstance(opinion.values, NotAssessed):
        paragraph(page, f"Not assessed: {opinion.values.detail}")
    else:
        rows = tuple((value.name, value_text(value)) for value in opinion.values)
        table(page, TableSpec(("Value", "Found"), (120, 60), rows))
    if opinion.bundle.sha256:
        paragraph(page, f"Model: {bundle_text(opinion.bundle)}")


def _pictures(results: StudyResults, opinion: SecondOpinion) -> Iterator[Picture]:
    title = title_of(opinion, regimen_names(results))
    if opinion.nomogram is not None:
        drawn = opinion.nomogram
        said = (
            "the patient's points are marked"
            if drawn.patient is not None
            else "no points: a value is missing"
        )
        words = Heading(
            drawn.title,
            f"Second opinion: add the points of all lines and read survival below the sum; {said}",
            bundle_text(opinion.bundle),
            alert_of(results),
        )
        yield Picture(opinion.system, title, nomogram_picture(drawn.nomogram, words, drawn.patient))
    for picture in opinion.pictures:
        yield Picture(opinion.system, f"{title}: {picture.title}", picture.rgb)
