"""The evaluation of a generator as Markdown, JSON and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from inference.clinical.rates import Proportion
from inference.evaluation.bootstrap import CONFIDENCE, DRAWS, Estimate
from inference.evaluation.generator_report import MEASURES, Bar, GeneratorReport
from inference.evaluation.plain import write_json
from inference.evaluation.questions import Plan
from inference.results import BundleInfo

HONESTY = (
    "These figures say how well the model predicts patients of the named cohort. On a simulated cohort "
    "they say nothing about real patients: the simulator is matched to published rates of response and "
    "survival, not to individual courses."
)
DISTANCE_NOTE = (
    "FID and KID depend on the extractor and on the number of images, and cannot tell a good forecast "
    "from none: compare them only with the floor (real images of other patients) and with identity (the "
    "baseline itself, nothing changed), which are in the same table."
)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All cohorts on which one model was evaluated; the first is the one that it was trained on."""

    model: BundleInfo | None
    plan: Plan
    reports: tuple[GeneratorReport, ...]


def write_generator_evaluation(folder: Path, evaluation: Evaluation) -> tuple[Path, ...]:
    """Write ``generator.md``, ``generator.json`` and one picture a cohort; returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [f"generator_{index}.png" for index in range(1, len(evaluation.reports) + 1)]
    text = _markdown(evaluation, pictures)
    (folder / "generator.md").write_text(text, encoding="utf-8")
    write_json(folder / "generator.json", evaluation)
    for name, report in zip(pictures, evaluation.reports, strict=True):
        draw_overview(report, folder / name)
    return tuple(folder / name for name in ("generator.md", "generator.json", *pictures))


# ------------------------------------------------------------------ Markdown


def _markdown(evaluation: Evaluation, pictures: Sequence[str]) -> str:
    plan = evaluation.plan
    model = evaluation.model
    named = "no learned model" if model is None else f"{model.name} {model.version}, {model.trained_on}"
    lines = [
        "# Evaluation of the generator",
        "",
        (
            f"Model: {named}. One random regimen and month for each patient, {plan.samples} samples "
            f"({plan.image_samples} for images, of {plan.image_patients} patients), seed {plan.seed}."
        ),
        "",
        f"Brackets are {CONFIDENCE:.0%} bootstrap intervals over patients ({DRAWS} draws). {HONESTY}",
        "",
    ]
    for report, picture in zip(evaluation.reports, pictures, strict=True):
        lines += _cohort(report, picture)
    return "\n".join(lines).rstrip() + "\n"


def _cohort(report: GeneratorReport, picture: str) -> list[str]:
    lines = [
        f"## Cohort {report.cohort}",
        "",
        f"{report.origin}, {report.patients} patients, sha256 {report.digest[:16]}.",
        "",
        f"![{report.cohort}]({picture})",
        "",
    ]
    for name, bars in report.bars.items():
        lines += [f"### Bars: {name}", "", *_bars(bars), ""]
    lines += ["### All regimens", "", *_measures(report.table), "", _ceiling(report), ""]
    lines += ["### Response rates (mRECIST)", "", *_rates(report), ""]
    lines += ["### Discrimination (AUROC)", "", *_discrimination(report), ""]
    if report.distances:
        lines += ["### Distances of images", "", *_distances(report), ""]
    for regimen, table in report.per_regimen.items():
        lines += [f"### Regimen {regimen}", "", *_measures(table), ""]
    refused = [f"{name}: {count}" for name, count in report.not_answered.items()]
    if refused:
        lines += [f"Questions without an answer, left out of that row: {', '.join(refused)}.", ""]
    return lines


def _ceiling(report: GeneratorReport) -> str:
    return (
        "Classes of forecasts are measured on one map against the baseline; those of the cohort come from "
        "the whole course. Measured as a forecast is, the true map reaches a quadratic kappa of "
        f"{figure(report.ceiling)}."
    )


def figure(estimate: Estimate | None) -> str:
    """Return a figure with its interval, or a dash."""
    if estimate is None or not estimate.known:
        return "–"
    digits = 3 if abs(estimate.value) < 1.5 else 1
    interval = f" [{estimate.lower:.{digits}f}, {estimate.upper:.{digits}f}]"
    return f"{estimate.value:.{digits}f}" + (interval if np.isfinite(estimate.lower) else "")


def bar_figure(bar: Bar) -> str:
    """Return the figure of a bar; relative ones in percent."""
    found = bar.figure
    if not bar.relative or not found.known:
        return figure(found)
    return f"{100 * found.value:+.1f} % [{100 * found.lower:+.1f}, {100 * found.upper:+.1f}]"


def _bars(bars: Sequence[Bar]) -> list[str]:
    verdict = {True: "met", False: "NOT MET", None: "–"}
    lines = ["| comparison | figure | bar | |", "|---|---|---|---|"]
    lines += [f"| {b.title} | {bar_figure(b)} | {b.limit} | {verdict[b.met]} |" for b in bars]
    return lines


def _measures(table: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
    """Return one row a measure and one column a forecaster."""
    names = list(table)
    lines = ["| measure | better | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for measure in MEASURES:
        row = [table[name].get(measure.key) for name in names]
        if any(row):
            cells = " | ".join(figure(e) for e in row)
            lines.append(f"| {measure.title} | {measure.better} | {cells} |")
    counts = {max((e.n for e in table[n].values()), default=0) for n in names}
    return [*lines, "", f"n = {max(counts)}."] if counts else lines


def _rates(report: GeneratorReport) -> list[str]:
    """Return the rates of all forecasters over all patients, and by regimen those of the judged ones."""
    lines = [
        (
            "At the month asked, of one sample a patient, with exact intervals; the true rate is that of "
            "the same patients."
        ),
        "",
        "| regimen | forecaster | n | ORR | true ORR | difference | DCR | true DCR | difference |",
        "|---" * 9 + "|",
    ]
    for r in report.rates:
        if r.regimen_id and r.forecaster not in report.bars:
            continue
        cells = [r.regimen_id or "all", r.forecaster, str(r.objective_response.true.n)]
        for found in (r.objective_response, r.disease_control):
            cells += [percent(found.forecast), percent(found.true), figure(found.difference)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def percent(rate: Proportion) -> str:
    """Return a rate in percent with its limits."""
    return f"{100 * rate.estimate:.1f} % [{100 * rate.lower:.1f}, {100 * rate.upper:.1f}]"


def _discrimination(report: GeneratorReport) -> list[str]:
    lines = ["| of | from | AUROC | n |", "|---|---|---|---|"]
    for title, sources in report.discrimination.items():
        lines += [f"| {title} | {name} | {figure(e)} | {e.n} |" for name, e in sources.items()]
    return lines


def _distances(report: GeneratorReport) -> list[str]:
    lines = [
        f"Extractor: {report.extractor}. Each set against the true follow-ups of the same patients.",
        "",
        "| set | slices | FID | KID x 1000 |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {d.what} | {d.images} | {d.fid:.3g} | {1000 * d.kid:.3g} ± {1000 * d.kid_standard_error:.1g} |"
        for d in report.distances
    ]
    return [*lines, "", DISTANCE_NOTE]


# ------------------------------------------------------------------ pictures

_PANELS = ("crps", "coverage", "kappa_quadratic", "difference", "lesion_mae", "diameter")


def draw_overview(report: GeneratorReport, path: Path) -> None:
    """Draw the main measures of every forecaster with their intervals."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(12, 6.5), layout="constrained")
    panels = picture.subplots(2, 3)
    shown = {m.key: m for m in MEASURES}
    for axes, key in zip(panels.ravel(), _PANELS, strict=True):
        rows = [(n, t[key]) for n, t in report.table.items() if key in t]
        _panel(axes, rows, report)
        axes.set_title(shown[key].title, fontsize=10)
        if key == "coverage":
            axes.axvspan(0.75, 0.90, color="0.9", zorder=0)
    picture.suptitle(f"{report.cohort}: {report.patients} patients, {CONFIDENCE:.0%} intervals", fontsize=11)
    picture.savefig(path, dpi=110, metadata={"Software": None})


def _panel(axes: Any, rows: Sequence[tuple[str, Estimate]], report: GeneratorReport) -> None:
    for place, (name, found) in enumerate(reversed(rows)):
        colour = "tab:red" if name in report.bars else "tab:blue"
        axes.plot([found.lower, found.upper], [place, place], color=colour, linewidth=2)
        axes.plot(found.value, place, "o", color=colour, markersize=5)
    axes.set_yticks(range(len(rows)), [name for name, _ in reversed(rows)], fontsize=9)
    axes.tick_params(axis="x", labelsize=9)
    axes.grid(axis="x", alpha=0.3)
    if not rows:
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes)


def write_scores(folder: Path, name: str, frames: Mapping[str, pd.DataFrame]) -> Path:
    """Write the scores of every patient as one table, without anything that names them."""
    path = folder / f"scores_{name}.csv"
    parts = [frame.assign(forecaster=forecaster) for forecaster, frame in frames.items()]
    pd.concat(parts).to_csv(path, index_label="place", float_format="%.6g", lineterminator="\n")
    return path
