"""Linear resampling along axes, and smooth random fields."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.results import FloatArray, Voxels


def resample(field: Voxels, coordinates: tuple[FloatArray, FloatArray, FloatArray]) -> Voxels:
    """Sample a field linearly on a product grid; coordinates outside are held at the border.

    Parameters
    ----------
    field : array of float32, (z, y, x)
    coordinates : three arrays
        Fractional indices along z, y and x; the result has their lengths as its shape.
    """
    out = field
    for axis, position in enumerate(coordinates):
        last = out.shape[axis] - 1
        held = np.clip(position, 0.0, last)
        lower = np.minimum(held.astype(np.intp), max(last - 1, 0))
        weight_shape = [1, 1, 1]
        weight_shape[axis] = -1
        weight = (held - lower).astype(np.float32).reshape(weight_shape)
        first = np.take(out, lower, axis=axis)
        second = np.take(out, np.minimum(lower + 1, last), axis=axis)
        second -= first
        second *= weight
        first += second
        out = first
    return np.asarray(out, dtype=np.float32)


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, ...], correlation_voxels: npt.ArrayLike
) -> Voxels:
    """Return Gaussian noise of mean 0 and standard deviation 1, smoothed by a Gaussian kernel.

    Parameters
    ----------
    correlation_voxels : float or one for each axis
        Standard deviation of the kernel.
    """
    sigma = np.broadcast_to(np.asarray(correlation_voxels, dtype=np.float64), (len(shape),))
    pad = [int(np.ceil(2 * s)) for s in sigma]
    padded = [n + 2 * p for n, p in zip(shape, pad, strict=True)]
    white = rng.standard_normal(padded, dtype=np.float32)
    smooth = ndimage.gaussian_filter(white, tuple(sigma), truncate=3.0)
    crop = tuple(slice(p, p + n) for p, n in zip(pad, shape, strict=True))
    smooth /= max(float(smooth.std()), 1e-9)
    return np.ascontiguousarray(smooth[crop], dtype=np.float32)
