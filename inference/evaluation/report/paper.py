"""The report as a PDF of A4 pages; the same report and date give the same bytes."""

from __future__ import annotations

import hashlib
import io
from datetime import UTC, datetime

from fpdf import FPDF, FontFace, XPos, YPos
from fpdf.enums import TableBordersLayout

from inference.evaluation.report.blocks import Block, Points, Report, Section, Table, Words
from inference.evaluation.report.look import Picture

_FONT = "Helvetica"
_INK, _MUTED, _HEAD, _STRIPE = (27, 39, 51), (91, 107, 122), (232, 237, 242), (247, 249, 251)
_MARGIN_MM, _BOTTOM_MM = 14.0, 16.0
_WIDTH_MM = 210.0 - 2 * _MARGIN_MM
_ROOM_FOR_HEADING_MM = 40.0
_WIDE_TABLE = 6
"""Columns from which a table is set in smaller letters."""


class _Page(FPDF):
    """A page with a foot line."""

    def __init__(self, line: str) -> None:
        super().__init__(format="A4", unit="mm")
        self._line = line

    def footer(self) -> None:
        self.set_y(-11)
        self.set_font(_FONT, size=7.5)
        self.set_text_color(*_MUTED)
        self.cell(150, 5, _latin(self._line))
        self.cell(0, 5, f"{self.page_no()}", align="R")
        self.set_text_color(*_INK)


def pdf_report(report: Report, written: datetime) -> bytes:
    """Return the document; `written` is its date, with a time zone."""
    page = _Page(f"{report.title}   {report.subtitle}"[:150])
    page.set_creation_date(written.astimezone(UTC))
    page.set_title(_latin(report.title))
    page.set_creator("Hepatocast")
    page.set_producer("Hepatocast")
    digest = hashlib.md5(f"{report}{written.isoformat()}".encode(), usedforsecurity=False).hexdigest().upper()
    page.file_id = lambda: f"<{digest}><{digest}>"  # type: ignore[method-assign]
    page.set_margins(_MARGIN_MM, 14, _MARGIN_MM)
    page.set_auto_page_break(auto=True, margin=_BOTTOM_MM)
    page.add_page()
    page.set_text_color(*_INK)
    page.set_font(_FONT, "B", 18)
    page.multi_cell(0, 9, _latin(report.title), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    page.set_text_color(*_MUTED)
    _line(page, f"{report.subtitle} Written {written.strftime('%Y-%m-%d')}.")
    page.set_text_color(*_INK)
    for section in report.sections:
        _section(page, section)
    return bytes(page.output())


def _section(page: _Page, section: Section) -> None:
    _need(page, _ROOM_FOR_HEADING_MM)
    page.ln(5)
    page.start_section(_latin(section.title))
    page.set_font(_FONT, "B", 13)
    page.multi_cell(0, 7, _latin(section.title), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    for block in section.blocks:
        _block(page, block)


def _block(page: _Page, block: Block) -> None:
    if isinstance(block, Words):
        _line(page, block.text)
    elif isinstance(block, Points):
        for item in block.items:
            _point(page, item)
    elif isinstance(block, Table):
        _table(page, block)
    else:
        _picture(page, block)


def _line(page: _Page, text: str) -> None:
    page.set_font(_FONT, size=9)
    page.multi_cell(0, 4.6, _latin(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    page.ln(1)


def _point(page: _Page, text: str) -> None:
    page.set_font(_FONT, size=9)
    page.cell(4, 4.6, "-")
    page.multi_cell(0, 4.6, _latin(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _table(page: _Page, table: Table) -> None:
    if table.title:
        _need(page, _ROOM_FOR_HEADING_MM)
        page.ln(2.5)
        page.set_font(_FONT, "B", 9.5)
        page.multi_cell(0, 5.5, _latin(table.title), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    small = len(table.headings) >= _WIDE_TABLE
    page.set_font(_FONT, size=6.3 if small else 7.5)
    page.set_draw_color(*_MUTED)
    with page.table(
        borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        cell_fill_color=_STRIPE,
        cell_fill_mode="EVEN_ROWS",
        col_widths=table.widths,
        headings_style=FontFace(emphasis="BOLD", fill_color=_HEAD, color=_INK),
        line_height=3.1 if small else 3.8,
        padding=(0.7, 0.9),
        text_align="LEFT",
        width=_WIDTH_MM,
    ) as drawn:
        for row in (table.headings, *table.rows):
            cells = drawn.row()
            for text in row:
                cells.cell(_latin(text))
    if table.note:
        page.set_font(_FONT, size=7.5)
        page.set_text_color(*_MUTED)
        page.multi_cell(0, 3.8, _latin(table.note), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        page.set_text_color(*_INK)
    page.ln(1.5)


def _picture(page: _Page, picture: Picture) -> None:
    width = _WIDTH_MM
    height = width * picture.shape[1] / picture.shape[0]
    _need(page, height + 10)
    page.ln(2)
    page.image(io.BytesIO(picture.png), w=width, alt_text=picture.title)
    page.set_font(_FONT, size=7.5)
    page.set_text_color(*_MUTED)
    page.multi_cell(0, 3.8, _latin(picture.title), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    page.set_text_color(*_INK)
    page.ln(1.5)


def _need(page: _Page, height: float) -> None:
    """Begin a new page where less than this is left."""
    if page.get_y() + height > page.h - _BOTTOM_MM:
        page.add_page()


def _latin(text: str) -> str:
    """Return text in the letters of the built-in fonts."""
    return text.encode("latin-1", "replace").decode("latin-1")
