"""The look of the charts: size, palette, header and footer. Agg only, no global state of pyplot."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

WIDTH, HEIGHT, DPI = 1600, 1000, 100

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6A3D9A", "#333333", "#A6761D")
"""Okabe & Ito's colours, which people with colour-blindness tell apart; markers differ as well."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "h")
INK, MUTED, GRID, PAPER, ALERT = "#1B2733", "#5B6B7A", "#D8DEE4", "#FFFFFF", "#9C2F00"

_LETTERS_ACROSS = 150
"""Letters of size 13 that fit across a figure."""
_FOOTER_LETTERS, _FOOTER_LINES = 190, 2

RgbArray = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Heading:
    """Words around a chart."""

    title: str
    subtitle: str
    footer: str
    alert: str


def new_figure(heading: Heading) -> Figure:
    """Return a figure of 1600 x 1000 pixels with title, subtitle, footer and the words on its use."""
    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor=PAPER)
    figure.text(0.035, 0.955, heading.title, fontsize=23, fontweight="bold", color=INK, va="center")
    figure.text(0.035, 0.912, heading.subtitle, fontsize=13.5, color=MUTED, va="center")
    figure.text(
        0.965, 0.955, heading.alert, fontsize=13, fontweight="bold", color=PAPER, va="center", ha="right",
        bbox={"boxstyle": "round,pad=0.45", "facecolor": ALERT, "edgecolor": "none"},
    )  # fmt: skip
    below = textwrap.wrap(heading.footer, _FOOTER_LETTERS, max_lines=_FOOTER_LINES, placeholder=" ...")
    figure.text(0.035, 0.024, "\n".join(below), fontsize=10.5, color=MUTED, va="center", linespacing=1.25)
    return figure


def plain_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Return axes with a light grid and no box."""
    axes = figure.add_axes((left, bottom, width, height))
    axes.set_facecolor(PAPER)
    axes.grid(color=GRID, linewidth=0.9)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=12, length=0)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(MUTED)
    return axes


def words_only(axes: Axes, title: str, colour: str, words: str) -> None:
    """Turn axes into a panel that says in words why it shows no data."""
    axes.set_axis_off()
    axes.set_title(title, loc="left", fontsize=15.5, fontweight="bold", color=colour, pad=10)
    lines = textwrap.wrap(words, max(int(_LETTERS_ACROSS * axes.get_position().width), 20))
    axes.text(
        0.0, 0.97, "\n".join(lines), transform=axes.transAxes, fontsize=13, color=ALERT, va="top",
        linespacing=1.45,
    )  # fmt: skip


def rgb(figure: Figure) -> RgbArray:
    """Render a figure, (rows, columns, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return pixels[..., :3].copy()
