"""Radiomics of a patient: liver, largest lesion and all lesions, in the arterial and portal venous phase.

Measured on the crop that all learned models see (2.25 mm, isotropic), so that patients of a prepared
cohort and studies that arrive are measured alike.
"""

from __future__ import annotations

import numpy as np

from inference.imaging.radiomics import (
    CT_LEVELS,
    FEATURE_NAMES,
    MR_LEVELS,
    FeatureVector,
    absent,
    radiomics,
)
from inference.imaging.radiomics.features import joined
from inference.models.outcome.crops import SPACING_MM, PatientCrop
from inference.results import Mask

PHASE_NAMES = ("arterial", "portal_venous")
REGIONS = ("liver", "largest", "lesions")
"""Liver without tumours; the largest lesion; the union of all lesions."""

_SHAPE = tuple(i for i, name in enumerate(FEATURE_NAMES) if name.startswith("shape_"))
_SEEN = tuple(i for i, name in enumerate(FEATURE_NAMES) if not name.startswith("shape_"))


def patient_radiomics(crop: PatientCrop, modality: str) -> FeatureVector:
    """Return the radiomics of a patient, always the same names in the same order.

    Names are ``REGION_shape_...`` and ``REGION_PHASE_...``. What belongs to a phase that was not
    acquired, or to a lesion that is not there, is NaN.

    Parameters
    ----------
    crop : PatientCrop
    modality : str
        CT or MR; decides how intensities become grey levels.
    """
    levels = CT_LEVELS if modality == "CT" else MR_LEVELS
    spacing = (SPACING_MM, SPACING_MM, SPACING_MM)
    parts = []
    for region, mask in zip(REGIONS, _masks(crop), strict=True):
        phases = [
            radiomics(image, mask, spacing, levels) if mask.any() else absent() for image in crop.images
        ]
        parts.append(_taken(phases[0], _SHAPE).prefixed(region))
        parts += [
            _taken(found, _SEEN).prefixed(f"{region}_{phase}")
            for phase, found in zip(PHASE_NAMES, phases, strict=True)
        ]
    return joined(tuple(parts))


def _masks(crop: PatientCrop) -> tuple[Mask, Mask, Mask]:
    counts = np.bincount(crop.lesion.ravel(), minlength=2)
    counts[0] = 0
    lesions = crop.lesion > 0
    largest = crop.lesion == int(counts.argmax()) if lesions.any() else lesions
    return (crop.liver >= 0.5) & ~lesions, largest, lesions


def _taken(found: FeatureVector, places: tuple[int, ...]) -> FeatureVector:
    return FeatureVector(tuple(found.names[i] for i in places), found.values[list(places)])
