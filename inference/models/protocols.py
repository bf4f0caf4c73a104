"""The seams: what the models of a forecast must be able to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from inference.case import Case, ClinicalRecord
from inference.models.evidence import NOTHING_MORE, Evidence, EvidenceWanted, ImageEvidence
from inference.randomness import RandomStreams
from inference.results import (
    AssessedPatient,
    Baseline,
    Box,
    BundleInfo,
    GeneratedCourse,
    Grid,
    LesionMeasurement,
    Mask,
    SecondOpinion,
    Segmentation,
    Survival,
    Voxels,
)
from inference.settings import PipelineSettings, Regimen


class Segmenter(Protocol):
    """Finds liver and lesions on the primary series."""

    @property
    def info(self) -> BundleInfo:
        """Name, version, digest and what the segmenter was trained on."""
        ...

    def check(self, case: Case) -> None:
        """Raise `SegmentationMissing` where the headers already show that `segment` would; else nothing."""
        ...

    def segment(self, case: Case, baseline: Baseline) -> Segmentation:
        """Return a segmentation with every lesion voxel viable unless necrosis was drawn.

        Raises `SegmentationMissing` with the reason where there is none to be had.
        """
        ...


class LesionOutliner(Protocol):
    """Outlines tumours on an image of a patient whose liver is known."""

    @property
    def info(self) -> BundleInfo:
        """Name, version, digest and what the outliner was trained on."""
        ...

    def covers(self, modality: str) -> bool:
        """Whether images of a modality can be outlined."""
        ...

    def outline(self, values: Voxels, grid: Grid, modality: str, liver: Mask, box: Box) -> Mask:
        """Return the tumours in a box of a volume, of which `liver` is the liver, tumours included."""
        ...


class Generator(Protocol):
    """Draws the course of the disease under one regimen."""

    @property
    def info(self) -> BundleInfo:
        """Name, version, digest and what the generator was trained on."""
        ...

    def generate(
        self,
        baseline: Baseline,
        segmentation: Segmentation,
        clinical: ClinicalRecord,
        regimen: Regimen,
        settings: PipelineSettings,
        streams: RandomStreams,
    ) -> GeneratedCourse:
        """Return images and tissue maps at ``settings.months`` and at the best response."""
        ...


class ImageDescriber(Protocol):
    """Turns a study and the virtual time points of its courses into vectors."""

    @property
    def info(self) -> BundleInfo:
        """Name, version, digest and what the encoder was trained on."""
        ...

    def covers(self, modality: str) -> bool:
        """Whether images of a modality can be described."""
        ...

    def describe(
        self, baseline: Baseline, segmentation: Segmentation, courses: Sequence[GeneratedCourse]
    ) -> tuple[ImageEvidence, ...]:
        """Return for each course the vectors of the baseline and of its virtual time points."""
        ...


class SurvivalModel(Protocol):
    """Predicts survival under one regimen."""

    @property
    def info(self) -> BundleInfo:
        """Name, version, digest and what the model was trained on."""
        ...

    @property
    def wants(self) -> EvidenceWanted:
        """Which vectors of images and texts the model takes; it never asks for more."""
        ...

    def predict(
        self,
        clinical: ClinicalRecord,
        lesions: tuple[LesionMeasurement, ...],
        regimen: Regimen,
        evidence: Evidence = NOTHING_MORE,
    ) -> Survival:
        """Return curves, or `NotAssessed` for each end point that is not covered.

        Raises `ModelError` for image vectors of another encoder than the one it was trained with.
        """
        ...


class SecondReader(Protocol):
    """A system beside the forecast that says what it makes of a patient."""

    @property
    def info(self) -> BundleInfo:
        """Name, version, digest and what the system was trained on."""
        ...

    def opinions(self, patient: AssessedPatient, regimens: tuple[Regimen, ...]) -> tuple[SecondOpinion, ...]:
        """Return what the system says; `NotAssessed` as values where it cannot say."""
        ...


Progress = Callable[[str, float], None]
"""Called with what is being done (no patient data) and the share done, 0 to 1."""


def within(progress: Progress, first: float, last: float) -> Progress:
    """Return a progress callback for a step that fills the bar from `first` to `last`."""
    return lambda text, share: progress(text, first + (last - first) * share)
