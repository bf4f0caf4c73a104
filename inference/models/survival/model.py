"""The protocol's survival model, served from a bundle: a `inference.models.protocols.SurvivalModel`.

Without images it forecasts from clinical values and regimen; images at baseline and at virtual time
points, texts and angiographies add to that, when the encoder of its training made their vectors, and so do
laboratory values from before the study. Where more than half of what
the clinical part uses is missing, and there is no image, nothing is assessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.bundle_store import bundle_folder, load_metadata
from inference.case import ClinicalRecord
from inference.clinical.summary import with_imaging
from inference.clinical.variables import title_of
from inference.errors import ModelError
from inference.models.evidence import (
    NOTHING_MORE,
    AngiogramEvidence,
    Evidence,
    EvidenceWanted,
    ImageEvidence,
    ImageKind,
    text_vector,
)
from inference.models.survival.columns import clinical_columns
from inference.models.survival.evidence_terms import PART_TITLES
from inference.models.survival.files import read_model
from inference.models.survival.fitted import REGIMEN, Explanation, FittedSurvival, Inputs
from inference.models.survival.hazards import median_time, restricted_mean
from inference.models.survival.laboratory import laboratory_tokens
from inference.models.survival.tokens import (
    ANGIOGRAPHY,
    LABORATORY,
    DatedTokens,
    Layout,
    angiogram_tokens,
    no_tokens,
)
from inference.results import (
    BundleInfo,
    FloatArray,
    LesionMeasurement,
    NotAssessed,
    Reason,
    Survival,
    SurvivalBasis,
    SurvivalCurve,
)
from inference.settings import Regimen

FORMAT = "protocol_survival"
"""``format`` of the bundle's metadata."""
EVIDENCE = "evidence"
"""Key of the metadata under which the encoders of image and text vectors stand."""
LEAST_KNOWN_SHARE = 0.5
HORIZONS_MONTHS = (12, 24, 36)
HIGH_RISK, LOW_RISK = "high", "low"


@dataclass(frozen=True, slots=True)
class ProtocolSurvivalModel:
    """Overall and progression-free survival under one regimen.

    Attributes
    ----------
    wanted : EvidenceWanted
        Encoders of the vectors that the model was trained with.
    """

    bundle: BundleInfo
    fitted: FittedSurvival
    wanted: EvidenceWanted

    @classmethod
    def from_bundle(cls, folder: str | Path) -> ProtocolSurvivalModel:
        """Load a bundle after verifying its digest.

        Raises
        ------
        ModelError
            The bundle is absent or damaged.
        """
        info, metadata = load_metadata(folder)
        fitted = read_model(bundle_folder(folder))
        return cls(info, fitted, _wanted(metadata, fitted.layout))

    @property
    def info(self) -> BundleInfo:
        """Name, version, digest and what the model was trained on."""
        return self.bundle

    @property
    def wants(self) -> EvidenceWanted:
        """Which vectors of images and texts the model takes."""
        return self.wanted

    def predict(
        self,
        clinical: ClinicalRecord,
        lesions: tuple[LesionMeasurement, ...],
        regimen: Regimen,
        evidence: Evidence = NOTHING_MORE,
    ) -> Survival:
        """Return curves from clinical values, regimen, images and texts.

        Tumour variables that the clinical record lacks are taken from the lesions.

        Raises
        ------
        ModelError
            The image vectors are those of another encoder than the one of the training.
        """
        if regimen.id not in self.fitted.layout.regimens:
            refusal = NotAssessed(
                Reason.REGIMEN_NOT_COVERED,
                f"The survival model was trained without patients treated with {regimen.name}.",
            )
            return Survival(os=refusal, pfs=refusal, ttp=refusal)
        inputs = self.inputs(with_imaging(clinical, lesions), regimen.id, evidence)
        no_ttp = NotAssessed(
            Reason.ENDPOINT_NOT_COVERED, "The survival model forecasts no time to progression."
        )
        return Survival(os=self._curve("os", inputs), pfs=self._curve("pfs", inputs), ttp=no_ttp)

    def inputs(self, clinical: ClinicalRecord, regimen_id: str, evidence: Evidence) -> Inputs:
        """Return one patient as the model's inputs.

        Raises
        ------
        ModelError
            The image vectors are those of another encoder than the one of the training.
        """
        names = [name for name in self.fitted.columns if name != REGIMEN]
        return Inputs(
            table={**clinical_columns([clinical], names), REGIMEN: [regimen_id]},
            text=self._text(evidence),
            images=self._images(evidence.images),
            beside=self._beside(clinical, evidence.angiographies),
        )

    def _beside(
        self, clinical: ClinicalRecord, angiographies: AngiogramEvidence | None
    ) -> dict[str, DatedTokens]:
        found = {}
        for group in self.fitted.layout.beside:
            if group.name == LABORATORY:
                found[LABORATORY] = laboratory_tokens([clinical], group.kinds)
            elif group.name == ANGIOGRAPHY and angiographies is not None:
                if angiographies.encoder == self.wanted.angiogram_encoder:
                    found[ANGIOGRAPHY] = angiogram_tokens([angiographies.vectors], group.width)
        return found

    def _text(self, evidence: Evidence) -> npt.NDArray[np.float32]:
        text = np.full((1, self.fitted.layout.text_width), np.nan, dtype=np.float32)
        vector = text_vector(evidence.texts, self.wanted.text_encoder)
        if vector is not None and text.shape[1] == len(vector):
            text[0] = vector
        return text

    def _images(self, seen: ImageEvidence | None) -> DatedTokens:
        layout = self.fitted.layout
        if seen is None:
            return no_tokens(1, layout.image_width)
        if seen.encoder != self.wanted.image_encoder:
            raise ModelError(
                f"the survival model {self.bundle.name} was not trained with image vectors of the encoder "
                f"{seen.encoder[:12]}"
            )
        number = {kind: i for i, kind in enumerate(layout.image_kinds)}
        # Of a kind that no training patient had, such as virtual images, the model knows nothing.
        kept = [i for i, kind in enumerate(seen.kinds) if kind.value in number]
        return DatedTokens(
            features=seen.vectors[None, kept],
            kind=np.array([[number[seen.kinds[i].value] for i in kept]], dtype=np.intp),
            months=seen.months[None, kept],
            known=np.ones((1, len(kept)), dtype=np.bool_),
        )

    def explain(self, endpoint: str, inputs: Inputs) -> Explanation:
        """Return what a forecast rests on: contributions, attention, gates."""
        return self.fitted.explain(endpoint, inputs)

    def _curve(self, endpoint: str, inputs: Inputs) -> SurvivalCurve | NotAssessed:
        part = self.fitted.endpoints.get(endpoint)
        if part is None:
            return NotAssessed(
                Reason.ENDPOINT_NOT_COVERED,
                f"The survival model was trained without the end point {endpoint.upper()}.",
            )
        share = known_share(part.importance, inputs)
        if share < LEAST_KNOWN_SHARE and not inputs.images.known.any():
            return NotAssessed(
                Reason.CLINICAL_VALUES_MISSING,
                f"Too few clinical values: they carry {100 * share:.0f} % of what the survival model uses, "
                f"and {100 * LEAST_KNOWN_SHARE:.0f} % are needed; what would add most is: "
                f"{', '.join(_most_wanted(part.importance, inputs))}.",
            )
        months = np.arange(part.last_month + 1, dtype=np.float64)
        survival = self.fitted.survival(endpoint, inputs, months)[0]
        lower, upper = (limit[0] for limit in self.fitted.limits(endpoint, inputs, months))
        risk = float(self.fitted.predictor(endpoint, inputs)[0])
        return SurvivalCurve(
            months=tuple(months.tolist()),
            survival=tuple(survival.tolist()),
            lower=tuple(lower.tolist()),
            upper=tuple(upper.tolist()),
            probabilities=_at_horizons(survival, lower, upper),
            median_months=median_time(months, survival),
            rmst36=restricted_mean(months, survival, 36.0),
            risk_score=risk,
            risk_group=HIGH_RISK if risk > part.risk_cut else LOW_RISK,
            basis=_basis(self.explain(endpoint, inputs)),
        )


