"""What the pages of the PDF are made of: page, lines, tables, pictures. Built-in fonts, Latin letters."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fpdf import FPDF, FontFace, XPos, YPos
from fpdf.enums import TableBordersLayout
from PIL import Image

from inference.results import StudyResults
from reporting.common import DEMONSTRATION, STATEMENT
from reporting.pictures import Picture

FONT = "Helvetica"
INK, MUTED, ALERT, HEAD = (27, 39, 51), (91, 107, 122), (156, 47, 0), (232, 237, 242)
WIDTH_MM = 180.0
_HIGHEST_MM = 113.0


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table: headings, relative widths, rows of text."""

    headings: tuple[str, ...]
    widths: tuple[int, ...]
    rows: tuple[tuple[str, ...], ...]


class Page(FPDF):
    """A page with a foot line; it carries no patient identification."""

    def __init__(self, study_line: str) -> None:
        super().__init__(format="A4", unit="mm")
        self._study_line = study_line

    def footer(self) -> None:
        """Write the study and the number of the page."""
        self.set_y(-12)
        self.set_font(FONT, size=7.5)
        self.set_text_color(*MUTED)
        self.cell(150, 5, latin(self._study_line))
        self.cell(0, 5, f"{self.page_no()}", align="R")


# ------------------------------------------------------------------ small parts


def latin(text: str) -> str:
    """Return text in the letters of the built-in fonts."""
    return text.encode("latin-1", "replace").decode("latin-1")


def banner(page: Page, results: StudyResults) -> None:
    """Write what the document may be used for."""
    page.ln(1.5)
    page.set_fill_color(*(ALERT if results.demonstration else MUTED))
    page.set_text_color(255, 255, 255)
    page.set_font(FONT, "B", 9)
    text = f"{DEMONSTRATION} {STATEMENT}" if results.demonstration else STATEMENT
    page.multi_cell(0, 5, latin(text), align="L", fill=True, padding=2, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    page.set_text_color(*INK)
    page.set_fill_color(255, 255, 255)


def heading(page: Page, text: str) -> None:
    """Begin a part, on a new page where little room is left."""
    if page.get_y() > page.h - 45:
        page.add_page()
    page.ln(3)
    page.set_font(FONT, "B", 12)
    page.set_text_color(*INK)
    page.cell(0, 7, latin(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def subheading(page: Page, text: str) -> None:
    """Begin a part of a part."""
    if page.get_y() > page.h - 45:
        page.add_page()
    page.ln(1.5)
    page.set_font(FONT, "B", 9.5)
    page.cell(0, 5.5, latin(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def paragraph(page: Page, text: str) -> None:
    """Write text."""
    page.set_font(FONT, size=9)
    page.multi_cell(0, 4.6, latin(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def bullet(page: Page, text: str) -> None:
    """Write an item of a list."""
    page.set_font(FONT, size=9)
    page.cell(4, 4.6, "-")
    page.multi_cell(0, 4.6, latin(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def table(page: Page, spec: TableSpec) -> None:
    """Write a table."""
    page.set_font(FONT, size=8.5)
    page.set_draw_color(*MUTED)
    with page.table(
        borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        col_widths=_scaled(spec.widths),
        headings_style=FontFace(emphasis="BOLD", fill_color=HEAD, color=INK),
        line_height=5,
        padding=(0.8, 1.2),
        text_align="LEFT",
        width=WIDTH_MM,
    ) as rows:
        for row in (spec.headings, *spec.rows):
            cells = rows.row()
            for text in row:
                cells.cell(latin(text))
    page.ln(1)


def _scaled(widths: Sequence[int]) -> tuple[float, ...]:
    total = sum(widths)
    return tuple(WIDTH_MM * w / total for w in widths)


def pictures(page: Page, drawn: Iterable[Picture]) -> None:
    """Put pictures one below the other, each as wide as the page."""
    for picture in drawn:
        height = WIDTH_MM * picture.pixels.shape[0] / picture.pixels.shape[1]
        if page.get_y() + height > page.h - 16:
            page.add_page()
        _put(page, picture, WIDTH_MM)


def captioned(page: Page, picture: Picture, alert: str) -> None:
    """Put a picture below its title and what it may be used for, at most half a page high."""
    rows, columns = picture.pixels.shape[:2]
    width = min(WIDTH_MM, _HIGHEST_MM * columns / rows)
    if page.get_y() + width * rows / columns + 14 > page.h - 16:
        page.add_page()
    subheading(page, f"{picture.title} ({alert})")
    _put(page, picture, width)


def _put(page: Page, picture: Picture, width: float) -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture.pixels).save(buffer, format="PNG")
    buffer.seek(0)
    page.image(buffer, w=width, alt_text=picture.title)
    page.ln(4)
