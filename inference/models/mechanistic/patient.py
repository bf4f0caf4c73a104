"""What the model derives from a baseline, once for all regimens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.models.mechanistic.growth import Diffusion, front_constants
from inference.models.mechanistic.parameters import Delivery, MechanisticParameters
from inference.models.mechanistic.sampling import resample, smooth_noise
from inference.randomness import RandomStreams
from inference.results import Box, FloatArray, Grid, Labels, Mask, Segmentation, Tissue, Voxels

Axes = tuple[FloatArray, FloatArray, FloatArray]
Index = npt.NDArray[np.int32]

_DEAD = (Tissue.NECROSIS, Tissue.LIPIODOL)
_TUMOUR = (Tissue.VIABLE, Tissue.NECROSIS, Tissue.LIPIODOL)


@dataclass(frozen=True, slots=True)
class Crop:
    """The lesions and their surroundings on the grid of the primary series.

    Attributes
    ----------
    box : Box
        On the primary grid.
    tissue, lesion : array of uint8, shape of the box
        Baseline.
    nearest : array of uint8, shape of the box
        Number of the nearest lesion.
    old_dead : array of bool, shape of the box
        Whether the nearest tumour voxel was dead before treatment: what is dead does not grow.
    depth : array of float32, shape of the box
        Depth inside the edge of the nearest lesion in mm, negative outside.
    nodes : three arrays
        Fractional index in the box of each node of the simulation grid.
    voxels : three arrays
        Fractional index in the simulation grid of each voxel of the box.
    """

    box: Box
    tissue: Labels
    lesion: Labels
    nearest: Labels
    old_dead: Mask
    depth: Voxels
    nodes: Axes
    voxels: Axes
    voxel_ml: float

    def upsample(self, field: Voxels) -> Voxels:
        """Bring a field from the simulation grid to the voxels of the box."""
        return resample(field, self.voxels)


@dataclass(frozen=True, slots=True)
class TumourFields:
    """Fields on the simulation grid, each (z, y, x).

    Attributes
    ----------
    depth : depth inside the tumour's edge, mm
    old_dead : fraction of tissue that was dead before treatment
    diffusion, proliferation : D (mm^2/day) and rho (1/day) of the nearest lesion
    log_delivery : log of the delivery of arterial treatment, median 0 in the reference tumour
    log_tolerance : log of the exposure that tissue survives, median 0
    granularity : relative lipiodol deposit, mean 1
    nearest : number of the nearest lesion
    """

    depth: Voxels
    old_dead: Voxels
    diffusion: Voxels
    proliferation: Voxels
    log_delivery: Voxels
    log_tolerance: Voxels
    granularity: Voxels
    nearest: Labels
    operator: Diffusion
    spacing_mm: float

    @property
    def liver(self) -> Mask:
        """Where tumour may be."""
        return self.operator.inside > 0.5


@dataclass(frozen=True, slots=True)
class LesionSize:
    """A lesion at baseline."""

    number: int
    viable_ml: float
    total_ml: float

    @property
    def radius_mm(self) -> float:
        """Radius of the sphere of the same volume."""
        return float((self.total_ml * 3000.0 / (4.0 * np.pi)) ** (1.0 / 3.0))


@dataclass(frozen=True, slots=True)
class Patient:
    """A baseline, prepared."""

    crop: Crop
    fields: TumourFields
    lesions: tuple[LesionSize, ...]


def prepare(
    grid: Grid, segmentation: Segmentation, parameters: MechanisticParameters, streams: RandomStreams
) -> Patient | None:
    """Return the prepared patient, or None where the segmentation has no tumour.

    The random fields are those of the patient: their streams bear no regimen's name, so that a
    difference between regimens is never sampling noise.
    """
    crop = _crop(grid, segmentation, parameters)
    if crop is None:
        return None
    sizes = _sizes(crop)
    return Patient(crop, _fields(crop, grid.spacing_mm, sizes, parameters, streams), sizes)


def _crop(grid: Grid, segmentation: Segmentation, parameters: MechanisticParameters) -> Crop | None:
    labels = segmentation.labels
    tumour = labels.mask(*_TUMOUR)
    found = ndimage.find_objects(tumour.astype(np.uint8))
    if not found:
        return None
    spacing = np.array(grid.spacing_mm)
    margin = np.ceil(parameters.numerics.margin_mm / spacing).astype(int)
    bounds = found[0]
    start = [int(max(b.start - m, 0)) for b, m in zip(bounds, margin, strict=True)]
    stop = [int(min(b.stop + m, n)) for b, m, n in zip(bounds, margin, labels.tissue.shape, strict=True)]
    inner = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    origin = labels.box.start
    box = Box(
        (origin[0] + start[0], origin[1] + start[1], origin[2] + start[2]),
        (origin[0] + stop[0], origin[1] + stop[1], origin[2] + stop[2]),
    )
    tissue = np.ascontiguousarray(labels.tissue[inner])
    lesion = np.ascontiguousarray(labels.lesion[inner])
    h = parameters.numerics.spacing_mm
    voxels = [np.arange(n) * s / h for n, s in zip(box.shape, spacing, strict=True)]
    nodes = [np.arange(int(np.ceil(v[-1])) + 1) * h / s for v, s in zip(voxels, spacing, strict=True)]
    depth, index = _depth(tumour[inner], grid.spacing_mm)
    return Crop(
        box,
        tissue,
        lesion,
        lesion[index],
        np.isin(tissue, _DEAD)[index],
        depth,
        (nodes[0], nodes[1], nodes[2]),
        (voxels[0], voxels[1], voxels[2]),
        grid.voxel_ml,
    )


def _depth(tumour: Mask, spacing_mm: tuple[float, float, float]) -> tuple[Voxels, tuple[Index, ...]]:
    """Return the depth inside the tumour's edge, and the index of the nearest tumour voxel."""
    # The edge lies half a voxel away from the centres on both sides of it.
    half = min(spacing_mm) / 2.0
    inside = ndimage.distance_transform_edt(tumour, sampling=spacing_mm).astype(np.float32)
    outside, index = ndimage.distance_transform_edt(~tumour, sampling=spacing_mm, return_indices=True)
    depth = np.where(tumour, inside - half, half - outside.astype(np.float32)).astype(np.float32)
    return depth, tuple(index)


