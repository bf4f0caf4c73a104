"""DLOP_Combin as a second opinion.

Before treatment the response that the system asks for is not there. It therefore answers twice: survival if
the tumour responds by the landmark, and if not, both of patients who are alive then.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inference.models.second_opinions.dlop import (
    OUTPUT_MONTHS,
    YEAR_ENDS,
    DlopModel,
    factor_inputs,
    log_rates_of,
    with_response,
)
from inference.models.second_opinions.dlop_factors import clinical_factors
from inference.models.second_opinions.grad_cam import grad_cam, overlay
from inference.models.second_opinions.patient_inputs import crop_or_refusal
from inference.models.second_opinions.regimens import covered, not_covered
from inference.models.second_opinions.slice_inputs import as_tensor, tumour_slices
from inference.results import (
    AssessedPatient,
    BundleInfo,
    Labels,
    NotAssessed,
    OpinionPicture,
    OpinionValue,
    SecondOpinion,
)
from inference.settings import Regimen

SYSTEM = "dlop-combin"
_ABOUT = (
    "Survival of patients who are alive {landmark:g} months after the start of treatment, if the tumour "
    "responded by then (CR or PR by mRECIST) and if not; made for TACE of intermediate disease."
)
_UNKNOWN = float("nan")
_SCENARIOS = (("response", 1.0), ("no response", 0.0))
_PROBABILITY = "1"


@dataclass(frozen=True, slots=True)
class DlopReader:
    """A `inference.models.protocols.SecondReader`."""

    info: BundleInfo
    model: DlopModel

    @classmethod
    def from_bundle(cls, name_or_path: str | Path) -> DlopReader:
        """Read a verified bundle.

        Raises
        ------
        ModelError
            The bundle is damaged, or not of this system.
        """
        model = DlopModel.from_bundle(name_or_path)
        return cls(model.info, model)

    def opinions(self, patient: AssessedPatient, regimens: tuple[Regimen, ...]) -> tuple[SecondOpinion, ...]:
        """Return one opinion for each regimen that the system was made for."""
        file = self.model.file
        asked = covered(file.regimens, regimens)
        if not asked:
            return (self._opinion(None, not_covered(SYSTEM, file.regimens)),)
        crop = crop_or_refusal(patient, file.residual.modality)
        if isinstance(crop, NotAssessed):
            return tuple(self._opinion(regimen, crop) for regimen in asked)
        slices, largest = tumour_slices(crop, file.residual.modality, file.residual.slices)
        factors = clinical_factors(patient.clinical, _UNKNOWN)
        values = tuple(v for name, known in _SCENARIOS for v in self._values(slices, factors, name, known))
        picture = OpinionPicture(
            "Grad-CAM of three-year survival: red speaks for it, blue against it",
            overlay(slices[largest], self.explained(slices[largest], factors)),
        )
        return tuple(self._opinion(regimen, values, (picture,)) for regimen in asked)

    def _opinion(
        self,
        regimen: str | None,
        values: tuple[OpinionValue, ...] | NotAssessed,
        pictures: tuple[OpinionPicture, ...] = (),
    ) -> SecondOpinion:
        about = _ABOUT.format(landmark=self.model.file.landmark_months)
        return SecondOpinion(SYSTEM, self.info, about, regimen, values, pictures)

    def _values(
        self, slices: Labels, factors: dict[str, float], scenario: str, response: float
    ) -> list[OpinionValue]:
        rates = self.model.log_rates(slices, with_response(factors, response))
        months = np.array([end for end in YEAR_ENDS if end <= OUTPUT_MONTHS])
        survival = self.model.survival(rates, months).tolist()
        values = [
            OpinionValue(f"overall survival at {m:g} months, if {scenario}", s, _PROBABILITY)
            for m, s in zip(months.tolist(), survival, strict=True)
        ]
        cut = self.model.file.risk_cut
        if cut is not None:
            group = "high" if survival[-1] < cut else "low"
            values.append(OpinionValue(f"risk group, if {scenario}", group))
        return values

    def explained(self, one: Labels, factors: dict[str, float]) -> np.ndarray:
        """Return the signed Grad-CAM of three-year survival on one slice (3, y, x), response not known."""
        network, file = self.model.networks.combin, self.model.file
        clinical = torch.from_numpy(factor_inputs(file.factors, factors)).float()[None]
        exposure = file.grid.exposure([OUTPUT_MONTHS - file.landmark_months])[0]

        def output(maps: Tensor) -> Tensor:
            log_odds = network.joined(maps.mean(dim=(2, 3)), clinical)
            rates = torch.exp(log_rates_of(log_odds, file.grid.widths))
            return -(rates * torch.from_numpy(exposure).to(rates)).sum()

        with torch.no_grad():
            maps = network.slices.maps(as_tensor(one[None]))
        return grad_cam(maps, output, (one.shape[1], one.shape[2]))
