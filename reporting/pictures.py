"""The charts as pictures: survival, course of the disease, and slices before and after.

All pictures are RGB arrays that depend on the results alone.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from inference.results import (
    NotAssessed,
    RegimenForecast,
    Response,
    StudyResults,
    SurvivalCurve,
    TimePoint,
    TimePointKind,
    Tissue,
    TissueMap,
    VirtualImage,
    Voxels,
)
from reporting import drawing
from reporting.common import months_text, time_point_text
from reporting.drawing import Heading, RgbArray
from reporting.report_text import FOLLOW_UP, refusals

COMPARED_MONTHS = 3.0
"""Slices are shown at the scheduled follow-up nearest to this."""

REGIMENS_PER_PICTURE = 3
_DIFFERENCE_LIMIT = 80.0
_ENDPOINT_NAMES = {
    "os": "Overall survival",
    "pfs": "Progression-free survival",
    "ttp": "Freedom from progression",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """One chart."""

    name: str
    title: str
    pixels: RgbArray


def chart_images(results: StudyResults) -> tuple[Picture, ...]:
    """Return every chart as (name, title, RGB array)."""
    pictures = [
        Picture("survival", "Predicted survival", survival_picture(results)),
        Picture("course", "Predicted tumour burden", course_picture(results)),
    ]
    shown = [f for f in results.forecasts if _compared(f) is not None]
    for start in range(0, len(shown), REGIMENS_PER_PICTURE):
        page = start // REGIMENS_PER_PICTURE + 1
        pictures.append(
            Picture(
                f"slices-{page}",
                "Baseline, virtual follow-up and difference",
                slices_picture(results, shown[start : start + REGIMENS_PER_PICTURE]),
            )
        )
    return tuple(pictures)


def _heading(results: StudyResults, title: str, subtitle: str) -> Heading:
    generator, survival = results.bundles["generator"], results.bundles["survival"]
    footer = (
        f"Generator {generator.name} {generator.version} ({generator.trained_on})   |   "
        f"survival {survival.name} {survival.version} ({survival.trained_on})   |   seed {results.seed}"
    )
    alert = (
        "DEMONSTRATION MODEL - RESEARCH ONLY" if results.demonstration else "AI PREDICTION - RESEARCH ONLY"
    )
    return Heading(title, subtitle, footer[:170], alert)


def _style(results: StudyResults, forecast: RegimenForecast) -> tuple[str, str]:
    """Return colour and marker of a regimen, the same in every chart."""
    index = next(n for n, f in enumerate(results.forecasts) if f.regimen_id == forecast.regimen_id)
    return drawing.PALETTE[index % len(drawing.PALETTE)], drawing.MARKERS[index % len(drawing.MARKERS)]


# ------------------------------------------------------------------ survival


def survival_picture(results: StudyResults) -> RgbArray:
    """Draw the survival curves with their 95 % limits, and say in words what is not assessed."""
    curves = _curves(results)
    heading = _heading(
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
        _draw_endpoint(axes, results, _ENDPOINT_NAMES[endpoint], entries)
    if refused:
        _refusal_text(figure, words, top=0.105 + 0.0245 * len(words), title="Not assessed")
    return drawing.rgb(figure)


def _curves(results: StudyResults) -> dict[str, list[tuple[RegimenForecast, SurvivalCurve]]]:
    """Return assessed curves by end point; end points without any are left out."""
    found: dict[str, list[tuple[RegimenForecast, SurvivalCurve]]] = {}
    for forecast in results.forecasts:
        survival = forecast.survival
        for endpoint, curve in (("os", survival.os), ("pfs", survival.pfs), ("ttp", survival.ttp)):
            if isinstance(curve, SurvivalCurve):
                found.setdefault(endpoint, []).append((forecast, curve))
    return found


def _draw_endpoint(
    axes: Axes, results: StudyResults, name: str, entries: Sequence[tuple[RegimenForecast, SurvivalCurve]]
) -> None:
    for forecast, curve in entries:
        colour, marker = _style(results, forecast)
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
            axes.annotate(
                f"{estimate:.0%}", (at, estimate), xytext=(9, 9), textcoords="offset points",
                fontsize=12.5, fontweight="bold", color=colour,
            )  # fmt: skip
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
    heading = _heading(
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
            colour, _ = _style(results, forecast)
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
    colour, marker = _style(results, forecast)
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
        f"{time_point_text(p)}:  {_category(p.recist11)} / {_category(p.mrecist)},  {p.viable_ml:.0f} ml"
        for p in forecast.time_points
    ]
    height = axes.get_position().height
    axes.text(
        0.012, -0.052 / height, "\n".join(lines), transform=axes.transAxes, fontsize=12, color=drawing.INK,
        va="top", linespacing=1.45,
    )  # fmt: skip


def _category(response: Response | NotAssessed) -> str:
    return "n/a" if isinstance(response, NotAssessed) else str(response.category)


# ------------------------------------------------------------------ slices


def slices_picture(results: StudyResults, forecasts: Sequence[RegimenForecast]) -> RgbArray:
    """Draw the slice of the largest tumour: baseline, and under each regimen the virtual and its change."""
    index = largest_tumour_slice(results)
    points = [point for point in map(_compared, forecasts) if point is not None]
    months = ", ".join(sorted({f"+{months_text(p.generated.months)} mo" for p in points}))
    heading = _heading(
        results,
        "Baseline | virtual follow-up | difference",
        f"Slice {index + 1} of {len(results.baseline.primary.headers)}, largest tumour, {months}; "
        "outlines: viable tumour red, necrosis blue, lipiodol yellow",
    )
    figure = drawing.new_figure(heading)
    columns = 1 + len(forecasts)
    crop = _crop(results)
    before = _slice_values(results, index, None)
    axes = _image_axes(figure, 0, 0, columns)
    limits = _grey_limits(results, before)
    _show(axes, before[crop], limits, "Baseline", drawing.INK)
    _outline(axes, results.segmentation.labels, index, crop)
    _aspect(axes, results)
    scale = None
    for n, (forecast, point) in enumerate(zip(forecasts, points, strict=True), start=1):
        colour, _ = _style(results, forecast)
        after = _slice_values(results, index, _primary_image(results, point))
        axes = _image_axes(figure, n, 0, columns)
        _show(axes, after[crop], limits, forecast.name, colour)
        _outline(axes, point.generated.labels, index, crop)
        _aspect(axes, results)
        axes = _image_axes(figure, n, 1, columns)
        scale = _show_difference(axes, (after - before)[crop], point)
        _aspect(axes, results)
    if scale is not None:
        _legend(figure, scale, columns, results)
    return drawing.rgb(figure)


def largest_tumour_slice(results: StudyResults) -> int:
    """Return the slice of the primary grid with most tumour at baseline."""
    labels = results.segmentation.labels
    per_slice = (labels.lesion > 0).sum(axis=(1, 2))
    return labels.box.start[0] + int(per_slice.argmax())


def _compared(forecast: RegimenForecast) -> TimePoint | None:
    scheduled = [p for p in forecast.time_points if p.generated.kind is TimePointKind.SCHEDULED]
    candidates = scheduled or list(forecast.time_points)
    return min(candidates, key=lambda p: abs(p.generated.months - COMPARED_MONTHS), default=None)


def _primary_image(results: StudyResults, point: TimePoint) -> VirtualImage | None:
    uid = results.baseline.primary.series_instance_uid
    return next((i for i in point.generated.images if i.series_instance_uid == uid), None)


def _slice_values(results: StudyResults, index: int, image: VirtualImage | None) -> Voxels:
    """Return rescaled values of one slice, (rows, columns), baseline or virtual."""
    volume = results.baseline.primary
    stored = volume.stored[index].copy()
    if image is not None and image.box.start[0] <= index < image.box.stop[0]:
        _, rows, columns = image.box.slices
        stored[rows, columns] = image.stored[index - image.box.start[0]]
    return np.asarray(stored * volume.slope[index] + volume.intercept[index], dtype=np.float32)


def _crop(results: StudyResults) -> tuple[slice, slice]:
    """Return the liver's box in the image with a margin."""
    box = results.segmentation.labels.box
    rows, columns = results.baseline.primary.grid.shape[1:]
    margin = max(rows, columns) // 32
    return (
        slice(max(box.start[1] - margin, 0), min(box.stop[1] + margin, rows)),
        slice(max(box.start[2] - margin, 0), min(box.stop[2] + margin, columns)),
    )


