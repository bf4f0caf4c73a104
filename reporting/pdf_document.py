"""The PDF that people read: tables and charts on three or four pages, the same bytes for the same results."""

from __future__ import annotations

import hashlib
from datetime import UTC

from fpdf import XPos, YPos

from inference.results import (
    Axis,
    NotAssessed,
    RegimenForecast,
    Response,
    StudyResults,
    TimePoint,
    Tissue,
)
from reporting.common import change_pct, time_point_text
from reporting.context import Context
from reporting.pdf_parts import (
    FONT,
    INK,
    MUTED,
    Page,
    TableSpec,
    banner,
    bullet,
    heading,
    paragraph,
    pictures,
    subheading,
    table,
)
from reporting.pdf_second import comparison_part, opinion_part
from reporting.pictures import Picture, chart_images
from reporting.report_text import clinical_text, refusals, score_text
from reporting.survival_numbers import cells, curves_of


def pdf_bytes(results: StudyResults, context: Context) -> bytes:
    """Return the document.

    It names no patient: the study's UID and date and the headers of the DICOM object identify it.
    """
    study = results.baseline.study_instance_uid
    page = Page(f"Hepatocast {context.equipment.software_version}   study {study}")
    page.set_creation_date(context.job_time.astimezone(UTC))
    page.set_title("Forecast of hepatocellular carcinoma under treatment")
    page.set_creator(f"Hepatocast {context.equipment.software_version}")
    page.set_producer("Hepatocast")
    page.file_id = lambda: _file_id(context, study)  # type: ignore[method-assign]
    page.set_margins(15, 14, 15)
    page.set_auto_page_break(auto=True, margin=16)
    page.add_page()
    _first_page(page, results, context)
    page.add_page()
    _survival_part(page, results)
    comparison_part(page, results)
    _refusal_part(page, results)
    _clinical_part(page, results)
    _model_part(page, results)
    page.add_page()
    pictures(page, _worth_printing(results))
    opinion_part(page, results)
    return bytes(page.output())


def _file_id(context: Context, study: str) -> str:
    digest = hashlib.md5(f"{context.uids.key}{study}".encode(), usedforsecurity=False).hexdigest().upper()
    return f"<{digest}><{digest}>"


# ------------------------------------------------------------------ parts


