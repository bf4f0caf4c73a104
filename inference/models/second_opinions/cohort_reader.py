"""Second opinions of SELECTION, with the flow ATOM, and of the networks that it is held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit

from inference.bundle_store import bundle_folder, load_metadata
from inference.case import ClinicalRecord
from inference.models.second_opinions.atom import RECONSTRUCTED, Stage, Therapy, advise
from inference.models.second_opinions.cohort_models import CohortModel, CohortModels, Target
from inference.models.second_opinions.cohort_networks import Architecture, Inputs
from inference.models.second_opinions.patient_inputs import crop_or_refusal, not_given, titles
from inference.models.second_opinions.pictures import attention_picture
from inference.models.second_opinions.tumour_slices import TumourSlice
from inference.results import (
    AssessedPatient,
    BundleInfo,
    NotAssessed,
    OpinionPicture,
    OpinionValue,
    Reason,
    SecondOpinion,
)
from inference.settings import Regimen

ATOM = "atom"
_TITLES: Mapping[Architecture, str] = {
    Architecture.SELECTION: "Transformer of arterial and portal venous slice and clinical values",
    Architecture.VIT: "Vision transformer of arterial and portal venous slice alone",
    Architecture.RESNET_LOGISTIC: "Residual network with logistic regression of image and clinical values",
    Architecture.CLINICAL_LOGISTIC: "Logistic regression of clinical values alone",
}
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the networks see of one patient."""

    slice: TumourSlice
    inputs: Inputs
    missing: tuple[OpinionValue, ...]


@dataclass(frozen=True, slots=True)
class CohortReader:
    """Says what each network of a bundle makes of a patient, under the regimens of its cohort."""

    info: BundleInfo
    models: CohortModels

    @classmethod
    def from_bundle(cls, name_or_path: str | Path) -> CohortReader:
        """Read a verified bundle.

        Raises
        ------
        ModelError
            The bundle is damaged, or not one of these systems.
        """
        info, _metadata = load_metadata(name_or_path)
        return cls(info, CohortModels.read(bundle_folder(name_or_path)))

    @property
    def architecture(self) -> Architecture:
        """Which networks the bundle holds."""
        return self.models.file.network.architecture

    def opinions(self, patient: AssessedPatient, regimens: tuple[Regimen, ...]) -> tuple[SecondOpinion, ...]:
        """Return one opinion for each regimen of a cohort of the bundle, and that of ATOM for SELECTION."""
        asked = [(r.id, m) for r in regimens if (m := self.models.of_regimen(r.id)) is not None]
        seen = self._seen(patient)
        found = [self._opinion(seen, regimen, model) for regimen, model in asked]
        if not found:
            refusal = NotAssessed(
                Reason.REGIMEN_NOT_COVERED, "None of the regimens belongs to a cohort of the system."
            )
            found = [self._told(None, refusal)]
        if self.architecture is Architecture.SELECTION:
            found.append(self._atom(seen))
        return tuple(found)

    def _seen(self, patient: AssessedPatient) -> _Seen | NotAssessed:
        crop = crop_or_refusal(patient, self.models.file.modality)
        if isinstance(crop, NotAssessed):
            return crop
        cut = self.models.slice_of(crop)
        if cut is None:
            return NotAssessed(Reason.NOTHING_MEASURABLE, "No tumour is outlined.")
        if not cut.acquired.any():
            return NotAssessed(
                Reason.PHASE_MISSING, "Neither an arterial nor a portal venous phase shows the tumour."
            )
        return _Seen(cut, self.models.inputs(cut, patient.clinical), self._missing(patient.clinical))

    def _missing(self, record: ClinicalRecord) -> tuple[OpinionValue, ...]:
        if self.architecture is Architecture.VIT:
            return ()
        scale = self.models.file.clinical
        known = scale.apply(record)[1]
        return not_given(n for n, k in zip(scale.names, known, strict=True) if not k)

    def _opinion(self, seen: _Seen | NotAssessed, regimen_id: str, model: CohortModel) -> SecondOpinion:
        if isinstance(seen, NotAssessed):
            return self._told(regimen_id, seen)
        score = float(expit(self.models.log_odds(model.therapy, seen.inputs)[0]))
        low = score >= model.median_score
        values = (
            OpinionValue(str(model.target), score, "1"),
            OpinionValue("median of the training patients", model.median_score, "1"),
            OpinionValue("risk group", "low risk" if low else "high risk"),
        )
        pictures, named = self._attention(seen, model)
        return self._told(regimen_id, (*values, *named, *seen.missing), pictures)

    def _attention(
        self, seen: _Seen, model: CohortModel
    ) -> tuple[tuple[OpinionPicture, ...], tuple[OpinionValue, ...]]:
        """Return attention over the slices as a picture, and the variables that reached the answer most."""
        relevance = self.models.networks[model.therapy].relevance(seen.inputs)
        if relevance is None:
            return (), ()
        patches, variables = (part[0].detach().double().numpy() for part in relevance)
        rgb = attention_picture(seen.slice.images, seen.slice.acquired, patches)
        title = f"Attention rollout, {model.title}: arterial (left) and portal venous phase"
        variables = np.where(seen.inputs.known[0].numpy(), variables, 0.0)
        order = [int(i) for i in np.argsort(-variables, kind="stable")[:_MOST_NAMED] if variables[i] > 0]
        names = titles(self.models.file.clinical.names[i] for i in order)
        named = (OpinionValue("clinical values with most attention", names),) if names else ()
        return (OpinionPicture(title, rgb),), named

    def _told(
        self,
        regimen_id: str | None,
        values: tuple[OpinionValue, ...] | NotAssessed,
        pictures: tuple[OpinionPicture, ...] = (),
    ) -> SecondOpinion:
        about = (
            f"{_TITLES[self.architecture]}: {Target.RESPONSE} after TACE or HAIC alone, {Target.ONE_YEAR} "
            f"with systemic therapy, in patients who are alive in month "
            f"{self.models.file.landmark_months:g}."
        )
        return SecondOpinion(str(self.architecture), self.info, about, regimen_id, values, pictures)

    def _atom(self, seen: _Seen | NotAssessed) -> SecondOpinion:
        about = (
            "Flow over the scores of the four SELECTION models, each held against the median of its training "
            f"patients. {RECONSTRUCTED} The scores are of different outcomes and patients: it is no "
            "comparison of treatment effects."
        )
        return SecondOpinion(ATOM, self.info, about, None, self._flow(seen))

    def _flow(self, seen: _Seen | NotAssessed) -> tuple[OpinionValue, ...] | NotAssessed:
        if isinstance(seen, NotAssessed):
            return seen
        known = {t: m for t in Therapy if (m := self.models.model(t)) is not None}
        if len(known) < len(Therapy):
            absent = ", ".join(t for t in Therapy if t not in known)
            return NotAssessed(Reason.REGIMEN_NOT_COVERED, f"The bundle has no model of {absent}.")
        scores = {t: float(expit(self.models.log_odds(t, seen.inputs)[0])) for t in Therapy}
        found = advise(scores, {t: m.median_score for t, m in known.items()})
        end = "none of the four" if found.therapy is None else known[found.therapy].title
        steps = "first" if found.stage is Stage.ALONE else "second"
        return (
            OpinionValue("end of the flow", end),
            OpinionValue("stage", f"{steps}: {found.stage}"),
            OpinionValue("score less median", found.margin, "1"),
            *(OpinionValue(f"score, {known[t].title}", scores[t], "1") for t in Therapy),
        )