def _grey_limits(results: StudyResults, values: Voxels) -> tuple[float, float]:
    if results.baseline.primary.modality == "CT":
        return -80.0, 220.0
    low, high = np.percentile(values, (1, 99.5))
    return float(low), float(high)


def _image_axes(figure: Figure, column: int, row: int, columns: int) -> Axes:
    width = 0.94 / columns
    axes = figure.add_axes((0.03 + column * width + 0.004, 0.475 - row * 0.387, width - 0.008, 0.385))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _show(axes: Axes, values: Voxels, limits: tuple[float, float], title: str, colour: str) -> None:
    axes.imshow(values, cmap="gray", vmin=limits[0], vmax=limits[1], interpolation="bilinear")
    axes.set_title(title, fontsize=14.5, fontweight="bold", color=colour, pad=7)


def _aspect(axes: Axes, results: StudyResults) -> None:
    _, rows, columns = results.baseline.primary.grid.spacing_mm
    axes.set_aspect(rows / columns)


def _outline(axes: Axes, labels: TissueMap, index: int, crop: tuple[slice, slice]) -> None:
    k = index - labels.box.start[0]
    if not 0 <= k < labels.box.shape[0]:
        return
    first_row = labels.box.start[1] - crop[0].start
    first_column = labels.box.start[2] - crop[1].start
    rows = np.arange(labels.box.shape[1]) + first_row
    columns = np.arange(labels.box.shape[2]) + first_column
    for tissue, colour in (
        (Tissue.VIABLE, "#FF3B30"),
        (Tissue.NECROSIS, "#4DA3FF"),
        (Tissue.LIPIODOL, "#FFD60A"),
    ):
        mask = labels.tissue[k] == tissue
        if mask.any():
            axes.contour(columns, rows, mask, levels=[0.5], colors=[colour], linewidths=1.3)