def _first_page(page: Page, results: StudyResults, context: Context) -> None:
    page.set_text_color(*INK)
    page.set_font(FONT, "B", 17)
    page.cell(0, 9, "Forecast under treatment", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    page.set_font(FONT, size=9.5)
    page.set_text_color(*MUTED)
    primary = results.baseline.primary
    phases = ", ".join(str(v.phase).replace("_", " ") for v in results.baseline.volumes)
    paragraph(
        page,
        f"Unresectable hepatocellular carcinoma, {primary.modality} ({phases}). "
        f"Computed {context.job_time.strftime('%Y-%m-%d %H:%M %Z')}.",
    )
    banner(page, results)
    heading(page, "Lesions at baseline")
    labels, grid = results.segmentation.labels, primary.grid
    liver = float((labels.tissue != Tissue.BACKGROUND).sum()) * grid.voxel_ml
    paragraph(page, f"Liver with lesions: {liver:.0f} ml")
    table(page, _lesion_table(results))
    heading(page, "Predicted response")
    paragraph(page, "Change is that of the sum of target diameters. Viable tumour with its 80 % interval.")
    for forecast in results.forecasts:
        subheading(page, forecast.name)
        if forecast.not_assessed is not None:
            paragraph(page, f"Not assessed: {forecast.not_assessed.detail}")
        else:
            table(page, _response_table(results, forecast))


def _survival_part(page: Page, results: StudyResults) -> None:
    heading(page, "Predicted survival")
    rows = tuple(row for forecast in results.forecasts for row in _survival_rows(forecast))
    if rows:
        paragraph(
            page,
            "Probability with 95 % limits; months after the start of treatment. RMST36 is the expected time "
            "free of the event within 36 months.",
        )
        table(
            page,
            TableSpec(
                ("Regimen", "End point", "12 months", "24 months", "36 months", "Median", "RMST36", "Risk"),
                (28, 17, 30, 30, 30, 21, 18, 18),
                rows,
            ),
        )
    else:
        paragraph(page, "No survival curve was assessed; the reasons are below.")


def _refusal_part(page: Page, results: StudyResults) -> None:
    lines = refusals(results)
    if lines:
        heading(page, "Not assessed, and why")
        for line in lines:
            bullet(page, line)
    warnings = list(results.warnings)
    if warnings:
        heading(page, "Warnings")
        for line in warnings:
            bullet(page, line)
    if results.baseline.rejected:
        heading(page, "Series that were not used")
        for rejected in results.baseline.rejected:
            bullet(page, f"{rejected.modality}: {rejected.reason}")


def _clinical_part(page: Page, results: StudyResults) -> None:
    clinical = results.clinical
    heading(page, "Clinical values")
    used = [clinical_text(v) for v in clinical.used.values.values()]
    paragraph(page, "Used: " + ("; ".join(used) or "none"))
    if clinical.missing:
        paragraph(page, "Missing: " + ", ".join(n.replace("_", " ") for n in clinical.missing))
    if clinical.scores:
        scores = (f"{n.replace('_', ' ')} {score_text(s)}" for n, s in clinical.scores.items())
        paragraph(page, "Scores: " + "; ".join(scores))
    for state, words in (("met", "met"), ("not_met", "not met"), ("unknown", "unknown")):
        named = [criterion for criterion, found in clinical.eligibility.items() if found == state]
        if named:
            paragraph(page, f"Eligibility {words}: " + "; ".join(named))


def _model_part(page: Page, results: StudyResults) -> None:
    heading(page, "Models")
    rows = tuple(
        (part.replace("_", " "), f"{info.name} {info.version}", info.trained_on, info.sha256[:16])
        for part, info in results.bundles.items()
    )
    table(page, TableSpec(("Part", "Model", "Trained on", "sha256"), (22, 52, 74, 34), rows))
    paragraph(page, f"Random seed {results.seed}.")


def _worth_printing(results: StudyResults) -> list[Picture]:
    """Return the charts but those that repeat the text: numbers of survival, and why there are none."""
    curves = any(_survival_rows(forecast) for forecast in results.forecasts)
    repeated = {"survival-numbers"} if curves else {"survival"}
    return [picture for picture in chart_images(results) if picture.name not in repeated]


# ------------------------------------------------------------------ tables


def _lesion_table(results: StudyResults) -> TableSpec:
    rows = tuple(
        (
            m.lesion_id,
            _mm(m.long_axis),
            _mm(m.short_axis),
            _mm(m.viable_long_axis),
            f"{m.volume_ml:.1f}",
            f"{m.viable_ml:.1f}",
        )
        for m in results.baseline_lesions
    )
    return TableSpec(
        ("Lesion", "Long axis mm", "Short axis mm", "Viable axis mm", "Volume ml", "Viable ml"),
        (20, 32, 32, 32, 32, 32),
        rows,
    )


def _response_table(results: StudyResults, forecast: RegimenForecast) -> TableSpec:
    before = sum(m.viable_ml for m in results.baseline_lesions)
    return TableSpec(
        ("Time", "RECIST 1.1", "mRECIST", "Viable ml (80 %)", "Change of viable"),
        (38, 38, 38, 40, 28),
        tuple(_response_row(point, before) for point in forecast.time_points),
    )


def _response_row(point: TimePoint, before: float) -> tuple[str, ...]:
    low, high = point.generated.viable_ml_interval80
    change = change_pct(point.viable_ml, before)
    return (
        time_point_text(point),
        _response_text(point.recist11),
        _response_text(point.mrecist),
        f"{point.viable_ml:.0f} ({low:.0f} to {high:.0f})",
        "-" if change is None else f"{change:+.0f} %",
    )


def _response_text(response: Response | NotAssessed) -> str:
    if isinstance(response, NotAssessed):
        return "not assessed"
    return f"{response.category}, {response.sum_mm:.0f} mm ({response.change_pct:+.0f} %)"


def _survival_rows(forecast: RegimenForecast) -> list[tuple[str, ...]]:
    return [(forecast.name, endpoint.upper(), *cells(curve)) for endpoint, curve in curves_of(forecast)]


def _mm(axis: Axis | None) -> str:
    return "-" if axis is None else f"{axis.length_mm:.1f}"
