"""Slices before and after: baseline, virtual follow-up under each regimen, and the difference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from inference.results import (
    Box,
    Mask,
    RegimenForecast,
    StudyResults,
    TimePoint,
    TimePointKind,
    Tissue,
    TissueMap,
    ViableRange,
    VirtualImage,
    Voxels,
)
from reporting import drawing
from reporting.chart_style import category_of, heading_of, style_of
from reporting.common import months_text
from reporting.drawing import RgbArray

COMPARED_MONTHS = 3.0
"""Slices are shown at the scheduled follow-up nearest to this."""

_DIFFERENCE_LIMIT = 80.0
_TISSUES = ((Tissue.VIABLE, "#FF3B30"), (Tissue.NECROSIS, "#4DA3FF"), (Tissue.LIPIODOL, "#FFD60A"))
_RANGE_COLOUR = "#FFB3AD"


def slices_picture(results: StudyResults, forecasts: Sequence[RegimenForecast]) -> RgbArray:
    """Draw the slice of the largest tumour: baseline, and under each regimen the virtual and its change."""
    index = largest_tumour_slice(results)
    points = [point for point in map(compared_point, forecasts) if point is not None]
    months = ", ".join(sorted({f"+{months_text(p.generated.months)} mo" for p in points}))
    heading = heading_of(
        results,
        "Baseline | virtual follow-up | difference",
        f"Slice {index + 1} of {len(results.baseline.primary.headers)}, largest tumour, {months}; "
        f"outlines: viable tumour red{_range_words(points)}, necrosis blue, lipiodol yellow",
    )
    figure = drawing.new_figure(heading)
    columns = 1 + len(forecasts)
    crop = liver_crop(results)
    before = slice_values(results, index, None)
    axes = _image_axes(figure, 0, 0, columns)
    limits = grey_limits(results, before)
    _show(axes, before[crop], limits, "Baseline", drawing.INK)
    _outline(axes, results.segmentation.labels, index, crop)
    set_aspect(axes, results)
    scale = None
    for n, (forecast, point) in enumerate(zip(forecasts, points, strict=True), start=1):
        colour, _ = style_of(results, forecast)
        after = slice_values(results, index, primary_image(results, point))
        axes = _image_axes(figure, n, 0, columns)
        _show(axes, after[crop], limits, forecast.name, colour)
        if point.generated.viable_range80 is not None:
            _outline_range(axes, point.generated.viable_range80, index, crop)
        _outline(axes, point.generated.labels, index, crop)
        set_aspect(axes, results)
        axes = _image_axes(figure, n, 1, columns)
        scale = _show_difference(axes, (after - before)[crop], point)
        set_aspect(axes, results)
    if scale is not None:
        _legend(figure, scale, columns, results)
    return drawing.rgb(figure)


def _range_words(points: Sequence[TimePoint]) -> str:
    shown = any(p.generated.viable_range80 is not None for p in points)
    return " (dashed: its 80 % range)" if shown else ""


def largest_tumour_slice(results: StudyResults) -> int:
    """Return the slice of the primary grid with most tumour at baseline."""
    labels = results.segmentation.labels
    per_slice = (labels.lesion > 0).sum(axis=(1, 2))
    return labels.box.start[0] + int(per_slice.argmax())


def compared_point(forecast: RegimenForecast) -> TimePoint | None:
    """Return the time point whose slices are shown, None where nothing was drawn."""
    scheduled = [p for p in forecast.time_points if p.generated.kind is TimePointKind.SCHEDULED]
    candidates = scheduled or list(forecast.time_points)
    return min(candidates, key=lambda p: abs(p.generated.months - COMPARED_MONTHS), default=None)


def primary_image(results: StudyResults, point: TimePoint) -> VirtualImage | None:
    """Return what was drawn on the primary series at a time point."""
    uid = results.baseline.primary.series_instance_uid
    return next((i for i in point.generated.images if i.series_instance_uid == uid), None)


def slice_values(results: StudyResults, index: int, image: VirtualImage | None) -> Voxels:
    """Return rescaled values of one slice, (rows, columns), baseline or virtual."""
    volume = results.baseline.primary
    stored = volume.stored[index].copy()
    if image is not None and image.box.start[0] <= index < image.box.stop[0]:
        _, rows, columns = image.box.slices
        stored[rows, columns] = image.stored[index - image.box.start[0]]
    return np.asarray(stored * volume.slope[index] + volume.intercept[index], dtype=np.float32)


def liver_crop(results: StudyResults) -> tuple[slice, slice]:
    """Return the liver's box in the image with a margin."""
    box = results.segmentation.labels.box
    rows, columns = results.baseline.primary.grid.shape[1:]
    margin = max(rows, columns) // 32
    return (
        slice(max(box.start[1] - margin, 0), min(box.stop[1] + margin, rows)),
        slice(max(box.start[2] - margin, 0), min(box.stop[2] + margin, columns)),
    )


def grey_limits(results: StudyResults, values: Voxels) -> tuple[float, float]:
    """Return the values that are shown black and white."""
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


def set_aspect(axes: Axes, results: StudyResults) -> None:
    """Show pixels in their true proportions."""
    _, rows, columns = results.baseline.primary.grid.spacing_mm
    axes.set_aspect(rows / columns)


def _outline(axes: Axes, labels: TissueMap, index: int, crop: tuple[slice, slice]) -> None:
    for tissue, colour in _TISSUES:
        contour(axes, labels.tissue == tissue, labels.box, index, crop, colour, "solid")


def _outline_range(axes: Axes, extents: ViableRange, index: int, crop: tuple[slice, slice]) -> None:
    for mask in (extents.least, extents.most):
        contour(axes, mask, extents.box, index, crop, _RANGE_COLOUR, "dashed")


def contour(
    axes: Axes, mask: Mask, box: Box, index: int, crop: tuple[slice, slice], colour: str, line: str
) -> None:
    """Outline a mask on one slice of the primary grid, whose crop is shown."""
    k = index - box.start[0]
    if not 0 <= k < box.shape[0] or not mask[k].any():
        return
    rows = np.arange(box.shape[1]) + box.start[1] - crop[0].start
    columns = np.arange(box.shape[2]) + box.start[2] - crop[1].start
    width = 1.3 if line == "solid" else 1.0
    axes.contour(columns, rows, mask[k], levels=[0.5], colors=[colour], linewidths=width, linestyles=line)


def _show_difference(axes: Axes, values: Voxels, point: TimePoint) -> ScalarMappable:
    limit = _DIFFERENCE_LIMIT
    shown = axes.imshow(values, cmap="PuOr_r", norm=Normalize(-limit, limit), interpolation="bilinear")
    axes.set_xlabel(
        f"RECIST {category_of(point.recist11)}, mRECIST {category_of(point.mrecist)}\n"
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
