"""Volumes of the tumour's parts on the crops of a prepared cohort."""

from __future__ import annotations

import numpy as np

from inference.results import FloatArray, Labels
from inference.training.cohort import SPACING_MM

VOXEL_ML = SPACING_MM**3 / 1000.0


def tissue_ml(fractions: Labels) -> FloatArray:
    """Return volumes of viable, dead and lipiodol-covered tumour in ml, (..., 3) of (..., 3, z, y, x)."""
    total = fractions.sum(axis=(-3, -2, -1), dtype=np.float64)
    return np.asarray(total / 255.0 * VOXEL_ML)
