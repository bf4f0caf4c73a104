"""Registration of a follow-up to its baseline: rigid, then a coarse B-spline, on the liver.

Both scans are first resampled to aligned isotropic grids, so that oblique planes and gantry tilt play no
part. The metric (Mattes mutual information) looks at the liver and a narrow band around it and leaves
the lesions out, because they change with treatment and must not pull the images.

**Lesions keep their volume.** An elastic transform can shrink a tumour as well as a treatment can. So the
elastic part is replaced by its best rigid fit in and around every lesion of either scan, and fades out
away from the liver. Volumes and diameters of the outcome table are measured on the follow-up's own
grid, before any transform; the images are checked against them.

One thread and seeded sampling: the same scans give the same transform.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from pydantic import Field
from scipy import ndimage

from inference.errors import TrainingDataError
from inference.imaging.boxes import box_of
from inference.imaging.overlap import dice, mean_surface_distance_mm
from inference.imaging.resampling import aligned_grid, points_of, resampled, share_of, to_index
from inference.results import FloatArray, Grid, Labels, Mask, Voxels
from inference.settings import Frozen
from inference.training.registration_quality import RegistrationQuality, jacobian

_BINS = 32
_STAYS_MM = 3.0
"""The elastic part is rigid this far around a lesion."""
_FADES_MM = 18.0
"""Beyond this distance from a lesion the elastic part is as it was found."""


class RegistrationSettings(Frozen):
    """How a follow-up is brought to its baseline."""

    spacing_mm: float = Field(3.0, gt=0, description="grid of the registration")
    margin_mm: float = Field(36.0, gt=0, description="of the grid around the liver")
    band_mm: float = Field(6.0, ge=0, description="around the liver that the metric sees")
    control_mm: float = Field(45.0, gt=0, description="distance of B-spline control points")
    sampling: float = Field(0.5, gt=0, le=1, description="share of voxels that the metric samples")
    shrink: int = Field(2, ge=1, description="of the grid for the elastic part")
    rigid_steps: int = Field(60, gt=0)
    elastic_steps: int = Field(40, gt=0)
    modality: str = Field("CT", pattern="^(CT|MR)$")
    seed: int = Field(1, gt=0)


@dataclass(frozen=True, slots=True)
class ScanForRegistration:
    """What registration sees of one time point, on the grid of its primary series.

    Attributes
    ----------
    values : array of float32
        HU in CT, signal in MR; one phase that both time points have. NaN where it was not acquired.
    liver : mask of the liver with its lesions
    lesion : array of uint8
        0, or the number of the lesion.
    """

    grid: Grid
    values: Voxels
    liver: Mask
    lesion: Labels


@dataclass(frozen=True, slots=True)
class Mapping:
    """Where a point of the baseline lies in the follow-up: ``rigid(p + elastic(p))``, LPS in mm.

    Attributes
    ----------
    rigid : array, (4, 4)
    grid : Grid
        Of `elastic`; no elastic displacement outside.
    elastic : array, (3, z, y, x)
        Components (x, y, z) in mm.
    """

    rigid: FloatArray
    grid: Grid
    elastic: FloatArray

    def at(self, points_mm: FloatArray) -> FloatArray:
        """Map (3, ...) points of the baseline into the follow-up."""
        index = to_index(points_mm, self.grid)
        moved = points_mm + np.stack(
            [ndimage.map_coordinates(c, index, order=1, mode="constant") for c in self.elastic]
        )
        shift = self.rigid[:3, 3].reshape((3,) + (1,) * (points_mm.ndim - 1))
        return np.asarray(np.tensordot(self.rigid[:3, :3], moved, axes=1) + shift)

    def on(self, grid: Grid) -> FloatArray:
        """Return where the voxels of a grid of the baseline lie in the follow-up, (3, z, y, x)."""
        return self.at(points_of(grid))


@dataclass(frozen=True, slots=True)
class Registered:
    """A mapping and its quality."""

    mapping: Mapping
    quality: RegistrationQuality


# ------------------------------------------------------------------ the steps


@dataclass(frozen=True, slots=True)
class _Side:
    """One scan on its aligned grid; `seen` is what the metric looks at."""

    grid: Grid
    values: Voxels
    liver: Voxels
    lesion: Voxels
    seen: Mask


def register(
    baseline: ScanForRegistration, follow_up: ScanForRegistration, settings: RegistrationSettings
) -> Registered:
    """Find the mapping of a baseline into its follow-up.

    Raises
    ------
    TrainingDataError
        A liver is empty, or the optimisation cannot begin.
    """
    fixed, moving = _side(baseline, settings), _side(follow_up, settings)
    start = _start(fixed, moving)
    try:
        with _one_thread():
            rigid = _rigid(fixed, moving, start, settings)
            spline = _elastic(fixed, moving, rigid, settings)
    except RuntimeError as error:
        raise TrainingDataError("the two scans could not be registered: they hardly overlap") from error
    matrix = _matrix(rigid)
    found = _displacement(spline, fixed.grid)
    faded = found * _near_liver(fixed, settings)
    without = Mapping(matrix, fixed.grid, np.zeros_like(faded))
    held = _hold_lesions(faded, fixed, moving, Mapping(matrix, fixed.grid, faded))
    mapping = Mapping(matrix, fixed.grid, held)
    return Registered(mapping, _quality(fixed, moving, mapping, without, settings))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit ITK to one thread: sums over threads are added in the order in which they end.

    The limit of one filter does not reach the filters inside it, so the process's own is set and put back.
    """
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def window(modality: str, values: Voxels, liver: Mask) -> tuple[float, float]:
    """Return the values between which a liver is looked at: fixed HU in CT, about the median in MR."""
    if modality == "CT":
        return -60.0, 260.0
    middle = float(np.nanmedian(values[liver]))
    return 0.0, max(2.2 * middle, 1e-6)


