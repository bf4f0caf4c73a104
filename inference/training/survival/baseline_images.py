"""Image vectors of the baselines of a cohort, in the form that the survival model is trained on.

Real follow-ups are left out: they are known only of patients who lived to have them, and a study that
arrives has none. Virtual ones: `inference.training.survival.virtual_vectors`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from inference.models.evidence import ImageKind
from inference.models.image_features.vectors import DIMENSION, ImageVectors
from inference.models.protocols import Progress
from inference.models.survival.tokens import DatedTokens
from inference.training.cohort import Cohort
from inference.training.image_features.cohort_vectors import cohort_vectors
from inference.training.survival.sources import ImageFile


def baseline_images(cohort: Cohort, model: ImageVectors, kept: Path, progress: Progress) -> ImageFile:
    """Return the vector of every patient's baseline; those made before are read from the folder `kept`.

    Raises
    ------
    TrainingDataError
        The cohort is of another modality than the encoder, or the folder belongs to another cohort or
        encoder.
    """
    ids = tuple(str(i) for i in cohort.patients["patient_id"])
    found = cohort_vectors(cohort, model, ids, kept, progress)
    features = np.zeros((len(ids), 1, DIMENSION), dtype=np.float32)
    known = np.zeros((len(ids), 1), dtype=np.bool_)
    for place, patient_id in enumerate(ids):
        baseline = found[patient_id].of(ImageKind.BASELINE)
        if len(baseline.vectors):
            features[place, 0], known[place, 0] = baseline.vectors[0], True
    images = DatedTokens(features, np.zeros(known.shape, dtype=np.intp), np.zeros(known.shape), known)
    return ImageFile(ids, images, (ImageKind.BASELINE.value,), encoder=model.info.sha256)
