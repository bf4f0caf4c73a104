"""The PDF that people read: tables and charts on three or four pages, the same bytes for the same results."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC

from fpdf import FPDF, FontFace, XPos, YPos
from fpdf.enums import TableBordersLayout
from PIL import Image

from inference.results import (
    Axis,
    Comparison,
    NotAssessed,
    RegimenForecast,
    Response,
    StudyResults,
    SurvivalCurve,
    TimePoint,
    Tissue,
)
from reporting.common import DEMONSTRATION, STATEMENT, change_pct, time_point_text
from reporting.context import Context
from reporting.pictures import Picture, chart_images
from reporting.report_text import clinical_text, refusals, score_text

_FONT = "Helvetica"
_INK, _MUTED, _ALERT, _HEAD, _STRIPE = (
    (27, 39, 51),
    (91, 107, 122),
    (156, 47, 0),
    (232, 237, 242),
    (247, 249, 251),
)
_WIDTH_MM = 180.0


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table: headings, relative widths, rows of text."""

    headings: tuple[str, ...]
    widths: tuple[int, ...]
    rows: tuple[tuple[str, ...], ...]


class _Page(FPDF):
    """A page with a foot line; it carries no patient identification."""

    def __init__(self, study_line: str) -> None:
        super().__init__(format="A4", unit="mm")
        self._study_line = study_line

    def footer(self) -> None:
        self.set_y(-12)
        self.set_font(_FONT, size=7.5)
        self.set_text_color(*_MUTED)
        self.cell(150, 5, _latin(self._study_line))
        self.cell(0, 5, f"{self.page_no()}", align="R")


def pdf_bytes(results: StudyResults, context: Context) -> bytes:
    """Return the document.

    It names no patient: the study's UID and date and the headers of the DICOM object identify it.
    """
    study = results.baseline.study_instance_uid
    page = _Page(f"Hepatocast {context.equipment.software_version}   study {study}")
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
    _refusal_part(page, results)
    _clinical_part(page, results)
    _model_part(page, results)
    page.add_page()
    _chart_part(page, _worth_printing(results))
    return bytes(page.output())


def _file_id(context: Context, study: str) -> str:
    digest = hashlib.md5(f"{context.uids.key}{study}".encode(), usedforsecurity=False).hexdigest().upper()
    return f"<{digest}><{digest}>"


# ------------------------------------------------------------------ parts