def _side(scan: ScanForRegistration, settings: RegistrationSettings) -> _Side:
    if not scan.liver.any():
        raise TrainingDataError("a time point has no liver to register")
    grid = _grid_around(scan, settings)
    values = resampled(scan.values, scan.grid, grid)
    low, high = window(settings.modality, scan.values, scan.liver)
    inside = np.isfinite(values)
    values = np.asarray(np.clip(np.where(inside, values, low), low, high), dtype=np.float32)
    liver = share_of(scan.liver, scan.grid, grid)
    lesion = share_of(scan.lesion > 0, scan.grid, grid)
    distance = ndimage.distance_transform_edt(liver < 0.5, sampling=settings.spacing_mm)
    near_lesion = ndimage.binary_dilation(lesion > 0.0) if lesion.any() else np.zeros(grid.shape, dtype=bool)
    seen = (distance <= settings.band_mm) & inside & ~near_lesion
    return _Side(grid, values, liver, lesion, np.asarray(seen))


def _grid_around(scan: ScanForRegistration, settings: RegistrationSettings) -> Grid:
    box = box_of(scan.liver, 0)
    corners = np.array(
        [[(box.start[a], box.stop[a] - 1)[k >> a & 1] for a in range(3)] for k in range(8)], dtype=np.float64
    )
    points = scan.grid.to_patient(corners)
    low, high = points.min(axis=0), points.max(axis=0)
    extent = (high - low + 2.0 * settings.margin_mm) / settings.spacing_mm
    x, y, z = (int(np.ceil(e)) + 1 for e in extent)
    return aligned_grid((low + high) / 2.0, (z, y, x), settings.spacing_mm, scan.grid.frame_of_reference_uid)


def _image(values: Voxels | Mask, grid: Grid) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.astype(np.float32)))
    image.SetSpacing([float(s) for s in grid.spacing_mm[::-1]])
    image.SetOrigin([float(v) for v in grid.affine[:3, 3]])
    return image


def _mask_image(mask: Mask, grid: Grid) -> sitk.Image:
    cast: sitk.Image = sitk.Cast(_image(mask, grid), sitk.sitkUInt8)
    return cast


