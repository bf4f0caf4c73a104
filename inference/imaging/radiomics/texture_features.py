"""Features of texture matrices, as the Image Biomarker Standardisation Initiative defines them.

Zwanenburg et al. 2020, Radiology 295:328; formulas: arXiv:1612.07003, chapters 3.6 to 3.10. Matrices of
co-occurrence and runs are merged over directions before anything is computed ("3D, merged").
"""

from __future__ import annotations

import math

import numpy as np

from inference.imaging.radiomics.matrices import (
    Levels,
    ToneDifferences,
    co_occurrence,
    run_lengths,
    tally,
    tone_differences,
    zones,
)
from inference.results import FloatArray, Mask

_NAN = float("nan")


def texture_features(levels: Levels, region: Mask, count: int) -> dict[str, float]:
    """Return the features of all five texture matrices by name.

    Parameters
    ----------
    levels : array of int32, (z, y, x)
        Grey levels 1 to `count` inside, 0 outside.
    region : array of bool, (z, y, x)
        The whole region, to whose border distances are measured.
    """
    voxels = int((levels > 0).sum())
    found = zones(levels, region)
    by_size = tally(found.level, found.size, count)
    by_distance = tally(found.level, found.distance, count)
    runs = run_lengths(levels, count)
    return {
        **co_occurrence_features(co_occurrence(levels, count)),
        # Every voxel starts or continues a run in each of the 13 directions.
        **_named("glrlm", emphasis_features(runs, 13 * voxels), _RUNS),
        **_named("glszm", emphasis_features(by_size, voxels), _SIZES),
        **_named("gldzm", emphasis_features(by_distance, voxels), _DISTANCES),
        **tone_features(tone_differences(levels, count)),
    }


_RUNS = ("run", "run_length")
_SIZES = ("zone", "zone_size")
_DISTANCES = ("zone", "zone_distance")


def _named(matrix: str, features: dict[str, float], words: tuple[str, str]) -> dict[str, float]:
    unit, length = words
    return {f"{matrix}_{k.format(unit=unit, length=length)}": v for k, v in features.items()}


def co_occurrence_features(matrix: FloatArray) -> dict[str, float]:
    """Return the 25 features of a co-occurrence matrix; all NaN where no voxel has a neighbour."""
    total = float(matrix.sum())
    p = matrix / total if total > 0 else np.full_like(matrix, _NAN)
    n = len(p)
    level = np.arange(1, n + 1, dtype=np.float64)
    i, j = level[:, None], level[None, :]
    px = p.sum(axis=1)
    mean = float((level * px).sum())
    variance = float(((level - mean) ** 2 * px).sum())
    far = np.abs(i - j)
    difference: FloatArray = np.bincount(far.astype(int).ravel(), weights=p.ravel(), minlength=n).astype(
        np.float64
    )
    summed: FloatArray = np.bincount(
        (i + j).astype(int).ravel(), weights=p.ravel(), minlength=2 * n + 1
    ).astype(np.float64)
    k_difference, k_sum = np.arange(len(difference)), np.arange(len(summed))
    difference_mean = float((k_difference * difference).sum())
    sum_mean = float((k_sum * summed).sum())
    off = i + j - 2.0 * mean
    found = {
        "joint_maximum": float(p.max()),
        "joint_average": mean,
        "joint_variance": variance,
        "joint_entropy": _entropy(p),
        "difference_average": difference_mean,
        "difference_variance": float(((k_difference - difference_mean) ** 2 * difference).sum()),
        "difference_entropy": _entropy(difference),
        "sum_average": sum_mean,
        "sum_variance": float(((k_sum - sum_mean) ** 2 * summed).sum()),
        "sum_entropy": _entropy(summed),
        "angular_second_moment": float((p**2).sum()),
        "contrast": float((far**2 * p).sum()),
        "dissimilarity": float((far * p).sum()),
        "inverse_difference": float((p / (1.0 + far)).sum()),
        "inverse_difference_normalised": float((p / (1.0 + far / n)).sum()),
        "inverse_difference_moment": float((p / (1.0 + far**2)).sum()),
        "inverse_difference_moment_normalised": float((p / (1.0 + (far / n) ** 2)).sum()),
        "inverse_variance": float((p[far > 0] / far[far > 0] ** 2).sum()),
        "correlation": float(((i - mean) * (j - mean) * p).sum()) / variance if variance > 0 else _NAN,
        "autocorrelation": float((i * j * p).sum()),
        "cluster_tendency": float((off**2 * p).sum()),
        "cluster_shade": float((off**3 * p).sum()),
        "cluster_prominence": float((off**4 * p).sum()),
        **_information(p, px),
    }
    return {f"glcm_{name}": value for name, value in found.items()}


