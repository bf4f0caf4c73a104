"""The look of the pictures: colours, axes, PNG. Agg only, no global state of pyplot."""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6A3D9A", "#333333", "#A6761D")
"""Okabe & Ito's colours, which people with colour-blindness tell apart; dashes differ as well."""
DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)), (0, (1, 1)))
INK, MUTED, GRID, PAPER = "#1B2733", "#5B6B7A", "#D8DEE4", "#FFFFFF"

_DPI = 130
_INCHES_ACROSS = 10.0
_LETTERS_A_LINE = 38
_LEFT, _RIGHT, _BETWEEN, _TITLE = 0.75, 0.15, 0.75, 0.35


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture as PNG.

    Attributes
    ----------
    title : str
        What it shows, in words; also its text for people who cannot see it.
    shape : tuple of float
        Width and height in inches.
    """

    title: str
    png: bytes
    shape: tuple[float, float]


def new_figure(rows: int, row_inches: float) -> Figure:
    """Return a figure as wide as a page, with so many rows of panels."""
    size = (_INCHES_ACROSS, rows * row_inches)
    return Figure(figsize=size, dpi=_DPI, facecolor=PAPER, layout="constrained")


@dataclass(frozen=True, slots=True)
class Grid:
    """Panels in rows and columns, in inches; a layout engine would take twice as long to draw many.

    Attributes
    ----------
    row : float
        Height of a panel.
    under : float
        Below each panel, for what is written there.
    foot : float
        Below all panels, for a legend.
    """

    rows: int
    columns: int
    row: float
    under: float = 0.5
    foot: float = 0.0

    def draw(self) -> tuple[Figure, npt.NDArray[np.object_]]:
        """Return the figure and its axes, (rows, columns)."""
        height = self.rows * (self.row + self.under + _TITLE) + self.foot
        figure = Figure(figsize=(_INCHES_ACROSS, height), dpi=_DPI, facecolor=PAPER)
        axes = figure.subplots(self.rows, self.columns, squeeze=False)
        inside = _INCHES_ACROSS - _LEFT - _RIGHT
        width = (inside - _BETWEEN * (self.columns - 1)) / self.columns
        figure.subplots_adjust(
            left=_LEFT / _INCHES_ACROSS,
            right=1 - _RIGHT / _INCHES_ACROSS,
            top=1 - _TITLE / height,
            bottom=(self.under + self.foot) / height,
            wspace=_BETWEEN / width,
            hspace=(self.under + _TITLE) / self.row,
        )
        return figure, axes


def plain(axes: Axes, title: str) -> None:
    """Give axes a light grid, a title, and no box."""
    axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold", color=INK)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9, length=0)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(MUTED)


def labels(axes: Axes, across: str, up: str) -> None:
    """Name the axes."""
    axes.set_xlabel(across, fontsize=9, color=INK)
    axes.set_ylabel(up, fontsize=9, color=INK)


def words_only(axes: Axes, title: str, words: str) -> None:
    """Turn axes into a panel that says in words why it shows nothing."""
    axes.set_axis_off()
    axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold", color=INK)
    lines = textwrap.wrap(words, _LETTERS_A_LINE)
    axes.text(0.0, 0.9, "\n".join(lines), transform=axes.transAxes, fontsize=9, color=MUTED, va="top")


def picture(figure: Figure, title: str) -> Picture:
    """Render a figure; the same figure gives the same bytes."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    width, height = figure.get_size_inches()
    return Picture(title, buffer.getvalue(), (float(width), float(height)))


def style(index: int) -> dict[str, Any]:
    """Return colour and dash of the n-th line of a chart."""
    return {"color": PALETTE[index % len(PALETTE)], "linestyle": DASHES[index % len(DASHES)]}
