"""Ask every forecaster about every patient of a cohort."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from inference.errors import InferenceError
from inference.evaluation.forecasts import Forecaster
from inference.evaluation.kept_scores import read_patient, write_patient
from inference.evaluation.measures import IntArray
from inference.evaluation.patient_scores import TRUE, Context, Scorer, Slices, slices_of
from inference.evaluation.questions import Asked, Plan, choose, follow_up
from inference.evaluation.response_model import LogisticResponse
from inference.evaluation.scoring import table
from inference.evaluation.survival_at import SurvivalModels, status, true_features
from inference.evaluation.training_rows import TrainingRows, training_rows
from inference.models.protocols import Progress
from inference.randomness import RandomStreams
from inference.results import FloatArray
from inference.training.cohort import Cohort, CohortInfo, Split
from inference.training.processes import in_order

_AT_ONCE = 4
"""Patients for which the models are sent to a process again; a few, so that progress is seen."""


@dataclass(frozen=True, slots=True)
class CohortScores:
    """Everything measured on one cohort; n patients.

    Attributes
    ----------
    frames : dict of DataFrame
        `Scores` by forecaster, one row a patient in the order of `asked`.
    logistic : array, (n,)
        Probability of an objective response by logistic regression.
    truth_score : array, (n,)
        `response_score` of the true follow-up.
    class_on_map : array of int, (n,)
        `Truth.class_on_map`.
    death : dict of array, (n,)
        Probability of death before 12 months, by where it comes from.
    slices : dict of array, (m, h, w)
        By forecaster, and of the true follow-ups.
    not_answered : dict of int
        Questions that a forecaster refused.
    """

    info: CohortInfo
    asked: tuple[Asked, ...]
    frames: dict[str, pd.DataFrame]
    logistic: FloatArray
    truth_score: FloatArray
    class_on_map: IntArray
    death: dict[str, FloatArray]
    slices: dict[str, Slices]
    not_answered: dict[str, int]


def prepare(cohort: Cohort, plan: Plan, progress: Progress) -> Context:
    """Fit the models of comparison on the training patients of a cohort."""
    streams = RandomStreams(plan.seed)
    rows, ids = training_rows(cohort, lambda text, share: progress(text, 0.8 * share))
    progress("fitting the models of comparison", 0.8)
    response = LogisticResponse.of(rows, streams)
    survival = _survival_models(cohort, rows, ids, streams)
    slices: list[Slices] = []
    if plan.image_samples:
        others = choose(cohort, Split.TRAIN, plan.patients, streams)
        for count, asked in enumerate(others):
            progress("reading images of other patients", 0.85 + 0.15 * count / len(others))
            patient = cohort.images(asked.patient_id)
            seen = follow_up(patient, asked.main)
            if seen is not None:
                slices.append(slices_of(patient, seen.images, cohort.info.modality))
    return Context(rows, response, survival, _stacked(slices))


def _survival_models(
    cohort: Cohort, rows: TrainingRows, ids: tuple[str, ...], streams: RandomStreams
) -> SurvivalModels | None:
    try:
        every = choose(cohort, Split.TRAIN, len(ids) + 1_000_000, streams)
    except InferenceError:
        return None
    place = {p: i for i, p in enumerate(ids)}
    seen = [(a, a.landmark) for a in every if a.landmark is not None and a.patient_id in place]
    if not seen:
        return None
    matrix = rows.matrix[[place[a.patient_id] for a, _ in seen]]
    follow_ups = np.concatenate([true_features(o, a.baseline_viable_ml) for a, o in seen])
    fates = status([a.row for a, _ in seen])
    return SurvivalModels.of(matrix, follow_ups, fates, streams.derive("survival"))


def run(
    cohort: Cohort,
    context: Context,
    forecasters: Sequence[Forecaster],
    plan: Plan,
    work: Path,
    workers: int,
    progress: Progress,
) -> CohortScores:
    """Score forecasters on one cohort, held-out or shifted; the number of processes changes no figure.

    Parameters
    ----------
    work : Path
        Folder in which the scores of each patient are kept; those that it holds are not computed again.
    """
    asked = choose(cohort, plan.split, plan.patients, RandomStreams(plan.seed))
    compared = frozenset(one.patient_id for one in asked[: plan.image_patients])
    scorer = Scorer(cohort, context, tuple(forecasters), plan, compared)
    work.mkdir(parents=True, exist_ok=True)
    files = {one.patient_id: work / f"{one.patient_id}.npz" for one in asked}
    waiting = [one for one in asked if not files[one.patient_id].is_file()]
    done = len(asked) - len(waiting)
    for one, patient in zip(waiting, in_order(scorer, waiting, workers, _AT_ONCE), strict=True):
        progress(f"patient {done + 1} of {len(asked)}", done / len(asked))
        write_patient(files[one.patient_id], patient)
        done += 1
    scored = [read_patient(files[one.patient_id]) for one in asked]
    progress("done", 1.0)
    answers = {f.name: [patient.answers[f.name] for patient in scored] for f in forecasters}
    slices = {name: [a.slices for a in of if a.slices is not None] for name, of in answers.items()}
    true_slices = [patient.slices for patient in scored if patient.slices is not None]
    return CohortScores(
        cohort.info,
        asked,
        {name: table([a.scores for a in of]) for name, of in answers.items()},
        np.array([patient.logistic for patient in scored]),
        np.array([patient.truth_score for patient in scored]),
        np.array([patient.class_on_map for patient in scored], dtype=np.intp),
        {source: np.array([patient.death[source] for patient in scored]) for source in scored[0].death},
        {name: _stacked(of) for name, of in slices.items() if of} | {TRUE: _stacked(true_slices)},
        {name: sum(a.refused for a in of) for name, of in answers.items()},
    )


def _stacked(parts: list[Slices]) -> Slices:
    return np.concatenate(parts) if parts else np.zeros((0, 1, 1), dtype=np.float32)
