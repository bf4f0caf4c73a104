"""Volumes to and from NIfTI, and whether what comes back lies on the grid that went out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from inference.errors import ModelError, SegmentationMissing
from inference.results import FloatArray, Grid, Labels, Voxels

SAME_PLACE_MM = 0.05
"""Farthest that a corner of the returned grid may lie from its place; NIfTI holds single precision."""
LEAST_ORTHOGONAL = 1e-3
"""Largest cosine between two axes of a grid that NIfTI programs treat as orthogonal."""


def write_volume(values: Voxels, grid: Grid, path: Path) -> None:
    """Write a volume as NIfTI.

    Parameters
    ----------
    values : array of float32, (slices, rows, columns)

    Raises
    ------
    SegmentationMissing
        The grid is sheared (a tilted gantry), which such programs do not read.
    """
    axes = grid.affine[:3, 2::-1] / np.array(grid.spacing_mm[::-1])
    if np.abs(axes.T @ axes - np.eye(3)).max() > LEAST_ORTHOGONAL:
        raise SegmentationMissing("the gantry was tilted; programs that read NIfTI cannot segment the images")
    image: Any = sitk.GetImageFromArray(np.ascontiguousarray(values, dtype=np.float32))
    image.SetSpacing([float(s) for s in grid.spacing_mm[::-1]])
    image.SetOrigin([float(v) for v in grid.affine[:3, 3]])
    image.SetDirection([float(v) for v in axes.ravel()])
    sitk.WriteImage(image, str(path), useCompression=False)


def read_labels(path: Path, grid: Grid, program: str) -> Labels:
    """Return the labels that a program wrote, (slices, rows, columns) of the grid.

    Raises
    ------
    ModelError
        There is no such file, or it lies on another grid or holds other things than labels.
    """
    try:
        image: Any = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise ModelError(f"{program} wrote no segmentation that can be read") from error
    if image.GetDimension() != 3 or tuple(image.GetSize())[::-1] != grid.shape:
        raise ModelError(f"{program} returned a grid of another size")
    if _farthest_corner_mm(_affine(image), grid) > SAME_PLACE_MM:
        raise ModelError(f"{program} returned a grid in another place")
    values = np.asarray(sitk.GetArrayFromImage(image), dtype=np.float64)
    labels: Labels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    if not np.array_equal(labels, values):
        raise ModelError(f"{program} returned values that are no labels")
    return labels


def _affine(image: Any) -> FloatArray:
    direction = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3] = direction[:, ::-1]
    affine[:3, 3] = image.GetOrigin()
    return affine


def _farthest_corner_mm(affine: FloatArray, grid: Grid) -> float:
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in grid.shape])).reshape(3, -1).T
    theirs = corners @ affine[:3, :3].T + affine[:3, 3]
    return float(np.linalg.norm(theirs - grid.to_patient(corners), axis=1).max())