def _start(fixed: _Side, moving: _Side) -> sitk.Euler3DTransform:
    """Put the centres of the livers on each other: fields of view and table heights differ."""
    centres = []
    for side in (fixed, moving):
        index = np.argwhere(side.liver >= 0.5).mean(axis=0)
        centres.append(side.grid.to_patient(index))
    start = sitk.Euler3DTransform()
    start.SetCenter([float(v) for v in centres[0]])
    start.SetTranslation([float(v) for v in centres[1] - centres[0]])
    return start


def _method(fixed: _Side, moving: _Side, settings: RegistrationSettings) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricFixedMask(_mask_image(fixed.seen, fixed.grid))
    method.SetMetricMovingMask(_mask_image(moving.seen | (moving.liver <= 0.0), moving.grid))
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(settings.sampling, settings.seed)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _rigid(
    fixed: _Side, moving: _Side, start: sitk.Euler3DTransform, settings: RegistrationSettings
) -> sitk.Euler3DTransform:
    method = _method(fixed, moving, settings)
    method.SetInitialTransform(start, inPlace=False)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=4.0,
        minStep=0.01,
        numberOfIterations=settings.rigid_steps,
        gradientMagnitudeTolerance=1e-6,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([3.0, 1.5])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    found = method.Execute(_image(fixed.values, fixed.grid), _image(moving.values, moving.grid))
    return sitk.Euler3DTransform(
        found.GetNthTransform(0) if found.GetName() == "CompositeTransform" else found
    )


