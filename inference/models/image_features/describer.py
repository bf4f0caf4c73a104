"""Image vectors of a study that arrives: an `inference.models.protocols.ImageDescriber`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.models.evidence import ImageEvidence, ImageKind
from inference.models.flow.study import crop_study
from inference.models.image_features.time_points import virtual_crop
from inference.models.image_features.vectors import ImageVectors, Vectors
from inference.results import Baseline, BundleInfo, GeneratedCourse, Segmentation

FORMAT = "image_encoder"
"""``format`` of the bundle's metadata."""


@dataclass(frozen=True, slots=True)
class StudyDescriber:
    """Describes the baseline once, and every virtual time point."""

    model: ImageVectors

    @classmethod
    def from_bundle(cls, name_or_path: str | Path) -> StudyDescriber:
        """Read a verified bundle.

        Raises
        ------
        ModelError
            The bundle is damaged, or not that of an image encoder.
        """
        return cls(ImageVectors.from_bundle(name_or_path))

    @property
    def info(self) -> BundleInfo:
        """Name, version, digest and what the encoder was trained on."""
        return self.model.info

    def covers(self, modality: str) -> bool:
        """Whether images of a modality can be described."""
        return modality == self.model.encoder.settings.modality

    def describe(
        self, baseline: Baseline, segmentation: Segmentation, courses: Sequence[GeneratedCourse]
    ) -> tuple[ImageEvidence, ...]:
        """Return for each course the vectors of the baseline and of its virtual time points.

        A time point that is both scheduled and the best response is taken once.
        """
        first = self.model.image_vectors([crop_study(baseline, segmentation).crop])
        return tuple(self._course(first, baseline, segmentation, course) for course in courses)

    def _course(
        self, first: Vectors, baseline: Baseline, segmentation: Segmentation, course: GeneratedCourse
    ) -> ImageEvidence:
        drawn = {point.months: point for point in reversed(course.time_points)}
        points = [drawn[months] for months in sorted(drawn)]
        crops = (virtual_crop(baseline, segmentation, point) for point in points)
        vectors = [self.model.image_vectors([crop]) for crop in crops]
        return ImageEvidence(
            encoder=self.info.sha256,
            vectors=np.concatenate([first, *vectors]),
            months=np.array([0.0, *(point.months for point in points)], dtype=np.float64),
            kinds=(ImageKind.BASELINE, *(ImageKind.VIRTUAL for _ in points)),
        )
