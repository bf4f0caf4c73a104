"""A nomogram as a picture: a line for points, one for each predictor, total points, and survival."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from inference.clinical.nomogram import MOST_POINTS, Nomogram, Predictor, Scored
from reporting.drawing import ALERT, INK, MUTED, PALETTE, Heading, RgbArray, new_figure, rgb

_LEFT = 28.0
"""Points kept free for the names of the lines."""
_SURVIVALS = (0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
_TICK = 0.16
_NEAREST = 3.2
"""Labels nearer to each other than this, in points, are not both written."""
_ENDPOINTS = {"os": "overall survival", "pfs": "progression-free survival"}


def nomogram_picture(nomogram: Nomogram, heading: Heading, patient: Scored | None = None) -> RgbArray:
    """Return the picture of a nomogram, with one patient's points marked where they are given.

    Returns
    -------
    array of uint8, (1000, 1600, 3)
    """
    file = nomogram.file
    figure = new_figure(heading)
    axes = figure.add_axes((0.035, 0.06, 0.93, 0.82))
    axes.set_axis_off()
    rows = len(file.predictors) + 2 + len(file.months)
    axes.set_xlim(-_LEFT - 2, MOST_POINTS + 3)
    axes.set_ylim(-rows + 0.4, 0.8)
    _line(axes, 0, "Points", [(float(p), f"{p:g}") for p in range(0, 101, 10)])
    for number, predictor in enumerate(file.predictors, start=1):
        _line(axes, -number, _title(predictor), _marks(nomogram, predictor))
        ends = [nomogram.points(predictor, value) for value in (predictor.low, predictor.high)]
        axes.plot(ends, [-number, -number], color=INK, linewidth=1.4)
        if patient is not None:
            _dot(axes, patient.points[predictor.name], -number)
    below = -len(file.predictors) - 1
    scale = MOST_POINTS / nomogram.most_total
    ticks = MaxNLocator(10).tick_values(0.0, nomogram.most_total)
    totals = [(t * scale, f"{t:g}") for t in ticks if 0 <= t <= nomogram.most_total * 1.0001]
    _line(axes, below, "Total points", totals)
    axes.plot([0.0, MOST_POINTS], [below, below], color=INK, linewidth=1.4)
    word = _ENDPOINTS.get(file.endpoint, file.endpoint)
    for number, months in enumerate(file.months, start=1):
        marks = [(nomogram.total_of(s, months) * scale, f"{s:g}") for s in _SURVIVALS]
        on_line = [(p, text) for p, text in marks if 0 <= p <= MOST_POINTS]
        _line(axes, below - number, f"{months:g}-month {word}", on_line)
    if patient is not None:
        _patient(axes, patient, scale, below, len(file.months))
    return rgb(figure)


def _title(predictor: Predictor) -> str:
    return f"{predictor.label} ({predictor.unit})" if predictor.unit else predictor.label


def _marks(nomogram: Nomogram, predictor: Predictor) -> list[tuple[float, str]]:
    if predictor.levels:
        return [(nomogram.points(predictor, v), name) for name, v in predictor.levels.items()]
    values = MaxNLocator(5).tick_values(predictor.low, predictor.high)
    inside = [v for v in values if predictor.low <= v <= predictor.high]
    chosen = inside if len(inside) > 1 else [predictor.low, predictor.high]
    return [(nomogram.points(predictor, v), f"{v:.4g}") for v in chosen]


def _line(axes: Axes, y: float, title: str, marks: list[tuple[float, str]]) -> None:
    axes.text(-_LEFT - 2, y, title, fontsize=12.5, color=INK, va="center", ha="left")
    if not marks:
        axes.text(0, y, "not reached within the follow-up", fontsize=11, color=ALERT, va="center")
        return
    places = [place for place, _text in marks]
    axes.plot([min(places), max(places)], [y, y], color=INK, linewidth=1.4)
    written: list[float] = []
    for place, text in sorted(marks):
        axes.plot([place, place], [y, y + _TICK], color=INK, linewidth=1.2)
        if all(abs(place - other) >= _NEAREST for other in written):
            axes.text(place, y + _TICK + 0.05, text, fontsize=11, color=MUTED, va="bottom", ha="center")
            written.append(place)


def _dot(axes: Axes, place: float, y: float) -> None:
    axes.plot([place], [y], marker="o", markersize=9, color=PALETTE[1], zorder=5)


def _patient(axes: Axes, patient: Scored, scale: float, below: float, lines: int) -> None:
    place = patient.total * scale
    axes.plot([place, place], [below, below - lines], color=PALETTE[1], linewidth=1.2, linestyle=(0, (4, 3)))
    _dot(axes, place, below)
    for number, (months, survival) in enumerate(patient.survival.items(), start=1):
        _dot(axes, place, below - number)
        axes.text(
            place + 1.0, below - number - 0.12, f"{100 * survival:.0f} % at {months:g} months",
            fontsize=11, fontweight="bold", color=PALETTE[1], va="top",
        )  # fmt: skip