def _first_page(page: _Page, results: StudyResults, context: Context) -> None:
    page.set_text_color(*_INK)
    page.set_font(_FONT, "B", 17)
    page.cell(0, 9, "Forecast under treatment", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    page.set_font(_FONT, size=9.5)
    page.set_text_color(*_MUTED)
    primary = results.baseline.primary
    phases = ", ".join(str(v.phase).replace("_", " ") for v in results.baseline.volumes)
    _line(
        page,
        f"Unresectable hepatocellular carcinoma, {primary.modality} ({phases}). "
        f"Computed {context.job_time.strftime('%Y-%m-%d %H:%M %Z')}.",
    )
    _banner(page, results)
    _heading(page, "Lesions at baseline")
    labels, grid = results.segmentation.labels, primary.grid
    liver = float((labels.tissue != Tissue.BACKGROUND).sum()) * grid.voxel_ml
    _line(page, f"Liver with lesions: {liver:.0f} ml")
    _table(page, _lesion_table(results))
    _heading(page, "Predicted response")
    _line(page, "Change is that of the sum of target diameters. Viable tumour with its 80 % interval.")
    for forecast in results.forecasts:
        _subheading(page, forecast.name)
        if forecast.not_assessed is not None:
            _line(page, f"Not assessed: {forecast.not_assessed.detail}")
        else:
            _table(page, _response_table(results, forecast))


def _survival_part(page: _Page, results: StudyResults) -> None:
    _heading(page, "Predicted survival")
    rows = tuple(row for forecast in results.forecasts for row in _survival_rows(forecast))
    if rows:
        _line(page, "Probability with 95 % limits; months after the start of treatment.")
        _table(
            page,
            TableSpec(
                ("Regimen", "End point", "12 months", "24 months", "36 months", "Median", "Risk group"),
                (30, 24, 30, 30, 30, 22, 20),
                rows,
            ),
        )
    else:
        _line(page, "No survival curve was assessed; the reasons are below.")
    _heading(page, "Comparison of regimens")
    comparison = results.comparison
    if isinstance(comparison, Comparison):
        _line(page, _comparison_text(results, comparison))
        for reason in comparison.reasons:
            _bullet(page, reason)
    else:
        _line(page, f"Not assessed. {comparison.detail}")


def _refusal_part(page: _Page, results: StudyResults) -> None:
    lines = refusals(results)
    if lines:
        _heading(page, "Not assessed, and why")
        for line in lines:
            _bullet(page, line)
    warnings = list(results.warnings)
    if warnings:
        _heading(page, "Warnings")
        for line in warnings:
            _bullet(page, line)
    if results.baseline.rejected:
        _heading(page, "Series that were not used")
        for rejected in results.baseline.rejected:
            _bullet(page, f"{rejected.modality}: {rejected.reason}")


def _clinical_part(page: _Page, results: StudyResults) -> None:
    clinical = results.clinical
    _heading(page, "Clinical values")
    used = [clinical_text(v) for v in clinical.used.values.values()]
    _line(page, "Used: " + ("; ".join(used) or "none"))
    if clinical.missing:
        _line(page, "Missing: " + ", ".join(n.replace("_", " ") for n in clinical.missing))
    if clinical.scores:
        scores = (f"{n.replace('_', ' ')} {score_text(s)}" for n, s in clinical.scores.items())
        _line(page, "Scores: " + "; ".join(scores))
    for state, words in (("met", "met"), ("not_met", "not met"), ("unknown", "unknown")):
        named = [criterion for criterion, found in clinical.eligibility.items() if found == state]
        if named:
            _line(page, f"Eligibility {words}: " + "; ".join(named))


def _model_part(page: _Page, results: StudyResults) -> None:
    _heading(page, "Models")
    rows = tuple(
        (part, f"{info.name} {info.version}", info.trained_on, info.sha256[:16])
        for part, info in results.bundles.items()
    )
    _table(page, TableSpec(("Part", "Model", "Trained on", "sha256"), (22, 52, 74, 34), rows))
    _line(page, f"Random seed {results.seed}.")


def _worth_printing(results: StudyResults) -> list[Picture]:
    """Return the charts; without any survival curve their chart repeats the reasons of the text."""
    curves = any(_survival_rows(forecast) for forecast in results.forecasts)
    return [picture for picture in chart_images(results) if curves or picture.name != "survival"]


def _chart_part(page: _Page, pictures: Iterable[Picture]) -> None:
    for picture in pictures:
        height = _WIDTH_MM * picture.pixels.shape[0] / picture.pixels.shape[1]
        if page.get_y() + height > page.h - 16:
            page.add_page()
        buffer = io.BytesIO()
        Image.fromarray(picture.pixels).save(buffer, format="PNG")
        buffer.seek(0)
        page.image(buffer, w=_WIDTH_MM, alt_text=picture.title)
        page.ln(4)


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
    survival = forecast.survival
    rows = []
    for name, curve in (("OS", survival.os), ("PFS", survival.pfs), ("TTP", survival.ttp)):
        if isinstance(curve, SurvivalCurve):
            at = tuple(_probability(curve, months) for months in (12, 24, 36))
            median = "not reached" if curve.median_months is None else f"{curve.median_months:.1f} mo"
            rows.append((forecast.name, name, *at, median, curve.risk_group))
    return rows


def _probability(curve: SurvivalCurve, months: int) -> str:
    if months not in curve.probabilities:
        return "beyond follow-up"
    estimate, low, high = curve.probabilities[months]
    return f"{estimate:.0%} ({low:.0%} to {high:.0%})"


def _comparison_text(results: StudyResults, comparison: Comparison) -> str:
    names = {f.regimen_id: f.name for f in results.forecasts}
    if comparison.recommended is None:
        return "No regimen is preferred."
    text = f"Longer expected survival under {names.get(comparison.recommended, comparison.recommended)}"
    if comparison.benefit_months is not None and comparison.confidence is not None:
        text += f": {comparison.benefit_months:.1f} months, confidence {comparison.confidence:.0%}"
    return f"{text}. For research, never advice." if comparison.demonstration else f"{text}."


def _mm(axis: Axis | None) -> str:
    return "-" if axis is None else f"{axis.length_mm:.1f}"


# ------------------------------------------------------------------ small parts


def _latin(text: str) -> str:
    """Return text in the letters of the built-in fonts."""
    return text.encode("latin-1", "replace").decode("latin-1")


def _banner(page: _Page, results: StudyResults) -> None:
    page.ln(1.5)
    page.set_fill_color(*(_ALERT if results.demonstration else _MUTED))
    page.set_text_color(255, 255, 255)
    page.set_font(_FONT, "B", 9)
    text = f"{DEMONSTRATION} {STATEMENT}" if results.demonstration else STATEMENT
    page.multi_cell(0, 5, _latin(text), align="L", fill=True, padding=2, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    page.set_text_color(*_INK)
    page.set_fill_color(255, 255, 255)


def _heading(page: _Page, text: str) -> None:
    if page.get_y() > page.h - 45:
        page.add_page()
    page.ln(3)
    page.set_font(_FONT, "B", 12)
    page.set_text_color(*_INK)
    page.cell(0, 7, _latin(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _subheading(page: _Page, text: str) -> None:
    if page.get_y() > page.h - 45:
        page.add_page()
    page.ln(1.5)
    page.set_font(_FONT, "B", 9.5)
    page.cell(0, 5.5, _latin(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _line(page: _Page, text: str) -> None:
    page.set_font(_FONT, size=9)
    page.multi_cell(0, 4.6, _latin(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _bullet(page: _Page, text: str) -> None:
    page.set_font(_FONT, size=9)
    page.cell(4, 4.6, "-")
    page.multi_cell(0, 4.6, _latin(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _table(page: _Page, spec: TableSpec) -> None:
    page.set_font(_FONT, size=8.5)
    page.set_draw_color(*_MUTED)
    with page.table(
        borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        col_widths=_scaled(spec.widths),
        headings_style=FontFace(emphasis="BOLD", fill_color=_HEAD, color=_INK),
        line_height=5,
        padding=(0.8, 1.2),
        text_align="LEFT",
        width=_WIDTH_MM,
    ) as table:
        for row in (spec.headings, *spec.rows):
            cells = table.row()
            for text in row:
                cells.cell(_latin(text))
    page.ln(1)


def _scaled(widths: Sequence[int]) -> tuple[float, ...]:
    total = sum(widths)
    return tuple(_WIDTH_MM * w / total for w in widths)
