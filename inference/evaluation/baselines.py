"""What a generator has to beat: forecasters that know no images, or no patient.

==============  ============================================================================
identity        nothing changes
uniform shrink  the mean change over all regimens and months, for every patient
regimen mean    the mean change of the regimen at the month, for every patient
climatology     the distribution of changes of the regimen at the month in training
ridge           a change expected from clinical values and radiomics, with its residuals
==============  ============================================================================

Changes are logarithms of the ratio of viable volume to that of the baseline. The response class of a
sample is that of the training row whose change it is, or is nearest to.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from inference.evaluation.forecasts import CLASSES, Detail, Forecast, Question, category_of
from inference.evaluation.measures import IntArray, Sampling, most_probable
from inference.evaluation.regression import CrossFitted, cross_fitted, ridge, squared_error
from inference.evaluation.training_rows import TrainingRows, log_ratio, ratio_of
from inference.randomness import RandomStreams
from inference.results import FloatArray, Labels, ResponseCategory
from inference.training.crop_volumes import tissue_ml


@dataclass(frozen=True, slots=True)
class Identity:
    """Nothing changes; the image is the baseline."""

    name: str = "identity"

    def forecast(self, question: Question, samples: int, detail: Detail, streams: RandomStreams) -> Forecast:
        """Return one sample: the baseline."""
        patient = question.patient
        viable, necrosis, lipiodol = tissue_ml(patient.fractions).tolist()
        images = detail is Detail.IMAGES
        return Forecast(
            np.array([viable]),
            np.array([necrosis]),
            np.array([lipiodol]),
            (ResponseCategory.SD,),
            np.array([_baseline_mm(question)]),
            change=np.zeros((1, *patient.images.shape), dtype=np.int16) if images else None,
            fractions=patient.fractions[None] if images else None,
        )


@dataclass(frozen=True, slots=True)
class UniformShrink:
    """The same change for everyone, spread evenly over the tumour."""

    rows: TrainingRows
    name: str = "uniform shrink"
    _typical: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_typical", float(log_ratio(self.rows.viable).mean()))

    def forecast(self, question: Question, samples: int, detail: Detail, streams: RandomStreams) -> Forecast:
        """Return one sample."""
        ratio = float(ratio_of(self._typical))
        response = class_by_size(ratio ** (1 / 3))
        shrunk = _shrunk(question.patient.fractions, ratio) if detail is Detail.IMAGES else None
        return _scaled(question, np.array([ratio]), (response,), shrunk)


@dataclass(frozen=True, slots=True)
class RegimenMean:
    """The mean change of the regimen at the month."""

    rows: TrainingRows
    name: str = "regimen mean"

    def forecast(self, question: Question, samples: int, detail: Detail, streams: RandomStreams) -> Forecast:
        """Return one sample, with the most frequent class of the regimen."""
        cell = self.rows.cell(question.regimen_id, question.months)
        ratio = float(ratio_of(log_ratio(self.rows.viable[cell]).mean()))
        index = most_probable(self.rows.response[cell], len(CLASSES))
        shrunk = _shrunk(question.patient.fractions, ratio) if detail is Detail.IMAGES else None
        return _scaled(question, np.array([ratio]), (category_of(index),), shrunk)


@dataclass(frozen=True, slots=True)
class Climatology:
    """The changes that training patients had under the regimen at the month."""

    rows: TrainingRows
    name: str = "climatology"

    def forecast(self, question: Question, samples: int, detail: Detail, streams: RandomStreams) -> Forecast:
        """Return stratified samples of the training rows, in random order."""
        cell = self.rows.cell(question.regimen_id, question.months)
        ordered = cell[np.argsort(self.rows.viable[cell], kind="stable")]
        donors = ordered[_stratified(len(ordered), samples, streams.derive(question.patient.patient_id))]
        return _donated(question, self.rows, donors, self.rows.viable[donors])


@dataclass(frozen=True, slots=True)
class Ridge:
    """Ridge regression of the change on scalars of the baseline, one for each regimen.

    Residuals are those of cross-validation over patients, of the same regimen and month; so the
    spread is not that of an overfitted model.
    """

    rows: TrainingRows
    fitted: dict[str, CrossFitted]
    name: str = "ridge"

    @classmethod
    def of(cls, rows: TrainingRows, streams: RandomStreams) -> Ridge:
        """Fit on the training rows."""
        fitted = {}
        for regimen in rows.regimens():
            own = rows.take(rows.regimen == regimen)
            rng = streams.derive("ridge", regimen)
            matrix = _with_time(own.matrix[own.patient], own.months)
            fitted[regimen] = cross_fitted(
                ridge, squared_error, matrix, log_ratio(own.viable), own.patient, rng
            )
        return cls(rows, fitted)

    def forecast(self, question: Question, samples: int, detail: Detail, streams: RandomStreams) -> Forecast:
        """Return the expected change with stratified residuals, in random order."""
        model = self.fitted.get(question.regimen_id)
        if model is None:
            return Climatology(self.rows).forecast(question, samples, detail, streams)
        scaled = self.rows.standardiser.matrix([question.features])
        matrix = _with_time(scaled, np.array([question.months]))
        cell = self.rows.cell(question.regimen_id, question.months)
        own = np.flatnonzero(self.rows.regimen == question.regimen_id)
        residual = log_ratio(self.rows.viable[own]) - model.out_of_fold
        here = np.sort(residual[np.isin(own, cell)] if np.isin(own, cell).any() else residual)
        drawn = here[_stratified(len(here), samples, streams.derive(question.patient.patient_id))]
        changes = float(model.model(matrix)[0]) + drawn
        donors = _nearest(log_ratio(self.rows.viable[cell]), changes, cell)
        return _donated(question, self.rows, donors, ratio_of(changes))


def baseline_forecasters(
    rows: TrainingRows, streams: RandomStreams
) -> tuple[Identity, UniformShrink, RegimenMean, Climatology, Ridge]:
    """Return all baselines of comparison, fitted on the training rows."""
    return (
        Identity(),
        UniformShrink(rows),
        RegimenMean(rows),
        Climatology(rows),
        Ridge.of(rows, streams),
    )


# ------------------------------------------------------------------ parts


def _with_time(matrix: FloatArray, months: FloatArray) -> FloatArray:
    """Append the months, linear and as a logarithm, and their products with the first features."""
    late = np.log1p(months)[:, None]
    return np.concatenate([matrix, months[:, None] / 6.0, late, matrix * (late - np.log1p(4.0))], axis=1)


def _stratified(size: int, samples: int, rng: np.random.Generator) -> IntArray:
    """Return places in a sorted list of `size`, one from each of `samples` equal strata, shuffled."""
    share = (rng.permutation(samples) + rng.random(samples)) / samples
    return np.minimum((share * size).astype(np.intp), size - 1)


def _nearest(values: FloatArray, wanted: FloatArray, rows: IntArray) -> IntArray:
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    right = np.clip(np.searchsorted(ordered, wanted), 1, max(len(ordered) - 1, 1))
    right = np.minimum(right, len(ordered) - 1)
    left = np.maximum(right - 1, 0)
    closer = np.where(np.abs(ordered[left] - wanted) <= np.abs(ordered[right] - wanted), left, right)
    return np.asarray(rows[order[closer]])


def class_by_size(diameter_ratio: float) -> ResponseCategory:
    """Return the class of a change of diameter against the baseline (mRECIST, without new lesions)."""
    if diameter_ratio == 0:
        return ResponseCategory.CR
    if diameter_ratio <= 0.7:
        return ResponseCategory.PR
    return ResponseCategory.PD if diameter_ratio >= 1.2 else ResponseCategory.SD


def _baseline_mm(question: Question) -> float:
    return question.targets.sum_mm if question.targets.numbers else float("nan")


def _donated(question: Question, rows: TrainingRows, donors: IntArray, ratio: FloatArray) -> Forecast:
    base = float(tissue_ml(question.patient.fractions)[0])
    return Forecast(
        ratio * base,
        rows.necrosis[donors] * base,
        rows.lipiodol[donors] * base,
        tuple(category_of(int(i)) for i in rows.response[donors]),
        _baseline_mm(question) * np.cbrt(ratio),
        Sampling.STRATIFIED,
    )


def _scaled(
    question: Question,
    ratio: FloatArray,
    mrecist: tuple[ResponseCategory, ...],
    fractions: Labels | None,
) -> Forecast:
    viable, necrosis, lipiodol = tissue_ml(question.patient.fractions).tolist()
    return Forecast(
        viable * ratio,
        np.full_like(ratio, necrosis),
        np.full_like(ratio, lipiodol),
        mrecist,
        _baseline_mm(question) * np.cbrt(ratio),
        fractions=fractions,
    )


def _shrunk(fractions: Labels, ratio: float) -> Labels:
    """Return one sample of fractions whose viable part is scaled evenly, at most to the whole voxel."""
    scaled: npt.NDArray[np.float64] = fractions.astype(np.float64)
    scaled[0] = np.minimum(scaled[0] * ratio, 255.0 - scaled[1:].sum(axis=0))
    return np.rint(scaled).clip(0, 255).astype(np.uint8)[None]