def _elastic(
    fixed: _Side, moving: _Side, rigid: sitk.Euler3DTransform, settings: RegistrationSettings
) -> sitk.BSplineTransform:
    image = _image(fixed.values, fixed.grid)
    extent = np.array(fixed.grid.shape[::-1]) * settings.spacing_mm
    mesh = [max(2, round(float(e) / settings.control_mm)) for e in extent]
    spline: sitk.BSplineTransform = sitk.BSplineTransformInitializer(image, mesh, order=3)
    method = _method(fixed, moving, settings)
    method.SetMovingInitialTransform(rigid)
    method.SetInitialTransform(spline, inPlace=True)
    method.SetOptimizerAsLBFGSB(
        gradientConvergenceTolerance=1e-6,
        numberOfIterations=settings.elastic_steps,
        maximumNumberOfFunctionEvaluations=2 * settings.elastic_steps,
        maximumNumberOfCorrections=5,
    )
    method.SetShrinkFactorsPerLevel([settings.shrink])
    method.SetSmoothingSigmasPerLevel([2.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.Execute(image, _image(moving.values, moving.grid))
    return spline


def _matrix(rigid: sitk.Euler3DTransform) -> FloatArray:
    """Return a rigid transform as a matrix: R (p - c) + c + t."""
    matrix = np.eye(4)
    rotation = np.array(rigid.GetMatrix(), dtype=np.float64).reshape(3, 3)
    centre, shift = np.array(rigid.GetCenter()), np.array(rigid.GetTranslation())
    matrix[:3, :3] = rotation
    matrix[:3, 3] = centre + shift - rotation @ centre
    return matrix


def _displacement(spline: sitk.BSplineTransform, grid: Grid) -> FloatArray:
    field = sitk.TransformToDisplacementField(
        spline,
        sitk.sitkVectorFloat64,
        [int(n) for n in grid.shape[::-1]],
        [float(v) for v in grid.affine[:3, 3]],
        [float(s) for s in grid.spacing_mm[::-1]],
    )
    return np.asarray(np.moveaxis(sitk.GetArrayFromImage(field), -1, 0), dtype=np.float64)


# ------------------------------------------------------------------ what the elastic part may do


def _falling(distance_mm: FloatArray, stays_mm: float, gone_mm: float) -> FloatArray:
    """Return 1 up to one distance and 0 from another, smooth between."""
    share = np.clip((gone_mm - distance_mm) / (gone_mm - stays_mm), 0.0, 1.0)
    return np.asarray(share * share * (3.0 - 2.0 * share))


def _near_liver(fixed: _Side, settings: RegistrationSettings) -> FloatArray:
    """Beyond the band that the metric sees the B-spline is free, and so is faded out."""
    distance = ndimage.distance_transform_edt(fixed.liver < 0.5, sampling=settings.spacing_mm)
    return _falling(np.asarray(distance), settings.band_mm, settings.margin_mm)


def _hold_lesions(elastic: FloatArray, fixed: _Side, moving: _Side, mapping: Mapping) -> FloatArray:
    """Replace the elastic part by its best rigid fit in every lesion of either scan.

    Lesions nearer to each other than the distance over which the part fades in move as one.
    """
    there = resampled(moving.lesion, moving.grid, fixed.grid, mapping.on(fixed.grid))
    lesions = (fixed.lesion > 0.0) | (np.nan_to_num(there) > 0.0)
    if not lesions.any():
        return elastic
    spacing = fixed.grid.spacing_mm[0]
    distance = np.asarray(ndimage.distance_transform_edt(~lesions, sampling=spacing))
    groups, count = ndimage.label(distance <= _FADES_MM)
    weight = _falling(distance, _STAYS_MM, _FADES_MM)
    points = points_of(fixed.grid)
    held = elastic.copy()
    for number in range(1, count + 1):
        here = groups == number
        core = here & lesions
        rotation, shift = _rigid_fit(points[:, core], (points + elastic)[:, core])
        rigid = np.tensordot(rotation, points[:, here], axes=1) + shift[:, None] - points[:, here]
        share = weight[here]
        held[:, here] = share * rigid + (1.0 - share) * elastic[:, here]
    return held


def _rigid_fit(points: FloatArray, moved: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return rotation and shift that bring (3, n) points closest to others.

    References
    ----------
    Kabsch 1976, Acta Crystallogr A 32:922.
    """
    centre, towards = points.mean(axis=1), moved.mean(axis=1)
    u, _, vt = np.linalg.svd((moved - towards[:, None]) @ (points - centre[:, None]).T)
    turn = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt)) or 1.0])
    rotation = u @ turn @ vt
    return np.asarray(rotation), np.asarray(towards - rotation @ centre)


# ------------------------------------------------------------------ quality


def _quality(
    fixed: _Side, moving: _Side, mapping: Mapping, rigid: Mapping, settings: RegistrationSettings
) -> RegistrationQuality:
    mapped = mapping.on(fixed.grid)
    liver = fixed.liver >= 0.5
    other = _warped(moving.liver, moving, fixed, mapped) >= 0.5
    determinant = jacobian(mapped, fixed.grid)[liver]
    return RegistrationQuality(
        dice_before=dice(liver, _warped(moving.liver, moving, fixed, points_of(fixed.grid)) >= 0.5),
        dice_rigid=dice(liver, _warped(moving.liver, moving, fixed, rigid.on(fixed.grid)) >= 0.5),
        dice=dice(liver, other),
        surface_mm=_apart_mm(liver, other, fixed.grid),
        residual=_residual(fixed, moving, mapped, liver & other),
        jacobian_min=float(determinant.min()),
        jacobian_max=float(determinant.max()),
        folding=float((determinant <= 0.0).mean()),
    )


def _warped(values: Voxels, moving: _Side, fixed: _Side, mapped: FloatArray) -> Voxels:
    return np.nan_to_num(resampled(values, moving.grid, fixed.grid, mapped))


def _apart_mm(liver: Mask, other: Mask, grid: Grid) -> float:
    """Return the mean distance of the liver surfaces; a liver that was mapped outside is infinitely far."""
    found = mean_surface_distance_mm(liver, other, grid.spacing_mm)
    return found if np.isfinite(found) else float("inf")


def _residual(fixed: _Side, moving: _Side, mapped: FloatArray, inside: Mask) -> float:
    """Contrast timing differs between scans: medians are made equal before the difference is taken."""
    there = _warped(moving.values, moving, fixed, mapped)
    lesions = (fixed.lesion > 0.0) | (_warped(moving.lesion, moving, fixed, mapped) > 0.0)
    parenchyma = inside & ~lesions
    if not parenchyma.any():
        return float("inf")
    before, after = fixed.values[parenchyma], there[parenchyma]
    width = max(float(np.ptp(fixed.values)), 1e-6)
    return float(np.abs((before - np.median(before)) - (after - np.median(after))).mean() / width)
