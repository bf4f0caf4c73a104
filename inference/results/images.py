"""Images and their geometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from inference.case import Phase
from inference.results.arrays import FloatArray, Mask, StoredValues, Voxels


@dataclass(frozen=True, slots=True)
class Grid:
    """A regular sampling of patient space.

    Attributes
    ----------
    shape : (slices, rows, columns)
    affine : array, (4, 4)
        Maps (slice, row, column, 1) at voxel centres to LPS in mm.
    frame_of_reference_uid : str
    """

    shape: tuple[int, int, int]
    affine: FloatArray
    frame_of_reference_uid: str

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (slice, row, column) axes, in mm."""
        z, y, x = (float(np.linalg.norm(self.affine[:3, axis])) for axis in range(3))
        return z, y, x

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in ml."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def to_patient(self, index: npt.ArrayLike) -> FloatArray:
        """Map (..., 3) indices (slice, row, column) to (..., 3) LPS coordinates in mm."""
        i = np.asarray(index, dtype=np.float64)
        return np.asarray(i @ self.affine[:3, :3].T + self.affine[:3, 3])

    def part(self, box: Box) -> Grid:
        """Return the grid of a box of this one."""
        affine = self.affine.copy()
        affine[:3, 3] = self.to_patient(box.start)
        return Grid(box.shape, affine, self.frame_of_reference_uid)


@dataclass(frozen=True, slots=True)
class Resampled:
    """That a series was interpolated from its own grid onto that of the primary series.

    Attributes
    ----------
    covered : array of bool, (slices, rows, columns)
        Voxels that the series acquired; the others have its least value.
    """

    source_grid: Grid
    covered: Mask


@dataclass(frozen=True, slots=True)
class SeriesVolume:
    """One series as a volume, slices in the order of the grid's first axis.

    Attributes
    ----------
    stored : array of int32, (slices, rows, columns)
        Stored values exactly as in the files; interpolated where `resampled` says so.
    slope, intercept : array, (slices,)
        Rescale Slope and Intercept of each slice; value = slope * stored + intercept (HU in CT).
    headers : tuple of Dataset
        Source headers without Pixel Data, one for each slice. Not to be written to.
    phase_evidence : str
        What the phase was concluded from, one sentence.
    resampled : Resampled or None
        None for a series on its own grid, which the primary always is.
    """

    series_instance_uid: str
    modality: str
    phase: Phase
    phase_evidence: str
    grid: Grid
    stored: StoredValues
    slope: FloatArray
    intercept: FloatArray
    headers: tuple[Dataset, ...]
    resampled: Resampled | None = None

    def values(self) -> Voxels:
        """Rescaled values, float32 (slices, rows, columns); HU in CT (PS3.3 C.11.1.1.2)."""
        shape = (-1, 1, 1)
        scaled = self.stored * self.slope.reshape(shape) + self.intercept.reshape(shape)
        return np.asarray(scaled, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open box of voxel indices on a grid."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as an index."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    @property
    def shape(self) -> tuple[int, int, int]:
        """Extent along (slice, row, column)."""
        z, y, x = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    def slices_in(self, other: Box) -> tuple[slice, slice, slice]:
        """Return the box as an index of an array that covers `other`, which must hold it."""
        z, y, x = (slice(a - o, b - o) for a, b, o in zip(self.start, self.stop, other.start, strict=True))
        return z, y, x


@dataclass(frozen=True, slots=True)
class RejectedSeries:
    """A series that was not used, and why."""

    series_instance_uid: str
    modality: str
    description: str
    reason: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """The chosen series as volumes. The first is primary: masks and forecasts live on its grid.

    Series of other phases have been checked to share the primary's geometry, or are rejected.
    """

    study_instance_uid: str
    volumes: tuple[SeriesVolume, ...]
    rejected: tuple[RejectedSeries, ...]
    warnings: tuple[str, ...] = ()

    @property
    def primary(self) -> SeriesVolume:
        """The series on whose grid everything is measured."""
        return self.volumes[0]

    def phase(self, phase: Phase) -> SeriesVolume | None:
        """Return the volume of one phase, if it was chosen."""
        return next((v for v in self.volumes if v.phase is phase), None)
