"""Image vectors of one patient over time: the baseline, real follow-ups, virtual time points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from inference.models.flow.study import crop_study
from inference.models.image_features.time_points import virtual_crop
from inference.models.image_features.vectors import ImageVectors, Vectors
from inference.models.outcome.crops import PatientCrop
from inference.results import Baseline, FloatArray, GeneratedCourse, Segmentation


class ImageKind(StrEnum):
    """Where an image comes from."""

    BASELINE = "baseline"
    REAL = "real follow-up"
    VIRTUAL = "virtual follow-up"


@dataclass(frozen=True, slots=True)
class PatientVectors:
    """Vectors of a patient's images, in the order of their months.

    Attributes
    ----------
    vectors : array of float32, (images, 256)
    months : array, (images,)
        After the start of treatment, 0 at baseline.
    kinds : tuple of ImageKind
    """

    vectors: Vectors
    months: FloatArray
    kinds: tuple[ImageKind, ...]

    def of(self, *kinds: ImageKind) -> PatientVectors:
        """Return the images of some kinds."""
        kept = [i for i, kind in enumerate(self.kinds) if kind in kinds]
        return PatientVectors(self.vectors[kept], self.months[kept], tuple(self.kinds[i] for i in kept))


def patient_vectors(
    model: ImageVectors, images: Sequence[tuple[ImageKind, float, PatientCrop]]
) -> PatientVectors:
    """Return the vectors of images that are given with their kind and months."""
    ordered = sorted(images, key=lambda image: image[1])
    return PatientVectors(
        model.image_vectors([crop for _kind, _months, crop in ordered]),
        np.array([months for _kind, months, _crop in ordered], dtype=np.float64),
        tuple(kind for kind, _months, _crop in ordered),
    )


def course_vectors(
    model: ImageVectors, baseline: Baseline, segmentation: Segmentation, course: GeneratedCourse
) -> PatientVectors:
    """Return the vectors of a study and of the virtual time points under one regimen.

    A time point that is both scheduled and the best response is taken once.
    """
    images = [(ImageKind.BASELINE, 0.0, crop_study(baseline, segmentation).crop)]
    seen: set[float] = set()
    for point in course.time_points:
        if point.months not in seen:
            seen.add(point.months)
            images.append((ImageKind.VIRTUAL, point.months, virtual_crop(baseline, segmentation, point)))
    return patient_vectors(model, images)
