"""What a report is made of, before it is a web page or paper."""

from __future__ import annotations

from dataclasses import dataclass

from inference.evaluation.report.look import Picture


@dataclass(frozen=True, slots=True)
class Words:
    """One paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Points:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text; the first column names the row.

    Attributes
    ----------
    widths : tuple of int
        Relative, on paper.
    note : str
        Below the table.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    widths: tuple[int, ...]
    note: str = ""


Block = Words | Points | Table | Picture


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report with its heading."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """A whole report."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]


def even_widths(first: int, columns: int) -> tuple[int, ...]:
    """Return widths of a table whose first column is `first` percent wide and all others alike."""
    return (first, *([max((100 - first) // max(columns, 1), 1)] * columns))
