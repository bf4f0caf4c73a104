"""Training of DELICAITE: radiomics, self-supervised slices, and covariates that interact with treatment."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from inference.bundle_store import BundleKind, seal
from inference.comparison.overlap import Propensity, fit_propensity, overlap_weights
from inference.errors import TrainingDataError
from inference.models.image_features.slices import SliceFeatures, SliceSettings
from inference.models.protocols import Progress, within
from inference.models.second_opinions.clinical_inputs import DELICAITE_VARIABLES, ClinicalScale
from inference.models.second_opinions.delicaite import (
    SLICES,
    TREATMENTS,
    Delicaite,
    DelicaiteFile,
    Features,
    covariates,
)
from inference.models.second_opinions.interaction import (
    InteractionNetwork,
    InteractionSettings,
    interaction_loss,
)
from inference.models.second_opinions.reduction import Reduction
from inference.randomness import RandomStreams
from inference.results import FloatArray
from inference.settings import Frozen
from inference.training.cohort import Cohort, Split
from inference.training.cohort_rows import clinical_of
from inference.training.features import crop_of
from inference.training.image_features.self_distillation import SliceTraining, train_slices
from inference.training.lasso_cox_fit import Preparation
from inference.training.loop import LoopSettings, fit
from inference.training.network_channels import drawn_images
from inference.training.radiomics_cox import radiomics_table
from inference.training.seed_systems.figures import Scored, auc_figures, fit_link
from inference.training.seed_systems.labels import held_out, progression
from inference.training.seed_systems.outcomes import follow_up

_MEASURING, _SLICES = 0.4, 0.8
_HELD, _FEWEST_HELD = 0.25, 3
_FEWEST = 1


class DelicaiteTraining(Frozen):
    """How DELICAITE is trained."""

    loop: LoopSettings = LoopSettings(
        steps=600, learning_rate=5e-3, weight_decay=0.1, validate_every=20, patience=10
    )
    slices: SliceTraining = SliceTraining()
    hidden: int = Field(8, ge=0)
    dropout: float = Field(0.3, ge=0, lt=1)
    radiomics_components: int = Field(12, gt=0)
    slice_components: int = Field(8, gt=0)
    progression_months: float = Field(6.0, gt=0)
    version: str = "1"


@dataclass(frozen=True, slots=True)
class Measured:
    """Patients with what the network is given; arrays are in their order.

    Attributes
    ----------
    treatment : array, (n,)
        1 for TACE, -1 for HAIC.
    progressed : array, (n,)
        1, 0, or NaN where it is not known.
    """

    ids: tuple[str, ...]
    features: Features
    treatment: FloatArray
    progressed: FloatArray


def treatment_of(cohort: Cohort, ids: Sequence[str]) -> FloatArray:
    """Return 1 for TACE and -1 for HAIC, (n,)."""
    given = cohort.patients.set_index("patient_id").loc[list(ids), "regimen_id"].astype(str)
    return np.array([TREATMENTS[r] for r in given])


def measure(
    cohort: Cohort,
    ids: Sequence[str],
    slices: SliceFeatures,
    scale: ClinicalScale,
    months: float,
    work: Path,
    progress: Progress,
) -> tuple[Measured, tuple[str, ...]]:
    """Measure patients; return them and the names of the radiomics features.

    Radiomics that were measured before are read from `work`.
    """
    table = radiomics_table(cohort, ids, work / "radiomics", within(progress, 0.0, 0.7))
    rows = []
    for count, patient_id in enumerate(ids):
        progress("describing slices", 0.7 + 0.3 * count / max(len(ids), 1))
        rows.append(slices.slice_features(crop_of(drawn_images(cohort, patient_id))))
    clinical = np.stack([scale.apply(clinical_of(cohort.row(p)))[0] for p in ids])
    features = Features(table.values, np.stack(rows), clinical)
    return (
        Measured(tuple(ids), features, treatment_of(cohort, ids), progression(cohort, ids, months)),
        table.names,
    )


def fit_reduction(features: FloatArray, components: int) -> Reduction:
    """Learn principal components from the features of training patients, (n, all), NaN where missing."""
    prepared = Preparation.of(features)
    if not len(prepared.used):
        raise TrainingDataError("no image feature is known for half of the patients and differs between them")
    scaled = prepared.apply(features)
    _left, size, right = np.linalg.svd(scaled, full_matrices=False)
    count = min(components, int((size > 1e-8 * size[0]).sum()))
    rotation = right[:count].T / (size[:count] / np.sqrt(len(features)))
    # The sign of a component is arbitrary: the largest part is positive.
    largest = np.abs(rotation).argmax(axis=0)
    rotation = rotation * np.sign(rotation[largest, np.arange(count)])
    return Reduction(prepared.used, prepared.mean, prepared.sd, rotation)


def train_delicaite(
    cohort: Cohort,
    out: Path,
    work: Path,
    settings: DelicaiteTraining,
    progress: Progress,
    slice_bundle: Path | None = None,
) -> Mapping[str, Any]:
    """Train DELICAITE on the patients who had TACE or HAIC alone, and write its bundle.

    Parameters
    ----------
    work : Path
        Takes radiomics, checkpoints and learning curves; a training that was stopped continues.
    slice_bundle : Path, optional
        Self-supervised slice features; without them they are learned from the cohort first.

    Returns
    -------
    mapping
        The metadata; ``metrics`` holds the AUC of progression in validation patients, under the treatment
        that each had.

    Raises
    ------
    TrainingDataError
        TACE or HAIC lacks training patients with, or without, progression.
    """
    ids, held = (_treated(cohort, split) for split in (Split.TRAIN, Split.VALIDATION))
    _check(cohort, ids, settings.progression_months)
    bundle = slice_bundle or _learned_slices(cohort, work, settings, within(progress, 0.0, _MEASURING))
    slices = SliceFeatures.from_bundle(bundle)
    scale = ClinicalScale.of([clinical_of(cohort.row(p)) for p in ids], DELICAITE_VARIABLES)
    months = settings.progression_months
    everyone, names = measure(
        cohort, (*ids, *held), slices, scale, months, work, within(progress, _MEASURING, _SLICES)
    )
    training, validation = _part(everyone, 0, len(ids)), _part(everyone, len(ids), len(everyone.ids))
    radiomics = fit_reduction(training.features.radiomics, settings.radiomics_components)
    reduced = fit_reduction(training.features.slices, settings.slice_components)
    propensity = fit_propensity(training.features.clinical, (training.treatment > 0).astype(np.intp), 2)
    x = covariates(training.features, radiomics, reduced)
    network = InteractionSettings(inputs=x.shape[1], hidden=settings.hidden, dropout=settings.dropout)
    task = _Fit(x, training, propensity, network, settings.loop)
    fitted, aside = task.run(work, within(progress, _SLICES, 1.0))
    file = DelicaiteFile(
        modality=cohort.info.modality,
        clinical=scale,
        radiomics=names,
        network=network,
        progression_months=months,
        progression_free=None,
    )
    model = Delicaite(file, fitted, radiomics, reduced, propensity)
    figures = _figures(model, validation)
    rest = np.setdiff1d(np.arange(len(training.ids)), aside)
    link = fit_link(
        [_scored(cohort, model, part) for part in (_rows(training, aside), validation)],
        _scored(cohort, model, _rows(training, rest)),
    )
    whole = Delicaite(
        file.model_copy(update={"progression_free": link}), fitted, radiomics, reduced, propensity
    )
    whole.write(out)
    if (out / SLICES).exists():
        shutil.rmtree(out / SLICES)
    shutil.copytree(bundle, out / SLICES)
    metadata = _metadata(cohort, settings, training, figures)
    seal(out, metadata)
    return metadata


def _treated(cohort: Cohort, split: Split) -> tuple[str, ...]:
    """Return the patients of a split who had one of the two treatments and are known to have tumour."""
    table = cohort.patients
    rows = table["regimen_id"].astype(str).isin(list(TREATMENTS)) & (table["split"] == str(split))
    return tuple(str(p) for p in table.loc[rows, "patient_id"])


def _check(cohort: Cohort, ids: Sequence[str], months: float) -> None:
    value, treatment = progression(cohort, ids, months), treatment_of(cohort, ids)
    for name, code in TREATMENTS.items():
        counts = [int(((treatment == code) & (value == v)).sum()) for v in (0.0, 1.0)]
        if min(counts) < _FEWEST:
            raise TrainingDataError(
                f"of the training patients with {name.upper()}, {counts[1]} had progression within "
                f"{months:g} months and {counts[0]} had none: both are needed"
            )


def _learned_slices(cohort: Cohort, work: Path, settings: DelicaiteTraining, progress: Progress) -> Path:
    out = work / "slice_features"
    network = settings.slices.network or SliceSettings(modality=cohort.info.modality)
    chosen = settings.slices.model_copy(update={"network": network})
    train_slices(cohort, out, work / "slice_training", chosen, progress)
    return out


def _part(everyone: Measured, first: int, last: int) -> Measured:
    return _rows(everyone, np.arange(first, last))


def _rows(measured: Measured, rows: np.ndarray) -> Measured:
    f = measured.features
    return Measured(
        tuple(measured.ids[int(i)] for i in rows),
        Features(f.radiomics[rows], f.slices[rows], f.clinical[rows]),
        measured.treatment[rows],
        measured.progressed[rows],
    )


@dataclass(frozen=True, slots=True)
class _Fit:
    """The fit of the network to the training patients whose outcome is known."""

    x: FloatArray
    training: Measured
    propensity: Propensity
    network: InteractionSettings
    loop: LoopSettings

    def run(self, work: Path, progress: Progress) -> tuple[InteractionNetwork, np.ndarray]:
        """Return the network, and the rows of the training patients who only decided when to stop."""
        rng = RandomStreams(self.loop.seed).derive("delicaite")
        value = self.training.progressed
        known = np.flatnonzero(np.isfinite(value))
        aside = known[held_out(value[known], _HELD, _FEWEST_HELD, rng)]
        fitted = np.setdiff1d(known, aside)
        tensors = [torch.from_numpy(a).float() for a in (self.x, self.training.treatment, self._weights())]
        x, treatment, weight = tensors
        outcome = torch.from_numpy(np.nan_to_num(value)).float()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**62)))
            network = InteractionNetwork(self.network)

        def loss_of(model: nn.Module, rows: np.ndarray) -> Tensor:
            assert isinstance(model, InteractionNetwork)  # the loop was given one
            device, r = model.own.weight.device, torch.from_numpy(rows)
            parts = [t[r].to(device) for t in (x, treatment, outcome, weight)]
            return interaction_loss(model, *parts)

        found = fit(
            network,
            lambda model, _rng: loss_of(model, fitted),
            self.loop,
            work / "network",
            progress,
            (lambda model: float(loss_of(model, aside))) if len(aside) else None,
        )
        assert isinstance(found.model, InteractionNetwork)  # the loop was given one
        return found.model.requires_grad_(False), aside

    def _weights(self) -> FloatArray:
        """Return what makes patients with TACE and with HAIC alike."""
        chance = self.propensity.of(self.training.features.clinical)
        return overlap_weights(chance, (self.training.treatment > 0).astype(np.intp))


def _scored(cohort: Cohort, model: Delicaite, patients: Measured) -> Scored:
    """Return the log odds of progression under the treatment given, and progression-free survival."""
    if not patients.ids:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    score = model.split(patients.features).log_odds(patients.treatment)
    return (score, *follow_up(cohort, patients.ids, "pfs"))


def _figures(model: Delicaite, validation: Measured) -> dict[str, float]:
    """Return figures of validation patients, who chose nothing."""
    if not validation.ids:
        return {}
    found = model.split(validation.features)
    figures = auc_figures(validation.progressed, found.log_odds(validation.treatment))
    figures["alter_share"] = round(float((validation.treatment * found.interaction > 0).mean()), 4)
    return figures


def _metadata(
    cohort: Cohort, settings: DelicaiteTraining, training: Measured, figures: Mapping[str, Any]
) -> dict[str, Any]:
    known = np.isfinite(training.progressed)
    return {
        "name": f"delicaite_{cohort.info.modality.lower()}",
        "version": settings.version,
        "kind": str(BundleKind.SECOND_OPINION),
        "format": "delicaite",
        "schema": 1,
        "trained_on": f"{cohort.info.origin}: {cohort.info.name}, n={int(known.sum())}, "
        f"progressions={int(np.nansum(training.progressed))}",
        "weights_from": "nothing: the publication's slice features were learned from photographs, ours from "
        "slices of the cohort",
        "cohort_sha256": cohort.info.sha256,
        "regimens": list(TREATMENTS),
        "outcome": f"progressive disease by mRECIST within {settings.progression_months:g} months, coded 1",
        "cut_off": "the log odds ratio 0: the publication does not give its own",
        "treated": {name: int((training.treatment[known] == c).sum()) for name, c in TREATMENTS.items()},
        "training": settings.model_dump(mode="json"),
        "metrics": {"validation": dict(figures)},
    }
