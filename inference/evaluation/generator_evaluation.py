"""The whole evaluation of a generator, from folders to tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from inference.evaluation.adapters import Redraws
from inference.evaluation.baselines import baseline_forecasters
from inference.evaluation.extractors import Extractor
from inference.evaluation.forecasts import Forecaster
from inference.evaluation.generator_output import (
    Evaluation,
    write_generator_evaluation,
    write_scores,
)
from inference.evaluation.generator_report import summarise
from inference.evaluation.generator_run import prepare, run
from inference.evaluation.questions import Plan
from inference.models.protocols import Progress, within
from inference.randomness import RandomStreams
from inference.results import BundleInfo
from inference.training.cohort import Cohort, CohortInfo
from inference.training.kept_work import claim

OpenModels = Callable[[CohortInfo], Sequence[Forecaster]]
"""Returns the learned and mechanistic models for a cohort, the one that is judged first."""

_SCORED = 2
"""Raised with every change of the program after which an evaluation comes out otherwise: scores that were
kept before it do not mix with new ones."""


def evaluate_generator(
    cohorts: Sequence[Path],
    open_models: OpenModels,
    model: BundleInfo | None,
    plan: Plan,
    extractor: Extractor | None,
    out: Path,
    workers: int,
    progress: Progress,
) -> Evaluation:
    """Evaluate on one or more cohorts and write the tables, anew after each cohort.

    Parameters
    ----------
    cohorts : sequence of Path
        The first is the one that the model was trained on: models of comparison are fitted on its
        training patients. Its test patients are held out; further cohorts are external, such as that
        of the shifted simulator.
    extractor : Extractor or None
        For FID and KID; None leaves them out.
    workers : int
        Processes that score patients; their number changes no figure.
    out : Path
        Folder of the tables. Scores of patients are kept in ``OUT.work`` beside it, from which an
        evaluation that was stopped goes on.

    Raises
    ------
    TrainingDataError
        A cohort cannot be read, has no patients to train or to test on, or ``OUT.work`` belongs to another
        evaluation.
    """
    streams = RandomStreams(plan.seed)
    work = out.with_name(out.name + ".work")
    opened = [Cohort.open(folder) for folder in cohorts]
    first = opened[0]
    context = prepare(first, plan, within(progress, 0.0, 0.15))
    baselines = baseline_forecasters(context.rows, streams)
    evaluation = Evaluation(model, plan, ())
    for index, (folder, cohort) in enumerate(zip(cohorts, opened, strict=True)):
        start = 0.15 + 0.85 * index / len(cohorts)
        stop = 0.15 + 0.85 * (index + 1) / len(cohorts)
        models = tuple(open_models(cohort.info))
        oracle = Redraws.of(folder)
        forecasters = (*baselines, *models, *(() if oracle is None else (oracle,)))
        kept = work / f"{index + 1}"
        claim(kept, _decisive(plan, model, first, cohort, forecasters))
        part = within(progress, start, 0.9 * stop + 0.1 * start)
        scored = run(cohort, context, forecasters, plan, kept, workers, part)
        out.mkdir(parents=True, exist_ok=True)
        write_scores(out, f"{index + 1}", scored.frames)
        judged = [m.name for m in models[:1]]
        last = within(progress, 0.9 * stop + 0.1 * start, stop)
        report = summarise(scored, context, judged, extractor, streams, last)
        evaluation = Evaluation(model, plan, (*evaluation.reports, report))
        write_generator_evaluation(out, evaluation)
    return evaluation


def _decisive(
    plan: Plan, model: BundleInfo | None, first: Cohort, cohort: Cohort, forecasters: Sequence[Forecaster]
) -> dict[str, Any]:
    """Return what the scores of a cohort depend on."""
    return {
        "program": _SCORED,
        "plan": asdict(plan),
        "model": None if model is None else model.sha256,
        "fitted_on": first.info.sha256,
        "cohort": cohort.info.sha256,
        "forecasters": [f.name for f in forecasters],
    }
