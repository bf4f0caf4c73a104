"""Scalars of a patient before treatment: clinical values and radiomics of the baseline images.

They feed the models that a generator has to beat: ridge on scalars and logistic regression. Radiomic
definitions follow the Image Biomarker Standardisation Initiative where it has them (Zwanenburg et al.
2020, Radiology 295:328): volume, volume-based sphericity, intensity mean, deviation, skewness,
percentiles and entropy of the discretised intensities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.case import ClinicalRecord
from inference.clinical.variables import VARIABLES, Kind
from inference.results import FloatArray
from inference.training.cohort import NO_VALUE, SPACING_MM, PatientImages
from inference.training.crop_study import HALF
from inference.training.crop_volumes import VOXEL_ML, tissue_ml

BIN_HU = 25.0
"""Width of a bin of discretised intensities."""

_LOGARITHMIC = frozenset({"afp", "alt", "ast", "bilirubin", "crp", "creatinine"})
_FEW_VOXELS = 8


def clinical_features(clinical: ClinicalRecord) -> dict[str, float]:
    """Return clinical values as numbers: categories as indicators, skewed values as logarithms."""
    found: dict[str, float] = {}
    for name, variable in VARIABLES.items():
        value = clinical.values.get(name)
        if variable.kind is Kind.CATEGORY:
            given = None if value is None else str(value.value)
            for category in variable.categories[1:]:
                found[f"{name}={category}"] = float("nan") if given is None else float(given == category)
        elif value is None:
            found[name] = float("nan")
        else:
            number = float(value.value)
            found[name] = float(np.log(max(number, 0.1))) if name in _LOGARITHMIC else number
    return found


def radiomics(patient: PatientImages) -> dict[str, float]:
    """Return size, shape, intensity and texture of the lesions at baseline."""
    fractions = patient.fractions
    viable, necrosis, lipiodol = tissue_ml(fractions).tolist()
    total = viable + necrosis + lipiodol
    tumour = fractions.sum(axis=0, dtype=np.int32) >= HALF
    sizes = np.bincount(patient.lesion.ravel())[1:] * VOXEL_ML
    liver = patient.liver >= HALF
    found = {
        "log_total_ml": float(np.log(total + 0.1)),
        "log_viable_ml": float(np.log(viable + 0.1)),
        "dead_share": (necrosis + lipiodol) / max(total, 1e-6),
        "lesions": float(np.log1p(np.count_nonzero(sizes))),
        "largest_share": float(sizes.max() / max(sizes.sum(), 1e-6)) if sizes.size else float("nan"),
        "liver_share": float(total / max(liver.sum() * VOXEL_ML, 1e-6)),
        "sphericity": _sphericity(tumour),
    }
    background = liver & ~ndimage.binary_dilation(tumour, iterations=2)
    for phase, image in enumerate(patient.images):
        found |= {f"{key}_{phase}": v for key, v in _intensity(image, tumour, background).items()}
    if len(patient.images) > 1:
        found["washout"] = found["contrast_0"] - found["contrast_1"]
    return found


def _sphericity(mask: npt.NDArray[np.bool_]) -> float:
    """Surface of the ball of the same volume over the surface of the faces, times 1.5 for a ball's faces."""
    voxels = int(mask.sum())
    if voxels == 0:
        return float("nan")
    faces = sum(int(np.abs(np.diff(np.pad(mask, 1).astype(np.int8), axis=a)).sum()) for a in range(3))
    volume = voxels * SPACING_MM**3
    return float(1.5 * np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / (faces * SPACING_MM**2))


def _intensity(
    image: npt.NDArray[np.int16], tumour: npt.NDArray[np.bool_], background: npt.NDArray[np.bool_]
) -> dict[str, float]:
    names = ("mean", "sd", "skewness", "p10", "p90", "entropy", "gradient", "contrast", "rim")
    valid = np.asarray(image != NO_VALUE)
    inside: npt.NDArray[np.bool_] = np.logical_and(tumour, valid)
    values = image[inside].astype(np.float64)
    if len(values) < _FEW_VOXELS:
        return dict.fromkeys(names, float("nan"))
    mean, sd = float(values.mean()), float(values.std())
    bins = np.unique(np.floor(values / BIN_HU), return_counts=True)[1] / len(values)
    around = image[background & valid]
    rim = inside & ~ndimage.binary_erosion(tumour, iterations=2)
    steps = np.abs(np.diff(image.astype(np.float32), axis=2))
    gradient = steps[np.logical_and(inside[:, :, 1:], inside[:, :, :-1])]
    figures = (
        mean,
        sd,
        float(((values - mean) ** 3).mean() / max(sd, 1e-6) ** 3),
        float(np.percentile(values, 10)),
        float(np.percentile(values, 90)),
        float(-(bins * np.log2(bins)).sum()),
        float(gradient.mean()) if gradient.size else float("nan"),
        mean - float(around.mean()) if around.size else float("nan"),
        float(image[rim].mean()) - mean if rim.any() else float("nan"),
    )
    return dict(zip(names, figures, strict=True))


@dataclass(frozen=True, slots=True)
class Standardiser:
    """Turns dictionaries of numbers into a matrix as the training patients define it.

    Values are centred and scaled; a missing one becomes the mean, and a feature that was missing in
    training has a second column that says so. Features that were constant are left out.
    """

    names: tuple[str, ...]
    mean: FloatArray
    scale: FloatArray
    flagged: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, float]]) -> Standardiser:
        """Learn the features, means and scales of some patients."""
        if not rows:
            raise ValueError("there are no patients to standardise by")
        every = tuple(sorted({name for row in rows for name in row}))
        table = np.array([[row.get(name, np.nan) for name in every] for row in rows], dtype=np.float64)
        seen = np.isfinite(table)
        count = np.maximum(seen.sum(axis=0), 1)
        filled = np.where(seen, table, 0.0)
        mean = filled.sum(axis=0) / count
        scale = np.sqrt((np.where(seen, table - mean, 0.0) ** 2).sum(axis=0) / count)
        missing = np.asarray(~seen.all(axis=0))
        kept = scale > 1e-9
        names = tuple(n for n, keep in zip(every, kept, strict=True) if keep)
        return cls(names, mean[kept], scale[kept], missing[kept])

    def matrix(self, rows: Sequence[Mapping[str, float]]) -> FloatArray:
        """Return (rows, features)."""
        table = np.array([[row.get(n, np.nan) for n in self.names] for row in rows], dtype=np.float64)
        table = table.reshape(len(rows), len(self.names))
        missing = ~np.isfinite(table)
        scaled = np.where(missing, 0.0, (table - self.mean) / self.scale)
        return np.concatenate([scaled, missing[:, self.flagged].astype(np.float64)], axis=1)
