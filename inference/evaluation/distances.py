"""Distances between two sets of images in a space of features: FID and KID.

FID is the Frechet distance between normal distributions fitted to the features (Heusel et al. 2017,
NeurIPS; Dowson & Landau 1982, J Multivar Anal 12:450). KID is the unbiased squared maximum mean
discrepancy with the kernel (x.y / d + 1)^3, averaged over blocks (Binkowski et al. 2018, ICLR). Both
depend on the extractor; FID also on the number of images. Neither means anything without the distance
between two sets of real images, and that of not changing anything, beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.results import FloatArray

KID_BLOCK = 100
KID_BLOCKS = 50


def frechet_distance(first: FloatArray, second: FloatArray) -> float:
    """Return ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` of two sets of features, (n, d).

    The trace of the root is that of ``(C1^(1/2) C2 C1^(1/2))^(1/2)``, which is symmetric: by `eigh` it
    is real, and stays so where the covariances are singular (fewer images than features). With
    ``C = X'X``, its eigenvalues are the squares of the singular values of ``X1 X2'``, so nothing of
    size d x d is made where there are fewer images than features.

    Raises
    ------
    ValueError
        A set has fewer than two images.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError("a Frechet distance needs two images on each side")
    a, b = _centred(first), _centred(second)
    apart = first.mean(axis=0) - second.mean(axis=0)
    traces = float((a**2).sum() + (b**2).sum())
    return max(0.0, float(apart @ apart) + traces - 2 * _root_trace(a, b))


def _centred(features: FloatArray) -> FloatArray:
    return np.asarray((features - features.mean(axis=0)) / np.sqrt(len(features) - 1))


def _root_trace(a: FloatArray, b: FloatArray) -> float:
    if min(len(a), len(b)) <= a.shape[1]:
        return float(np.linalg.svd(a @ b.T, compute_uv=False).sum())
    values, vectors = np.linalg.eigh(a.T @ a)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    inner = np.linalg.eigvalsh(root @ (b.T @ b) @ root)
    return float(np.sqrt(inner.clip(min=0)).sum())


@dataclass(frozen=True, slots=True)
class KernelDistance:
    """KID as the mean over blocks, and its standard error."""

    value: float
    standard_error: float


def kernel_distance(first: FloatArray, second: FloatArray, rng: np.random.Generator) -> KernelDistance:
    """Return the kernel distance of two sets of features, (n, d).

    Raises
    ------
    ValueError
        A set has fewer than two images.
    """
    size = min(KID_BLOCK, len(first), len(second))
    if size < 2:
        raise ValueError("a kernel distance needs two images on each side")
    values = np.array(
        [
            squared_discrepancy(
                first[rng.choice(len(first), size, replace=False)],
                second[rng.choice(len(second), size, replace=False)],
            )
            for _ in range(KID_BLOCKS)
        ]
    )
    return KernelDistance(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))))


def squared_discrepancy(first: FloatArray, second: FloatArray) -> float:
    """Unbiased squared maximum mean discrepancy with the cubic kernel (Gretton et al. 2012, eq. 3)."""
    n, m = len(first), len(second)
    own_first, own_second = _kernel(first, first), _kernel(second, second)
    inside = (own_first.sum() - np.trace(own_first)) / (n * (n - 1))
    inside += (own_second.sum() - np.trace(own_second)) / (m * (m - 1))
    return float(inside - 2 * _kernel(first, second).mean())


def _kernel(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray((a @ b.T / a.shape[1] + 1.0) ** 3)
