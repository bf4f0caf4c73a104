"""Image vectors of baselines and of cross-fitted virtual follow-ups, for the survival model.

Each patient's follow-ups are drawn by a generator that never saw the patient. Where one generator saw the
training patients of the cohort, several are given, each trained without a part of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.bundle_store import BundleKind
from inference.errors import TrainingDataError
from inference.models.catalogue import load_model
from inference.models.evidence import ImageKind
from inference.models.image_features.sequences import PatientVectors
from inference.models.image_features.vectors import DIMENSION, ImageVectors
from inference.models.protocols import Progress, within
from inference.models.survival.tokens import DatedTokens
from inference.results import BundleInfo
from inference.settings import Regimen
from inference.training.cohort import Cohort, Split
from inference.training.never_seen import never_seen
from inference.training.survival.sources import ImageFile
from inference.training.virtual_images import BaselineAndVirtual, VirtualFollowUps, seen_of

MONTHS = (1.0, 3.0, 6.0)
"""Months of the virtual images, those of a study that arrives."""
KINDS = (ImageKind.BASELINE.value, ImageKind.VIRTUAL.value)


@dataclass(frozen=True, slots=True)
class VirtualOrder:
    """What is drawn, and by whom.

    Attributes
    ----------
    generators : tuple of str
        Bundles: a shipped name or a folder. Each patient is drawn by the first that never saw the patient.
    regimens : mapping of str to Regimen
        Schedule of each regimen by its id.
    workers : int
        Processes; they change no figure.
    """

    generators: tuple[str, ...]
    regimens: Mapping[str, Regimen]
    months: tuple[float, ...] = MONTHS
    seed: int = 0
    workers: int = 1


def virtual_images(
    cohort: Cohort, encoder: ImageVectors, order: VirtualOrder, kept: Path, progress: Progress
) -> ImageFile:
    """Return the vectors of each patient's baseline and virtual follow-ups; external sets have none.

    Parameters
    ----------
    kept : Path
        Folder of the vectors of each patient; those that it holds are not computed again.

    Raises
    ------
    TrainingDataError
        A training or validation patient was seen by every generator, the cohort is of another modality than
        the encoder, or the folder belongs to another cohort, generator or encoder.
    ModelError
        A bundle is damaged, or does not say whom it saw.
    """
    reads = encoder.encoder.settings.modality
    if cohort.info.modality != reads:
        raise TrainingDataError(f"the image encoder reads {reads}, the cohort is {cohort.info.modality}")
    infos, drawn_by = assigned(cohort, order.generators)
    found: dict[str, PatientVectors] = {}
    for number, (bundle, info) in enumerate(zip(order.generators, infos, strict=True)):
        ids = [patient for patient, own in drawn_by.items() if own == number]
        if not ids:
            continue
        generator = load_model(bundle, BundleKind.GENERATOR)
        follow_ups = VirtualFollowUps(cohort, generator, order.regimens, order.seed)
        describer = BaselineAndVirtual(follow_ups, encoder, order.months)
        part = within(progress, number / len(infos), (number + 1) / len(infos))
        seen = seen_of(describer, ids, kept / info.sha256[:16], order.workers, part)
        found |= {patient: one.vectors for patient, one in seen.items()}
    ids = [patient for patient in cohort.patients["patient_id"] if patient in found]
    return ImageFile(
        tuple(ids),
        _tokens([found[patient] for patient in ids], 1 + len(order.months)),
        KINDS,
        encoder=encoder.info.sha256,
        generators=tuple(f"{i.name} {i.version} {i.sha256}" for i in infos),
    )


def assigned(cohort: Cohort, generators: Sequence[str]) -> tuple[tuple[BundleInfo, ...], dict[str, int]]:
    """Return what the generators are, and for each patient the number of the first that never saw them.

    Patients of external sets, whom the survival model is neither trained nor measured on, are left out.

    Raises
    ------
    TrainingDataError
        Every generator saw some training, validation or test patient.
    """
    told = [never_seen(bundle, "generator", cohort) for bundle in generators]
    ids, drawn_by = cohort.ids(*Split), {}
    for patient in ids:
        able = [number for number, (_info, unseen) in enumerate(told) if patient in unseen]
        if able:
            drawn_by[patient] = able[0]
    seen = len(ids) - len(drawn_by)
    if seen:
        raise TrainingDataError(
            f"{seen} patients were seen by every generator in its own training, and would be drawn from "
            "memory; give generators that were trained without a part of them each (hepatocast train "
            "generator COHORT --leave-out 1/3, 2/3 and 3/3), or one of other patients"
        )
    return tuple(info for info, _unseen in told), drawn_by


def _tokens(vectors: Sequence[PatientVectors], most: int) -> DatedTokens:
    n = len(vectors)
    found = DatedTokens(
        np.zeros((n, most, DIMENSION), dtype=np.float32),
        np.zeros((n, most), dtype=np.intp),
        np.zeros((n, most)),
        np.zeros((n, most), dtype=np.bool_),
    )
    for row, one in enumerate(vectors):
        count = len(one.kinds)
        found.features[row, :count] = one.vectors
        found.kind[row, :count] = [KINDS.index(kind.value) for kind in one.kinds]
        found.months[row, :count] = one.months
        found.known[row, :count] = True
    return found
