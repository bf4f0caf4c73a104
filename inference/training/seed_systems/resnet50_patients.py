"""What ResNet50 + MLP is given of the patients of a cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inference.clinical.nomogram_predictors import clinical_predictors
from inference.models.protocols import Progress
from inference.models.second_opinions.residual import ResidualSettings
from inference.models.second_opinions.resnet50 import clinical_inputs
from inference.results import Labels
from inference.training.cohort import Cohort
from inference.training.cohort_rows import clinical_of
from inference.training.seed_systems.slices import prepared_slices


@dataclass(frozen=True, slots=True)
class Resnet50Patients:
    """What the system is given of n patients, in one order.

    Attributes
    ----------
    slices : tuple
        (n, 3, y, x) each, None without tumour.
    predictors : tuple of mapping
        Answers by name, NaN where missing.
    """

    ids: tuple[str, ...]
    slices: tuple[Labels | None, ...]
    predictors: tuple[Mapping[str, float], ...]

    def inputs(self) -> Tensor:
        """Return the clinical inputs, (n, 10)."""
        return torch.from_numpy(np.stack([clinical_inputs(p) for p in self.predictors])).float()


def resnet50_patients(
    cohort: Cohort, ids: Sequence[str], settings: ResidualSettings, work: Path, progress: Progress
) -> Resnet50Patients:
    """Read patients of a cohort; slices are kept in the folder `work`.

    Raises
    ------
    TrainingDataError
        Images cannot be read.
    """
    slices = prepared_slices(cohort, ids, settings, work / "slices", progress)
    return Resnet50Patients(
        tuple(ids),
        tuple(slices.get(p) for p in ids),
        tuple(clinical_predictors(clinical_of(cohort.row(p))) for p in ids),
    )
