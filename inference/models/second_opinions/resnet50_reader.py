"""ResNet50 + MLP as a second opinion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from inference.clinical.nomogram_predictors import clinical_predictors
from inference.errors import ModelError
from inference.models.second_opinions.nomogram import scored_values
from inference.models.second_opinions.patient_inputs import crop_or_refusal
from inference.models.second_opinions.regimens import covered, not_covered
from inference.models.second_opinions.resnet50 import Resnet50Model
from inference.models.second_opinions.slice_inputs import tumour_slices
from inference.results import (
    AssessedPatient,
    BundleInfo,
    NotAssessed,
    OpinionNomogram,
    OpinionValue,
    SecondOpinion,
)
from inference.settings import Regimen

SYSTEM = "resnet50-mlp"
ABOUT = (
    "Probability of CR or PR by mRECIST and a Cox nomogram of progression-free survival from tumour slices "
    "and five clinical values; made for TACE with HAIC, a kinase inhibitor and a PD-1 inhibitor."
)
_PROBABILITY = "1"
_NOMOGRAM = "Progression-free survival by ResNet50 + MLP"


@dataclass(frozen=True, slots=True)
class Resnet50Reader:
    """A `inference.models.protocols.SecondReader`."""

    info: BundleInfo
    model: Resnet50Model

    @classmethod
    def from_bundle(cls, name_or_path: str | Path) -> Resnet50Reader:
        """Read a verified bundle.

        Raises
        ------
        ModelError
            The bundle is damaged, or not of this system.
        """
        model = Resnet50Model.from_bundle(name_or_path)
        return cls(model.info, model)

    def opinions(self, patient: AssessedPatient, regimens: tuple[Regimen, ...]) -> tuple[SecondOpinion, ...]:
        """Return one opinion for each regimen that the system was made for."""
        asked = covered(self.model.file.regimens, regimens)
        if not asked:
            return (self._opinion(None, not_covered(SYSTEM, self.model.file.regimens)),)
        values, nomogram = self._values(patient)
        return tuple(self._opinion(regimen, values, nomogram) for regimen in asked)

    def _opinion(
        self,
        regimen: str | None,
        values: tuple[OpinionValue, ...] | NotAssessed,
        nomogram: OpinionNomogram | None = None,
    ) -> SecondOpinion:
        return SecondOpinion(SYSTEM, self.info, ABOUT, regimen, values, nomogram=nomogram)

    def _values(
        self, patient: AssessedPatient
    ) -> tuple[tuple[OpinionValue, ...] | NotAssessed, OpinionNomogram | None]:
        settings = self.model.file.network.residual
        crop = crop_or_refusal(patient, settings.modality)
        if isinstance(crop, NotAssessed):
            return crop, None
        slices, _largest = tumour_slices(crop, settings.modality, settings.slices)
        predictors = clinical_predictors(patient.clinical)
        seen = self.model.look(slices, predictors)
        response = OpinionValue("objective response by mRECIST", seen.response, _PROBABILITY)
        try:
            scored = self.model.nomogram.score({**predictors, **seen.features})
        except ModelError as error:
            told = (response, OpinionValue("progression-free survival", f"not assessed: {error}"))
            return told, OpinionNomogram(_NOMOGRAM, self.model.nomogram, None)
        shown = OpinionNomogram(_NOMOGRAM, self.model.nomogram, scored)
        return (response, *scored_values(self.model.nomogram, scored)), shown
