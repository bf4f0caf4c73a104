"""What the survival model is trained on: arrays of n patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from inference.errors import TrainingDataError
from inference.evaluation.metrics import BoolArray
from inference.models.survival.fitted import Inputs
from inference.results import FloatArray
from inference.training.cohort import Split


@dataclass(frozen=True, slots=True)
class Followed:
    """One end point of n patients.

    Attributes
    ----------
    months : array, (n,)
        From the start of treatment; NaN where the end point is not known.
    event : array of bool, (n,)
    """

    months: FloatArray
    event: BoolArray

    @property
    def known(self) -> BoolArray:
        """Patients whose end point is known."""
        return np.isfinite(self.months)

    def of(self, patients: np.ndarray) -> Followed:
        """Return some of the patients."""
        return Followed(self.months[patients], self.event[patients])


@dataclass(frozen=True, slots=True)
class SurvivalRows:
    """Patients with what was known before treatment, what was forecast, and what happened.

    Attributes
    ----------
    inputs : Inputs
        Clinical columns, ``regimen``, text tokens, image tokens with kind and months.
    image_kinds : tuple of str
        What `Images.kind` counts.
    outcomes : mapping
        End point (``os``, ``pfs``) -> follow-up.
    split : array of str, (n,)
        Values of `inference.training.cohort.Split`.
    laboratory : tuple of str
        What the kinds of the laboratory tokens count.

    Raises
    ------
    TrainingDataError
        Parts of different length, no training patient, an end point without events.
    """

    inputs: Inputs
    image_kinds: tuple[str, ...]
    outcomes: Mapping[str, Followed]
    split: np.ndarray
    laboratory: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.inputs)
        lengths = {len(self.split), len(self.inputs.text), *(len(o.months) for o in self.outcomes.values())}
        lengths |= {len(column) for column in self.inputs.table.values()}
        lengths |= {len(tokens) for tokens in self.inputs.beside.values()}
        if lengths != {n}:
            raise TrainingDataError("the parts of the survival rows are of different numbers of patients")
        train = self.split == Split.TRAIN.value
        if not train.any() or not self.outcomes:
            raise TrainingDataError("there is no training patient, or no end point")
        for name, outcome in self.outcomes.items():
            if not (outcome.event & outcome.known & train).any():
                raise TrainingDataError(f"no training patient has an event of the end point {name}")

    def part(self, split: Split) -> SurvivalRows | None:
        """Return the patients of one split as rows of training patients, or None where it has no events."""
        patients = np.flatnonzero(self.split == split.value)
        followed = {name: outcome.of(patients) for name, outcome in self.outcomes.items()}
        if not all((f.event & f.known).any() for f in followed.values()):
            return None
        split_names = np.full(len(patients), Split.TRAIN.value)
        return replace(self, inputs=self.inputs.of(patients), outcomes=followed, split=split_names)