def _sizes(crop: Crop) -> tuple[LesionSize, ...]:
    total = np.bincount(crop.lesion.ravel(), minlength=256)
    viable = np.bincount(crop.lesion[crop.tissue == Tissue.VIABLE].ravel(), minlength=256)
    return tuple(
        LesionSize(int(n), float(viable[n]) * crop.voxel_ml, float(total[n]) * crop.voxel_ml)
        for n in np.flatnonzero(total)
        if n > 0
    )


def _fields(
    crop: Crop,
    spacing_mm: tuple[float, float, float],
    sizes: tuple[LesionSize, ...],
    parameters: MechanisticParameters,
    streams: RandomStreams,
) -> TumourFields:
    nodes = crop.nodes
    h = parameters.numerics.spacing_mm
    depth = resample(crop.depth, nodes)
    dead = crop.old_dead.astype(np.float32)
    liver = resample((crop.tissue > 0).astype(np.float32), nodes) > 0.5
    index = [
        np.clip(np.rint(n).astype(int), 0, s - 1) for n, s in zip(nodes, crop.nearest.shape, strict=True)
    ]
    nearest = np.ascontiguousarray(crop.nearest[np.ix_(*index)])
    surface = _depth_below_surface(liver, h)
    return assemble_fields(depth, resample(dead, nodes), liver, nearest, surface, sizes, parameters, streams)


def _depth_below_surface(liver: Mask, spacing_mm: float) -> Voxels:
    return np.asarray(ndimage.distance_transform_edt(liver) * spacing_mm, dtype=np.float32)


def assemble_fields(
    depth: Voxels,
    old_dead: Voxels,
    liver: Mask,
    nearest: Labels,
    surface_mm: Voxels,
    sizes: tuple[LesionSize, ...],
    parameters: MechanisticParameters,
    streams: RandomStreams,
) -> TumourFields:
    """Return the fields of tumours given by their depth on the simulation grid.

    Parameters
    ----------
    depth : array of float32, (z, y, x)
        mm inside the edge of the nearest lesion, negative outside.
    old_dead : array of float32
        Fraction of dead tissue at baseline.
    surface_mm : array of float32
        Depth below the liver's surface.
    """
    numerics, tolerance, delivery = parameters.numerics, parameters.tolerance, parameters.delivery
    h = numerics.spacing_mm
    diffusion = np.zeros(256, np.float32)
    proliferation = np.zeros(256, np.float32)
    diameter = np.full(256, delivery.reference_mm, np.float32)
    for size in sizes:
        radius = max(size.radius_mm, parameters.growth.smallest_radius_mm)
        front = front_constants(radius, parameters.growth.tvdt_months, parameters.growth.front_width_mm)
        diffusion[size.number], proliferation[size.number] = front.diffusion, front.proliferation
        diameter[size.number] = 2.0 * radius
    length = delivery.correlation_diameters * float(max(2.0 * s.radius_mm for s in sizes))
    length = float(np.clip(length, *delivery.correlation_mm)) / h
    perfusion = smooth_noise(streams.derive("patient", "delivery"), depth.shape, length)
    clone = smooth_noise(streams.derive("patient", "tolerance"), depth.shape, length * 0.6)
    grains = smooth_noise(streams.derive("patient", "grains"), depth.shape, 0.7)
    return TumourFields(
        depth=depth,
        old_dead=old_dead,
        diffusion=diffusion[nearest],
        proliferation=proliferation[nearest],
        log_delivery=_log_delivery(perfusion, depth, surface_mm, diameter[nearest], delivery),
        log_tolerance=np.asarray(tolerance.log_sd * clone, dtype=np.float32),
        granularity=np.clip(1.0 + parameters.lipiodol.granularity * grains, 0.2, 2.0).astype(np.float32),
        nearest=nearest,
        operator=Diffusion.in_domain(liver, h),
        spacing_mm=h,
    )


def _log_delivery(
    perfusion: Voxels, depth: Voxels, surface_mm: Voxels, diameter_mm: Voxels, delivery: Delivery
) -> Voxels:
    """Delivery falls at the rim (portal supply), under the capsule (parasitised arteries) and with size."""
    rim = delivery.rim * np.exp(-np.maximum(depth, 0.0) / delivery.rim_depth_mm)
    capsule = delivery.capsule * np.exp(-surface_mm / delivery.capsule_depth_mm)
    size = delivery.size_exponent * np.log(diameter_mm / delivery.reference_mm)
    return np.asarray(delivery.log_sd * perfusion - rim - capsule - size, dtype=np.float32)
