"""The measured part of an image vector: numbers with a name, before they are standardised."""

from __future__ import annotations

import numpy as np

from inference.models.outcome.crops import PHASES, PatientCrop
from inference.models.outcome.features import INTENSITIES, radiomics
from inference.results import FloatArray

_NAN = float("nan")
_SIZE = (
    "log_viable_ml",
    "log_total_ml",
    "dead_share",
    "lipiodol_share",
    "liver_share",
    "log_liver_ml",
    "log_lesions",
    "largest_share",
    "log_largest_mm",
    "place_z",
    "place_y",
    "place_x",
    "at_surface",
    "sphericity",
)
FLAGS = ("arterial_acquired", "portal_venous_acquired", "tumour_present")
"""1 or 0; they tell a measurement that is missing from one that is average."""
MEASURED = (
    *_SIZE,
    *(f"{name}_{phase}" for phase in range(PHASES) for name in INTENSITIES),
    "washout",
    *FLAGS,
)
"""Names of the measured part; those with 0 belong to the arterial, with 1 to the portal venous phase."""


def measurements(crop: PatientCrop) -> FloatArray:
    """Return the measured part of a vector, (42,) in the order of `MEASURED`; NaN for what is missing."""
    found = radiomics(crop)
    flags = [bool(np.isfinite(image).any()) for image in crop.images] + [bool(crop.tumour.any())]
    found |= dict(zip(FLAGS, (float(f) for f in flags), strict=True))
    if not flags[-1]:
        # A tumour that is gone has a volume of nothing, but no shares, place or shape.
        found |= {"dead_share": _NAN, "lipiodol_share": _NAN, "log_lesions": _NAN}
    return np.array([found.get(name, _NAN) for name in MEASURED], dtype=np.float64)
