"""The fitted survival model on arrays: n patients at once, no files and no clinical records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from inference.models.survival.evidence_terms import EvidenceTerms, tokens_of
from inference.models.survival.hazards import HazardGrid
from inference.models.survival.laboratory import LaboratoryTerms
from inference.models.survival.network import SurvivalNetwork, TokenBatch, as_batch, time_shapes
from inference.models.survival.skip import ScaledSkip, Skip
from inference.models.survival.terms import Column
from inference.models.survival.tokens import (
    LABORATORY,
    DatedTokens,
    Layout,
    Tokens,
    clinical_tokens,
    modalities,
)
from inference.results import FloatArray

REGIMEN = "regimen"
"""Column of the table that names the planned regimen."""
_PREDICTOR_BOUND = 30.0
_CHANGE_BOUND = 8.0
_LIMITS = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What is known of n patients.

    Attributes
    ----------
    table : mapping
        Clinical variable -> numbers with NaN or words with None; also `REGIMEN`.
    text : array, (n, text width)
        NaN where there is no text.
    images : DatedTokens
    beside : mapping
        `inference.models.survival.tokens.LABORATORY` (values in the units of the variables) and
        `ANGIOGRAPHY` -> their tokens; without the key where nobody has any.
    """

    table: Mapping[str, Column]
    text: npt.NDArray[np.float32]
    images: DatedTokens
    beside: Mapping[str, DatedTokens] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images.known)

    def of(self, patients: npt.NDArray[np.intp]) -> Inputs:
        """Return some of the patients."""
        table = {name: _some(column, patients) for name, column in self.table.items()}
        beside = {name: tokens.of(patients) for name, tokens in self.beside.items()}
        return Inputs(table, self.text[patients], self.images.of(patients), beside)


