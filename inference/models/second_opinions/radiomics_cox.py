"""Radiomics LASSO-Cox as a second opinion: survival from measurements of the baseline images alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.bundle_store import bundle_folder, load_metadata
from inference.models.flow.study import crop_study
from inference.models.image_features.patient_radiomics import patient_radiomics
from inference.models.lasso_cox import LassoCox
from inference.models.second_opinions.wording import ENDPOINTS, HORIZONS_MONTHS, at_months, bundle_word
from inference.results import AssessedPatient, BundleInfo, NotAssessed, OpinionValue, Reason, SecondOpinion
from inference.settings import Regimen

SYSTEM = "radiomics-cox"
FORMAT = "radiomics_cox"
"""``format`` of the bundle's metadata."""


@dataclass(frozen=True, slots=True)
class RadiomicsCoxReader:
    """A Cox model of few radiomics features, chosen by a lasso.

    Attributes
    ----------
    endpoint : str
        ``os`` or ``pfs``.
    modality : str
        CT or MR: that of the patients it was fitted on.
    """

    info: BundleInfo
    model: LassoCox
    endpoint: str
    modality: str

    @classmethod
    def from_bundle(cls, name_or_path: str | Path) -> RadiomicsCoxReader:
        """Read a verified bundle.

        Raises
        ------
        ModelError
            The bundle is damaged, or does not say its end point and modality.
        """
        info, metadata = load_metadata(name_or_path)
        return cls(
            info,
            LassoCox.read(bundle_folder(name_or_path)),
            bundle_word(metadata, "endpoint", ENDPOINTS, info.name),
            bundle_word(metadata, "modality", ("CT", "MR"), info.name),
        )

    def opinions(self, patient: AssessedPatient, regimens: tuple[Regimen, ...]) -> tuple[SecondOpinion, ...]:
        """Return survival whatever the regimen: the model does not know it.

        Raises
        ------
        ModelError
            None of the features can be measured.
        """
        about = (
            f"{ENDPOINTS[self.endpoint].capitalize()} by a Cox model of {len(self.model.file.names)} "
            f"radiomics features of the baseline; it takes no clinical value and no regimen. Fitted on "
            f"{self.info.trained_on}."
        )
        return (SecondOpinion(SYSTEM, self.info, about, None, self._values(patient)),)

    def _values(self, patient: AssessedPatient) -> tuple[OpinionValue, ...] | NotAssessed:
        modality = patient.baseline.primary.modality
        if modality != self.modality:
            return NotAssessed(
                Reason.OUT_OF_DISTRIBUTION,
                f"The model was fitted on {self.modality}, and the study is {modality}.",
            )
        file = self.model.file
        if not file.names:
            return NotAssessed(
                Reason.NOTHING_MEASURABLE, "No feature told training patients apart: the model has none."
            )
        crop = crop_study(patient.baseline, patient.segmentation).crop
        found = patient_radiomics(crop, modality)
        features = dict(zip(found.names, found.values.tolist(), strict=True))
        months = [m for m in HORIZONS_MONTHS if file.times and m <= file.times[-1]]
        survival = self.model.survival(features, np.array(months, dtype=np.float64))
        measured = sum(np.isfinite(features.get(name, np.nan)) for name in file.names)
        return (
            *at_months(self.endpoint, dict(zip(months, survival.tolist(), strict=True))),
            OpinionValue("log hazard ratio to the mean patient", self.model.log_risk(features), "1"),
            OpinionValue("features measured", f"{measured} of {len(file.names)}"),
        )
