"""Noise of the simulated scanners."""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from inference.results import Voxels
from inference.simulation.acquisition import Protocol, noise_scale
from inference.simulation.shapes import Point


def add_ct_noise(
    image: Voxels, body: Voxels, protocol: Protocol, step: Point, rng: np.random.Generator
) -> Voxels:
    """Add noise with the ramp and roll-off of filtered back projection, strongest deep in the body.

    Parameters
    ----------
    body : array of float32
        Smooth, 1 in the middle of the body, falling towards the skin.

    References
    ----------
    Spectrum: Riederer, Pelc & Chesler 1978, Phys Med Biol 23:446.
    """
    if protocol.noise <= 0.0:
        return image
    white = rng.standard_normal(image.shape, dtype=np.float32)
    fy = fft.fftfreq(image.shape[1], step[1])[:, None]
    fx = fft.rfftfreq(image.shape[2], step[2])[None, :]
    f = np.hypot(fy, fx)
    amplitude = np.sqrt(f + 0.03) * np.exp(-((f / protocol.roll_off_per_mm) ** 2)) + 0.01
    spectrum = fft.rfft2(white) * amplitude.astype(np.float32)
    noise = fft.irfft2(spectrum, s=image.shape[1:]).astype(np.float32)
    noise = ndimage.gaussian_filter1d(noise, protocol.through_plane_noise / step[0], axis=0)
    noise /= max(float(noise.std()), 1e-9)
    sigma = protocol.noise * noise_scale("CT", step)
    return np.asarray(image + noise * (np.float32(sigma) * body), dtype=np.float32)


def add_mr_noise(image: Voxels, protocol: Protocol, step: Point, rng: np.random.Generator) -> Voxels:
    """Return the magnitude of a complex signal with Gaussian noise in both channels (Rician).

    References
    ----------
    Gudbjartsson & Patz 1995, Magn Reson Med 34:910.
    """
    if protocol.noise <= 0.0:
        return np.maximum(image, 0.0)
    sigma = np.float32(protocol.noise * protocol.gain * noise_scale("MR", step))
    smooth = [0.5 * protocol.through_plane_noise / step[0], 0.3 / step[1], 0.3 / step[2]]
    channels = []
    for _ in range(2):
        noise = ndimage.gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), smooth)
        channels.append(noise * (sigma / max(float(noise.std()), 1e-9)))
    return np.asarray(np.hypot(image + channels[0], channels[1]), dtype=np.float32)
