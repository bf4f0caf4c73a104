"""The crop of a patient of a prepared cohort as a study: what the models of a forecast are given."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from inference.case import Phase
from inference.imaging.measurement import lesion_id
from inference.randomness import RandomStreams
from inference.results import (
    Baseline,
    Box,
    BundleInfo,
    Grid,
    Labels,
    Lesion,
    Segmentation,
    SeriesVolume,
    Tissue,
    TissueMap,
)
from inference.training.cohort import NO_VALUE, SPACING_MM, Cohort, CohortInfo, PatientImages

AIR = {"CT": -1000, "MR": 0}
HALF = 128
"""A voxel of which this much is tumour (of 255) is tumour."""

_TISSUES = np.array([Tissue.VIABLE, Tissue.NECROSIS, Tissue.LIPIODOL], dtype=np.uint8)


def crop_grid(shape: tuple[int, int, int]) -> Grid:
    """Return the grid of a crop: isotropic, z towards the head, y towards the back, x towards the left."""
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[1, 1] = affine[0, 2] = SPACING_MM
    affine[3, 3] = 1.0
    return Grid(shape, affine, "crop")


def crop_tissue(fractions: Labels, lesion: Labels, liver: Labels) -> TissueMap:
    """Return the tissue map of fractions: a voxel is tumour from one half, and of its largest part.

    Parameters
    ----------
    fractions : array of uint8, (3, z, y, x)
    lesion, liver : array of uint8, (z, y, x)
    """
    z, y, x = lesion.shape
    tumour = fractions.sum(axis=0, dtype=np.int32) >= HALF
    kinds = _TISSUES[np.argmax(fractions, axis=0)]
    tissue = np.where(tumour, kinds, np.where(liver >= HALF, np.uint8(Tissue.LIVER), np.uint8(0)))
    return TissueMap(Box((0, 0, 0), (z, y, x)), tissue.astype(np.uint8), np.where(tumour, lesion, 0))


def as_study(patient: PatientImages, info: CohortInfo) -> tuple[Baseline, Segmentation]:
    """Return the crop of a patient as the pipeline's baseline and segmentation."""
    z, y, x = patient.lesion.shape
    grid = crop_grid((z, y, x))
    volumes = tuple(
        _series(image, phase, grid, info) for image, phase in zip(patient.images, info.phases, strict=True)
    )
    labels = crop_tissue(patient.fractions, patient.lesion, patient.liver)
    numbers = np.unique(labels.lesion[labels.lesion > 0]).tolist()
    lesions = tuple(Lesion(int(n), lesion_id(int(n))) for n in numbers)
    source = BundleInfo("prepared cohort", "1", info.sha256, str(info.origin))
    segmentation = Segmentation(labels, lesions, source, None)
    return Baseline("2.25.1", volumes, ()), segmentation


def _series(image: npt.NDArray[np.int16], phase: str, grid: Grid, info: CohortInfo) -> SeriesVolume:
    slices = len(image)
    stored = np.where(image == NO_VALUE, AIR[info.modality], image).astype(np.int32)
    header = Dataset()
    header.Modality = info.modality
    header.SliceThickness = str(SPACING_MM)
    uid = "2.25." + str(int(hashlib.sha256(phase.encode()).hexdigest()[:16], 16))
    ones = np.ones(slices)
    return SeriesVolume(
        uid,
        info.modality,
        Phase(phase),
        "prepared cohort",
        grid,
        stored,
        ones,
        0.0 * ones,
        (header,) * slices,
    )


def study_of(patient: PatientImages, cohort: Cohort) -> tuple[Baseline, Segmentation]:
    """Return a crop as a study; a phase that was not acquired is no series of it."""
    baseline, segmentation = as_study(patient, cohort.info)
    acquired = [bool((image != NO_VALUE).any()) for image in patient.images]
    volumes = tuple(v for v, there in zip(baseline.volumes, acquired, strict=True) if there)
    return replace(baseline, volumes=volumes), segmentation


def course_streams(streams: RandomStreams, patient_id: str, courses: int) -> list[RandomStreams]:
    """Return the streams of each course of a patient, the same for all regimens and months."""
    return [
        RandomStreams(int(streams.derive("course", patient_id, course).integers(2**62)))
        for course in range(courses)
    ]
