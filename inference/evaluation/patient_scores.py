"""One patient of the evaluation: every forecaster is asked, and its answers are scored."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from inference.errors import InferenceError
from inference.evaluation.forecasts import Detail, Forecast, Forecaster, category_of
from inference.evaluation.measures import Sampling
from inference.evaluation.questions import Asked, Known, Outcome, Plan, follow_up
from inference.evaluation.response_model import LogisticResponse
from inference.evaluation.scoring import (
    Scores,
    Truth,
    difference_error_pct,
    hu_scores,
    response_score,
    scores,
    truth_of,
    unanswered,
)
from inference.evaluation.slices import added, shown_slices, windowed
from inference.evaluation.survival_at import SurvivalModels, true_features, virtual_features
from inference.evaluation.training_rows import TrainingRows
from inference.randomness import RandomStreams
from inference.training.cohort import Cohort, PatientImages

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
class Answer:
    """How one forecaster did on one patient.

    Attributes
    ----------
    slices : array of float32, (3, h, w), or None
        Of its first image.
    refused : int
        Questions to which it gave no forecast.
    """

    scores: Scores
    slices: Slices | None
    refused: int


@dataclass(frozen=True, slots=True)
class PatientScores:
    """Everything measured on one patient.

    Attributes
    ----------
    logistic : float
        Probability of an objective response by logistic regression.
    truth_score : float
        `response_score` of the true follow-up.
    class_on_map : int
        `Truth.class_on_map`.
    death : dict of float
        Probability of death before 12 months, by where it comes from.
    answers : dict of Answer
        By forecaster.
    slices : array of float32, (3, h, w), or None
        Of the true follow-up.
    """

    logistic: float
    truth_score: float
    class_on_map: int
    death: dict[str, float]
    answers: dict[str, Answer]
    slices: Slices | None


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores one patient after another; can be sent to another process.

    Attributes
    ----------
    compared : set of str
        Patients whose images are compared voxel by voxel.
    """

    cohort: Cohort
    context: Context
    forecasters: tuple[Forecaster, ...]
    plan: Plan
    compared: frozenset[str]

    def __call__(self, asked: Asked) -> PatientScores:
        """Ask all forecasters about one patient."""
        modality = self.cohort.info.modality
        patient = self.cohort.images(asked.patient_id)
        images = follow_up(patient, asked.main)
        known = Known.of(asked.row, patient)
        truth = truth_of(asked, known, images)
        compared = asked.patient_id in self.compared
        subject = _Subject(asked, patient, known, truth, self.plan, modality, compared)
        risk = _Risk(self.context, asked, known)
        death = {BASELINE: risk.baseline(), TRUE: risk.true()}
        answers = {}
        for forecaster in self.forecasters:
            asker = _Asker(forecaster, subject)
            answers[forecaster.name], landmark = asker.answer()
            death[forecaster.name] = risk.virtual(landmark)
        shown = None
        if images is not None and self.plan.image_samples:
            shown = slices_of(patient, images.images, modality)
        return PatientScores(
            self.context.response.probability(known.question(asked.main)),
            response_score(_as_forecast(asked.main), asked.baseline_viable_ml),
            truth.class_on_map,
            death,
            answers,
            shown,
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


@dataclass(frozen=True, slots=True)
class _Subject:
    """One patient: what was asked, everything that is known, and the truth."""

    asked: Asked
    patient: PatientImages
    known: Known
    truth: Truth
    plan: Plan
    modality: str
    compared: bool


class _Asker:
    """One forecaster before one patient."""

    def __init__(self, forecaster: Forecaster, subject: _Subject) -> None:
        self._forecaster, self._subject = forecaster, subject
        self._asked, self._plan = subject.asked, subject.plan
        self._refused = 0

    def answer(self) -> tuple[Answer, Forecast | None]:
        """Return the scores, and the forecast of the landmark, if there is one."""
        detail = Detail.IMAGES if self._plan.image_samples else Detail.SCALARS
        main = self._ask(self._asked.main, detail)
        scored, slices = unanswered(), None
        if main is not None:
            scored = self._with_images(scores(main, self._subject.truth), main)
            scored = self._with_other(scored, main)
            slices = self._slices(main)
        landmark = self._landmark(main)
        return Answer(scored, slices, self._refused), landmark

    def _landmark(self, main: Forecast | None) -> Forecast | None:
        landmark, asked = self._asked.landmark, self._asked.main
        if landmark is None:
            return None
        if (landmark.regimen_id, landmark.months) == (asked.regimen_id, asked.months):
            return main
        return self._ask(landmark, self._plan.counterfactuals)

    def _ask(self, outcome: Outcome, detail: Detail, seed: int = 0) -> Forecast | None:
        """Ask with the same streams for every regimen and month of the patient."""
        streams = RandomStreams(self._plan.seed * 1000 + seed)
        question = self._subject.known.question(outcome)
        try:
            return self._forecaster.forecast(question, self._plan.samples, detail, streams)
        except InferenceError as error:
            _log.warning("%s gave no forecast: %s", self._forecaster.name, error)
            self._refused += 1
            return None

    def _with_images(self, scored: Scores, main: Forecast) -> Scores:
        patient, true = self._subject.patient, self._subject.truth.images
        if main.change is None or true is None or not self._subject.compared:
            return scored
        change = [main.change]
        while (drawn := sum(map(len, change))) < self._plan.image_samples and len(main.change) > 1:
            more = self._ask(self._asked.main, Detail.IMAGES, len(change))
            if more is None or more.change is None:
                break
            change.append(more.change[: self._plan.image_samples - drawn])
        found = hu_scores(np.concatenate(change), patient, true)
        if found is None:
            return scored
        return replace(
            scored,
            lesion_mae=found.lesion_mae,
            single_mae=found.single_mae,
            voxel_crps=found.voxel_crps,
        )

    def _slices(self, main: Forecast) -> Slices | None:
        patient = self._subject.patient
        if main.change is None or self._subject.truth.images is None:
            return None
        base = patient.images if patient.clean is None else patient.clean
        return slices_of(patient, added(base, main.change[0]), self._subject.modality)

    def _with_other(self, scored: Scores, main: Forecast) -> Scores:
        asked = self._asked
        if asked.other is None:
            return scored
        other = self._ask(asked.other, self._plan.counterfactuals)
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


def slices_of(patient: PatientImages, images: npt.NDArray[np.int16], modality: str) -> Slices:
    """Return slices of the first phase, (3, h, w), 0 to 1."""
    return windowed(images[0][list(shown_slices(patient.lesion))], modality)
