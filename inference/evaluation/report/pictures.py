"""Pictures of survival predictions: measures, calibration, net benefit, risk groups, and the arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as CanvasFigure

from inference.evaluation.bootstrap import Estimate
from inference.evaluation.report.curves import HorizonCurves, RiskGroups
from inference.evaluation.report.end_point import ArmsResult, EndPointResult, ModelResult
from inference.evaluation.report.look import (
    INK,
    MUTED,
    PALETTE,
    Grid,
    Picture,
    labels,
    new_figure,
    picture,
    plain,
    style,
    words_only,
)
from inference.evaluation.report.plan import EvaluationPlan
from inference.evaluation.report.response import ResponseModelResult, ResponseResult
from inference.evaluation.report.sampled import Figure, NotComputed, Sampled
from inference.evaluation.report.words import ARM_TITLES, months
from inference.evaluation.survival.calibration import CalibrationCurve
from inference.results import FloatArray

Titles = Mapping[str, str]
"""What people call each model."""

_MODELS_A_PICTURE = 4


# ------------------------------------------------------------------ measures


def discrimination_picture(result: EndPointResult, titles: Titles) -> Picture:
    """Draw C and AUC of all models with their intervals."""
    keys = [("harrell_c", "Harrell's C"), ("uno_c", "Uno's C")]
    keys += [(f"auc@{h:g}", f"AUC at {h:g} months") for h in result.followed]
    figure = new_figure(1, 0.9 + 0.27 * len(keys) * max(len(result.models), 2) / 2)
    axes = figure.add_subplot()
    plain(axes, "Discrimination, with 95 % intervals")
    for k, model in enumerate(result.models):
        offset = (k - (len(result.models) - 1) / 2) * 0.8 / max(len(result.models), 1)
        _dots(axes, [model.figures[key] for key, _ in keys], offset, k, titles[model.model])
    axes.set_yticks(range(len(keys)), [title for _, title in keys])
    axes.invert_yaxis()
    axes.axvline(0.5, color=MUTED, linewidth=0.9, linestyle=(0, (4, 4)))
    axes.legend(fontsize=8.5, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return picture(figure, "Discrimination of each model with 95 % intervals; 0.5 is chance")


def _dots(axes: Axes, figures: Sequence[Figure], offset: float, index: int, title: str) -> None:
    found = [(k + offset, f.estimate) for k, f in enumerate(figures) if isinstance(f, Sampled)]
    shown = [(k, e) for k, e in found if e.known and np.isfinite([e.lower, e.upper]).all()]
    axes.errorbar(
        [e.value for _, e in shown],
        [k for k, _ in shown],
        xerr=_reach([e for _, e in shown]),
        fmt="o",
        markersize=5,
        capsize=2,
        linewidth=1.4,
        color=PALETTE[index % len(PALETTE)],
        label=title,
    )


def _reach(found: Sequence[Estimate]) -> FloatArray:
    below = [max(e.value - e.lower, 0.0) for e in found]
    return np.array([below, [max(e.upper - e.value, 0.0) for e in found]]).reshape(2, -1)


def arms_picture(arms: ArmsResult, key: str, name: str) -> Picture:
    """Draw one measure of the arms, and their paired differences."""
    figure = new_figure(1, 2.6)
    left, right = figure.subplots(1, 2)
    plain(left, name)
    for k, (arm, figures) in enumerate(arms.figures.items()):
        _dots(left, [figures[key]], float(k), k, ARM_TITLES[arm])
    left.set_yticks(range(len(arms.figures)), [ARM_TITLES[a] for a in arms.figures])
    left.invert_yaxis()
    plain(right, "Paired differences")
    rows = [(pair, d[key]) for pair, d in arms.differences.items()]
    for k, (_, found) in enumerate(rows):
        if isinstance(found, Estimate) and found.known:
            right.errorbar(found.value, k, xerr=_reach([found]), fmt="o", markersize=5, capsize=2, color=INK)
    short = {arm: title.removeprefix("Clinical + ") for arm, title in ARM_TITLES.items()}
    right.set_yticks(range(len(rows)), [f"{short[a]}\nless {short[b].lower()}" for (a, b), _ in rows])
    right.tick_params(labelsize=7.5)
    right.invert_yaxis()
    right.axvline(0.0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 4)))
    return picture(figure, f"{name} of the arms of the protocol, and their paired differences")


# ------------------------------------------------------------------ calibration


def calibration_pictures(result: EndPointResult, titles: Titles) -> list[Picture]:
    """Draw a calibration curve with the density of predictions for each model and horizon."""
    pictures = []
    for first in range(0, len(result.models), _MODELS_A_PICTURE):
        models = result.models[first : first + _MODELS_A_PICTURE]
        figure, panels = Grid(len(models), len(result.followed), 2.1).draw()
        for k, (model, row) in enumerate(zip(models, panels, strict=True)):
            for curves, axes in zip(model.curves, row, strict=True):
                # The name stands over the first panel only: there is room for it to run on.
                title = titles[model.model] if axes is row[0] else ""
                _calibration(axes, curves, title, PALETTE[(first + k) % len(PALETTE)])
        words = "Calibration: observed against predicted risk; band 95 %; dots are quintiles by Kaplan-Meier"
        pictures.append(picture(figure, f"{words}; grey bars are where predictions lie"))
    return pictures


def _calibration(axes: Axes, curves: HorizonCurves, title: str, colour: str) -> None:
    curve = curves.calibration
    if isinstance(curve, NotComputed):
        words_only(axes, title, f"{curves.horizon:g} months: {curve.reason}")
        return
    plain(axes, title)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (4, 4)))
    _density(axes, curve)
    lower, upper, value = (
        np.array([getattr(e, side) for e in curve.observed]) for side in ("lower", "upper", "value")
    )
    axes.fill_between(curve.predicted, lower, upper, color=colour, alpha=0.2, linewidth=0)
    axes.plot(curve.predicted, value, color=colour, linewidth=1.8)
    if not isinstance(curves.groups, NotComputed):
        predicted, observed = (
            [1.0 - getattr(g, s) for g in curves.groups] for s in ("predicted", "observed")
        )
        axes.plot(predicted, observed, "o", markersize=4, color=INK)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.text(0.04, 0.93, f"{curves.horizon:g} months", fontsize=9, color=INK, va="top")
    labels(axes, "Predicted risk", "Observed risk")


def _density(axes: Axes, curve: CalibrationCurve) -> None:
    highest = float(curve.density.max())
    width = np.diff(curve.edges)
    axes.bar(
        curve.edges[:-1],
        0.18 * curve.density / max(highest, 1e-9),
        width=width,
        align="edge",
        color="#C3CCD5",
    )


# ------------------------------------------------------------------ net benefit


def decision_picture(result: EndPointResult, plan: EvaluationPlan, titles: Titles) -> Picture:
    """Draw the net benefit of treating everybody, nobody, and by each model; landmark models are left out."""
    start = min(m.start for m in result.models)
    figure, panels = Grid(1, len(result.followed), 2.6, foot=0.6).draw()
    for axes, horizon in zip(panels[0], result.followed, strict=True):
        curves = {m.model: _at(m, horizon).net_benefit for m in result.models if m.start == start}
        title = f"Events up to {horizon:g} months"
        _net_benefit(axes, title, curves, result.treating_all[horizon], plan, titles)
    _legend_below(figure)
    return picture(figure, "Decision curves: net benefit by the risk from which a patient would be treated")


def _at(model: ModelResult, horizon: float) -> HorizonCurves:
    return next(c for c in model.curves if c.horizon == horizon)


def _net_benefit(
    axes: Axes,
    title: str,
    curves: Mapping[str, tuple[Estimate, ...] | NotComputed],
    everybody: tuple[Estimate, ...] | NotComputed,
    plan: EvaluationPlan,
    titles: Titles,
) -> None:
    if isinstance(everybody, NotComputed):
        words_only(axes, title, everybody.reason)
        return
    plain(axes, title)
    limits = np.array(plan.thresholds)
    axes.plot(limits, [e.value for e in everybody], color=MUTED, linewidth=1.2, label="everybody")
    axes.axhline(0.0, color=INK, linewidth=1.0, label="nobody")
    highest = max([0.05, *(e.value for e in everybody if e.known)])
    for k, (name, curve) in enumerate(curves.items()):
        if not isinstance(curve, NotComputed):
            axes.plot(limits, [e.value for e in curve], linewidth=1.6, label=titles[name], **style(k))
    axes.set_ylim(-0.25 * highest, 1.1 * highest)
    axes.set_xlim(0, 1)
    labels(axes, "Threshold of risk", "Net benefit")


def _legend_below(figure: CanvasFigure) -> None:
    """Put one legend for all panels below them."""
    named: dict[str, Artist] = {}
    for axes in figure.axes:
        lines, names = axes.get_legend_handles_labels()
        named |= dict(zip(names, lines, strict=True))
    if named:
        figure.legend(
            list(named.values()),
            list(named),
            loc="lower center",
            ncols=min(len(named), 4),
            fontsize=8.5,
            frameon=False,
        )


# ------------------------------------------------------------------ risk groups


def groups_pictures(result: EndPointResult, titles: Titles) -> list[Picture]:
    """Draw observed survival by predicted risk group, with numbers at risk, two models a row."""
    pictures = []
    for first in range(0, len(result.models), _MODELS_A_PICTURE):
        models = result.models[first : first + _MODELS_A_PICTURE]
        rows = -(-len(models) // 2)
        figure, panels = Grid(rows, 2, 2.5, under=1.35).draw()
        for axes in panels.ravel()[len(models) :]:
            axes.set_axis_off()
        for axes, model in zip(panels.ravel(), models, strict=False):
            _groups(axes, model, titles[model.model])
        pictures.append(picture(figure, "Observed survival by predicted risk group, with numbers at risk"))
    return pictures


def _groups(axes: Axes, model: ModelResult, title: str) -> None:
    found = model.risk_groups
    if isinstance(found, NotComputed):
        words_only(axes, title, found.reason)
        return
    plain(axes, title)
    for k, group in enumerate(found.groups):
        curve = group.curve
        at = np.concatenate(([0.0], curve.times))
        colour = PALETTE[k]
        value, lower, upper = (np.concatenate(([1.0], s)) for s in (curve.survival, curve.lower, curve.upper))
        axes.step(
            at,
            value,
            where="post",
            linewidth=1.7,
            label=_group_label(group.name, curve.median.value),
            **style(k),
        )
        known = np.isfinite(lower) & np.isfinite(upper)
        axes.fill_between(
            at[known], lower[known], upper[known], step="post", color=colour, alpha=0.15, linewidth=0
        )
    axes.set_ylim(0, 1.02)
    axes.set_xlim(0, None)
    axes.set_xticks(found.times)
    axes.legend(fontsize=8, frameon=False, loc="upper right")
    across = f"Months after month {model.start:g}" if model.start else "Months after the start of treatment"
    labels(axes, across, "Free of the event")
    _numbers_at_risk(axes, found)


def _numbers_at_risk(axes: Axes, found: RiskGroups) -> None:
    """Write the numbers below the months, one line a group."""
    below = axes.get_xaxis_transform()
    axes.text(
        -0.05, -0.22, "at risk", transform=axes.transAxes, fontsize=8, color=MUTED, ha="right", va="center"
    )
    for k, group in enumerate(found.groups):
        height = -0.24 - 0.075 * (k + 1)
        axes.text(
            -0.05,
            height,
            group.name,
            transform=axes.transAxes,
            fontsize=8,
            color=PALETTE[k],
            ha="right",
            va="center",
        )
        for at, n in zip(found.times, group.at_risk, strict=True):
            axes.text(at, height, str(n), transform=below, fontsize=8, color=INK, ha="center", va="center")


def _group_label(name: str, median: float) -> str:
    return f"{name} risk, median {months(median)}"


# ------------------------------------------------------------------ response


def response_picture(result: ResponseResult, plan: EvaluationPlan, titles: Titles) -> Picture:
    """Draw the ROC curves and the net benefit of all models."""
    figure, panels = Grid(1, 2, 3.6).draw()
    left, right = panels[0]
    plain(left, "ROC curves")
    left.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (4, 4)))
    for k, model in enumerate(result.models):
        area = model.figures["auc"]
        shown = f"{titles[model.model]}, {_value(area)}"
        left.plot(*_corners(model), linewidth=1.6, label=shown, **style(k))
    left.set_aspect("equal")
    left.legend(fontsize=8, frameon=False, loc="lower right")
    labels(left, "1 - specificity", "Sensitivity")
    curves = {m.model: m.net_benefit for m in result.models}
    _net_benefit(right, "Decision curves", curves, result.treating_all, plan, titles)
    right.legend(fontsize=8, frameon=False, loc="upper right")
    labels(right, "Threshold of probability of response", "Net benefit")
    return picture(figure, "Response: ROC curves with their areas, and net benefit")


def _corners(model: ResponseModelResult) -> tuple[FloatArray, FloatArray]:
    return model.roc[:, 0], model.roc[:, 1]


def _value(found: Figure) -> str:
    return "-" if isinstance(found, NotComputed) else f"{found.value:.2f}"
