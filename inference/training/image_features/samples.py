"""Images of a cohort as the encoder sees them, prepared once and kept on disk.

Baselines are taken as acquired. A follow-up is the acquired baseline plus the change, because that is
how the generator delivers virtual images: its change is free of noise, and the baseline's noise stays.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inference.errors import TrainingDataError
from inference.models.image_features.inputs import encoder_input
from inference.models.image_features.measurements import MEASURED, measurements
from inference.models.outcome.crops import PatientCrop
from inference.models.protocols import Progress
from inference.results import FloatArray, Labels
from inference.training.cohort import NO_VALUE, Cohort, FollowUpImages, PatientImages
from inference.training.cohort_rows import clinical_of
from inference.training.features import crop_of
from inference.training.network_channels import drawn_images

TARGETS = (
    "log_viable_ml",
    "dead_share",
    "lipiodol_share",
    "liver_share",
    "log_lesions",
    "log_largest_mm",
    "contrast_viable_0",
    "contrast_viable_1",
    "washout",
    "entropy_0",
    "sphericity",
    "at_surface",
    "portal_vein_thrombosis",
    "log_months",
)
"""What the learned part must predict: measurements, thrombosis at baseline, and months since baseline."""

_FOLLOW_UPS = 3
_CLINICAL = "portal_vein_thrombosis"


@dataclass(frozen=True, slots=True)
class Sample:
    """The images of one patient: the baseline first, then follow-ups.

    Attributes
    ----------
    stored : array of uint8, (images, 6, z, y, x)
    measured : array, (images, 42)
        In the order of `MEASURED`, NaN for what is missing.
    months : array, (images,)
        0 for the baseline.
    targets : array, (images, targets)
        NaN where a target is not known.
    """

    stored: Labels
    measured: FloatArray
    months: FloatArray
    targets: FloatArray


def follow_up_crop(patient: PatientImages, seen: FollowUpImages) -> PatientCrop:
    """Return a follow-up as the generator would deliver it: the acquired baseline plus the change."""
    base = patient.images if patient.clean is None else patient.clean
    missing = (patient.images == NO_VALUE) | (seen.images == NO_VALUE) | (base == NO_VALUE)
    images = patient.images.astype(np.float32) + (seen.images.astype(np.float32) - base)
    images[missing] = np.nan
    crop = crop_of(patient)
    return PatientCrop(images, crop.liver, seen.fractions.astype(np.float32) / np.float32(255.0), seen.lesion)


def sample_of(
    patient: PatientImages, row: Mapping[str, Any], modality: str, follow_ups: Sequence[FollowUpImages]
) -> Sample:
    """Return the sample of a patient with some of the follow-ups."""
    crops = [crop_of(patient), *(follow_up_crop(patient, seen) for seen in follow_ups)]
    months = np.array([0.0, *(seen.months for seen in follow_ups)])
    measured = np.stack([measurements(crop) for crop in crops])
    return Sample(
        np.stack([encoder_input(crop, modality) for crop in crops]),
        measured,
        months,
        _targets(measured, months, row),
    )


def _targets(measured: FloatArray, months: FloatArray, row: Mapping[str, Any]) -> FloatArray:
    found = np.full((len(months), len(TARGETS)), np.nan)
    for place, name in enumerate(TARGETS):
        if name in MEASURED:
            found[:, place] = measured[:, MEASURED.index(name)]
    thrombosis = clinical_of(row).values.get(_CLINICAL)
    if thrombosis is not None:
        # Thrombi respond too: what a follow-up shows of them is not known.
        found[0, TARGETS.index(_CLINICAL)] = float(thrombosis.value)
    found[:, TARGETS.index("log_months")] = np.log1p(months)
    return found


def prepare(
    cohort: Cohort, ids: Sequence[str], folder: Path, rng: np.random.Generator, progress: Progress
) -> dict[str, Path]:
    """Write the samples of patients; those that are there already are kept.

    Parameters
    ----------
    rng : Generator
        Draws a number for each patient, from which follow-ups are chosen; so that the choice does not
        depend on which samples are there.

    Returns
    -------
    mapping of patient to file

    Raises
    ------
    TrainingDataError
        The folder holds samples of another cohort.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told = folder / "cohort.sha256"
    if told.is_file() and told.read_text(encoding="utf-8") != cohort.info.sha256:
        raise TrainingDataError("the folder holds samples of another cohort; choose an empty one")
    told.write_text(cohort.info.sha256, encoding="utf-8")
    seeds = rng.integers(2**62, size=len(ids))
    files = {}
    for count, (patient_id, seed) in enumerate(zip(ids, seeds.tolist(), strict=True)):
        progress("preparing images", count / max(len(ids), 1))
        path = folder / f"{patient_id}.npz"
        if not path.is_file():
            patient = drawn_images(cohort, patient_id)
            chosen = _chosen(patient.follow_ups, np.random.default_rng(seed))
            write_sample(path, sample_of(patient, cohort.row(patient_id), cohort.info.modality, chosen))
        files[patient_id] = path
    return files


def _chosen(follow_ups: Sequence[FollowUpImages], rng: np.random.Generator) -> tuple[FollowUpImages, ...]:
    order = rng.permutation(len(follow_ups))[:_FOLLOW_UPS]
    return tuple(follow_ups[i] for i in sorted(order.tolist()))


def write_sample(path: Path, sample: Sample) -> None:
    """Write a sample, whole or not at all; the same arrays give the same bytes."""
    temporary = path.with_suffix(".part")
    with zipfile.ZipFile(temporary, "w") as archive:
        for name in ("stored", "measured", "months", "targets"):
            data = io.BytesIO()
            np.lib.format.write_array(data, getattr(sample, name), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data.getvalue(), compresslevel=1)
    temporary.replace(path)


def read_sample(path: Path) -> Sample:
    """Read a sample.

    Raises
    ------
    TrainingDataError
        The file is damaged.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return Sample(stored["stored"], stored["measured"], stored["months"], stored["targets"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TrainingDataError("a prepared sample cannot be read; delete the folder of samples") from error
