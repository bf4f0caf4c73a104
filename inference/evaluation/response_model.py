"""Logistic regression of objective response on clinical values and radiomics, one for each regimen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.evaluation.forecasts import Question
from inference.evaluation.regression import Linear, cross_fitted, log_loss, logistic
from inference.evaluation.training_rows import TrainingRows
from inference.randomness import RandomStreams
from inference.results import FloatArray

FEWEST_OF_EACH = 15
"""Responders, and non-responders, that a regimen needs for a model of its own."""

_POOLED = ""


@dataclass(frozen=True, slots=True)
class LogisticResponse:
    """Probability of CR or PR at a month; regimens with few patients share one model."""

    rows: TrainingRows
    models: dict[str, Linear]

    @classmethod
    def of(cls, rows: TrainingRows, streams: RandomStreams) -> LogisticResponse:
        """Fit on the training rows whose response is evaluable."""
        evaluable = rows.take(rows.response >= 0)
        models: dict[str, Linear] = {}
        for regimen in (_POOLED, *rows.regimens()):
            own = evaluable
            if regimen != _POOLED:
                own = evaluable.take(evaluable.regimen == regimen)
            responded = own.response <= 1
            if min(responded.sum(), (~responded).sum()) < FEWEST_OF_EACH:
                continue
            matrix = _design(own.matrix[own.patient], own.months)
            rng = streams.derive("response", regimen)
            fitted = cross_fitted(logistic, log_loss, matrix, responded.astype(np.float64), own.patient, rng)
            models[regimen] = fitted.model
        return cls(rows, models)

    def probability(self, question: Question) -> float:
        """Return the probability of an objective response, NaN without a model."""
        model = self.models.get(question.regimen_id, self.models.get(_POOLED))
        if model is None:
            return float("nan")
        matrix = self.rows.standardiser.matrix([question.features])
        return float(model.probability(_design(matrix, np.array([question.months])))[0])


def _design(matrix: FloatArray, months: FloatArray) -> FloatArray:
    late = np.log1p(months)[:, None] - np.log1p(4.0)
    return np.concatenate([matrix, months[:, None] / 6.0 - 0.5, late], axis=1)
