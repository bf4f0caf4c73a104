"""Bundle of networks of which each knows the patients of one cohort of treatment.

SELECTION has four: response after TACE and after HAIC, and survival of one year after each of them with
systemic therapy. What it is held against (a vision transformer of the images alone, a residual network with
logistic regression) has the same four, so that all are measured alike.

**Landmark.** In the publication the patients with systemic therapy are part of those with TACE or HAIC, and
have lived until it began: time that nobody could die in. Here a patient belongs to one cohort, by what was
given until the landmark, and every cohort holds only patients who were alive and followed at the landmark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from inference.bundle_store import read_file, write_file
from inference.case import ClinicalRecord
from inference.errors import ModelError
from inference.models.outcome.crops import PatientCrop
from inference.models.second_opinions.atom import Therapy
from inference.models.second_opinions.clinical_inputs import ClinicalScale
from inference.models.second_opinions.cohort_networks import (
    CohortNetwork,
    Inputs,
    NetworkSettings,
    network_of,
)
from inference.models.second_opinions.links import SurvivalLink
from inference.models.second_opinions.tumour_slices import TumourSlice, tumour_slice
from inference.settings import Frozen

FILE = "cohort_models.json"


class Target(StrEnum):
    """What a network tells; higher is better."""

    RESPONSE = "objective response"
    ONE_YEAR = "survival of 12 months"


class CohortModel(Frozen):
    """One network of the bundle; its weights are in ``THERAPY.safetensors``."""

    therapy: Therapy
    title: str
    regimens: tuple[str, ...] = Field(min_length=1, description="ids of the regimens of its patients")
    target: Target
    median_score: float = Field(ge=0, le=1, description="of the training patients; below it risk is high")
    patients: int = Field(gt=0)
    reached: int = Field(description="training patients who reached the target")
    overall_survival: SurvivalLink | None = Field(description="from the log odds; after the landmark")


class CohortModelsFile(Frozen):
    """``cohort_models.json`` of a bundle."""

    modality: str = Field(pattern="^(CT|MR)$")
    network: NetworkSettings
    clinical: ClinicalScale
    landmark_months: float = Field(ge=0)
    models: tuple[CohortModel, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> CohortModelsFile:
        regimens = [r for m in self.models for r in m.regimens]
        if len(set(regimens)) != len(regimens):
            raise ValueError("two cohorts have the same regimen")
        if len(self.clinical.names) != self.network.variables:
            raise ValueError("the networks take another number of clinical variables")
        return self


@dataclass(frozen=True, slots=True)
class CohortModels:
    """The networks of a bundle."""

    file: CohortModelsFile
    networks: Mapping[Therapy, CohortNetwork]

    def model(self, therapy: Therapy) -> CohortModel | None:
        """Return what is known of the network of a therapy, None where there is none."""
        return next((m for m in self.file.models if m.therapy is therapy), None)

    def of_regimen(self, regimen_id: str) -> CohortModel | None:
        """Return the model whose patients had a regimen."""
        return next((m for m in self.file.models if regimen_id in m.regimens), None)

    def slice_of(self, crop: PatientCrop) -> TumourSlice | None:
        """Return the slice that the networks see, None without tumour."""
        return tumour_slice(crop, self.file.modality, self.file.network.side)

    def inputs(self, seen: TumourSlice, record: ClinicalRecord) -> Inputs:
        """Return the inputs of one patient."""
        value, known = self.file.clinical.apply(record)
        return Inputs(
            torch.from_numpy(seen.images)[None],
            torch.from_numpy(seen.acquired)[None],
            torch.from_numpy(value).float()[None],
            torch.from_numpy(known)[None],
        )

    def log_odds(self, therapy: Therapy, inputs: Inputs) -> np.ndarray:
        """Return the log odds of the target, (n,)."""
        with torch.no_grad():
            found = self.networks[therapy](inputs)
        return np.asarray(found.double().numpy())

    def write(self, folder: Path) -> None:
        """Write the files of a bundle, metadata excepted."""
        write_file(folder, FILE, self.file)
        for therapy, network in self.networks.items():
            weights = {k: v.detach().contiguous() for k, v in network.state_dict().items()}
            save_file(weights, folder / f"{therapy}.safetensors")

    @classmethod
    def read(cls, folder: Path) -> CohortModels:
        """Read the files of a verified bundle.

        Raises
        ------
        ModelError
            One is absent or not valid.
        """
        file = read_file(folder, FILE, CohortModelsFile)
        networks = {}
        try:
            for model in file.models:
                network = network_of(file.network)
                network.load_state_dict(load_file(folder / f"{model.therapy}.safetensors"))
                networks[model.therapy] = network.eval().requires_grad_(False)
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            raise ModelError(f"the weights of the model bundle {folder.name} cannot be read") from error
        return cls(file, networks)
