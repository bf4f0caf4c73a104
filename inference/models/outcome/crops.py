"""A patient as the learned models see it: a liver-centred isotropic crop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.imaging.boxes import box_of
from inference.results import FloatArray, Labels, Mask, Voxels

SPACING_MM = 2.25
"""Voxel size of a crop along each axis; the same as that of a prepared cohort."""
SIZE = (96, 96, 96)
"""Voxels of a crop, (z, y, x)."""
VOXEL_ML = SPACING_MM**3 / 1000.0
PHASES = 2
"""Arterial and portal venous, of CT or of MR."""
VIABLE, NECROSIS, LIPIODOL = 0, 1, 2
"""Channels of the tissue fractions."""


@dataclass(frozen=True, slots=True)
class PatientCrop:
    """Baseline of one patient; all arrays in the order (z, y, x), z towards the head, x towards the left.

    Attributes
    ----------
    images : array of float32, (2, z, y, x)
        Arterial and portal venous phase; HU in CT, in MR intensity times 1000 over the median of the
        liver. NaN where nothing was acquired.
    liver : array of float32, (z, y, x)
        Share of the voxel that is liver, tumours and vessels included.
    fractions : array of float32, (3, z, y, x)
        Viable tumour, dead tumour and lipiodol as shares of the voxel.
    lesion : array of uint8, (z, y, x)
        0, or the number of the lesion.
    """

    images: Voxels
    liver: Voxels
    fractions: Voxels
    lesion: Labels

    @property
    def tumour(self) -> Mask:
        """Voxels that are tumour for the most part."""
        return np.asarray(self.fractions.sum(axis=0) >= 0.5)

    def volumes_ml(self) -> tuple[float, float, float]:
        """Return viable, dead and lipiodol-covered tumour in ml."""
        v, n, o = (float(f.sum(dtype=np.float64)) * VOXEL_ML for f in self.fractions)
        return v, n, o

    @property
    def lesions(self) -> tuple[int, ...]:
        """Numbers of the lesions, ascending."""
        return tuple(int(n) for n in np.unique(self.lesion) if n > 0)


def lesion_volumes(fractions: Voxels, lesion: Labels) -> FloatArray:
    """Return viable, dead and lipiodol-covered tumour of each lesion number in ml, (256, 3).

    A border voxel that tumour fills less than half has no lesion number; what it holds belongs to the
    nearest lesion. Left out, it would be 2 % of a large lesion and 9 % of a small one. So the volumes
    of all lesions add up to those of the crop, unless it has no lesion number at all.

    Parameters
    ----------
    fractions : array of float, (3, z, y, x)
        Shares of the voxel, 0 to 1.
    lesion : array of uint8, (z, y, x)
    """
    volumes = np.zeros((256, len(fractions)))
    if not lesion.any():
        return volumes
    filled = np.asarray((fractions > 0).any(axis=0))
    box = box_of(filled | (lesion > 0), 0).slices
    number, inside = lesion[box], filled[box]
    index = ndimage.distance_transform_edt(number == 0, return_distances=False, return_indices=True)
    owner = number[tuple(index)][inside]
    for tissue, share in enumerate(fractions):
        volumes[:, tissue] = np.bincount(owner, weights=share[box][inside], minlength=256) * VOXEL_ML
    return volumes
