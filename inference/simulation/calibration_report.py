"""The calibration report: figures of the simulator beside their targets, as a table and as plots."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from inference.simulation.calibration_measure import Measured, Row
from inference.simulation.survival import GRID

_INTRODUCTION = """# Calibration of the simulated cohort

Simulated patients only; no figure here is about real patients. Populations were followed on a {step:g} mm
grid, {patients} patients a source; a simulated share has a sampling error of its own of about
{error:.0%} at 50 %.

A bar is the 95 % interval that the source's number of patients leaves open (Wilson for shares; the
publication's own interval for medians). *published*: named as a target; *real*: measured on public data;
*recalled*: from memory of the publication, no bar in the strict sense; *assumed*: given by nobody.

Parameters: SHA-256 {digest}
"""


def write_report(
    rows: Sequence[Row], measured: Measured, folder: Path, digest: str, patients: int, step_mm: float
) -> Path:
    """Write calibration.md, calibration.csv and the plots into a folder; returns the Markdown file."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "calibration.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*asdict(rows[0]), "miss"], lineterminator="\n")
        writer.writeheader()
        writer.writerows({**asdict(row), "miss": row.miss} for row in rows)
    text = _INTRODUCTION.format(
        step=step_mm, patients=patients, error=1.96 * 0.5 / math.sqrt(patients), digest=digest
    )
    text += _misses(rows)
    for topic in dict.fromkeys(row.topic for row in rows):
        text += f"\n## {topic.capitalize()}\n\n" + _table([r for r in rows if r.topic == topic])
    path = folder / "calibration.md"
    path.write_text(text, encoding="utf-8")
    _bars([r for r in rows if r.topic == "response"], "Objective response (mRECIST)", folder / "response.png")
    _bars([r for r in rows if r.topic == "progression"], "Median PFS, months", folder / "progression.png")
    _bars(
        [r for r in rows if r.topic == "information"],
        "AUROC and C, cross-validated",
        folder / "information.png",
    )
    _curves(rows, measured, folder / "survival.png")
    _changes(rows, folder / "change.png")
    return path


def _misses(rows: Sequence[Row]) -> str:
    barred = [r for r in rows if not math.isnan(r.low) and r.kind in ("published", "real")]
    missed = sorted((r for r in barred if r.miss > 0), key=lambda r: -r.miss)
    text = f"\n{len(barred) - len(missed)} of {len(barred)} figures lie within their bar.\n"
    if missed:
        text += "\n## What misses\n\n" + _table(missed)
    return text


def _table(rows: Sequence[Row]) -> str:
    head = "| source | regimen | quantity | target | bar | simulated | outside by | kind |\n"
    head += "|---|---|---|---|---|---|---|---|\n"
    return head + "".join(_line(row) for row in rows)


def _line(row: Row) -> str:
    bar = "" if math.isnan(row.low) else f"{row.low:.3g} to {row.high:.3g}"
    target = "" if math.isnan(row.target) else f"{row.target:.3g}"
    outside = "" if math.isnan(row.miss) or row.miss == 0 else f"{row.miss:.2g}"
    return (
        f"| {row.source} | {row.regimen} | {row.quantity} | {target} | {bar} | {row.simulated:.3g} "
        f"| {outside} | {row.kind} |\n"
    )


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _bars(rows: Sequence[Row], title: str, path: Path) -> None:
    """Intervals of the sources and points of the simulator, one line each."""
    figure, axes = _figure(9.0, 1.2 + 0.34 * len(rows))
    for place, row in enumerate(reversed(rows)):
        colour = "0.45" if row.kind in ("published", "real") else "0.8"
        axes.plot([row.low, row.high], [place, place], color=colour, linewidth=7, solid_capstyle="butt")
        axes.plot([row.target], [place], marker="|", color="black", markersize=12, linestyle="none")
        inside = row.miss == 0
        axes.plot(
            [row.simulated], [place], marker="o", color="tab:green" if inside else "tab:red", linestyle="none"
        )
    labels = [f"{r.source} {r.regimen} {'' if r.topic == 'response' else r.quantity}" for r in reversed(rows)]
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.set_title(f"{title}: bar of the source (grey, light if no bar), simulator (dot)", fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    _save(figure, path)


def _curves(rows: Sequence[Row], measured: Measured, path: Path) -> None:
    figure, axes = _figure(10.0, 6.0)
    targets = [r for r in rows if r.topic == "survival"]
    arms = list(dict.fromkeys((r.source, r.regimen) for r in targets))
    for index, (source, regimen) in enumerate(arms):
        alive = measured.arms[source, regimen].alive(measured.parameters, GRID)
        colour = f"C{index % 10}"
        axes.plot(GRID, alive, color=colour, label=f"{source} {regimen}")
        for row in (r for r in targets if (r.source, r.regimen) == (source, regimen)):
            month = float(row.quantity.split()[2])
            axes.errorbar(
                [month],
                [row.target],
                yerr=[[row.target - row.low], [row.high - row.target]],
                color=colour,
                marker="s",
                capsize=3,
                linestyle="none",
            )
    axes.set_xlim(0, 72)
    axes.set_ylim(0, 1)
    axes.set_xlabel("months")
    axes.set_ylabel("alive")
    axes.set_title("Overall survival: simulator (lines), sources with 95 % intervals (squares)", fontsize=9)
    axes.legend(fontsize=7)
    _save(figure, path)


def _changes(rows: Sequence[Row], path: Path) -> None:
    figure, axes = _figure(7.0, 5.0)
    for name, colour in (("recist11", "tab:blue"), ("mrecist", "tab:orange")):
        chosen = [r for r in rows if r.topic == "change at first follow-up" and r.quantity.startswith(name)]
        p = [float(r.quantity.split()[-1]) for r in chosen]
        axes.plot(p, [r.target for r in chosen], "s--", color=colour, label=f"{name}, readers")
        axes.plot(p, [r.simulated for r in chosen], "o-", color=colour, label=f"{name}, simulator")
    axes.set_xlabel("quantile of patients")
    axes.set_ylabel("change of summed diameters")
    axes.set_title("First follow-up after TACE, HCC-TACE-Seg", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    _save(figure, path)