def _show_difference(axes: Axes, values: Voxels, point: TimePoint) -> ScalarMappable:
    limit = _DIFFERENCE_LIMIT
    shown = axes.imshow(values, cmap="PuOr_r", norm=Normalize(-limit, limit), interpolation="bilinear")
    axes.set_xlabel(
        f"RECIST {_category(point.recist11)}, mRECIST {_category(point.mrecist)}\n"
        f"+{months_text(point.generated.months)} mo, viable {point.viable_ml:.0f} ml",
        fontsize=11, color=drawing.INK, labelpad=6,
    )  # fmt: skip
    return shown


def _legend(figure: Figure, scale: ScalarMappable, columns: int, results: StudyResults) -> None:
    width = 0.94 / columns
    bar = figure.add_axes((0.03 + 0.12 * width, 0.33, 0.7 * width, 0.022))
    figure.colorbar(scale, cax=bar, orientation="horizontal")
    unit = "HU" if results.baseline.primary.modality == "CT" else "signal"
    bar.set_title(f"difference in {unit}", fontsize=12, color=drawing.INK, pad=8)
    bar.tick_params(labelsize=11, colors=drawing.INK)
    before = sum(m.viable_ml for m in results.baseline_lesions)
    figure.text(
        0.03 + 0.12 * width, 0.25,
        f"Baseline: {len(results.baseline_lesions)} lesion(s),\n{before:.0f} ml viable tumour.\n\n"
        "Virtual images are predictions,\nnot acquisitions. The patient's own\n"
        "image changes inside the liver only.",
        fontsize=12, color=drawing.INK, va="top", linespacing=1.45,
    )  # fmt: skip
