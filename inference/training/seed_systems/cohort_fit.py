"""The fit of one network of `inference.training.seed_systems.cohort_models` to the patients of its cohort."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from scipy.special import expit
from torch import Tensor, nn

from inference.errors import TrainingDataError
from inference.evaluation.regression import cross_fitted, log_loss, logistic
from inference.models.protocols import Progress
from inference.models.second_opinions.atom import Therapy
from inference.models.second_opinions.clinical_inputs import ClinicalScale
from inference.models.second_opinions.cohort_models import CohortModel, Target
from inference.models.second_opinions.cohort_networks import (
    ClinicalLogistic,
    CohortNetwork,
    Inputs,
    NetworkSettings,
    ResnetLogistic,
    network_of,
)
from inference.randomness import RandomStreams
from inference.results import FloatArray
from inference.settings import Frozen
from inference.training.cohort import Cohort, Split
from inference.training.image_features.self_distillation import view_of
from inference.training.loop import LoopSettings, fit
from inference.training.seed_systems.cohort_data import CohortSlices
from inference.training.seed_systems.figures import auc_figures, fit_link
from inference.training.seed_systems.labels import Labels, after_landmark, held_out, survival_of
from inference.training.seed_systems.outcomes import follow_up, objective_response

_HELD, _FEWEST_HELD = 0.25, 3
_FEWEST = 1
_VIEW = (0.85, 1.0)


class TreatedCohort(Frozen):
    """Patients of one network: what they were given until the landmark, and what is learned of them."""

    therapy: Therapy
    title: str
    regimens: tuple[str, ...] = Field(min_length=1)
    target: Target


COHORTS: tuple[TreatedCohort, ...] = (
    TreatedCohort(therapy=Therapy.TACE, title="TACE", regimens=("tace",), target=Target.RESPONSE),
    TreatedCohort(therapy=Therapy.HAIC, title="HAIC", regimens=("haic",), target=Target.RESPONSE),
    TreatedCohort(
        therapy=Therapy.TACE_SYSTEMIC,
        title="TACE with systemic therapy",
        regimens=(
            "tace_systemic",
            "tace_lenvatinib",
            "tace_lenvatinib_pembrolizumab",
            "tace_durvalumab_bevacizumab",
            "tace_bevacizumab_atezolizumab",
        ),
        target=Target.ONE_YEAR,
    ),
    TreatedCohort(
        therapy=Therapy.HAIC_SYSTEMIC,
        title="HAIC with systemic therapy",
        regimens=("haic_systemic",),
        target=Target.ONE_YEAR,
    ),
)
"""The four cohorts of the publication; systemic therapy is a kinase inhibitor, an antibody, or both."""


class CohortTraining(Frozen):
    """How the networks of a bundle are trained."""

    network: NetworkSettings = NetworkSettings()
    loop: LoopSettings = LoopSettings(
        steps=400, learning_rate=1e-3, weight_decay=0.05, validate_every=20, patience=8
    )
    batch: int = Field(24, gt=1)
    landmark_months: float = Field(3.0, ge=0, description="only patients alive and followed then are counted")
    cohorts: tuple[TreatedCohort, ...] = COHORTS
    version: str = "1"


@dataclass(frozen=True, slots=True)
class _Patients:
    """Patients of one cohort with a slice and a known outcome; arrays are in their order."""

    ids: tuple[str, ...]
    inputs: Inputs
    labels: Labels
    months: FloatArray
    event: FloatArray


@dataclass(frozen=True, slots=True)
class FittedPart:
    """What was made of one cohort."""

    model: CohortModel
    network: CohortNetwork
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class CohortFit:
    """The training of one network."""

    cohort: Cohort
    slices: CohortSlices
    scale: ClinicalScale
    treated: TreatedCohort
    settings: CohortTraining

    def patients(self, split: Split) -> _Patients | None:
        """Return the patients of a split who lived to the landmark and whose outcome is known."""
        table = self.cohort.patients
        rows = table["regimen_id"].astype(str).isin(self.treated.regimens) & (table["split"] == str(split))
        ids = [p for p in table.loc[rows, "patient_id"].astype(str) if p in self.slices.slices]
        months, event = follow_up(self.cohort, ids, "os")
        labels = self._labels(ids, months, event)
        kept = np.flatnonzero(labels.known & after_landmark(months, self.settings.landmark_months))
        if not len(kept):
            return None
        chosen = tuple(ids[i] for i in kept)
        return _Patients(
            chosen,
            self.slices.inputs(self.cohort, chosen, self.scale),
            Labels(labels.value[kept], labels.weight[kept]),
            months[kept],
            event[kept],
        )

    def _labels(self, ids: list[str], months: FloatArray, event: FloatArray) -> Labels:
        if self.treated.target is Target.ONE_YEAR:
            return survival_of(months, event)
        return Labels(objective_response(self.cohort, ids), np.ones(len(ids)))

    def run(self, work: Path, progress: Progress) -> FittedPart:
        """Fit the network of one cohort."""
        patients = self.patients(Split.TRAIN)
        counts = [0, 0] if patients is None else [int((patients.labels.value == v).sum()) for v in (0, 1)]
        if patients is None or min(counts) < _FEWEST:
            raise TrainingDataError(
                f"{counts[1]} training patients reached {self.treated.target} and {counts[0]} did not"
            )
        streams = RandomStreams(self.settings.loop.seed)
        rng = streams.derive("cohort model", self.treated.therapy)
        held = held_out(patients.labels.value, _HELD, _FEWEST_HELD, rng)
        network = self._fitted(patients, held, work, rng, progress)
        score = log_odds(network, patients.inputs)
        known = self.patients(Split.VALIDATION)
        aside = [(score[held], patients.months[held], patients.event[held])]
        figures: dict[str, float] = {}
        if known is not None:
            told = log_odds(network, known.inputs)
            figures = auc_figures(known.labels.value, told)
            aside.append((told, known.months, known.event))
        link = fit_link(aside, (score[~held], patients.months[~held], patients.event[~held]))
        model = CohortModel(
            therapy=self.treated.therapy,
            title=self.treated.title,
            regimens=self.treated.regimens,
            target=self.treated.target,
            median_score=float(np.median(expit(score))),
            patients=len(patients.ids),
            reached=counts[1],
            overall_survival=link,
        )
        return FittedPart(model, network, figures)

    def _fitted(
        self, patients: _Patients, held: np.ndarray, work: Path, rng: np.random.Generator, progress: Progress
    ) -> CohortNetwork:
        fitted_rows, held_rows = (torch.from_numpy(np.flatnonzero(m)) for m in (~held, held))
        value = torch.from_numpy(patients.labels.value).float()
        weight = torch.from_numpy(patients.labels.weight).float()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**62)))
            network = network_of(self.settings.network)

        def loss_of(model: nn.Module, rows: Tensor, inputs: Inputs) -> Tensor:
            device = next(model.parameters()).device
            logit = _trained_log_odds(model, inputs.to(device))
            each = nn.functional.binary_cross_entropy_with_logits(
                logit, value[rows].to(device), reduction="none"
            )
            counted = weight[rows].to(device)
            return torch.sum(counted * each) / torch.sum(counted)

        def batch_loss(model: nn.Module, rng: np.random.Generator) -> Tensor:
            rows = fitted_rows[rng.permutation(len(fitted_rows))[: self.settings.batch]]
            return loss_of(model, rows, _turned(patients.inputs.of(rows), rng))

        def validate(model: nn.Module) -> float:
            return float(loss_of(model, held_rows, patients.inputs.of(held_rows)))

        best = network.eval()
        if not isinstance(network, ClinicalLogistic):  # which has no steps
            stop = validate if held.any() else None
            best = _network(fit(network, batch_loss, self.settings.loop, work, progress, stop).model)
        if isinstance(best, ResnetLogistic):
            _standardise(best, patients.inputs)
        if isinstance(best, ResnetLogistic | ClinicalLogistic):
            _fit_regression(best, patients.inputs, patients.labels.value, rng)
        return best.requires_grad_(False)


def log_odds(network: CohortNetwork, inputs: Inputs) -> FloatArray:
    """Return the log odds of patients, (n,), a few at a time."""
    with torch.no_grad():
        parts = [network(inputs.of(rows)) for rows in _groups(inputs)]
    return np.asarray(torch.cat(parts).double().numpy())


def _groups(inputs: Inputs) -> tuple[Tensor, ...]:
    return torch.split(torch.arange(len(inputs)), 32)


def _network(model: nn.Module) -> CohortNetwork:
    assert isinstance(model, CohortNetwork)  # the loop was given one
    return model


def _trained_log_odds(model: nn.Module, inputs: Inputs) -> Tensor:
    """Return the log odds that the loop fits: of a residual network those of the images alone."""
    network = _network(model)
    if isinstance(network, ResnetLogistic):
        alone: Tensor = network.images_alone(network.features(inputs))[:, 0]
        return alone
    whole: Tensor = network(inputs)
    return whole


def _turned(inputs: Inputs, rng: np.random.Generator) -> Inputs:
    """Return slices turned, mirrored and a little larger; a phase that was not acquired stays 0."""
    seen = view_of(inputs.images, _VIEW, rng) * inputs.acquired[:, :, None, None]
    return Inputs(seen, inputs.acquired, inputs.clinical, inputs.known)


def _standardise(network: ResnetLogistic, inputs: Inputs) -> None:
    """Bring the image features of training patients to mean 0 and variance 1."""
    with torch.no_grad():
        features = torch.cat([network.features(inputs.of(rows)) for rows in _groups(inputs)])
        network.mean.copy_(features.mean(dim=0))
        network.sd.copy_(features.std(dim=0).clamp_min(1e-6))


def _fit_regression(
    network: ResnetLogistic | ClinicalLogistic, inputs: Inputs, value: FloatArray, rng: np.random.Generator
) -> None:
    """Fit a logistic regression of the network's covariates; its penalty by inner folds."""
    with torch.no_grad():
        matrix = torch.cat([network.covariates(inputs.of(rows)) for rows in _groups(inputs)])
        group = np.arange(len(value))
        found = cross_fitted(logistic, log_loss, matrix.double().numpy(), value, group, rng).model
        network.regression.weight.copy_(torch.from_numpy(found.slope).float()[None])
        network.regression.bias.fill_(found.intercept)
