"""Numbers that describe a patient before treatment: radiomics of the crop and clinical values.

Intensities are measured in the lesions, at their rim and against the liver around them, in each
phase. Definitions follow the Image Biomarker Standardisation Initiative where it has them (Zwanenburg
et al. 2020, Radiology 295:328). What cannot be measured is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from inference.case import ClinicalRecord
from inference.clinical.variables import VARIABLES, Kind
from inference.models.outcome.crops import PHASES, SPACING_MM, VOXEL_ML, PatientCrop
from inference.results import Mask, Voxels

_NAN = float("nan")
_SKEWED = frozenset({"afp", "alt", "ast", "bilirubin", "crp", "creatinine", "platelets"})
_FEW = 8
_BIN = 25.0
INTENSITIES = (
    "mean",
    "sd",
    "skewness",
    "p10",
    "p90",
    "entropy",
    "coarse_sd",
    "contrast",
    "contrast_viable",
    "rim",
    "outside",
    "liver_sd",
)
"""Names of what is measured in the lesions of each phase."""


def patient_features(crop: PatientCrop, clinical: ClinicalRecord) -> dict[str, float]:
    """Return all features by name; a missing clinical value is NaN."""
    return clinical_features(clinical) | radiomics(crop)


def clinical_features(clinical: ClinicalRecord) -> dict[str, float]:
    """Return clinical values as numbers: categories as their rank, skewed values as logarithms."""
    found: dict[str, float] = {}
    for name, variable in VARIABLES.items():
        value = clinical.values.get(name)
        if value is None:
            number = _NAN
        elif variable.kind is Kind.CATEGORY:
            number = float(variable.categories.index(str(value.value)))
        else:
            number = float(value.value)
        found[name] = math.log(max(number, 0.1)) if name in _SKEWED else number
    return found


def radiomics(crop: PatientCrop) -> dict[str, float]:
    """Return size, shape, number, place, intensity and texture of the lesions."""
    viable, dead, oil = crop.volumes_ml()
    total = viable + dead + oil
    tumour = crop.tumour
    liver = crop.liver >= 0.5
    found = {
        "log_viable_ml": math.log(viable + 0.1),
        "log_total_ml": math.log(total + 0.1),
        "dead_share": dead / max(total, 1e-6),
        "lipiodol_share": oil / max(total, 1e-6),
        "liver_share": total / max(float(liver.sum()) * VOXEL_ML, 1e-6),
        "log_liver_ml": math.log(float(liver.sum()) * VOXEL_ML + 1.0),
        **_sizes(crop),
        **_place(tumour, liver),
    }
    rough = {"sphericity": sphericity(tumour)}
    found |= rough
    background = liver & ~ndimage.binary_dilation(tumour, iterations=3)
    viable_part = crop.fractions[0] >= 0.5
    for phase in range(PHASES):
        figures = _intensity(crop.images[phase], tumour, viable_part, liver, background)
        found |= {f"{name}_{phase}": figures.get(name, _NAN) for name in INTENSITIES}
    found["washout"] = found["contrast_viable_0"] - found["contrast_viable_1"]
    return found


def _sizes(crop: PatientCrop) -> dict[str, float]:
    counts = np.bincount(crop.lesion.ravel(), minlength=2)[1:].astype(np.float64) * VOXEL_ML
    sizes = np.sort(counts[counts > 0])[::-1]
    if not sizes.size:
        return {"log_lesions": 0.0, "largest_share": _NAN, "log_largest_mm": _NAN}
    diameter = 2.0 * (3000.0 * sizes[0] / (4.0 * math.pi)) ** (1.0 / 3.0)
    return {
        "log_lesions": math.log(len(sizes)),
        "largest_share": float(sizes[0] / sizes.sum()),
        "log_largest_mm": math.log(diameter),
    }


def _place(tumour: Mask, liver: Mask) -> dict[str, float]:
    """Where the tumour lies in the liver, in liver radii, and how much of it touches the surface."""
    if not tumour.any() or not liver.any():
        return {"place_z": _NAN, "place_y": _NAN, "place_x": _NAN, "at_surface": _NAN}
    middle = np.array(ndimage.center_of_mass(tumour)) - np.array(ndimage.center_of_mass(liver))
    radius = (3.0 * float(liver.sum()) / (4.0 * math.pi)) ** (1.0 / 3.0)
    z, y, x = (float(v) / radius for v in middle)
    shell = liver & ~ndimage.binary_erosion(liver, iterations=2)
    return {
        "place_z": z,
        "place_y": y,
        "place_x": x,
        "at_surface": float((tumour & shell).sum()) / float(tumour.sum()),
    }


def sphericity(mask: Mask) -> float:
    """Return the surface of the ball of the same volume over the mask's own, 1 for a ball."""
    voxels = int(mask.sum())
    if voxels == 0:
        return _NAN
    padded = np.pad(mask, 1).astype(np.int8)
    faces = sum(int(np.abs(np.diff(padded, axis=a)).sum()) for a in range(3))
    ball = math.pi ** (1 / 3) * (6.0 * voxels) ** (2 / 3)
    # The faces of a ball of voxels are one and a half times its surface.
    return float(1.5 * ball / faces)


def _intensity(image: Voxels, tumour: Mask, viable: Mask, liver: Mask, background: Mask) -> dict[str, float]:
    acquired = np.isfinite(image)
    inside = tumour & acquired
    values = image[inside].astype(np.float64)
    if len(values) < _FEW:
        return {}
    around = image[background & acquired]
    level = float(np.median(around)) if around.size else _NAN
    mean, sd = float(values.mean()), float(values.std())
    shares = np.unique(np.floor(values / _BIN), return_counts=True)[1] / len(values)
    core = ndimage.binary_erosion(tumour, iterations=2)
    rim = image[inside & ~core]
    shell = ndimage.binary_dilation(tumour, iterations=3) & liver & ~tumour & acquired
    coarse = _smooth(np.where(inside, image - mean, 0.0), inside, 4.0 / SPACING_MM)
    alive = image[viable & acquired]
    return {
        "mean": mean,
        "sd": sd,
        "skewness": float(((values - mean) ** 3).mean()) / max(sd, 1e-6) ** 3,
        "p10": float(np.percentile(values, 10)),
        "p90": float(np.percentile(values, 90)),
        "entropy": float(-(shares * np.log2(shares)).sum()),
        "coarse_sd": float(coarse[inside].std()),
        "contrast": mean - level,
        "contrast_viable": float(alive.mean()) - level if alive.size >= _FEW else _NAN,
        "rim": float(rim.mean()) - mean if rim.size else _NAN,
        "outside": float(image[shell].mean()) - level if shell.any() else _NAN,
        "liver_sd": float(_smooth(np.nan_to_num(image - level), background & acquired, 2.0)[background].std())
        if around.size
        else _NAN,
    }


def _smooth(values: Voxels, mask: Mask, sigma: float) -> Voxels:
    """Gaussian mean of the masked voxels around each voxel."""
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma, truncate=2.5)
    top = ndimage.gaussian_filter(np.where(mask, values, 0.0).astype(np.float32), sigma, truncate=2.5)
    return np.asarray(top / np.maximum(weight, 1e-3), dtype=np.float32)


def vector(features: Mapping[str, float], names: tuple[str, ...]) -> list[float]:
    """Return named features in an order, NaN for those that are absent."""
    return [features.get(name, _NAN) for name in names]
