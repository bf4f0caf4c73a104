"""Radiomics: standardised numbers that describe shape, intensities and texture of a region.

All features are those of the Image Biomarker Standardisation Initiative (IBSI; Zwanenburg et al. 2020,
Radiology 295:328), computed in three dimensions with matrices merged over directions, and are tested
against the IBSI's digital phantom. `radiomics` measures any region; `inference.models.image_features`
measures a patient.
"""

from inference.imaging.radiomics.features import (
    CT_LEVELS,
    FEATURE_NAMES,
    MR_LEVELS,
    FeatureVector,
    FixedCount,
    FixedWidth,
    absent,
    radiomics,
)

__all__ = [
    "CT_LEVELS",
    "FEATURE_NAMES",
    "MR_LEVELS",
    "FeatureVector",
    "FixedCount",
    "FixedWidth",
    "absent",
    "radiomics",
]
