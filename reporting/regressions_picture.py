"""Virtual regressions side by side: the course of the tumour under each regimen that was compared.

A row is a regimen, a column a time point, all on the slice of the largest tumour at baseline. Colours say
what became of the tumour: still viable, no longer viable, and viable where nothing was before.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from inference.comparison.results import RegimenComparison
from inference.results import (
    Mask,
    NotAssessed,
    RegimenForecast,
    StudyResults,
    TimePoint,
    TimePointKind,
    Tissue,
    TissueMap,
    Voxels,
)
from reporting import drawing
from reporting.chart_style import heading_of, style_of
from reporting.common import change_pct, months_text
from reporting.drawing import RgbArray
from reporting.slices_picture import (
    contour,
    grey_limits,
    largest_tumour_slice,
    liver_crop,
    primary_image,
    set_aspect,
    slice_values,
)

MOST_POINTS = 3
"""Time points in a row, the baseline aside."""
_STILL, _GONE, _NEW = "#FF3B30", "#2FBF71", "#C77DFF"
_WORDS = ((_STILL, "still viable"), (_GONE, "no longer viable"), (_NEW, "viable where nothing was"))
_COVER = 0.45
_LEFT, _TOP, _BOTTOM = 0.16, 0.875, 0.085


def regressions_picture(
    results: StudyResults, comparison: RegimenComparison, forecasts: Sequence[RegimenForecast]
) -> RgbArray:
    """Draw the course under each of at most three regimens.

    Parameters
    ----------
    comparison : RegimenComparison
        Gives the survival that stands beside each regimen.
    forecasts : sequence of RegimenForecast
        Each with at least one time point.

    Returns
    -------
    array of uint8, (1000, 1600, 3)
    """
    index = largest_tumour_slice(results)
    heading = heading_of(
        results,
        "Virtual regressions side by side",
        f"Slice {index + 1} of {len(results.baseline.primary.headers)}, largest tumour; predicted course "
        "under each compared regimen; white: tumour at baseline",
    )
    figure = drawing.new_figure(heading)
    columns = 1 + max((len(shown_points(forecast)) for forecast in forecasts), default=0)
    size = ((0.985 - _LEFT) / max(columns, 3), (_TOP - _BOTTOM) / max(len(forecasts), 2))
    for row, forecast in enumerate(forecasts):
        bottom = _TOP - (row + 1) * size[1]
        _label(figure, results, comparison, forecast, bottom + size[1])
        _draw_row(figure, results, forecast, index, _Row(bottom, *size))
    figure.legend(
        handles=[Patch(color=colour, label=words) for colour, words in _WORDS],
        loc="lower right", bbox_to_anchor=(0.975, 0.035), ncols=3, fontsize=12, frameon=False,
    )  # fmt: skip
    return drawing.rgb(figure)


@dataclass(frozen=True, slots=True)
class _Row:
    """Place of a row on the figure, as shares of it."""

    bottom: float
    cell_width: float
    height: float


def shown_points(forecast: RegimenForecast) -> list[TimePoint]:
    """Return the scheduled time points that have room in a row: the first, the last and those between."""
    scheduled = [p for p in forecast.time_points if p.generated.kind is TimePointKind.SCHEDULED]
    points = scheduled or list(forecast.time_points)
    if len(points) <= MOST_POINTS:
        return points
    places = np.linspace(0, len(points) - 1, MOST_POINTS).round().astype(int)
    return [points[place] for place in places.tolist()]


def _label(
    figure: Figure,
    results: StudyResults,
    comparison: RegimenComparison,
    forecast: RegimenForecast,
    top: float,
) -> None:
    colour, _ = style_of(results, forecast)
    lines = textwrap.wrap(forecast.name, 16)
    figure.text(
        0.035, top - 0.035, "\n".join(lines), fontsize=14, fontweight="bold", color=colour, va="top",
        linespacing=1.25,
    )  # fmt: skip
    words = _survival_words(comparison, forecast.regimen_id)
    below = top - 0.045 - 0.025 * len(lines)
    figure.text(0.035, below, words, fontsize=11.5, color=drawing.INK, va="top", linespacing=1.5)


def _survival_words(comparison: RegimenComparison, regimen_id: str) -> str:
    known = {estimate.regimen_id: estimate for estimate in comparison.regimens}
    estimate = known.get(regimen_id)
    if estimate is None:
        return "not compared:\nno such patients"
    median = estimate.median_months
    if isinstance(median, NotAssessed):
        return "median not assessed"
    lines = [
        "expected median",
        f"{median.estimate:.1f} months",
        f"({median.lower:.1f} to {median.upper:.1f})",
    ]
    if regimen_id == comparison.recommended:
        lines.append("meets the rule")
    return "\n".join(lines)


def _draw_row(
    figure: Figure, results: StudyResults, forecast: RegimenForecast, index: int, place: _Row
) -> None:
    crop = liver_crop(results)
    before = slice_values(results, index, None)
    limits = grey_limits(results, before)
    labels = results.segmentation.labels
    start = sum(m.viable_ml for m in results.baseline_lesions)
    axes = _cell(figure, 0, place)
    _show(axes, before[crop], limits, f"baseline, {start:.0f} ml viable")
    _outline_tumour(axes, labels, index, crop)
    set_aspect(axes, results)
    for column, point in enumerate(shown_points(forecast), start=1):
        axes = _cell(figure, column, place)
        after = slice_values(results, index, primary_image(results, point))
        _show(axes, after[crop], limits, _caption(point, start))
        _cover(axes, _became(labels, point.generated.labels, index, before.shape), crop)
        _outline_tumour(axes, labels, index, crop)
        set_aspect(axes, results)


def _cell(figure: Figure, column: int, place: _Row) -> Axes:
    left = _LEFT + column * place.cell_width
    axes = figure.add_axes((left, place.bottom + 0.008, place.cell_width - 0.006, place.height - 0.042))
    axes.set_anchor("NW")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _show(axes: Axes, values: Voxels, limits: tuple[float, float], title: str) -> None:
    axes.imshow(values, cmap="gray", vmin=limits[0], vmax=limits[1], interpolation="bilinear")
    axes.set_title(title, fontsize=12, color=drawing.INK, pad=4)


def _caption(point: TimePoint, start: float) -> str:
    change = change_pct(point.viable_ml, start)
    words = "" if change is None else f" ({change:+.0f} %)"
    return f"+{months_text(point.generated.months)} mo: {point.viable_ml:.0f} ml{words}"


def _outline_tumour(axes: Axes, labels: TissueMap, index: int, crop: tuple[slice, slice]) -> None:
    contour(axes, labels.lesion > 0, labels.box, index, crop, "#FFFFFF", "solid")


def _became(before: TissueMap, after: TissueMap, index: int, shape: tuple[int, ...]) -> Mapping[str, Mask]:
    """Return where on a slice viable tumour stayed, went and came, by colour."""
    then, now = (_viable(labels, index, shape) for labels in (before, after))
    return {_STILL: then & now, _GONE: then & ~now, _NEW: now & ~then}


def _viable(labels: TissueMap, index: int, shape: tuple[int, ...]) -> Mask:
    found = np.zeros(shape, dtype=bool)
    k = index - labels.box.start[0]
    if 0 <= k < labels.box.shape[0]:
        _, rows, columns = labels.box.slices
        found[rows, columns] = labels.mask(Tissue.VIABLE)[k]
    return found


def _cover(axes: Axes, parts: Mapping[str, Mask], crop: tuple[slice, slice]) -> None:
    shape = next(iter(parts.values()))[crop].shape
    layer = np.zeros((*shape, 4), dtype=np.float32)
    for colour, mask in parts.items():
        layer[mask[crop]] = (*to_rgb(colour), _COVER)
    axes.imshow(layer, interpolation="nearest")
