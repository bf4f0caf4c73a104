"""Forest plot of the arms: C of each with its interval, and what it has over clinical values alone."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from inference.evaluation.arms.figures import EndPointFigures
from inference.evaluation.arms.plan import ORIGIN_TITLES, TITLES
from inference.evaluation.bootstrap import Estimate
from inference.evaluation.predictions.models import Arm
from inference.evaluation.report.look import INK, MUTED, PALETTE, Picture, new_figure, picture, plain

_MEASURE = "harrell_c"
_INCHES_A_TABLE = 2.1
_NOTE = (
    "Harrell's C with its 95 % interval; beside it the figure, and below that the paired difference from the "
    "clinical arm. Dashed: chance."
)


def forest(figures: Sequence[EndPointFigures]) -> Picture:
    """Draw Harrell's C of every arm: a row for each set and origin, a column for each end point."""
    places = list(dict.fromkeys((f.origin, f.set_name) for f in figures))
    end_points = list(dict.fromkeys(f.end_point for f in figures))
    figure = new_figure(len(places), _INCHES_A_TABLE)
    panels = figure.subplots(len(places), len(end_points), squeeze=False, sharex=True)
    figure.suptitle(_NOTE, fontsize=8.5, color=MUTED, x=0.01, ha="left")
    for found in figures:
        row, column = places.index((found.origin, found.set_name)), end_points.index(found.end_point)
        _panel(panels[row, column], found)
    for axes in panels[:, 1:].flat:
        axes.set_yticklabels([])
    for axes in panels[-1]:
        axes.set_xlabel("Harrell's C", fontsize=8, color=INK)
    return picture(figure, "Harrell's C of each arm with 95 % intervals, and the difference from clinical")


def _panel(axes: Axes, found: EndPointFigures) -> None:
    title = f"{found.end_point.upper()}, {found.set_name}: {ORIGIN_TITLES[found.origin].lower()}"
    plain(axes, f"{title}\n{found.patients} patients, {found.events} events")
    arms = list(found.figures)
    for place, arm in enumerate(arms):
        estimate = found.figures[arm][_MEASURE]
        if not estimate.known:
            continue
        colour = PALETTE[list(TITLES).index(arm)]
        axes.plot([estimate.lower, estimate.upper], [place, place], color=colour, linewidth=2)
        axes.plot(estimate.value, place, "o", color=colour, markersize=6)
        axes.annotate(
            _words(estimate, found, arm),
            (1.02, place),
            xycoords=("axes fraction", "data"),
            fontsize=7.5,
            color=INK,
            va="center",
        )
    axes.axvline(0.5, color=MUTED, linewidth=0.9, linestyle=(0, (4, 4)))
    axes.set_yticks(range(len(arms)), [TITLES[arm].replace(" + ", "\n+ ", 1) for arm in arms], fontsize=8)
    axes.set_ylim(len(arms) - 0.5, -0.5)


def _words(estimate: Estimate, found: EndPointFigures, arm: Arm) -> str:
    """Return C, and the paired difference from the clinical arm."""
    text = f"{estimate.value:.3f}"
    gap = found.differences.get((arm, Arm.CLINICAL), {}).get(_MEASURE)
    if gap is None or not gap.known:
        return text
    return f"{text}\n{gap.value:+.3f} ({gap.lower:+.3f}, {gap.upper:+.3f})"
