"""A result with columns and rows: shown on a terminal, or written as CSV or JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

Cell = str | float | int | None
SUFFIXES = (".csv", ".json")


@dataclass(frozen=True, slots=True)
class Sheet:
    """Titles of the columns, and rows of as many cells; None is an empty cell."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def show_or_write(shown: Sheet, whole: Sheet, out: Path | None) -> None:
    """Print `shown`, or write `whole` to a file and say so.

    Raises
    ------
    typer.BadParameter
        The file's name ends neither in .csv nor in .json.
    """
    if out is None:
        _show(shown)
        return
    check_out(out)
    write = _write_csv if out.suffix.lower() == ".csv" else _write_json
    write(whole, out)
    typer.echo(f"{len(whole.rows)} rows are in {out}")


def check_out(out: Path | None) -> None:
    """Refuse a file of another kind, before anything is computed."""
    if out is not None and out.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(f"--out {out.name}: the name must end in {' or '.join(SUFFIXES)}")


def _show(sheet: Sheet) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for title in sheet.columns:
        table.add_column(title, overflow="fold")
    for row in sheet.rows:
        table.add_row(*(_text(cell) for cell in row))
    Console(markup=False, highlight=False).print(table)


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def _write_csv(sheet: Sheet, out: Path) -> None:
    with out.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(sheet.columns)
        writer.writerows(["" if cell is None else cell for cell in row] for row in sheet.rows)


def _write_json(sheet: Sheet, out: Path) -> None:
    entries: Sequence[dict[str, Cell]] = [dict(zip(sheet.columns, row, strict=True)) for row in sheet.rows]
    out.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