def _some(column: Column, patients: npt.NDArray[np.intp]) -> Column:
    if isinstance(column, np.ndarray):
        return np.asarray(column[patients])
    return [column[i] for i in patients]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Change of log hazards that validation patients asked for.

    Attributes
    ----------
    centre : float
        Mean linear predictor of the training patients.
    intercept, slope : float
        log hazard = log rate + centre + intercept + slope * (predictor - centre).
    """

    centre: float = 0.0
    intercept: float = 0.0
    slope: float = 1.0

    def __call__(self, predictor: FloatArray) -> FloatArray:
        """Return the calibrated predictor."""
        return self.centre + self.intercept + self.slope * (predictor - self.centre)


@dataclass(frozen=True, slots=True)
class Draws:
    """Coefficients and rates of B bootstrap samples of the training patients.

    Attributes
    ----------
    betas : tuple of array, (B, p) each
        Of the scales of the linear part.
    parts : mapping
        Part of `inference.models.survival.evidence_terms.PARTS` -> coefficients of its terms, (B, q).
    log_rates : array, (B, J)
    """

    betas: tuple[FloatArray, ...]
    parts: Mapping[str, FloatArray]
    log_rates: FloatArray


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end point.

    Attributes
    ----------
    parts : mapping
        Part of `inference.models.survival.evidence_terms.PARTS` -> coefficients of its terms, (q,);
        they begin where the clinical part ends, so that without images, texts and the rest the forecast is
        that of the clinical part.
    share : float
        Of the networks, 0 to 1.
    log_rates : array, (J,)
    importance : mapping of str to float
        Column -> variance of what it adds to the linear predictor, among the training patients.
    last_month : int
        Last month at which enough training patients were at risk.
    risk_cut : float
        Median risk of the training patients.
    """

    skip: Skip
    parts: Mapping[str, FloatArray]
    share: float
    log_rates: FloatArray
    calibration: Calibration
    importance: Mapping[str, float]
    last_month: int
    risk_cut: float
    draws: Draws


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a forecast rests on, for n patients.

    Attributes
    ----------
    contributions : mapping
        Column -> what it adds to the log hazard in the linear part, (n,).
    parts : mapping
        Part of `inference.models.survival.evidence_terms.PARTS` -> what it adds beside the columns, (n,);
        without the key where the model was trained without it.
    attention : mapping
        Column -> its share in the network's clinical vector, (n,); empty without networks.
    image_attention : array, (n, K)
    gates : mapping
        Modality -> how far its gate is open, (n,); 0 where it is missing.
    share : float
        Of the networks in the forecast; 0 means that they add nothing.
    """

    contributions: Mapping[str, FloatArray]
    parts: Mapping[str, FloatArray]
    attention: Mapping[str, FloatArray]
    image_attention: FloatArray
    gates: Mapping[str, FloatArray]
    share: float


@dataclass(frozen=True)
class FittedSurvival:
    """The fitted model.

    Attributes
    ----------
    columns : tuple of str
        Variables of the table that are read.
    evidence_terms : EvidenceTerms
        Of all that is known beside the columns.
    """

    layout: Layout
    columns: tuple[str, ...]
    grid: HazardGrid
    evidence_terms: EvidenceTerms
    endpoints: Mapping[str, Endpoint]
    networks: tuple[SurvivalNetwork, ...]

    def predictor(self, endpoint: str, inputs: Inputs) -> FloatArray:
        """Linear predictor with the terms of all parts, (n,), not calibrated."""
        part = self.endpoints[endpoint]
        total = part.skip.predictor(inputs.table, len(inputs))
        for name, terms in self.evidence_terms(inputs).items():
            total = total + terms @ part.parts[name]
        return total

    def log_hazards(self, endpoint: str, inputs: Inputs) -> FloatArray:
        """Calibrated log hazards, (n, J)."""
        part = self.endpoints[endpoint]
        change = self._changes(endpoint, inputs)
        mean = change.mean(axis=0) if len(change) else np.zeros((len(inputs), len(self.grid)))
        return self._log(part.calibration(self.predictor(endpoint, inputs)), mean, part.log_rates)

    def survival(self, endpoint: str, inputs: Inputs, months: npt.ArrayLike) -> FloatArray:
        """Survival at `months` (m,), to (n, m)."""
        rates = np.exp(self.log_hazards(endpoint, inputs))
        return np.asarray(np.exp(-rates @ self.grid.exposure(months).T))

    def limits(self, endpoint: str, inputs: Inputs, months: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Pointwise 95 % limits of survival at `months` (m,), to (n, m) each.

        They cover the uncertainty of coefficients and rates, by the bootstrap, and of the networks, of
        which each draw uses one; not that of the choice of patients or of what is missing.
        """
        part = self.endpoints[endpoint]
        change = self._changes(endpoint, inputs)
        exposure = self.grid.exposure(months)
        none = np.zeros((len(inputs), len(self.grid)))
        curves = [np.exp(-np.exp(self.log_hazards(endpoint, inputs)) @ exposure.T)]
        for draw, linear in enumerate(self._drawn_predictors(part, inputs)):
            own = change[draw % len(change)] if len(change) else none
            log = self._log(part.calibration(linear), own, part.draws.log_rates[draw])
            curves.append(np.exp(-np.exp(log) @ exposure.T))
        drawn = np.stack(curves)
        lower, upper = np.percentile(drawn, _LIMITS, axis=0)
        return np.minimum(lower, drawn[0]), np.maximum(upper, drawn[0])

    def _drawn_predictors(self, part: Endpoint, inputs: Inputs) -> FloatArray:
        n = len(inputs)
        total = np.zeros((n, len(part.draws.log_rates)))
        for name, terms in self.evidence_terms(inputs).items():
            total = total + terms @ part.draws.parts[name].T
        for scale, betas in zip(part.skip.scales, part.draws.betas, strict=True):
            total = total + scale.weight * (scale.terms(inputs.table, n).x @ betas.T)
        return np.asarray(total.T)

    @staticmethod
    def _log(predictor: FloatArray, change: FloatArray, log_rates: FloatArray) -> FloatArray:
        return np.clip(predictor[:, None] + change, -_PREDICTOR_BOUND, _PREDICTOR_BOUND) + log_rates

    def _changes(self, endpoint: str, inputs: Inputs) -> FloatArray:
        """Return what each network adds to log hazards, (networks, n, J); none where their share is 0."""
        part = self.endpoints[endpoint]
        index = list(self.endpoints).index(endpoint)
        if not self.networks or part.share == 0:
            return np.zeros((0, len(inputs), len(self.grid)))
        batch = self.batch(inputs)
        shapes = time_shapes(len(self.grid)).T
        with torch.no_grad():
            effects = [network(batch).effects[:, index].double().numpy() for network in self.networks]
        return part.share * np.clip(np.stack(effects) @ shapes, -_CHANGE_BOUND, _CHANGE_BOUND)

    def batch(self, inputs: Inputs) -> TokenBatch:
        """Return the inputs as tensors."""
        return as_batch(inputs_as_tokens(inputs, self._token_scale, self.layout, self.evidence_terms))

    @property
    def _token_scale(self) -> ScaledSkip:
        return next(iter(self.endpoints.values())).skip.scales[0]

    def explain(self, endpoint: str, inputs: Inputs) -> Explanation:
        """Return what the forecasts of an end point rest on."""
        part = self.endpoints[endpoint]
        added = part.skip.contributions(inputs.table, len(inputs))
        contributions = {name: added[:, i] for i, name in enumerate(part.skip.columns)}
        parts = {
            name: terms @ part.parts[name]
            for name, terms in self.evidence_terms(inputs).items()
            if len(part.parts[name])
        }
        none = np.zeros((len(inputs), inputs.images.known.shape[1]))
        if not self.networks:
            return Explanation(contributions, parts, {}, none, {}, part.share)
        with torch.no_grad():
            batch = self.batch(inputs)
            found = [network(batch) for network in self.networks]
        attention = torch.stack([f.variable_attention for f in found]).mean(dim=0).double().numpy()
        images = torch.stack([f.image_attention for f in found]).mean(dim=0).double().numpy()
        gates = torch.stack([f.gates for f in found]).mean(dim=0).double().numpy()
        return Explanation(
            contributions=contributions,
            parts=parts,
            attention={name: attention[:, i] for i, name in enumerate(self._token_scale.terms.columns)},
            image_attention=images,
            gates={name: gates[:, i] for i, name in enumerate(modalities(self.layout))},
            share=part.share,
        )


def inputs_as_tokens(inputs: Inputs, scale: ScaledSkip, layout: Layout, evidence: EvidenceTerms) -> Tokens:
    """Return the inputs as tokens: clinical terms on one scale, laboratory values as standard scores."""
    matrix = scale.terms(inputs.table, len(inputs))
    named = inputs.table.get(REGIMEN, [None] * len(inputs))
    known = {name: i for i, name in enumerate(layout.regimens)}
    return Tokens(
        clinical=clinical_tokens(matrix, len(scale.terms.columns)),
        text=inputs.text.astype(np.float32),
        images=inputs.images,
        regimen=np.array([known.get(str(name), -1) for name in named], dtype=np.intp),
        beside=_beside(inputs, layout, evidence.laboratory),
    )


def _beside(inputs: Inputs, layout: Layout, laboratory: LaboratoryTerms) -> dict[str, DatedTokens]:
    found = {group.name: tokens_of(inputs, group) for group in layout.beside}
    if LABORATORY in found:
        found[LABORATORY] = laboratory.standardised(found[LABORATORY])
    return found
