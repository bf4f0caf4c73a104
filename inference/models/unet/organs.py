"""What the networks of the default segmenter tell apart, and how images enter them."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from inference.results import Voxels

COARSE_SPACING_MM = 4.0
FINE_SPACING_MM = 2.0


class Organ(IntEnum):
    """Classes of the coarse network. The liver holds its tumours and its own vessels."""

    OUTSIDE = 0
    LIVER = 1
    SPLEEN = 2
    KIDNEY = 3
    VISCUS = 4
    BONE = 5
    LUNG = 6
    HEART = 7
    AORTA = 8
    VEIN = 9
    SOFT_TISSUE = 10


class LiverPart(IntEnum):
    """Classes of the fine network."""

    OUTSIDE = 0
    PARENCHYMA = 1
    LESION = 2
    VESSEL = 3


_CT_WINDOW_HU = (-150.0, 250.0)
_RELATIVE_HU = 60.0
_MR_QUANTILES = (0.005, 0.995)


def ct_input(values: Voxels) -> Voxels:
    """Map HU to -1 to 1 over a soft tissue window."""
    low, high = _CT_WINDOW_HU
    return np.asarray(np.clip((values - low) / (high - low), 0.0, 1.0) * 2.0 - 1.0, dtype=np.float32)


def mr_input(values: Voxels) -> Voxels:
    """Map MR intensities to -1 to 1 between quantiles of the whole volume."""
    low, high = np.quantile(values.ravel()[::7], _MR_QUANTILES)
    scaled = (values - low) / (float(high - low) + 1e-3)
    return np.asarray(np.clip(scaled, 0.0, 1.0) * 2.0 - 1.0, dtype=np.float32)


def relative_input(values: Voxels, liver: float, scale: float) -> Voxels:
    """Map values to their difference from the patient's own liver, in units of `scale`, within 2."""
    return np.asarray(np.clip((values - liver) / scale, -2.0, 2.0), dtype=np.float32)


def relative_scale(modality: str, liver: float) -> float:
    """Return the unit of `relative_input`: 60 HU in CT, 40 % of the liver's intensity in MR."""
    return _RELATIVE_HU if modality == "CT" else max(0.4 * liver, 1e-3)
