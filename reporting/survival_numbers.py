"""Survival in numbers, with what the forecast rests on and what was missing."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator

from matplotlib.figure import Figure

from inference.clinical.variables import title_of
from inference.results import RegimenForecast, StudyResults, SurvivalBasis, SurvivalCurve
from reporting import drawing
from reporting.chart_style import heading_of, style_of
from reporting.drawing import RgbArray

HORIZONS_MONTHS = (12, 24, 36)
ENDPOINTS = {"os": "Overall survival", "pfs": "Progression-free survival", "ttp": "Freedom from progression"}
_COLUMNS = (
    ("Regimen", 0.035),
    ("End point", 0.185),
    ("12 months", 0.345),
    ("24 months", 0.46),
    ("36 months", 0.575),
    ("Median", 0.695),
    ("RMST36", 0.785),
    ("Risk group", 0.905),
)
_TOP, _BOTTOM = 0.84, 0.24
_LARGEST_STEP = 0.05
_LETTERS = 165
_LONGEST, _SMALLER = 20, 0.78
_MOST_NAMED, _SMALLEST = 5, 0.01
_LINE = 0.0235
"""Height of a line of words below the table."""


def curves_of(forecast: RegimenForecast) -> Iterator[tuple[str, SurvivalCurve]]:
    """Yield the end points of a regimen that were assessed."""
    survival = forecast.survival
    for endpoint, curve in (("os", survival.os), ("pfs", survival.pfs), ("ttp", survival.ttp)):
        if isinstance(curve, SurvivalCurve):
            yield endpoint, curve


def cells(curve: SurvivalCurve) -> tuple[str, ...]:
    """Return the probabilities with their 95 % limits, median, RMST36 and risk group in words."""
    at = (_probability(curve, months) for months in HORIZONS_MONTHS)
    median = "not reached" if curve.median_months is None else f"{curve.median_months:.1f} mo"
    mean = "beyond follow-up" if curve.rmst36 is None else f"{curve.rmst36:.1f} mo"
    return (*at, median, mean, curve.risk_group)


def _probability(curve: SurvivalCurve, months: int) -> str:
    if months not in curve.probabilities:
        return "beyond follow-up"
    estimate, low, high = curve.probabilities[months]
    return f"{estimate:.0%} ({low:.0%} to {high:.0%})"


def basis_words(basis: SurvivalBasis) -> str:
    """Say what moved the hazard most, and how far the networks were open for what."""
    most = sorted(basis.log_hazard.items(), key=lambda item: (-abs(item[1]), item[0]))[:_MOST_NAMED]
    moved = ", ".join(f"{title_of(n)} (x {math.exp(v):.2f})" for n, v in most if abs(v) >= _SMALLEST)
    text = f"The hazard was moved most by: {moved or 'nothing'}."
    if basis.networks > 0 and basis.gates:
        gates = ", ".join(f"{name} {share:.0%}" for name, share in basis.gates.items())
        text += f" The networks have a weight of {basis.networks:.0%} and are open for {gates}."
    return text


def survival_numbers_picture(results: StudyResults) -> RgbArray:
    """Draw a table with a row for each regimen and end point that was assessed, and what was missing.

    Returns
    -------
    array of uint8, (1000, 1600, 3)
    """
    figure = drawing.new_figure(
        heading_of(
            results,
            "Predicted survival in numbers",
            "Probability with 95 % limits; months after the start of treatment; RMST36: expected time "
            "free of the event within 36 months",
        )
    )
    rows = [(forecast, *found) for forecast in results.forecasts for found in curves_of(forecast)]
    step = min(_LARGEST_STEP, (_TOP - _BOTTOM) / (len(rows) + 1))
    size = min(13.0, 13.0 * step / 0.030)
    for title, left in _COLUMNS:
        figure.text(left, _TOP, title, fontsize=size, fontweight="bold", color=drawing.MUTED, va="center")
    for number, (forecast, endpoint, curve) in enumerate(rows, start=1):
        colour, _ = style_of(results, forecast)
        place = _TOP - number * step
        _name(figure, forecast.name, place, size, colour)
        for (_title, left), text in zip(_COLUMNS[1:], (ENDPOINTS[endpoint], *cells(curve)), strict=True):
            figure.text(left, place, text, fontsize=size, color=drawing.INK, va="center")
    _missing(figure, results, _TOP - len(rows) * step - 0.08)
    return drawing.rgb(figure)


def _name(figure: Figure, name: str, place: float, size: float, colour: str) -> None:
    """Write the name of a regimen, a long one in two lines of smaller letters."""
    text = name
    if len(name) > _LONGEST:
        text, size = "\n".join(textwrap.wrap(name, round(_LONGEST / _SMALLER))[:2]), size * _SMALLER
    figure.text(
        _COLUMNS[0][1], place, text, fontsize=size, color=colour, fontweight="bold", va="center",
        linespacing=1.05,
    )  # fmt: skip


def _missing(figure: Figure, results: StudyResults, top: float) -> None:
    """Write which clinical values were used and which were not there, as far as there is room."""
    clinical = results.clinical
    basis = next((c.basis for f in results.forecasts for _, c in curves_of(f) if c.basis is not None), None)
    used = ", ".join(name.replace("_", " ") for name in clinical.used.values) or "none"
    missing = ", ".join(name.replace("_", " ") for name in clinical.missing) or "none"
    lines = [
        *(line for note in results.notes for line in textwrap.wrap(note, _LETTERS)),
        *(textwrap.wrap(basis_words(basis), _LETTERS) if basis is not None else ()),
        *textwrap.wrap(f"Clinical values used: {used}", _LETTERS),
        *textwrap.wrap(f"Clinical values missing: {missing}", _LETTERS),
    ]
    room = int((top - 0.05) / _LINE)
    if len(lines) > room:
        lines = [*lines[: room - 1], "... (all are in the report)"]
    figure.text(0.035, top, "\n".join(lines), fontsize=11.5, color=drawing.INK, va="top", linespacing=1.4)
