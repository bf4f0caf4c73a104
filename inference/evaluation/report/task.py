"""What one model predicted of some patients for one end point, ready to be measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.evaluation.metrics import BoolArray
from inference.evaluation.predictions.folder import ModelPredictions
from inference.evaluation.predictions.patients import Patients
from inference.evaluation.predictions.survival_file import SurvivalPrediction
from inference.evaluation.survival.follow_up import FollowUp
from inference.evaluation.survival.kaplan_meier import numbers_at_risk
from inference.results import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Predictions beside follow-up, of n patients.

    Time begins at `start`: at 0, or at a landmark. Then survival is that of patients who reached the
    landmark, and times and horizons are counted from it.

    Attributes
    ----------
    among : array of bool, (patients of the study,)
        Who the n patients are.
    follow_up : FollowUp
        From `start` on.
    risk : array, (n,)
    prediction : SurvivalPrediction
        Of the n patients, from the start of treatment on.
    start : float
        Months after the start of treatment.
    """

    among: BoolArray
    follow_up: FollowUp
    risk: FloatArray
    prediction: SurvivalPrediction
    start: float

    def survival(self, months: float) -> FloatArray:
        """Return survival at a month after the start of treatment, given survival to `start`, (n,)."""
        whole = self.prediction.at(months)
        if self.start == 0:
            return whole
        return np.clip(whole / np.maximum(self.prediction.at(self.start), 1e-12), 0.0, 1.0)

    def event_risk(self, months: float) -> FloatArray:
        """Return the probability of the event between `start` and a month, (n,)."""
        return np.asarray(1.0 - self.survival(months))

    def since_start(self, months: float) -> float:
        """Return a month after the start of treatment as a time of `follow_up`."""
        return months - self.start

    def own_survival(self) -> tuple[FollowUp, FloatArray]:
        """Return follow-up and each patient's survival at its end; both end with the last month predicted."""
        last = float(self.prediction.months[-1]) - self.start
        time = np.minimum(self.follow_up.time, last)
        shown = FollowUp(time, self.follow_up.event & (self.follow_up.time <= last))
        own = self.prediction.at_own_times(time + self.start)
        if self.start:
            own = own / np.maximum(self.prediction.at(self.start), 1e-12)
        return shown, np.clip(own, 0.0, 1.0)

    def of(self, patients: BoolArray) -> Task:
        """Return the same of some of the n patients, (n,)."""
        among = self.among.copy()
        among[self.among] = patients
        return Task(
            among,
            self.follow_up.of(patients),
            self.risk[patients],
            rows(self.prediction, patients),
            self.start,
        )


def rows(prediction: SurvivalPrediction, among: BoolArray) -> SurvivalPrediction:
    """Return the predictions of some patients."""
    return SurvivalPrediction(
        prediction.months,
        prediction.risk[among],
        prediction.survival[among],
        prediction.lower[among],
        prediction.upper[among],
    )


def task_of(
    patients: Patients, model: ModelPredictions, end_point: str, among: BoolArray, start: float
) -> Task:
    """Return the task of one model on some patients, all of them known, predicted, and at risk at `start`.

    Raises
    ------
    ValueError
        Nobody is among them.
    """
    if not among.any():
        raise ValueError("no patient of this set has a known follow-up")
    outcome, prediction = patients.survival[end_point].of(among), rows(model.survival[end_point], among)
    shifted = FollowUp(outcome.time - start, outcome.event)
    return Task(among, shifted, prediction.risk, prediction, start)


def common_months(tasks: Sequence[Task], last: float) -> FloatArray:
    """Return the months that all models predict, after their start and up to `last`, rising."""
    shared = set.intersection(*({float(m) for m in t.prediction.months} for t in tasks))
    return np.array(sorted(m for m in shared if max(t.start for t in tasks) < m <= last))


def followed_beyond(follow_up: FollowUp, at: float) -> int:
    """Return how many patients are followed to a time."""
    return int(numbers_at_risk(follow_up, [at])[0])
