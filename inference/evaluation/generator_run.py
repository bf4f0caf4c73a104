"""Ask every forecaster about every patient, and score the answers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from inference.errors import InferenceError
from inference.evaluation.forecasts import Detail, Forecast, Forecaster, category_of
from inference.evaluation.measures import IntArray, Sampling
from inference.evaluation.questions import Asked, Known, Outcome, Plan, choose, follow_up
from inference.evaluation.response_model import LogisticResponse
from inference.evaluation.scoring import (
    Scores,
    Truth,
    difference_error_pct,
    hu_scores,
    response_score,
    scores,
    table,
    truth_of,
    unanswered,
)
from inference.evaluation.slices import added, shown_slices, windowed
from inference.evaluation.survival_at import SurvivalModels, status, true_features, virtual_features
from inference.evaluation.training_rows import TrainingRows, training_rows
from inference.models.protocols import Progress
from inference.randomness import RandomStreams
from inference.results import FloatArray
from inference.training.cohort import Cohort, CohortInfo, PatientImages, Split

_log = logging.getLogger(__name__)

Slices = npt.NDArray[np.float32]
BASELINE, TRUE = "baseline alone", "true follow-up"


@dataclass(frozen=True, slots=True)
class Context:
    """What is learned from the training patients before anything is evaluated.

    Attributes
    ----------
    other_real : array of float32, (n, h, w)
        Slices of true follow-ups of training patients: real images of other patients.
    """

    rows: TrainingRows
    response: LogisticResponse
    survival: SurvivalModels | None
    other_real: Slices


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
                slices.append(_slices(patient, seen.images, cohort.info.modality))
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
    progress: Progress,
) -> CohortScores:
    """Score forecasters on one cohort, held-out or shifted."""
    streams = RandomStreams(plan.seed)
    asked = choose(cohort, plan.split, plan.patients, streams)
    runs = [_Run(f, plan, cohort.info.modality) for f in forecasters]
    logistic, truth_score = np.full((2, len(asked)), np.nan)
    death = {BASELINE: np.full(len(asked), np.nan), TRUE: np.full(len(asked), np.nan)}
    death |= {f.name: np.full(len(asked), np.nan) for f in forecasters}
    true_slices: list[Slices] = []
    class_on_map = np.full(len(asked), -1, dtype=np.intp)
    for index, one in enumerate(asked):
        progress(f"patient {index + 1} of {len(asked)}", index / len(asked))
        patient = cohort.images(one.patient_id)
        images = follow_up(patient, one.main)
        known = Known.of(one.row, patient)
        truth = truth_of(one, known, images)
        class_on_map[index] = truth.class_on_map
        logistic[index] = context.response.probability(known.question(one.main))
        truth_score[index] = response_score(_as_forecast(one.main), one.baseline_viable_ml)
        if images is not None and plan.image_samples:
            true_slices.append(_slices(patient, images.images, cohort.info.modality))
        risk = _Risk(context, one, known)
        death[BASELINE][index] = risk.baseline()
        death[TRUE][index] = risk.true()
        for each in runs:
            death[each.forecaster.name][index] = risk.virtual(
                each.patient(_Subject(one, patient, known, truth))
            )
    progress("done", 1.0)
    slices = {e.forecaster.name: _stacked(e.slices) for e in runs if e.slices}
    return CohortScores(
        cohort.info,
        asked,
        {e.forecaster.name: table(e.rows) for e in runs},
        logistic,
        truth_score,
        class_on_map,
        death,
        slices | {TRUE: _stacked(true_slices)},
        {e.forecaster.name: e.refused for e in runs},
    )


def _as_forecast(outcome: Outcome) -> Forecast:
    return Forecast(
        np.array([outcome.viable_ml]),
        np.array([outcome.necrosis_ml]),
        np.array([outcome.lipiodol_ml]),
        (category_of(outcome.response),),
        np.array([np.nan]),
        Sampling.INDEPENDENT,
    )


# ------------------------------------------------------------------ one forecaster


@dataclass(frozen=True, slots=True)
class _Subject:
    """One patient: what was asked, everything that is known, and the truth."""

    asked: Asked
    patient: PatientImages
    known: Known
    truth: Truth


class _Run:
    """One forecaster on its way through the patients."""

    def __init__(self, forecaster: Forecaster, plan: Plan, modality: str) -> None:
        self.forecaster = forecaster
        self.rows: list[Scores] = []
        self.slices: list[Slices] = []
        self.refused = 0
        self._plan = plan
        self._modality = modality

    def patient(self, subject: _Subject) -> Forecast | None:
        """Score one patient; returns the forecast of the landmark, if there is one."""
        asked = subject.asked
        detail = Detail.IMAGES if self._plan.image_samples else Detail.SCALARS
        main = self._ask(subject, asked.main, detail)
        if main is None:
            self.rows.append(unanswered())
        else:
            scored = self._with_images(scores(main, subject.truth), main, subject)
            self.rows.append(self._with_other(scored, main, subject))
        landmark = asked.landmark
        if landmark is None:
            return None
        if (landmark.regimen_id, landmark.months) == (asked.main.regimen_id, asked.main.months):
            return main
        return self._ask(subject, landmark, self._plan.counterfactuals)

    def _ask(self, subject: _Subject, outcome: Outcome, detail: Detail, seed: int = 0) -> Forecast | None:
        """Ask with the same streams for every regimen and month of the patient."""
        streams = RandomStreams(self._plan.seed * 1000 + seed)
        question = subject.known.question(outcome)
        try:
            return self.forecaster.forecast(question, self._plan.samples, detail, streams)
        except InferenceError as error:
            _log.warning("%s gave no forecast: %s", self.forecaster.name, error)
            self.refused += 1
            return None

    def _with_images(self, scored: Scores, main: Forecast, subject: _Subject) -> Scores:
        patient, true = subject.patient, subject.truth.images
        if main.change is None or true is None:
            return scored
        change = [main.change]
        while (drawn := sum(map(len, change))) < self._plan.image_samples and len(main.change) > 1:
            more = self._ask(subject, subject.asked.main, Detail.IMAGES, len(change))
            if more is None or more.change is None:
                break
            change.append(more.change[: self._plan.image_samples - drawn])
        base = patient.images if patient.clean is None else patient.clean
        self.slices.append(_slices(patient, added(base, main.change[0]), self._modality))
        found = hu_scores(np.concatenate(change), patient, true)
        if found is None:
            return scored
        return replace(
            scored,
            lesion_mae=found.lesion_mae,
            single_mae=found.single_mae,
            voxel_crps=found.voxel_crps,
        )

    def _with_other(self, scored: Scores, main: Forecast, subject: _Subject) -> Scores:
        asked = subject.asked
        if asked.other is None:
            return scored
        other = self._ask(subject, asked.other, self._plan.counterfactuals)
        if other is None:
            return scored
        error = difference_error_pct(
            main, other, asked.main.viable_ml, asked.other.viable_ml, asked.baseline_viable_ml
        )
        return replace(scored, difference_error_pct=error)


class _Risk:
    """Probability of death of one patient, from three sources."""

    def __init__(self, context: Context, asked: Asked, known: Known) -> None:
        self._models, self._asked = context.survival, asked
        self._features = context.rows.standardiser.matrix([known.features])

    def baseline(self) -> float:
        if self._models is None or self._asked.landmark is None:
            return float("nan")
        return self._models.from_baseline(self._features)

    def true(self) -> float:
        if self._models is None or self._asked.landmark is None:
            return float("nan")
        seen = true_features(self._asked.landmark, self._asked.baseline_viable_ml)
        return self._models.from_follow_up(self._features, seen)

    def virtual(self, forecast: Forecast | None) -> float:
        if self._models is None or forecast is None:
            return float("nan")
        seen = virtual_features(forecast, self._asked.baseline_viable_ml)
        return self._models.from_follow_up(self._features, seen)


def _slices(patient: PatientImages, images: npt.NDArray[np.int16], modality: str) -> Slices:
    """Return slices of the first phase, (3, h, w), 0 to 1."""
    return windowed(images[0][list(shown_slices(patient.lesion))], modality)


def _stacked(parts: list[Slices]) -> Slices:
    return np.concatenate(parts) if parts else np.zeros((0, 1, 1), dtype=np.float32)