def _information(p: FloatArray, px: FloatArray) -> dict[str, float]:
    apart = px[:, None] * px[None, :]
    joint, single = _entropy(p), _entropy(px)
    used = apart > 0
    first = -float((p[used] * np.log2(apart[used])).sum())
    second = _entropy(apart)
    return {
        "information_correlation_1": (joint - first) / single if single > 0 else _NAN,
        # Rounding may put the exponent a hair above 0.
        "information_correlation_2": math.sqrt(max(1.0 - math.exp(-2.0 * (second - joint)), 0.0))
        if math.isfinite(joint)
        else _NAN,
    }


def _entropy(p: FloatArray) -> float:
    if not np.isfinite(p).all():
        return _NAN
    used = p[p > 0]
    return -float((used * np.log2(used)).sum())


def emphasis_features(matrix: FloatArray, voxels: int) -> dict[str, float]:
    """Return the 16 features that matrices of runs, zone sizes and zone distances share.

    Parameters
    ----------
    matrix : array, (levels, lengths)
        Numbers of runs or zones.
    voxels : int
        Of the region, counted once a direction.
    """
    total = float(matrix.sum())
    p = matrix / total
    g = np.arange(1, matrix.shape[0] + 1, dtype=np.float64)[:, None]
    s = np.arange(1, matrix.shape[1] + 1, dtype=np.float64)[None, :]
    by_level, by_length = matrix.sum(axis=1), matrix.sum(axis=0)
    mean_level, mean_length = float((g * p).sum()), float((s * p).sum())
    return {
        "small_{length}_emphasis": float((p / s**2).sum()),
        "large_{length}_emphasis": float((p * s**2).sum()),
        "low_grey_level_{unit}_emphasis": float((p / g**2).sum()),
        "high_grey_level_{unit}_emphasis": float((p * g**2).sum()),
        "small_{length}_low_grey_level_emphasis": float((p / (s**2 * g**2)).sum()),
        "small_{length}_high_grey_level_emphasis": float((p * g**2 / s**2).sum()),
        "large_{length}_low_grey_level_emphasis": float((p * s**2 / g**2).sum()),
        "large_{length}_high_grey_level_emphasis": float((p * g**2 * s**2).sum()),
        "grey_level_non_uniformity": float((by_level**2).sum()) / total,
        "grey_level_non_uniformity_normalised": float((by_level**2).sum()) / total**2,
        "{length}_non_uniformity": float((by_length**2).sum()) / total,
        "{length}_non_uniformity_normalised": float((by_length**2).sum()) / total**2,
        "{unit}_percentage": total / voxels,
        "grey_level_variance": float(((g - mean_level) ** 2 * p).sum()),
        "{length}_variance": float(((s - mean_length) ** 2 * p).sum()),
        "{length}_entropy": _entropy(p),
    }


def tone_features(found: ToneDifferences) -> dict[str, float]:
    """Return the five features of grey tone differences; all NaN where no voxel has a neighbour."""
    names = ("coarseness", "contrast", "busyness", "complexity", "strength")
    total = float(found.voxels.sum())
    if total == 0:
        return {f"ngtdm_{name}": _NAN for name in names}
    present = np.flatnonzero(found.voxels)
    p, s = found.voxels[present] / total, found.differences[present]
    g = (present + 1).astype(np.float64)
    count = len(present)
    weighted = float((p * s).sum())
    pi, pj, gi, gj = p[:, None], p[None, :], g[:, None], g[None, :]
    spread = float(np.abs(gi * pi - gj * pj).sum())
    pairs = float((pi * pj * (gi - gj) ** 2).sum())
    complexity = np.abs(gi - gj) * (pi * s[:, None] + pj * s[None, :]) / (pi + pj)
    strength = float(((pi + pj) * (gi - gj) ** 2).sum())
    values = (
        # The manual sets a limit of a million for a region of one grey level.
        1.0 / weighted if weighted > 0 else 1e6,
        pairs / (count * (count - 1)) * float(s.sum()) / total if count > 1 else 0.0,
        weighted / spread if count > 1 and spread > 0 else 0.0,
        float(complexity.sum()) / total,
        strength / float(s.sum()) if s.sum() > 0 else 0.0,
    )
    return {f"ngtdm_{name}": value for name, value in zip(names, values, strict=True)}
