"""DELICAITE: progression after TACE or HAIC, and for whom the treatment should be altered.

Radiomics, self-supervised features of tumour slices and clinical values enter a network that splits the log
odds of progression in what belongs to the patient and what belongs to the treatment
(`inference.models.second_opinions.interaction`).

References
----------
An et al., J Hepatocell Carcinoma (DELICAITE). Where its text does not say how, the choice is ours:
progression is coded 1 (its tables are ambiguous), a patient is in the group Maintain where the treatment that
is asked about has the lower probability of progression (its cut-off is not given), and treated groups are
weighted to be alike, because treatment was not randomised.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy.special import expit
from torch import Tensor

from inference.bundle_store import bundle_folder, load_metadata, read_file, write_file
from inference.case import ClinicalRecord
from inference.comparison.overlap import Propensity
from inference.errors import ModelError
from inference.models.image_features.patient_radiomics import patient_radiomics
from inference.models.image_features.slices import SliceFeatures
from inference.models.outcome.crops import PatientCrop
from inference.models.second_opinions.clinical_inputs import ClinicalScale
from inference.models.second_opinions.interaction import InteractionNetwork, InteractionSettings
from inference.models.second_opinions.links import SurvivalLink
from inference.models.second_opinions.patient_inputs import crop_or_refusal, not_given
from inference.models.second_opinions.reduction import Reduction
from inference.results import (
    AssessedPatient,
    BundleInfo,
    FloatArray,
    NotAssessed,
    OpinionValue,
    Reason,
    SecondOpinion,
)
from inference.settings import Frozen, Regimen

FILE, WEIGHTS, SLICES = "delicaite.json", "delicaite.safetensors", "slices"
NAME = "delicaite"
TREATMENTS: Mapping[str, float] = {"tace": 1.0, "haic": -1.0}
"""Regimens that the system knows, and how each is coded."""
OVERLAP = (0.1, 0.9)
"""Propensities outside: the groups are not told, because patients like this had only one of the two."""

_ABOUT = (
    "Probability of progressive disease within {months:g} months after TACE or HAIC, and whether the "
    "other of the two would make it less probable; made for large unresectable tumours (median 11 cm)."
)


class Group(StrEnum):
    """What the system makes of the treatment that is asked about."""

    MAINTAIN = "Maintain"
    ALTER = "Alter"


class DelicaiteFile(Frozen):
    """``delicaite.json`` of a bundle."""

    modality: str = Field(pattern="^(CT|MR)$")
    clinical: ClinicalScale
    radiomics: tuple[str, ...] = Field(description="names of all features, in order")
    network: InteractionSettings
    progression_months: float = Field(gt=0)
    progression_free: SurvivalLink | None = Field(description="from the log odds of progression")


@dataclass(frozen=True, slots=True)
class Split:
    """The log odds of progression of n patients, split; see `inference.models.second_opinions.interaction`.

    Attributes
    ----------
    own : array, (n,)
    interaction : array, (n,)
        Log odds ratio of progression, TACE over HAIC.
    propensity : array, (n,)
        Probability that a patient like this was given TACE rather than HAIC.
    """

    own: FloatArray
    interaction: FloatArray
    propensity: FloatArray

    def log_odds(self, treatment: FloatArray | float) -> FloatArray:
        """Return the log odds under a treatment, 1 for TACE and -1 for HAIC."""
        return np.asarray(self.own + 0.5 * np.asarray(treatment) * self.interaction)


def group_of(interaction: float, treatment: float) -> Group:
    """Return Maintain where the treatment, 1 or -1, has no higher odds of progression than the other."""
    return Group.MAINTAIN if treatment * interaction <= 0 else Group.ALTER


@dataclass(frozen=True, slots=True)
class Features:
    """What the network is given of n patients, before it is reduced."""

    radiomics: FloatArray
    slices: FloatArray
    clinical: FloatArray


@dataclass(frozen=True, slots=True)
class Delicaite:
    """The fitted system."""

    file: DelicaiteFile
    network: InteractionNetwork
    radiomics: Reduction
    slices: Reduction
    propensity: Propensity

    def inputs(self, features: Features) -> FloatArray:
        """Return what the network is given, (n, inputs)."""
        return covariates(features, self.radiomics, self.slices)

    def split(self, features: Features) -> Split:
        """Return the split log odds of patients."""
        with torch.no_grad():
            own, interaction = self.network(torch.from_numpy(self.inputs(features)).float())
        chance = self.propensity.of(features.clinical)[:, 1]
        return Split(own.double().numpy(), interaction.double().numpy(), chance)

    def write(self, folder: Path) -> None:
        """Write the files of a bundle but the slice features."""
        write_file(folder, FILE, self.file)
        weights: dict[str, Tensor] = {
            f"network.{k}": v.detach().contiguous() for k, v in self.network.state_dict().items()
        }
        weights |= self.radiomics.tensors("radiomics") | self.slices.tensors("slices")
        weights["propensity"] = torch.from_numpy(np.ascontiguousarray(self.propensity.coefficients))
        save_file(weights, folder / WEIGHTS)

    @classmethod
    def read(cls, folder: Path) -> Delicaite:
        """Read the files of a verified bundle.

        Raises
        ------
        ModelError
            One is absent or not valid.
        """
        file = read_file(folder, FILE, DelicaiteFile)
        try:
            stored = load_file(folder / WEIGHTS)
            network = InteractionNetwork(file.network)
            start = "network."
            network.load_state_dict({k[len(start) :]: v for k, v in stored.items() if k.startswith(start)})
            radiomics, slices = (Reduction.read(stored, part) for part in ("radiomics", "slices"))
            propensity = Propensity(stored["propensity"].numpy())
        except (OSError, KeyError, RuntimeError, ValueError, SafetensorError) as error:
            raise ModelError(f"the weights of the model bundle {folder.name} cannot be read") from error
        return cls(file, network.eval().requires_grad_(False), radiomics, slices, propensity)


def covariates(features: Features, radiomics: Reduction, slices: Reduction) -> FloatArray:
    """Return the inputs of the network, (n, inputs): clinical values, then components of image features."""
    return np.concatenate(
        [features.clinical, radiomics.apply(features.radiomics), slices.apply(features.slices)], axis=1
    )


def features_of(
    crop: PatientCrop, record: ClinicalRecord, slices: SliceFeatures, file: DelicaiteFile
) -> Features:
    """Measure one patient; arrays have one row."""
    measured = patient_radiomics(crop, file.modality)
    by_name = dict(zip(measured.names, measured.values.tolist(), strict=True))
    values = [by_name.get(name, math.nan) for name in file.radiomics]
    return Features(
        np.array([values], dtype=np.float64),
        slices.slice_features(crop)[None],
        file.clinical.apply(record)[0][None],
    )


@dataclass(frozen=True, slots=True)
class DelicaiteReader:
    """Says of a patient what DELICAITE makes of TACE and of HAIC."""

    info: BundleInfo
    model: Delicaite
    slices: SliceFeatures

    @classmethod
    def from_bundle(cls, name_or_path: str | Path) -> DelicaiteReader:
        """Read a verified bundle.

        Raises
        ------
        ModelError
            The bundle is damaged, or not one of this system.
        """
        info, _metadata = load_metadata(name_or_path)
        folder = bundle_folder(name_or_path)
        model = Delicaite.read(folder)
        slices = SliceFeatures.from_bundle(folder / SLICES)
        if slices.network.settings.modality != model.file.modality:
            raise ModelError(f"the slice features of the model bundle {folder.name} are of another modality")
        return cls(info, model, slices)

    def opinions(self, patient: AssessedPatient, regimens: tuple[Regimen, ...]) -> tuple[SecondOpinion, ...]:
        """Return one opinion for TACE and one for HAIC, where they were asked about."""
        covered = [r for r in regimens if r.id in TREATMENTS]
        if not covered:
            return (
                self._opinion(
                    None, NotAssessed(Reason.REGIMEN_NOT_COVERED, "The system knows TACE and HAIC alone.")
                ),
            )
        crop = crop_or_refusal(patient, self.model.file.modality)
        if isinstance(crop, NotAssessed):
            return tuple(self._opinion(r.id, crop) for r in covered)
        found = self.model.split(features_of(crop, patient.clinical, self.slices, self.model.file))
        missing = self._missing(patient.clinical)
        return tuple(
            self._opinion(r.id, (*values_of(found, r.id, self.model.file.progression_months), *missing))
            for r in covered
        )

    def _missing(self, record: ClinicalRecord) -> tuple[OpinionValue, ...]:
        scale = self.model.file.clinical
        known = scale.apply(record)[1]
        return not_given(n for n, k in zip(scale.names, known, strict=True) if not k)

    def _opinion(
        self, regimen_id: str | None, values: tuple[OpinionValue, ...] | NotAssessed
    ) -> SecondOpinion:
        about = _ABOUT.format(months=self.model.file.progression_months)
        return SecondOpinion(NAME, self.info, about, regimen_id, values)


def values_of(found: Split, regimen_id: str, months: float) -> tuple[OpinionValue, ...]:
    """Return what is told of one patient under TACE or HAIC."""
    treatment = TREATMENTS[regimen_id]
    interaction, chance = float(found.interaction[0]), float(found.propensity[0])
    group = (
        str(group_of(interaction, treatment))
        if OVERLAP[0] <= chance <= OVERLAP[1]
        else "not told: patients like this were given only one of TACE and HAIC"
    )
    return (
        OpinionValue(
            f"progressive disease within {months:g} months", float(expit(found.log_odds(treatment)[0])), "1"
        ),
        OpinionValue("log odds ratio of progression, TACE over HAIC", interaction, "1"),
        OpinionValue("group", group),
    )
