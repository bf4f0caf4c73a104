"""The heat map of regimens: for one patient, every regimen against every other.

A row is a regimen, a column what it is held against. On the diagonal stands the median under the regimen
itself. A cell that could not be assessed is hatched and says why; it never has a colour.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from inference.comparison.results import Interval, PairBenefit, RegimenComparison, RegimenEstimate
from inference.results import NotAssessed, Reason
from reporting import drawing
from reporting.comparison_words import e_value_words, hidden_confounding, name_of, named, percent, verdict
from reporting.drawing import Heading, RgbArray

COLOURS = "BrBG"
"""Brown to blue-green, which people with colour-blindness tell apart."""
_COLOUR_MONTHS = 12.0
"""A benefit of this size, or more, has the full colour."""
_PREFERRED = "#E69F00"
"""Frame of the pair that the rule chose."""
_LETTERS = 700
"""Letters of size 1 across the words beside the map."""
_DARK = 0.62
"""Part of the colour range from its middle beyond which letters are light."""

SHORT_REASONS: Mapping[Reason, str] = {
    Reason.NO_OVERLAP: "groups do\nnot overlap",
    Reason.BEYOND_FOLLOW_UP: "beyond\nfollow-up",
    Reason.TOO_FEW_EVENTS: "too few\ndeaths",
    Reason.OUT_OF_DISTRIBUTION: "patient outside\nthe cohort",
    Reason.NO_EFFECT_SHOWN: "no effect\nshown",
}
"""In a cell; the sentence stands beside the map."""


def heat_map_picture(comparison: RegimenComparison, names: Mapping[str, str], heading: Heading) -> RgbArray:
    """Draw the comparison of one patient.

    Parameters
    ----------
    comparison : RegimenComparison
    names : mapping of str to str
        Short name of each regimen for people, by its identifier; one that is absent is shown as it is.
    heading : Heading
        Words around the picture, such as its title and what it may not be used for.

    Returns
    -------
    array of uint8, (1000, 1600, 3)
    """
    figure = drawing.new_figure(heading)
    axes = figure.add_axes((0.135, 0.20, 0.49, 0.60))
    norm = TwoSlopeNorm(0.0, -_COLOUR_MONTHS, _COLOUR_MONTHS)
    regimens = comparison.regimens
    for row, first in enumerate(regimens):
        for column, second in enumerate(regimens):
            if row == column:
                _median_cell(axes, row, first, len(regimens))
            else:
                _pair_cell(axes, (column, row), _pair(comparison, first, second), norm, len(regimens))
    if comparison.recommended is not None and comparison.against is not None:
        order = [r.regimen_id for r in regimens]
        _frame(axes, order.index(comparison.against), order.index(comparison.recommended))
    _label(axes, [name_of(r.regimen_id, names) for r in regimens])
    _scale(figure, norm, comparison.rule.benefit_months)
    _words(figure, comparison, names)
    return drawing.rgb(figure)


def _pair(
    comparison: RegimenComparison, first: RegimenEstimate, second: RegimenEstimate
) -> PairBenefit | NotAssessed:
    """Return a pair, or why one of its regimens is in none."""
    for estimate in (first, second):
        if estimate.propensity is None and isinstance(estimate.median_months, NotAssessed):
            return estimate.median_months
    return comparison.pair(first.regimen_id, second.regimen_id)


# ------------------------------------------------------------------ cells


def _letters(regimens: int, size: float) -> float:
    """Size of letters that fits a cell: three regimens have it in full."""
    return size * min(1.0, 3.4 / regimens)


def _box(axes: Axes, at: tuple[int, int], colour: str | tuple[float, ...], hatch: str | None = None) -> None:
    axes.add_patch(
        Rectangle(
            (at[0] - 0.5, at[1] - 0.5), 1, 1, facecolor=colour, edgecolor=drawing.PAPER, linewidth=3,
            zorder=1,
        )
    )  # fmt: skip
    if hatch is not None:
        axes.add_patch(
            Rectangle(
                (at[0] - 0.5, at[1] - 0.5), 1, 1, facecolor="none", edgecolor=drawing.GRID, linewidth=0,
                hatch=hatch, zorder=2,
            )
        )  # fmt: skip


def _text(
    axes: Axes, at: tuple[float, float], words: str, size: float, colour: str, weight: str = "normal"
) -> None:
    axes.text(
        at[0], at[1], words, fontsize=size, color=colour, fontweight=weight, ha="center", va="center",
        zorder=4, linespacing=1.3,
    )  # fmt: skip


def _median_cell(axes: Axes, place: int, estimate: RegimenEstimate, regimens: int) -> None:
    _box(axes, (place, place), "#EEF1F4")
    if isinstance(estimate.median_months, NotAssessed):
        _box(axes, (place, place), drawing.PAPER, "///")
        reason = SHORT_REASONS.get(estimate.median_months.reason, "not assessed")
        _text(axes, (place, place), f"median\n{reason}", _letters(regimens, 12), drawing.INK)
        return
    median = estimate.median_months
    _text(axes, (place, place - 0.27), "median", _letters(regimens, 12), drawing.MUTED)
    _text(
        axes, (place, place - 0.02), f"{median.estimate:.1f} mo", _letters(regimens, 20), drawing.INK, "bold"
    )
    limits = f"{median.lower:.1f} to {median.upper:.1f}"
    _text(axes, (place, place + 0.24), limits, _letters(regimens, 12), drawing.MUTED)


def _pair_cell(
    axes: Axes, at: tuple[int, int], pair: PairBenefit | NotAssessed, norm: TwoSlopeNorm, regimens: int
) -> None:
    benefit = pair if isinstance(pair, NotAssessed) else pair.benefit_months
    if isinstance(benefit, NotAssessed):
        _box(axes, at, drawing.PAPER, "///")
        reason = SHORT_REASONS.get(benefit.reason, "not assessed")
        _text(axes, at, reason, _letters(regimens, 12.5), drawing.INK)
        return
    assert isinstance(pair, PairBenefit)
    place = float(norm(benefit.estimate))
    _box(axes, at, colormaps[COLOURS](place))
    ink = drawing.PAPER if abs(place - 0.5) > _DARK / 2.0 else drawing.INK
    x, y = at
    amount = f"{'≥ ' if pair.at_least else ''}{benefit.estimate:+.1f} mo".replace("-", "−")
    _text(axes, (x, y - 0.24), amount, _letters(regimens, 20), ink, "bold")
    _text(axes, (x, y + 0.0), _limits(benefit), _letters(regimens, 12), ink)
    _text(axes, (x, y + 0.26), _confidence(pair.confidence), _letters(regimens, 12), ink)


def _limits(benefit: Interval) -> str:
    return f"{benefit.lower:+.1f} to {benefit.upper:+.1f}".replace("-", "−")


def _confidence(confidence: float | NotAssessed) -> str:
    if isinstance(confidence, NotAssessed):
        return SHORT_REASONS.get(confidence.reason, "not assessed").replace("\n", " ")
    return f"confidence {percent(confidence)}"


def _frame(axes: Axes, column: int, row: int) -> None:
    axes.add_patch(
        Rectangle(
            (column - 0.475, row - 0.475), 0.95, 0.95, facecolor="none", edgecolor=_PREFERRED, linewidth=5,
            zorder=5,
        )
    )  # fmt: skip


# ------------------------------------------------------------------ around the map


def _label(axes: Axes, names: Sequence[str]) -> None:
    number = len(names)
    axes.set_xlim(-0.5, number - 0.5)
    axes.set_ylim(number - 0.5, -0.5)
    wrapped = ["\n".join(textwrap.wrap(name, 16)) for name in names]
    size = _letters(number, 13)
    axes.set_xticks(range(number), wrapped, fontsize=size, color=drawing.INK)
    axes.set_yticks(range(number), wrapped, fontsize=size, color=drawing.INK)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("held against", fontsize=12.5, color=drawing.MUTED, labelpad=8)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _scale(figure: Figure, norm: TwoSlopeNorm, asked: float) -> None:
    axes = figure.add_axes((0.235, 0.125, 0.29, 0.018))
    bar = figure.colorbar(ScalarMappable(norm, COLOURS), cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)
    axes.tick_params(labelsize=11, colors=drawing.INK, length=0)
    bar.set_label(
        "difference of median survival in months, with 95 % limits\n"
        f"confidence: that it is more than {asked:g} months",
        fontsize=11.5,
        color=drawing.MUTED,
    )


def _words(figure: Figure, comparison: RegimenComparison, names: Mapping[str, str]) -> None:
    top, left = 0.86, 0.665
    top = _paragraph(figure, left, top, verdict(comparison, names), 15, drawing.INK, "bold") - 0.012
    if comparison.recommended is not None and comparison.against is not None:
        pair = comparison.pair(comparison.recommended, comparison.against)
        told = f"{e_value_words(pair)} {hidden_confounding(pair)}".strip()
        top = _paragraph(figure, left, top, told, 12, drawing.INK) - 0.012
    if comparison.reasons:
        top = _paragraph(figure, left, top, "Not assessed, and why", 13, drawing.ALERT, "bold")
        for reason in comparison.reasons:
            top = _paragraph(figure, left, top, named(reason.detail, names), 12, drawing.ALERT) - 0.006
        top -= 0.008
    for note in comparison.notes:
        top = _paragraph(figure, left, top, named(note, names), 12, drawing.MUTED) - 0.008


def _paragraph(
    figure: Figure, left: float, top: float, words: str, size: float, colour: str, weight: str = "normal"
) -> float:
    """Write lines and return where the next ones begin."""
    together = re.sub(r"(?<=[<>]) (?=\d)|(?<=\d) (?=%)", "\u00a0", words)
    lines = textwrap.wrap(together, int(_LETTERS / size * (0.86 if weight == "bold" else 1.0)))
    figure.text(
        left, top, "\n".join(lines), fontsize=size, color=colour, fontweight=weight, va="top", linespacing=1.4
    )
    return top - len(lines) * size * 1.4 * drawing.DPI / 72.0 / drawing.HEIGHT
