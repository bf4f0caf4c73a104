"""Training of SELECTION and of the networks that it is held against, one network for each cohort.

Nothing is tuned on test patients. A quarter of the training patients of a cohort decides when to stop,
validation patients are only measured, and both together give survival its scale.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inference.bundle_store import BundleKind, seal
from inference.errors import TrainingDataError
from inference.models.protocols import Progress, within
from inference.models.second_opinions.atom import PUBLISHED_MEDIANS, RECONSTRUCTED, Therapy
from inference.models.second_opinions.clinical_inputs import SELECTION_VARIABLES, ClinicalScale
from inference.models.second_opinions.cohort_models import (
    CohortModels,
    CohortModelsFile,
    Target,
)
from inference.models.second_opinions.cohort_networks import (
    Architecture,
)
from inference.training.cohort import Cohort, Split
from inference.training.cohort_rows import clinical_of
from inference.training.seed_systems.atom_agreement import agreement_table
from inference.training.seed_systems.cohort_data import CohortSlices, cohort_slices
from inference.training.seed_systems.cohort_fit import CohortFit, CohortTraining, FittedPart

_log = logging.getLogger(__name__)

_CUTTING = 0.4
COMPARED_WITH = (Architecture.CLINICAL_LOGISTIC, Architecture.RESNET_LOGISTIC, Architecture.VIT)
"""What SELECTION is held against in table 2 of the publication."""
COMPARATORS = "comparators"
"""Folder of their bundles in that of SELECTION."""


def training_of(architecture: Architecture, steps: int = 400, seed: int = 0) -> CohortTraining:
    """Return the default training of an architecture."""
    settings = CohortTraining()
    return settings.model_copy(
        update={
            "network": settings.network.model_copy(update={"architecture": architecture}),
            "loop": settings.loop.model_copy(update={"steps": steps, "seed": seed}),
        }
    )


def train_cohort_models(
    cohort: Cohort, out: Path, work: Path, settings: CohortTraining, progress: Progress
) -> Mapping[str, Any]:
    """Train one network for each cohort that has patients of both outcomes, and write their bundle.

    Parameters
    ----------
    work : Path
        Takes slices, checkpoints and learning curves; a training that was stopped continues.

    Returns
    -------
    mapping
        The metadata. ``metrics`` holds for each cohort the AUC of its target in validation patients;
        ``left_out`` why a cohort has no network.

    Raises
    ------
    TrainingDataError
        No cohort has training patients of both outcomes.
    """
    slices = _slices(cohort, work, settings, within(progress, 0.0, _CUTTING))
    return _train(cohort, slices, out, work, settings, within(progress, _CUTTING, 1.0))


def train_selection(
    cohort: Cohort, out: Path, work: Path, settings: CohortTraining, progress: Progress
) -> Mapping[str, Any]:
    """Train SELECTION, and in ``comparators`` of its bundle what it is held against, on the same patients.

    The comparators are whole bundles. Parameters, result and errors as `train_cohort_models`.
    """
    slices = _slices(cohort, work, settings, within(progress, 0.0, _CUTTING))
    share = (1.0 - _CUTTING) / (len(COMPARED_WITH) + 1)
    for place, architecture in enumerate(COMPARED_WITH):
        first = _CUTTING + place * share
        other = settings.model_copy(
            update={"network": settings.network.model_copy(update={"architecture": architecture})}
        )
        folder = out / COMPARATORS / architecture
        _train(cohort, slices, folder, work / architecture, other, within(progress, first, first + share))
    return _train(cohort, slices, out, work, settings, within(progress, 1.0 - share, 1.0))


def _slices(cohort: Cohort, work: Path, settings: CohortTraining, progress: Progress) -> CohortSlices:
    regimens = {r for treated in settings.cohorts for r in treated.regimens}
    used = cohort.patients["regimen_id"].astype(str).isin(regimens)
    used &= cohort.patients["split"].isin([str(Split.TRAIN), str(Split.VALIDATION)])
    ids = tuple(str(p) for p in cohort.patients.loc[used, "patient_id"])
    return cohort_slices(cohort, ids, settings.network.side, work / "slices.npz", progress)


def _train(
    cohort: Cohort,
    slices: CohortSlices,
    out: Path,
    work: Path,
    settings: CohortTraining,
    progress: Progress,
) -> Mapping[str, Any]:
    trained = [p for p in cohort.ids(Split.TRAIN) if p in slices.slices]
    scale = ClinicalScale.of([clinical_of(cohort.row(p)) for p in trained], SELECTION_VARIABLES)
    parts: list[FittedPart] = []
    left_out: dict[str, str] = {}
    share = 1.0 / len(settings.cohorts)
    for place, treated in enumerate(settings.cohorts):
        task = CohortFit(cohort, slices, scale, treated, settings)
        try:
            parts.append(
                task.run(work / treated.therapy, within(progress, place * share, (place + 1) * share))
            )
        except TrainingDataError as error:
            left_out[treated.therapy] = str(error)
            _log.warning("no network of the cohort %s: %s", treated.therapy, error)
    if not parts:
        raise TrainingDataError(
            "no cohort of treatment has training patients with and without its outcome: "
            + "; ".join(f"{k}: {v}" for k, v in left_out.items())
        )
    CohortModels(
        CohortModelsFile(
            modality=cohort.info.modality,
            network=settings.network,
            clinical=scale,
            landmark_months=settings.landmark_months,
            models=tuple(p.model for p in parts),
        ),
        {p.model.therapy: p.network for p in parts},
    ).write(out)
    metadata = _metadata(cohort, settings, parts, left_out)
    if settings.network.architecture is Architecture.SELECTION and len(parts) == len(Therapy):
        fits = [CohortFit(cohort, slices, scale, treated, settings) for treated in settings.cohorts]
        metadata["metrics"]["atom"] = _agreement(fits, parts)
    seal(out, metadata)
    return metadata


def _agreement(fits: Sequence[CohortFit], parts: Sequence[FittedPart]) -> dict[str, Any]:
    """Return how often validation patients reached the target where ATOM agreed, and where it did not."""
    found = [(f.treated.therapy, f.patients(Split.VALIDATION)) for f in fits]
    return dict(
        agreement_table(
            {p.model.therapy: p.network for p in parts},
            {p.model.therapy: p.model.median_score for p in parts},
            [(therapy, p.inputs, p.labels.value) for therapy, p in found if p is not None],
        )
    )


def _metadata(
    cohort: Cohort, settings: CohortTraining, parts: list[FittedPart], left_out: Mapping[str, str]
) -> dict[str, Any]:
    architecture = settings.network.architecture
    models = [p.model for p in parts]
    return {
        "name": f"{architecture}_{cohort.info.modality.lower()}",
        "version": settings.version,
        "kind": str(BundleKind.SECOND_OPINION),
        "format": str(architecture),
        "schema": 1,
        "trained_on": f"{cohort.info.origin}: {cohort.info.name}, n={sum(m.patients for m in models)}",
        "weights_from": "nothing: no network that was trained elsewhere was used",
        "cohort_sha256": cohort.info.sha256,
        "regimens": [r for m in models for r in m.regimens],
        "response_regimens": [r for m in models if m.target is Target.RESPONSE for r in m.regimens],
        "landmark": f"patients who were alive and followed at {settings.landmark_months:g} months; each "
        "belongs to one cohort, by what was given until then",
        "cohorts": {
            m.therapy: {
                "patients": m.patients,
                "reached": m.reached,
                "median_score": round(m.median_score, 4),
            }
            for m in models
        },
        "left_out": dict(left_out),
        "published_medians": {str(k): v for k, v in PUBLISHED_MEDIANS.items()},
        "atom": RECONSTRUCTED,
        "training": settings.model_dump(mode="json"),
        "metrics": {"validation": {p.model.therapy: dict(p.figures) for p in parts}},
    }
