"""What is evaluated: a forecaster answers a question about one patient with samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from inference.case import ClinicalRecord
from inference.evaluation.maps import TargetLesions
from inference.evaluation.measures import Sampling
from inference.randomness import RandomStreams
from inference.results import FloatArray, Labels, ResponseCategory
from inference.training.cohort import PatientImages

CLASSES = (ResponseCategory.CR, ResponseCategory.PR, ResponseCategory.SD, ResponseCategory.PD)
"""mRECIST classes in their order; NE has no place in it."""


class Detail(StrEnum):
    """What a forecast has to hold."""

    SCALARS = "scalars"
    IMAGES = "images"


@dataclass(frozen=True, slots=True)
class Question:
    """Ask how this patient will look under a regimen, so many months after its start.

    Attributes
    ----------
    patient : PatientImages
        Baseline only: without follow-ups, and without the noise-free images of a simulation.
    clinical : ClinicalRecord
        Baseline values; what is absent is missing.
    targets : TargetLesions
        Target lesions at baseline.
    features : mapping
        Clinical values and radiomics of the baseline, for models on scalars.
    """

    patient: PatientImages
    clinical: ClinicalRecord
    regimen_id: str
    months: float
    targets: TargetLesions
    features: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Forecast:
    """Samples of one follow-up; s samples.

    Attributes
    ----------
    viable_ml, necrosis_ml, lipiodol_ml : array, (s,)
        Measured on the generated maps where there are any.
    mrecist : tuple of ResponseCategory
        One for each sample; NE where it was not assessed.
    viable_mm : array, (s,)
        Sum of the viable diameters of the target lesions; NaN where it was not measured.
    change : array of int16, (s, phase, z, y, x), or None
        Follow-up less baseline, without noise.
    fractions : array of uint8, (s, 3, z, y, x), or None
        As in `FollowUpImages`.
    requested_viable_ml : array, (s,), or None
        What the image was asked to show, where the forecaster samples volumes first.
    """

    viable_ml: FloatArray
    necrosis_ml: FloatArray
    lipiodol_ml: FloatArray
    mrecist: tuple[ResponseCategory, ...]
    viable_mm: FloatArray
    sampling: Sampling = Sampling.INDEPENDENT
    change: npt.NDArray[np.int16] | None = None
    fractions: Labels | None = None
    requested_viable_ml: FloatArray | None = None

    def __post_init__(self) -> None:
        counts = {len(self.viable_ml), len(self.necrosis_ml), len(self.lipiodol_ml), len(self.mrecist)}
        if counts != {len(self.viable_mm)} or 0 in counts:
            raise ValueError("the parts of a forecast have different numbers of samples, or none")


class Forecaster(Protocol):
    """A model, a baseline of comparison, or an oracle."""

    @property
    def name(self) -> str:
        """Name in the tables."""
        ...

    def forecast(self, question: Question, samples: int, detail: Detail, streams: RandomStreams) -> Forecast:
        """Return samples; a deterministic forecaster returns one.

        The same streams are passed for all regimens and months of a patient, so that a forecaster
        which derives its noise from the patient alone draws the same noise under every regimen.

        Raises
        ------
        InferenceError
            The forecaster cannot answer, such as for a regimen that it was not trained on.
        """
        ...


def class_index(category: str) -> int:
    """Return the place of a category among `CLASSES`, -1 for NE."""
    return CLASSES.index(ResponseCategory(category)) if category != ResponseCategory.NE else -1


def category_of(index: int) -> ResponseCategory:
    """Return the category at a place among `CLASSES`, NE for -1."""
    return ResponseCategory.NE if index < 0 else CLASSES[index]
