"""Fits the protocol's survival model to arrays."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from inference.evaluation.splits import stratified_folds
from inference.models.protocols import Progress, within
from inference.models.survival.evidence_terms import (
    PARTS,
    EvidenceTerms,
    angiography_layout,
    tokens_of,
)
from inference.models.survival.fitted import (
    REGIMEN,
    Calibration,
    Draws,
    Endpoint,
    FittedSurvival,
    inputs_as_tokens,
)
from inference.models.survival.hazards import HazardGrid, grid_of_events
from inference.models.survival.laboratory import laboratory_terms
from inference.models.survival.network import SurvivalNetwork, as_batch
from inference.models.survival.tokens import (
    ANGIOGRAPHY,
    LABORATORY,
    DatedLayout,
    Layout,
    Tokens,
    column_counts,
    no_tokens,
    one_each,
)
from inference.models.survival.vector_terms import vector_terms
from inference.randomness import RandomStreams
from inference.results import FloatArray
from inference.training.cohort import Split
from inference.training.survival.calibration import calibrate
from inference.training.survival.networks import (
    Choice,
    FoldTargets,
    NetworkSettings,
    Target,
    changes,
    choose,
    network_effects,
    profiled_log_rates,
    train_networks,
)
from inference.training.survival.parts import EndpointFit, EvidenceParts, fit_endpoint
from inference.training.survival.rows import SurvivalRows

_log = logging.getLogger(__name__)

HORIZONS_MONTHS = (12.0, 24.0, 36.0)
LEAST_AT_RISK = 10


@dataclass(frozen=True, slots=True)
class SurvivalSettings:
    """How the model is fitted.

    Attributes
    ----------
    draws : int
        Bootstrap samples for the limits.
    """

    intervals: int = 40
    inner_folds: int = 5
    network_folds: int = 3
    draws: int = 60
    networks: NetworkSettings = NetworkSettings(steps=400, note_every=40, networks=5)


@dataclass(frozen=True, slots=True)
class FitResult:
    """The model, and what was chosen on the way.

    Attributes
    ----------
    penalties : mapping
        End point -> part of `PARTS` -> penalty; infinite where the part is left out.
    calibrated : bool
        Whether there were validation patients to calibrate on.
    """

    model: FittedSurvival
    choice: Choice
    penalties: Mapping[str, Mapping[str, float]]
    calibrated: bool


def fit_survival(
    rows: SurvivalRows, settings: SurvivalSettings, streams: RandomStreams, progress: Progress
) -> FitResult:
    """Fit the model to the training patients and calibrate it on the validation patients.

    Raises
    ------
    TrainingDataError
        No training patient has an event.
    """
    train = rows.part(Split.TRAIN)
    assert train is not None, "SurvivalRows has checked that there are events"
    fits, folds = _linear(train, settings, streams, within(progress, 0.0, 0.3))
    layout, tokens = _tokens(train, fits)
    tried = [_fold(fits, held_out, len(train.inputs)) for held_out in folds[: settings.network_folds]]
    progress("networks on inner folds", 0.3)
    choice = choose(layout, tokens, tried, settings.networks, streams)
    progress("final networks", 0.6)
    targets = [Target(f.outcomes, f.known, f.parts.predictor) for f in fits.values()]
    networks = train_networks(layout, tokens, targets, choice, settings.networks, streams)
    progress("limits", 0.85)
    endpoints = {
        name: _endpoint(name, fit, index, _Networks(networks, choice, tokens), settings, streams)
        for index, (name, fit) in enumerate(fits.items())
    }
    first = next(iter(fits.values()))
    model = FittedSurvival(
        layout=layout,
        columns=tuple(train.inputs.table),
        grid=first.outcomes.grid,
        evidence_terms=first.evidence.terms,
        endpoints=endpoints,
        networks=networks,
    )
    validation = rows.part(Split.VALIDATION)
    if validation is not None:
        model = calibrate(model, validation)
    progress("done", 1.0)
    penalties = {name: fit.penalties for name, fit in fits.items()}
    _log.info("survival model: network shares %s after %d steps", choice.shares, choice.steps)
    return FitResult(model, choice, penalties, validation is not None)


def _linear(
    train: SurvivalRows, settings: SurvivalSettings, streams: RandomStreams, progress: Progress
) -> tuple[dict[str, EndpointFit], tuple[np.ndarray, ...]]:
    first = next(iter(train.outcomes.values()))
    months = np.where(first.known, first.months, 0.0)
    folds = stratified_folds(
        months, first.event & first.known, settings.inner_folds, streams.derive("inner folds")
    )
    evidence = _evidence_parts(train)
    grid = _grid(train, settings.intervals)
    fits = {}
    for number, (name, followed) in enumerate(train.outcomes.items()):
        progress(f"linear part of {name}", number / len(train.outcomes))
        fits[name] = fit_endpoint(train.inputs, evidence, followed, grid, folds)
    return fits, folds


def _grid(train: SurvivalRows, intervals: int) -> HazardGrid:
    known = [(f.months[f.known], f.event[f.known]) for f in train.outcomes.values()]
    months = np.concatenate([m for m, _ in known])
    return grid_of_events(months, np.concatenate([e for _, e in known]), intervals, HORIZONS_MONTHS)


def _evidence_parts(train: SurvivalRows) -> EvidenceParts:
    inputs = train.inputs
    values = tokens_of(inputs, DatedLayout(LABORATORY, train.laboratory, 1))
    terms = EvidenceTerms(
        laboratory=laboratory_terms(values, train.laboratory),
        text=vector_terms(one_each(inputs.text), baseline=True),
        angiography=vector_terms(inputs.beside.get(ANGIOGRAPHY, no_tokens(len(inputs), 0)), baseline=True),
        baseline=vector_terms(inputs.images, baseline=True),
        follow_up=vector_terms(inputs.images, baseline=False),
    )
    return EvidenceParts(terms, terms(inputs))


def _beside(terms: EvidenceTerms) -> tuple[DatedLayout, ...]:
    """Return the modalities beside images that training patients have."""
    groups = (terms.laboratory.layout, angiography_layout(terms.angiography))
    return tuple(group for group in groups if group.kinds and group.width)


def _tokens(train: SurvivalRows, fits: Mapping[str, EndpointFit]) -> tuple[Layout, Tokens]:
    evidence = next(iter(fits.values())).evidence.terms
    scale = next(iter(fits.values())).parts.skip.scales[0]
    matrix = scale.terms(train.inputs.table, len(train.inputs))
    names = {str(r) for r in train.inputs.table.get(REGIMEN, ()) if r is not None}
    layout = Layout(
        columns=column_counts(matrix, len(scale.terms.columns)),
        text_width=train.inputs.text.shape[1],
        image_kinds=train.image_kinds,
        image_width=train.inputs.images.features.shape[2],
        regimens=tuple(sorted(names)),
        beside=_beside(evidence),
    )
    return layout, inputs_as_tokens(train.inputs, scale, layout, evidence)


def _fold(fits: Mapping[str, EndpointFit], held_out: np.ndarray, patients: int) -> FoldTargets:
    weights = np.ones(patients)
    weights[held_out] = 0.0
    targets = [Target(f.outcomes, f.known, f.again(weights).predictor) for f in fits.values()]
    return FoldTargets(np.flatnonzero(weights), held_out, targets)


@dataclass(frozen=True, slots=True)
class _Networks:
    networks: tuple[SurvivalNetwork, ...]
    choice: Choice
    tokens: Tokens

    def changes(self, index: int, intervals: int) -> FloatArray:
        """Return the change of log hazards by each network, (networks or 1, n, J)."""
        share = self.choice.shares[index]
        if not self.networks or share == 0:
            return np.zeros((1, len(self.tokens), intervals))
        batch = as_batch(self.tokens)
        return np.stack(
            [share * changes(network_effects(n, batch)[:, index], intervals) for n in self.networks]
        )


def _endpoint(
    name: str,
    fit: EndpointFit,
    index: int,
    networks: _Networks,
    settings: SurvivalSettings,
    streams: RandomStreams,
) -> Endpoint:
    change = networks.changes(index, len(fit.outcomes.grid))
    parts = fit.parts
    mean = change.mean(axis=0)
    log_rates = profiled_log_rates(Target(fit.outcomes, fit.known, parts.predictor), mean)
    added = parts.skip.contributions(fit.inputs.table, len(fit.inputs))
    months = np.sort(fit.outcomes.time[fit.known])
    return Endpoint(
        skip=parts.skip,
        parts=parts.evidence,
        share=networks.choice.shares[index],
        log_rates=log_rates,
        calibration=Calibration(centre=float(parts.predictor[fit.known].mean())),
        importance=dict(zip(parts.skip.columns, added.var(axis=0).tolist(), strict=True)),
        last_month=int(months[-min(LEAST_AT_RISK, len(months))]),
        risk_cut=float(np.median(parts.predictor[fit.known])),
        draws=_draws(fit, change, settings.draws, streams.derive("draws", name)),
    )


def _draws(fit: EndpointFit, change: FloatArray, count: int, rng: np.random.Generator) -> Draws:
    n = len(fit.known)
    betas: list[list[FloatArray]] = [[] for _ in fit.parts.skip.scales]
    evidence: dict[str, list[FloatArray]] = {name: [] for name in PARTS}
    rates = []
    for draw in range(count):
        weights = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)
        if not (weights * fit.known * fit.outcomes.event).any():
            weights = np.ones(n)
        parts = fit.again(weights)
        for kept, scale in zip(betas, parts.skip.scales, strict=True):
            kept.append(scale.beta)
        for name, beta in parts.evidence.items():
            evidence[name].append(beta)
        again = np.repeat(np.arange(n), weights.astype(np.intp))
        target = Target(fit.outcomes, fit.known, parts.predictor).of(again)
        rates.append(profiled_log_rates(target, change[draw % len(change)][again]))
    return Draws(
        betas=tuple(np.stack(kept) for kept in betas),
        parts={name: np.stack(drawn) for name, drawn in evidence.items()},
        log_rates=np.stack(rates),
    )
