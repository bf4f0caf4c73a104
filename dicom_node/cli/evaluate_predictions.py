"""``hepatocast evaluate --predictions``: measure predictions of any model."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dicom_node.cli.terminal import progress_bar

if TYPE_CHECKING:
    from inference.evaluation.report.evaluation import Evaluation


def evaluate_folder(folder: Path, draws: int, seed: int, subgroups: Sequence[str], out: Path) -> None:
    """Measure a folder of predictions, write the report, and say the main figures."""
    from inference.evaluation.predictions.folder import read_predictions
    from inference.evaluation.report.evaluation import evaluate_predictions
    from inference.evaluation.report.plan import EvaluationPlan
    from inference.evaluation.report.writing import write_evaluation

    predictions = read_predictions(folder)
    absent = sorted(set(subgroups) - set(predictions.patients.covariates.columns))
    if absent:
        raise typer.BadParameter(f"outcomes.csv has no column {absent[0]}", param_hint="--subgroup")
    plan = EvaluationPlan(draws=draws, seed=seed, subgroups=tuple(subgroups))
    with progress_bar("evaluation", quiet=False) as progress:
        evaluation = evaluate_predictions(predictions, plan, progress)
        progress("report", 0.95)
        written = write_evaluation(out, evaluation, datetime.now(UTC).replace(microsecond=0))
        progress("report", 1.0)
    _say(evaluation)
    typer.echo(f"written: {', '.join(str(path) for path in written)}")


def _say(evaluation: Evaluation) -> None:
    from inference.evaluation.report.end_point import EndPointResult
    from inference.evaluation.report.words import capital, end_point_name, figure, set_name

    titles = {m.entry.name: m.entry.title for m in evaluation.predictions.models}
    for chosen in evaluation.sets:
        for result in chosen.end_points.values():
            if not isinstance(result, EndPointResult):
                typer.echo(f"{set_name(chosen.name)}: {result.reason}")
                continue
            name = capital(end_point_name(result.end_point))
            typer.echo(f"{name}, {set_name(chosen.name)}, {result.patients} patients, {result.events} events")
            for model in result.models:
                typer.echo(f"  {titles[model.model]}: C {figure(model.figures['harrell_c'])}")
