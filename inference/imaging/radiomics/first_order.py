"""Shape of a region, and the distribution of intensities in it.

Definitions: Image Biomarker Standardisation Initiative, reference manual (arXiv:1612.07003), chapters
3.1, 3.3 and 3.4. Lengths in mm, intensities in HU (MR: 1000 over the median of the liver).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from inference.imaging.radiomics.surface import surface
from inference.results import FloatArray, Mask, Voxels

_NAN = float("nan")


def shape_features(mask: Mask, spacing_mm: tuple[float, float, float]) -> dict[str, float]:
    """Return the features of a shape by name; those of volume and surface are NaN for none.

    Parameters
    ----------
    mask : array of bool, (z, y, x)
        With at least one voxel.
    """
    scale = np.array(spacing_mm, dtype=np.float64)
    outside = surface(mask, spacing_mm)
    volume, area = outside.volume_mm3, outside.area_mm2
    ball = (36.0 * math.pi * volume**2) ** (1.0 / 3.0)
    middles = np.argwhere(mask) * scale
    found = {
        "volume": volume,
        "voxel_volume": len(middles) * float(scale.prod()),
        "surface_area": area,
        "surface_to_volume": area / volume,
        "compactness_1": volume / (math.sqrt(math.pi) * area**1.5),
        "compactness_2": 36.0 * math.pi * volume**2 / area**3,
        "spherical_disproportion": area / ball,
        "sphericity": ball / area,
        "asphericity": area / ball - 1.0,
        **_axes(middles, scale),
        **_hull(mask, scale, volume, area),
    }
    return {f"shape_{name}": value for name, value in found.items()}


def _axes(middles: FloatArray, scale: FloatArray) -> dict[str, float]:
    """Axes of the ellipsoid with the same covariance of voxel centres."""
    covariance = np.cov(middles.T) if len(middles) > 1 else np.zeros((3, 3))
    least, minor, major = (4.0 * math.sqrt(max(float(v), 0.0)) for v in np.linalg.eigvalsh(covariance))
    long_enough = major > 1e-6 * float(scale.min())
    return {
        "major_axis": major,
        "minor_axis": minor,
        "least_axis": least,
        "elongation": minor / major if long_enough else _NAN,
        "flatness": least / major if long_enough else _NAN,
    }


def _hull(mask: Mask, scale: FloatArray, volume: float, area: float) -> dict[str, float]:
    """Features of the convex hull of the surface's vertices: middles between inside and outside voxels."""
    points = np.concatenate([_crossings(mask, axis) for axis in range(3)]) * scale
    box = np.ptp(points, axis=0)
    z, y, x = (float(v) for v in box)
    try:
        hull = ConvexHull(points)
    except QhullError:
        hull_volume = hull_area = diameter = _NAN
    else:
        hull_volume, hull_area = float(hull.volume), float(hull.area)
        diameter = float(pdist(points[hull.vertices]).max())
    return {
        "maximum_diameter": diameter,
        "volume_density_box": volume / (z * y * x),
        "area_density_box": area / (2.0 * (z * y + y * x + z * x)),
        "volume_density_hull": volume / hull_volume,
        "area_density_hull": area / hull_area,
    }


def _crossings(mask: Mask, axis: int) -> FloatArray:
    """Return the points halfway between inside and outside voxels along an axis, in voxels."""
    steps = np.diff(np.pad(mask, 1).astype(np.int8), axis=axis)
    places = np.argwhere(steps).astype(np.float64) - 1.0
    places[:, axis] += 0.5
    return places


def intensity_features(
    values: Voxels, region: Mask, inside: Mask, spacing_mm: tuple[float, float, float]
) -> dict[str, float]:
    """Return the features of the intensities by name.

    Parameters
    ----------
    region, inside : array of bool, (z, y, x)
        The shape, and the voxels of it whose intensities count.
    """
    x = values[inside].astype(np.float64)
    mean, variance = float(x.mean()), float(x.var())
    low, first, median, third, high = (float(v) for v in np.percentile(x, (10, 25, 50, 75, 90)))
    middle = x[(x >= low) & (x <= high)]
    centred = x - mean
    flat = variance <= 1e-12
    found = {
        "mean": mean,
        "variance": variance,
        "skewness": 0.0 if flat else float((centred**3).mean()) / variance**1.5,
        "kurtosis": 0.0 if flat else float((centred**4).mean()) / variance**2 - 3.0,
        "median": median,
        "minimum": float(x.min()),
        "percentile_10": low,
        "percentile_90": high,
        "maximum": float(x.max()),
        "interquartile_range": third - first,
        "range": float(np.ptp(x)),
        "mean_absolute_deviation": float(np.abs(centred).mean()),
        "robust_mean_absolute_deviation": float(np.abs(middle - middle.mean()).mean()),
        "median_absolute_deviation": float(np.abs(x - median).mean()),
        "coefficient_of_variation": math.sqrt(variance) / mean if mean != 0 else _NAN,
        "quartile_dispersion": (third - first) / (third + first) if third + first != 0 else _NAN,
        "energy": float((x**2).sum()),
        "root_mean_square": math.sqrt(float((x**2).mean())),
        "centre_of_mass_shift": _shift(values, region, inside, spacing_mm),
    }
    return {f"intensity_{name}": value for name, value in found.items()}


def _shift(values: Voxels, region: Mask, inside: Mask, spacing_mm: tuple[float, float, float]) -> float:
    """Distance in mm between the middle of the shape and the middle of its intensities."""
    weights = np.where(inside, values, 0.0).astype(np.float64)
    if abs(float(weights.sum())) < 1e-9:
        return _NAN
    apart = np.subtract(ndimage.center_of_mass(region), ndimage.center_of_mass(weights))
    return float(np.linalg.norm(apart * np.array(spacing_mm)))


def histogram_features(levels: npt.NDArray[np.int32]) -> dict[str, float]:
    """Return entropy and uniformity of the grey levels of a region."""
    share = np.unique(levels, return_counts=True)[1] / len(levels)
    return {
        "histogram_entropy": -float((share * np.log2(share)).sum()),
        "histogram_uniformity": float((share**2).sum()),
    }
