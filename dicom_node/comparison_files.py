"""Comparisons of the patients of a table, as heat maps and one JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from inference.comparison.engine import compare_patient
from inference.comparison.results import RegimenComparison
from inference.comparison.stored import ComparisonModel, load_comparison
from inference.comparison.table import read_patients
from inference.results import NotAssessed
from reporting.comparison_pictures import heat_map_picture
from reporting.comparison_words import percent
from reporting.drawing import Heading

RESULTS = "comparisons.json"


def write_comparisons(bundle: Path, table: Path, out: Path) -> Iterator[str]:
    """Compare, write the files, and yield one line for each patient.

    Raises
    ------
    ModelError
        The bundle cannot be read.
    TrainingDataError
        The table cannot be read.
    """
    model = load_comparison(bundle)
    info, learned = model.info, model.learned
    rows = read_patients(table, learned.names)
    out.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, Any]] = []
    for number, values in enumerate(rows, start=1):
        comparison = compare_patient(learned, values)
        if isinstance(comparison, RegimenComparison):
            heading = _heading(model, number)
            picture = heat_map_picture(comparison, {}, heading)
            Image.fromarray(picture).save(out / f"row-{number}.png")
            found.append({"row": number, **_plain(comparison)})
        else:
            found.append({"row": number, "not_assessed": asdict(comparison)})
        yield f"row {number}: {_line(comparison)}"
    text = json.dumps({"bundle": asdict(info), "comparisons": found}, indent=1)
    (out / RESULTS).write_text(text + "\n", encoding="utf-8")


def _heading(model: ComparisonModel, number: int) -> Heading:
    info = model.info
    return Heading(
        "Comparison of regimens",
        f"Expected overall survival of the patient in row {number} under each regimen",
        f"Comparison {info.name} {info.version} ({info.trained_on})",
        "DEMONSTRATION MODEL - RESEARCH ONLY" if model.demonstration else "RESEARCH ONLY",
    )


def _plain(comparison: RegimenComparison) -> dict[str, Any]:
    return {**asdict(comparison), "rule": comparison.rule.model_dump()}


def _line(comparison: RegimenComparison | NotAssessed) -> str:
    if isinstance(comparison, NotAssessed):
        return comparison.detail
    if comparison.recommended is None or comparison.benefit_months is None or comparison.confidence is None:
        said = comparison.reasons[0].detail if comparison.reasons else comparison.notes[0]
        return f"no regimen is preferred. {said}"
    return (
        f"{comparison.recommended} rather than {comparison.against}: {comparison.benefit_months:.1f} months, "
        f"confidence {percent(comparison.confidence)}"
    )