def _wanted(metadata: Mapping[str, Any], layout: Layout) -> EvidenceWanted:
    """Return the encoders that the metadata name; of no name, or for other kinds of images, there is none."""
    told = metadata.get(EVIDENCE)
    named = told if isinstance(told, Mapping) else {}
    served = {kind.value for kind in ImageKind} & set(layout.image_kinds)
    return EvidenceWanted(
        image_encoder=str(named.get("image_encoder", "")) if served else "",
        text_encoder=str(named.get("text_encoder", "")) if layout.text_width else "",
        angiogram_encoder=str(named.get("angiogram_encoder", ""))
        if any(group.name == ANGIOGRAPHY for group in layout.beside)
        else "",
    )


def _basis(found: Explanation) -> SurvivalBasis:
    """Return what the forecast of one patient rests on."""
    log_hazard, attention, gates = (
        {name: float(values[0]) for name, values in part.items()}
        for part in (_added(found), found.attention, found.gates)
    )
    return SurvivalBasis(log_hazard, attention, gates, found.share)


def _added(found: Explanation) -> Mapping[str, FloatArray]:
    """Return what columns, and then parts by their titles, add to the log hazard."""
    return {**found.contributions, **{PART_TITLES[name]: added for name, added in found.parts.items()}}


def _at_horizons(
    survival: FloatArray, lower: FloatArray, upper: FloatArray
) -> dict[int, tuple[float, float, float]]:
    return {
        h: (float(survival[h]), float(lower[h]), float(upper[h]))
        for h in HORIZONS_MONTHS
        if h < len(survival)
    }


def known_share(importance: Mapping[str, float], inputs: Inputs) -> float:
    """Return the share of what the clinical part uses that the known values carry, 0 to 1."""
    clinical = {name: weight for name, weight in importance.items() if name != REGIMEN}
    total = sum(clinical.values())
    known = sum(weight for name, weight in clinical.items() if _known(inputs, name))
    return known / total if total > 0 else 1.0


def _known(inputs: Inputs, name: str) -> bool:
    value = inputs.table[name][0]
    return value is not None and not (isinstance(value, float | np.floating) and np.isnan(value))


def _most_wanted(importance: Mapping[str, float], inputs: Inputs, count: int = 3) -> list[str]:
    missing = [name for name in importance if name != REGIMEN and not _known(inputs, name)]
    missing.sort(key=lambda name: -importance[name])
    return [title_of(name) for name in missing[:count]]
