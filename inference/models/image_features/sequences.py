"""Image vectors of one patient over time: the baseline, real follow-ups, virtual time points.

Those of a study that arrives: `inference.models.image_features.describer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.models.evidence import ImageKind
from inference.models.image_features.vectors import ImageVectors, Vectors
from inference.models.outcome.crops import PatientCrop
from inference.results import FloatArray

__all__ = ["ImageKind", "PatientVectors", "patient_vectors"]


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
