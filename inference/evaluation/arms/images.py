"""Image vectors of the patients that are evaluated: baseline, real follow-ups, virtual follow-ups.

All images of a patient lie on the cohort's crop and become vectors in the same way, so that a real and a
virtual follow-up of one month differ in nothing but where they come from.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from inference.case import ClinicalRecord
from inference.errors import TrainingDataError, UnsupportedRegimen
from inference.evaluation.adapters import as_study, course_streams
from inference.evaluation.kept_scores import claim
from inference.evaluation.processes import in_order
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
from inference.training.features import crop_of
from inference.training.image_features.samples import follow_up_crop
from inference.training.network_channels import drawn_images

_AT_ONCE = 2
"""Patients for which the models are sent to a process again; few, so that little is lost when stopped."""
_LAST_MONTH = 24.0
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


@dataclass(frozen=True, slots=True)
class Describer:
    """Makes the vectors of one patient after another.

    Attributes
    ----------
    generator : Generator
        Draws the course of median outcomes, once, as it is shown to people.
    regimens : mapping of str to Regimen
        Schedule of each regimen by its id.
    months : tuple of float
        Of the virtual images; those of the patient's real follow-ups are drawn too.
    """

    cohort: Cohort
    encoder: ImageVectors
    generator: Generator
    regimens: Mapping[str, Regimen]
    months: tuple[float, ...]
    seed: int

    def __call__(self, patient_id: str) -> Seen:
        """Return the vectors of a patient's images under the treatment that the patient had."""
        row = self.cohort.row(patient_id)
        given = str(row["regimen_id"])
        patient = drawn_images(self.cohort, patient_id)
        own = [seen for seen in patient.follow_ups if seen.regimen_id == given]
        images = [(ImageKind.BASELINE, 0.0, crop_of(patient))]
        images += [(ImageKind.REAL, seen.months, follow_up_crop(patient, seen)) for seen in own]
        # Follow-ups beyond the last month that can be drawn have no virtual counterpart.
        wanted = {*self.months, *(seen.months for seen in own if 0 < seen.months <= _LAST_MONTH)}
        drawn = self._virtual(patient_id, self.regimens.get(given), clinical_of(row), sorted(wanted))
        images += [(ImageKind.VIRTUAL, months, crop) for months, crop in drawn]
        return Seen(patient_vectors(self.encoder, images), len(wanted) - len(drawn))

    def _virtual(
        self, patient_id: str, regimen: Regimen | None, clinical: ClinicalRecord, months: Sequence[float]
    ) -> list[tuple[float, PatientCrop]]:
        if regimen is None:
            return []
        before = replace(self.cohort.images(patient_id), follow_ups=(), clean=None)
        baseline, segmentation = study_of(before, self.cohort)
        streams = course_streams(RandomStreams(self.seed), patient_id, 1)[0]
        generator = self.generator
        if isinstance(generator, SharesPreparation):
            generator = generator.prepared(baseline, segmentation, streams)
        drawing = _Drawing(generator, baseline, segmentation, clinical, regimen, streams)
        points = drawing.points(tuple(months))
        return [(p.months, on_crop(before, self.cohort, baseline, p)) for p in points]


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


def study_of(patient: PatientImages, cohort: Cohort) -> tuple[Baseline, Segmentation]:
    """Return a crop as a study; a phase that was not acquired is no series of it."""
    baseline, segmentation = as_study(patient, cohort.info)
    acquired = [bool((image != NO_VALUE).any()) for image in patient.images]
    volumes = tuple(v for v, there in zip(baseline.volumes, acquired, strict=True) if there)
    return replace(baseline, volumes=volumes), segmentation


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
    describer: Describer, ids: Sequence[str], kept: Path, workers: int, progress: Progress
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
    claim(
        kept,
        {
            "cohort": describer.cohort.info.sha256,
            "encoder": describer.encoder.info.sha256,
            "generator": describer.generator.info.sha256,
            "months": describer.months,
            "seed": describer.seed,
        },
    )
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
