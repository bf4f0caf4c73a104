"""A Cox nomogram as a second opinion: points of each value, their sum, and the survival it stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from inference.bundle_store import bundle_folder, load_metadata
from inference.clinical.nomogram import Nomogram, Scored
from inference.clinical.nomogram_predictors import clinical_predictors
from inference.models.flow.study import crop_study
from inference.models.image_features.patient_radiomics import patient_radiomics
from inference.models.second_opinions.wording import ENDPOINTS, at_months, bundle_word
from inference.results import (
    AssessedPatient,
    BundleInfo,
    NotAssessed,
    OpinionNomogram,
    OpinionValue,
    Reason,
    SecondOpinion,
)
from inference.settings import Regimen

SYSTEM = "nomogram"
FORMAT = "nomogram"
"""``format`` of the bundle's metadata."""


@dataclass(frozen=True, slots=True)
class NomogramReader:
    """A nomogram of clinical predictors and radiomics of the baseline.

    Attributes
    ----------
    modality : str
        CT or MR: that of the patients it was fitted on.
    """

    info: BundleInfo
    nomogram: Nomogram
    modality: str

    @classmethod
    def from_bundle(cls, name_or_path: str | Path) -> NomogramReader:
        """Read a verified bundle.

        Raises
        ------
        ModelError
            The bundle is damaged, or does not say its end point and modality.
        """
        info, metadata = load_metadata(name_or_path)
        bundle_word(metadata, "endpoint", ENDPOINTS, info.name)
        nomogram = Nomogram.read(bundle_folder(name_or_path))
        return cls(info, nomogram, bundle_word(metadata, "modality", ("CT", "MR"), info.name))

    def opinions(self, patient: AssessedPatient, regimens: tuple[Regimen, ...]) -> tuple[SecondOpinion, ...]:
        """Return points and survival whatever the regimen: the nomogram does not know it."""
        endpoint = ENDPOINTS[self.nomogram.file.endpoint]
        about = (
            f"{endpoint.capitalize()} by a Cox nomogram of {len(self.nomogram.file.predictors)} predictors; "
            f"it takes no regimen. Fitted on {self.info.trained_on}."
        )
        scored = self._scored(patient)
        drawn = OpinionNomogram(
            f"Cox nomogram of {endpoint}", self.nomogram, None if isinstance(scored, NotAssessed) else scored
        )
        values = scored if isinstance(scored, NotAssessed) else scored_values(self.nomogram, scored)
        return (SecondOpinion(SYSTEM, self.info, about, None, values, nomogram=drawn),)

    def _scored(self, patient: AssessedPatient) -> Scored | NotAssessed:
        modality = patient.baseline.primary.modality
        clinical = clinical_predictors(patient.clinical)
        from_images = [p for p in self.nomogram.file.predictors if p.name not in clinical]
        if from_images and modality != self.modality:
            return NotAssessed(
                Reason.OUT_OF_DISTRIBUTION,
                f"The nomogram was fitted on {self.modality}, and the study is {modality}.",
            )
        values = {**clinical, **(_radiomics(patient) if from_images else {})}
        missing = [
            p.label for p in self.nomogram.file.predictors if not math.isfinite(values.get(p.name, math.nan))
        ]
        if missing:
            return NotAssessed(
                Reason.CLINICAL_VALUES_MISSING, f"The nomogram needs what is not known: {', '.join(missing)}."
            )
        return self.nomogram.score(values)


def scored_values(nomogram: Nomogram, scored: Scored) -> tuple[OpinionValue, ...]:
    """Return survival up to the last event that the nomogram knows, the sum of points and its parts."""
    file = nomogram.file
    within = {m: p for m, p in scored.survival.items() if file.times and m <= file.times[-1]}
    labels = {p.name: p.label for p in file.predictors}
    points = (
        OpinionValue(f"points for {labels[name]}", value, "{points}") for name, value in scored.points.items()
    )
    beyond = [labels[name] for name in scored.beyond]
    taken = (OpinionValue("taken at the end of its line", ", ".join(beyond)),) if beyond else ()
    return (
        *at_months(file.endpoint, within),
        OpinionValue("total points", scored.total, "{points}"),
        *points,
        *taken,
    )


def _radiomics(patient: AssessedPatient) -> dict[str, float]:
    crop = crop_study(patient.baseline, patient.segmentation).crop
    found = patient_radiomics(crop, patient.baseline.primary.modality)
    return dict(zip(found.names, found.values.tolist(), strict=True))
