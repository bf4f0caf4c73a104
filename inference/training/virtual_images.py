"""Virtual follow-ups of the patients of a cohort, and images of patients as vectors that are kept on disk.

All images of a patient lie on the cohort's crop and become vectors in the same way, so that a real and a
virtual follow-up of one month differ in nothing but where they come from.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from inference.case import ClinicalRecord
from inference.errors import TrainingDataError, UnsupportedRegimen
from inference.models.flow.study import channel_volumes
from inference.models.image_features.sequences import ImageKind, PatientVectors, patient_vectors
from inference.models.image_features.vectors import ImageVectors
from inference.models.outcome.crops import PatientCrop
from inference.models.protocols import Generator, Progress
from inference.randomness import RandomStreams
from inference.results import Baseline, GeneratedTimePoint, Segmentation, Tissue
from inference.settings import PipelineSettings, Regimen
from inference.stages.generate import SharesPreparation
from inference.training.cohort import NO_VALUE, Cohort, PatientImages
from inference.training.cohort_rows import clinical_of
from inference.training.crop_study import course_streams, study_of
from inference.training.features import crop_of
from inference.training.kept_work import claim
from inference.training.network_channels import drawn_images
from inference.training.processes import in_order

_AT_ONCE = 2
"""Patients for which the models are sent to a process again; few, so that little is lost when stopped."""
LAST_MONTH = 24.0
"""Latest virtual image that the settings of the pipeline allow."""
_TUMOUR = (Tissue.VIABLE, Tissue.NECROSIS, Tissue.LIPIODOL)


@dataclass(frozen=True, slots=True)
class Seen:
    """What images of a patient say.

    Attributes
    ----------
    vectors : PatientVectors
    refused : int
        Virtual images that the generator does not cover: the regimen, or so many months ahead.
    """

    vectors: PatientVectors
    refused: int


class Describes(Protocol):
    """Makes the vectors of one patient after another."""

    @property
    def source(self) -> Mapping[str, object]:
        """Everything that decides the vectors, for JSON."""
        ...

    def __call__(self, patient_id: str) -> Seen:
        """Return what images say of a patient."""
        ...


@dataclass(frozen=True, slots=True)
class VirtualFollowUps:
    """Draws virtual follow-ups on the crops of a cohort.

    Attributes
    ----------
    generator : Generator
        Draws the course of median outcomes, once, as it is shown to people.
    regimens : mapping of str to Regimen
        Schedule of each regimen by its id.
    """

    cohort: Cohort
    generator: Generator
    regimens: Mapping[str, Regimen]
    seed: int

    def drawn(self, patient_id: str, months: Sequence[float]) -> list[tuple[float, PatientCrop]]:
        """Return virtual follow-ups under the treatment that the patient had; those that are covered."""
        row = self.cohort.row(patient_id)
        regimen = self.regimens.get(str(row["regimen_id"]))
        if regimen is None or not months:
            return []
        before = replace(self.cohort.images(patient_id), follow_ups=(), clean=None)
        baseline, segmentation = study_of(before, self.cohort)
        streams = course_streams(RandomStreams(self.seed), patient_id, 1)[0]
        generator = self.generator
        if isinstance(generator, SharesPreparation):
            generator = generator.prepared(baseline, segmentation, streams)
        drawing = _Drawing(generator, baseline, segmentation, clinical_of(row), regimen, streams)
        points = drawing.points(tuple(sorted(months)))
        return [(p.months, on_crop(before, self.cohort, baseline, p)) for p in points]


@dataclass(frozen=True, slots=True)
class BaselineAndVirtual:
    """Vectors of a patient's baseline and of virtual follow-ups at months that are the same for all.

    Months of real follow-ups are not among them: they would tell that a patient lived so long.
    """

    follow_ups: VirtualFollowUps
    encoder: ImageVectors
    months: tuple[float, ...]

    @property
    def source(self) -> Mapping[str, object]:
        """Everything that decides the vectors."""
        return {
            "cohort": self.follow_ups.cohort.info.sha256,
            "encoder": self.encoder.info.sha256,
            "generator": self.follow_ups.generator.info.sha256,
            "months": self.months,
            "seed": self.follow_ups.seed,
        }

    def __call__(self, patient_id: str) -> Seen:
        """Return the vectors of one patient."""
        drawn = self.follow_ups.drawn(patient_id, self.months)
        crops = [(ImageKind.BASELINE, 0.0, crop_of(drawn_images(self.follow_ups.cohort, patient_id)))]
        crops += [(ImageKind.VIRTUAL, months, crop) for months, crop in drawn]
        return Seen(patient_vectors(self.encoder, crops), len(self.months) - len(drawn))


@dataclass(frozen=True, slots=True)
class _Drawing:
    generator: Generator
    baseline: Baseline
    segmentation: Segmentation
    clinical: ClinicalRecord
    regimen: Regimen
    streams: RandomStreams

    def points(self, months: tuple[float, ...]) -> tuple[GeneratedTimePoint, ...]:
        """Return the time points that the generator covers; one that is too late hides no other."""
        try:
            return self._course(months)
        except UnsupportedRegimen:
            if len(months) <= 1:
                return ()
        return tuple(point for month in months for point in self.points((month,)))

    def _course(self, months: tuple[float, ...]) -> tuple[GeneratedTimePoint, ...]:
        settings = PipelineSettings(regimens=(self.regimen,), months=months, best_response=False)
        course = self.generator.generate(
            self.baseline, self.segmentation, self.clinical, self.regimen, settings, self.streams
        )
        return course.time_points


def on_crop(
    patient: PatientImages, cohort: Cohort, baseline: Baseline, point: GeneratedTimePoint
) -> PatientCrop:
    """Return a virtual time point on the crop of its patient, as the image encoder takes images."""
    drawn = {image.series_instance_uid: image for image in point.images}
    images = np.full((2, *patient.lesion.shape), np.nan, dtype=np.float32)
    for channel, volume in enumerate(channel_volumes(baseline)):
        if volume is None:
            continue
        images[channel] = volume.stored
        image = drawn.get(volume.series_instance_uid)
        if image is not None:
            images[channel][image.box.slices] = image.stored
        outside = patient.images[cohort.info.phases.index(str(volume.phase))] == NO_VALUE
        images[channel][outside] = np.nan
    tissue = np.zeros(patient.lesion.shape, dtype=np.uint8)
    lesion = np.zeros_like(patient.lesion)
    tissue[point.labels.box.slices] = point.labels.tissue
    lesion[point.labels.box.slices] = point.labels.lesion
    fractions = np.stack([tissue == part for part in _TUMOUR]).astype(np.float32)
    return PatientCrop(images, crop_of(patient).liver, fractions, lesion)


def seen_of(
    describer: Describes, ids: Sequence[str], kept: Path, workers: int, progress: Progress
) -> dict[str, Seen]:
    """Return what images say of patients; the number of processes changes no figure.

    Parameters
    ----------
    kept : Path
        Folder in which the vectors of each patient are kept; those that it holds are not computed again.

    Raises
    ------
    TrainingDataError
        The folder holds vectors of another cohort, generator, encoder or seed, or a damaged file.
    """
    claim(kept, describer.source)
    files = {patient_id: kept / f"{patient_id}.npz" for patient_id in ids}
    waiting = [patient_id for patient_id in ids if not files[patient_id].is_file()]
    done = len(ids) - len(waiting)
    for patient_id, seen in zip(waiting, in_order(describer, waiting, workers, _AT_ONCE), strict=True):
        _write(files[patient_id], seen)
        done += 1
        progress(f"images of patient {done} of {len(ids)}", done / len(ids))
    return {patient_id: _read(path) for patient_id, path in files.items()}


def _write(path: Path, seen: Seen) -> None:
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            vectors=seen.vectors.vectors,
            months=seen.vectors.months,
            kinds=np.array([str(kind) for kind in seen.vectors.kinds]),
            refused=np.array(seen.refused),
        )
    temporary.replace(path)


def _read(path: Path) -> Seen:
    try:
        with np.load(path, allow_pickle=False) as stored:
            kinds = tuple(ImageKind(kind) for kind in stored["kinds"].tolist())
            vectors = PatientVectors(stored["vectors"], stored["months"], kinds)
            return Seen(vectors, int(stored["refused"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TrainingDataError("kept vectors of a patient cannot be read; remove that folder") from error
