"""The charts as pictures: survival, course of the disease, slices, and where regimens were compared, these.

All pictures are RGB arrays that depend on the results alone.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MultipleLocator

from inference.results import (
    RegimenForecast,
    StudyResults,
    SurvivalCurve,
    TimePoint,
    TimePointKind,
)
from reporting import drawing
from reporting.chart_style import category_of, heading_of, style_of
from reporting.common import time_point_text
from reporting.comparison_pictures import heat_map_picture
from reporting.comparison_words import regimen_names
from reporting.drawing import RgbArray
from reporting.regressions_picture import regressions_picture
from reporting.report_text import FOLLOW_UP, refusals
from reporting.slices_picture import compared_point, slices_picture
from reporting.survival_numbers import ENDPOINTS, curves_of, survival_numbers_picture

_LABEL_HEIGHT = 0.042
"""Of a probability beside a curve, in probability."""
REGIMENS_PER_PICTURE = 3


@dataclass(frozen=True, slots=True)
class Picture:
    """One chart."""

    name: str
    title: str
    pixels: RgbArray


def chart_images(results: StudyResults) -> tuple[Picture, ...]:
    """Return every chart as (name, title, RGB array)."""
    pictures = [Picture("survival", "Predicted survival", survival_picture(results))]
    if _curves(results):
        numbers = survival_numbers_picture(results)
        pictures.append(Picture("survival-numbers", "Predicted survival in numbers", numbers))
    pictures.append(Picture("course", "Predicted tumour burden", course_picture(results)))
    shown = [f for f in results.forecasts if compared_point(f) is not None]
    for start in range(0, len(shown), REGIMENS_PER_PICTURE):
        page = start // REGIMENS_PER_PICTURE + 1
        pictures.append(
            Picture(
                f"slices-{page}",
                "Baseline, virtual follow-up and difference",
                slices_picture(results, shown[start : start + REGIMENS_PER_PICTURE]),
            )
        )
    return (*pictures, *_comparison_pictures(results, shown))


def _comparison_pictures(results: StudyResults, shown: Sequence[RegimenForecast]) -> Iterator[Picture]:
    """Yield the heat map and the courses side by side; nothing where no regimens were compared."""
    comparison = results.regimen_comparison
    if comparison is None:
        return
    names = regimen_names(results)
    info = results.bundles.get("comparison")
    words = heading_of(
        results,
        "Comparison of regimens",
        "Expected overall survival of this patient, learned from patients who were treated with each regimen",
    )
    if info is not None:
        words = replace(words, footer=f"Comparison {info.name} {info.version} ({info.trained_on})")
    yield Picture("comparison", "Comparison of regimens", heat_map_picture(comparison, names, words))
    known = {estimate.regimen_id for estimate in comparison.regimens}
    compared = [forecast for forecast in shown if forecast.regimen_id in known]
    for start in range(0, len(compared), REGIMENS_PER_PICTURE):
        page = start // REGIMENS_PER_PICTURE + 1
        part = compared[start : start + REGIMENS_PER_PICTURE]
        picture = regressions_picture(results, comparison, part)
        yield Picture(f"regressions-{page}", "Virtual regressions side by side", picture)


# ------------------------------------------------------------------ survival


def survival_picture(results: StudyResults) -> RgbArray:
    """Draw the survival curves with their 95 % limits, and say in words what is not assessed."""
    curves = _curves(results)
    heading = heading_of(
        results,
        "Predicted survival",
        "Individual curves after the start of treatment; bands are pointwise 95 % limits",
    )
    figure = drawing.new_figure(heading)
    refused = [r for r in refusals(results) if not r.startswith(("mRECIST", "RECIST", FOLLOW_UP))]
    if not curves:
        words = _wrapped(refused, width=140)
        _refusal_text(figure, words, top=0.82, title="No survival curve was assessed")
        return drawing.rgb(figure)
    words = _wrapped(refused, width=170)
    bottom = 0.20 + 0.0245 * len(words) if refused else 0.12
    width = 0.93 / len(curves) - 0.055
    for n, (endpoint, entries) in enumerate(curves.items()):
        axes = drawing.plain_axes(figure, 0.06 + n * 0.93 / len(curves), bottom, width, 0.84 - bottom)
        _draw_endpoint(axes, results, ENDPOINTS[endpoint], entries)
    if refused:
        _refusal_text(figure, words, top=0.105 + 0.0245 * len(words), title="Not assessed")
    return drawing.rgb(figure)


def _curves(results: StudyResults) -> dict[str, list[tuple[RegimenForecast, SurvivalCurve]]]:
    """Return assessed curves by end point; end points without any are left out."""
    found: dict[str, list[tuple[RegimenForecast, SurvivalCurve]]] = {}
    for forecast in results.forecasts:
        for endpoint, curve in curves_of(forecast):
            found.setdefault(endpoint, []).append((forecast, curve))
    return found


def _draw_endpoint(
    axes: Axes, results: StudyResults, name: str, entries: Sequence[tuple[RegimenForecast, SurvivalCurve]]
) -> None:
    for forecast, curve in entries:
        colour, marker = style_of(results, forecast)
        months, survival = np.asarray(curve.months), np.asarray(curve.survival)
        axes.fill_between(
            months, curve.lower, curve.upper, step="post", color=colour, alpha=0.16, linewidth=0
        )
        axes.step(
            months, survival, where="post", color=colour, linewidth=2.6, label=_curve_label(forecast, curve)
        )
        for at, (estimate, low, high) in sorted(curve.probabilities.items()):
            axes.errorbar(
                at, estimate, yerr=[[max(estimate - low, 0)], [max(high - estimate, 0)]], color=colour,
                marker=marker, markersize=8, capsize=4, linewidth=1.4, markeredgecolor=drawing.PAPER,
            )  # fmt: skip
    _write_probabilities(axes, results, entries)
    axes.axhline(0.5, color=drawing.MUTED, linewidth=0.9, linestyle=(0, (4, 4)))
    axes.set_ylim(0, 1.02)
    axes.set_xlim(0, None)
    axes.set_yticks(np.linspace(0, 1, 6), [f"{v:.0%}" for v in np.linspace(0, 1, 6)])
    last = max(max(c.months) for _, c in entries)
    axes.xaxis.set_major_locator(MultipleLocator(6 if last <= 48 else 12))
    axes.set_title(name, loc="left", fontsize=15.5, fontweight="bold", color=drawing.INK, pad=12)
    axes.set_xlabel("Months after the start of treatment", fontsize=12.5, color=drawing.INK)
    axes.legend(
        loc="upper right", fontsize=11.5, frameon=True, facecolor=drawing.PAPER, edgecolor=drawing.GRID
    )


def _write_probabilities(
    axes: Axes, results: StudyResults, entries: Sequence[tuple[RegimenForecast, SurvivalCurve]]
) -> None:
    """Write the probabilities beside their points, in their order and never on top of each other."""
    written: dict[int, list[tuple[float, str]]] = {}
    for forecast, curve in entries:
        colour, _ = style_of(results, forecast)
        for at, (estimate, *_) in curve.probabilities.items():
            written.setdefault(at, []).append((estimate, colour))
    for at, labels in written.items():
        lowest = 0.0
        for estimate, colour in sorted(labels):
            height = max(estimate + 0.012, lowest)
            lowest = height + _LABEL_HEIGHT
            axes.annotate(
                f"{estimate:.0%}", (at, height), xytext=(9, 0), textcoords="offset points",
                fontsize=12.5, fontweight="bold", color=colour,
                path_effects=[withStroke(linewidth=3, foreground=drawing.PAPER)],
            )  # fmt: skip


def _curve_label(forecast: RegimenForecast, curve: SurvivalCurve) -> str:
    median = "median not reached" if curve.median_months is None else f"median {curve.median_months:.1f} mo"
    risk = f", {curve.risk_group} risk" if curve.risk_group in ("high", "low") else ""
    return f"{forecast.name}: {median}{risk}"


def _wrapped(lines: Sequence[str], width: int) -> list[str]:
    """Break lines at `width` letters, each with a dash in front."""
    return [w for line in lines for w in textwrap.wrap(f"- {line}", width, subsequent_indent="   ")]


def _refusal_text(figure: Figure, words: Sequence[str], top: float, title: str) -> None:
    figure.text(0.035, top, title, fontsize=14.5, fontweight="bold", color=drawing.ALERT, va="top")
    figure.text(
        0.035, top - 0.037, "\n".join(words), fontsize=11.5, color=drawing.INK, va="top", linespacing=1.4
    )  # fmt: skip


# ------------------------------------------------------------------ course


def course_picture(results: StudyResults) -> RgbArray:
    """Draw viable tumour over time under each regimen with 80 % bands and response categories."""
    heading = heading_of(
        results,
        "Predicted tumour burden",
        "Viable tumour after the start of treatment; bands are 80 % intervals and may reach beyond the axis; "
        "below: RECIST 1.1 / mRECIST (n/a: not assessed)",
    )
    figure = drawing.new_figure(heading)
    count = max(len(results.forecasts), 1)
    columns = min(count, 3)
    rows = -(-count // columns)
    top = _highest(results) * 1.12
    for n, forecast in enumerate(results.forecasts):
        row, column = divmod(n, columns)
        height = 0.82 / rows
        below = 0.07 + 0.026 * max(len(f.time_points) for f in results.forecasts)
        axes = drawing.plain_axes(
            figure, 0.06 + column * 0.93 / columns, 0.05 + (rows - 1 - row) * height + below,
            0.93 / columns - 0.045, height - below - 0.045,
        )  # fmt: skip
        if forecast.not_assessed is not None:
            colour, _ = style_of(results, forecast)
            drawing.words_only(axes, forecast.name, colour, f"Not assessed: {forecast.not_assessed.detail}")
        else:
            _draw_course(axes, results, forecast, top)
    return drawing.rgb(figure)


def _highest(results: StudyResults) -> float:
    """Return the top of the burden axis: all estimates, and of the bands what leaves the rest legible."""
    estimates = [t.total_ml for f in results.forecasts for t in f.trajectory]
    estimates += [p.viable_ml for f in results.forecasts for p in f.time_points]
    estimates += [sum(m.volume_ml for m in results.baseline_lesions), 1.0]
    limits = [t.viable_ml_interval80[1] for f in results.forecasts for t in f.trajectory]
    return min(max([*limits, *estimates]), 1.5 * max(estimates))


def _draw_course(axes: Axes, results: StudyResults, forecast: RegimenForecast, top: float) -> None:
    colour, marker = style_of(results, forecast)
    months = [t.months for t in forecast.trajectory]
    if months:
        low, high = zip(*(t.viable_ml_interval80 for t in forecast.trajectory), strict=True)
        axes.fill_between(months, low, high, color=colour, alpha=0.18, linewidth=0, label="80 % interval")
        axes.plot(
            months,
            [t.viable_ml for t in forecast.trajectory],
            color=colour,
            linewidth=2.8,
            label="viable tumour",
        )
        axes.plot(
            months, [t.total_ml for t in forecast.trajectory], color=drawing.MUTED, linewidth=1.5,
            linestyle=(0, (4, 3)), label="whole lesions",
        )  # fmt: skip
    start = sum(m.viable_ml for m in results.baseline_lesions)
    axes.axhline(start, color=drawing.MUTED, linewidth=0.9, linestyle=(0, (1, 3)))
    for point in forecast.time_points:
        _mark_point(axes, point, colour, marker)
    _list_points(axes, forecast)
    axes.set_ylim(0, max(top, 1.0))
    axes.set_xlim(0, None)
    axes.set_title(forecast.name, loc="left", fontsize=15.5, fontweight="bold", color=colour, pad=10)
    axes.set_xlabel("Months after the start of treatment", fontsize=12, color=drawing.INK)
    axes.set_ylabel("ml", fontsize=12, color=drawing.INK)
    axes.legend(loc="upper left", fontsize=11, frameon=True, facecolor=drawing.PAPER, edgecolor=drawing.GRID)


def _mark_point(axes: Axes, point: TimePoint, colour: str, marker: str) -> None:
    best = point.generated.kind is TimePointKind.BEST_RESPONSE
    axes.plot(
        point.generated.months, point.viable_ml, marker=marker, markersize=12 if best else 10, color=colour,
        markerfacecolor=drawing.PAPER if best else colour, markeredgewidth=2.2,
    )  # fmt: skip


def _list_points(axes: Axes, forecast: RegimenForecast) -> None:
    """Write the response at each time point below the panel."""
    lines = [
        f"{time_point_text(p)}:  {category_of(p.recist11)} / {category_of(p.mrecist)},  {p.viable_ml:.0f} ml"
        for p in forecast.time_points
    ]
    height = axes.get_position().height
    axes.text(
        0.012, -0.052 / height, "\n".join(lines), transform=axes.transAxes, fontsize=12, color=drawing.INK,
        va="top", linespacing=1.45,
    )  # fmt: skip
