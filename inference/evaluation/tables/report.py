"""Comparisons of models on tables as Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inference.evaluation.tables.protocol import (
    FIRST_QUANTILE,
    FOLDS,
    LAST_QUANTILE,
    MEASURES,
    POINTS,
    Comparison,
)

REFERENCE = "cox-ridge"
C_MARGIN = 0.01
"""How much lower than the reference's a mean C may be."""


def bars_met(comparison: Comparison, model: str) -> Mapping[str, bool]:
    """Say whether a model is as good as the reference: C within `C_MARGIN`, Brier score no higher."""
    ours, reference = comparison.scores[model], comparison.scores[REFERENCE]
    return {
        "c": ours.mean("c") >= reference.mean("c") - C_MARGIN,
        "ibs": ours.mean("ibs") <= reference.mean("ibs"),
    }


def markdown(comparisons: Sequence[Comparison], model: str) -> str:
    """Return a table for each data set: means, sd over folds, and differences to the reference."""
    protocol = (
        f"Repeated {FOLDS}-fold cross-validation, stratified by event and tertile of time; all preprocessing "
        "and tuning inside the training folds. Brier scores are integrated from the "
        f"{100 * FIRST_QUANTILE:.0f}th to the {100 * LAST_QUANTILE:.0f}th percentile of the event times "
        f"({POINTS} points). Figures are means over folds (sd). Differences are paired over folds, with a "
        "standard error corrected for overlapping training folds (Nadeau & Bengio 2003)."
    )
    lines = ["# Survival models on tables", "", protocol]
    for comparison in comparisons:
        lines += ["", *_section(comparison, model)]
    return "\n".join(lines) + "\n"


def _section(comparison: Comparison, model: str) -> list[str]:
    titles = " | ".join(MEASURES.values())
    seeds = ", ".join(map(str, comparison.seeds))
    lines = [
        f"## {comparison.table}",
        "",
        f"{comparison.patients} patients, {comparison.events} events, seeds {seeds}",
        "",
        f"| model | {titles} |",
        f"|---|{'---|' * len(MEASURES)}",
    ]
    for name, scores in comparison.scores.items():
        figures = " | ".join(f"{scores.mean(m):.4f} ({scores.sd(m):.4f})" for m in MEASURES)
        lines.append(f"| {name} | {figures} |")
    if REFERENCE in comparison.scores:
        for name in comparison.scores:
            if name != REFERENCE:
                gaps = [comparison.difference(name, REFERENCE, m) for m in MEASURES]
                told = " | ".join(f"{gap:+.4f} ± {error:.4f}" for gap, error in gaps)
                lines.append(f"| {name} − {REFERENCE} | {told} |")
        if model in comparison.scores and model != REFERENCE:
            lines += ["", _verdict(comparison, model)]
    return lines


def _verdict(comparison: Comparison, model: str) -> str:
    met = bars_met(comparison, model)
    word = {True: "met", False: "NOT MET"}
    return (
        f"{model}: C no more than {C_MARGIN} below {REFERENCE}: {word[met['c']]}; "
        f"integrated Brier score no higher: {word[met['ibs']]}."
    )


def as_json(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Return all figures, fold by fold."""
    return {
        comparison.table: {
            "patients": comparison.patients,
            "events": comparison.events,
            "seeds": list(comparison.seeds),
            "folds": {
                name: {measure: values.tolist() for measure, values in scores.of.items()}
                for name, scores in comparison.scores.items()
            },
            "means": {
                name: {measure: scores.mean(measure) for measure in MEASURES}
                for name, scores in comparison.scores.items()
            },
        }
        for comparison in comparisons
    }


def write_comparisons(folder: Path, comparisons: Sequence[Comparison], model: str) -> None:
    """Write ``tables.md`` and ``tables.json`` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tables.md").write_text(markdown(comparisons, model), encoding="utf-8")
    text = json.dumps(as_json(comparisons), indent=2) + "\n"
    (folder / "tables.json").write_text(text, encoding="utf-8")
