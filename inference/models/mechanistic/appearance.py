"""Images drawn from tissue maps: stored values change only where the tissue did, inside the liver."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.imaging.pixels import stored_range
from inference.models.mechanistic.parameters import Contrast, MechanisticParameters
from inference.models.mechanistic.patient import Crop
from inference.models.mechanistic.sampling import resample, smooth_noise
from inference.randomness import RandomStreams
from inference.results import Labels, Mask, SeriesVolume, StoredValues, Tissue, VirtualImage, Voxels

_WINDOW = 24
_EDGE_VOXELS = 0.8
_LOCAL_MM = 7.0
_DENSE_HU = 110.0


@dataclass(frozen=True, slots=True)
class Palette:
    """What one series of one patient looks like, in the crop's box; arrays are (z, y, x).

    Attributes
    ----------
    values : baseline, HU or MR intensity
    liver, viable : local mean of normal liver and of viable tumour, extended everywhere
    necrosis : mean of treatment-induced necrosis
    noise : noise of this scanner, with the texture measured in this patient's liver
    dense : calcification and old contrast medium, which no treatment removes (CT)
    lipiodol_gain : change of value at a typical deposit
    """

    volume: SeriesVolume
    stored: StoredValues
    values: Voxels
    liver: Voxels
    viable: Voxels
    necrosis: Voxels
    noise: Voxels
    dense: Mask
    lipiodol_gain: float


def palette(
    volume: SeriesVolume, crop: Crop, parameters: MechanisticParameters, streams: RandomStreams
) -> Palette:
    """Measure how a series shows liver and tumour, once for all regimens."""
    stored = volume.stored[crop.box.slices]
    z = slice(crop.box.start[0], crop.box.stop[0])
    shape = (-1, 1, 1)
    values = (stored * volume.slope[z].reshape(shape) + volume.intercept[z].reshape(shape)).astype(np.float32)
    spacing = volume.grid.spacing_mm
    liver = _local_mean(values, crop.tissue == Tissue.LIVER, spacing)
    tumour = crop.tissue == Tissue.VIABLE
    viable = _local_mean(values, tumour if tumour.any() else crop.tissue > 0, spacing)
    noise = _matched_noise(values, crop.tissue, streams.derive("patient", "texture", volume.phase.value))
    contrast = parameters.contrast.get(volume.phase.value, parameters.contrast["unknown"])
    typical = float(np.median(liver))
    soft = smooth_noise(streams.derive("patient", "necrosis texture"), values.shape, _voxels(3.0, spacing))
    necrosis = _necrosis(contrast, liver, typical, soft)
    gain = (
        parameters.lipiodol.contrast_hu
        if contrast.lipiodol_of_liver is None
        else contrast.lipiodol_of_liver * typical
    )
    dense = (values > liver + _DENSE_HU) & (crop.tissue > Tissue.LIVER) & (volume.modality == "CT")
    return Palette(volume, stored, values, liver, viable, necrosis, noise, dense, float(gain))


def _necrosis(contrast: Contrast, liver: Voxels, typical: float, soft: Voxels) -> Voxels:
    if contrast.necrosis_of_liver is None:
        level = 30.0 if contrast.necrosis_hu is None else contrast.necrosis_hu
        return np.asarray(level + 4.0 * soft, dtype=np.float32)
    return np.asarray(liver * contrast.necrosis_of_liver + 0.04 * typical * soft, dtype=np.float32)


def _voxels(mm: float, spacing_mm: tuple[float, float, float]) -> list[float]:
    return [mm / s for s in spacing_mm]


def _local_mean(values: Voxels, mask: Mask, spacing_mm: tuple[float, float, float]) -> Voxels:
    """Mean of the masked voxels around each voxel; far from all of them, their median."""
    if not mask.any():
        return np.zeros_like(values)
    typical = np.float32(np.median(values[mask]))
    spread = np.float32(1.5 * (np.percentile(values[mask], 84) - np.percentile(values[mask], 16)) / 2.0)
    # Vessels and calcification are no part of the parenchyma's level.
    clipped = np.clip(values - typical, -spread, spread)
    step = [max(int(_LOCAL_MM / 3.0 / s), 1) for s in spacing_mm]
    coarse = tuple(slice(None, None, n) for n in step)
    weight = mask[coarse].astype(np.float32)
    sigma = [_LOCAL_MM / (s * n) for s, n in zip(spacing_mm, step, strict=True)]
    top = ndimage.gaussian_filter(clipped[coarse] * weight, sigma, truncate=2.5)
    bottom = ndimage.gaussian_filter(weight, sigma, truncate=2.5)
    mean = top / (bottom + 0.01)
    return typical + _zoom(mean, step, values.shape)


def _zoom(coarse: Voxels, step: list[int], shape: tuple[int, ...]) -> Voxels:
    z, y, x = (np.arange(n) / s for n, s in zip(shape, step, strict=True))
    return resample(coarse, (z, y, x))


def _matched_noise(values: Voxels, tissue: Labels, rng: np.random.Generator) -> Voxels:
    """Noise with the in-plane power spectrum of the quietest windows of this patient's liver."""
    windows = _quiet_windows(values, tissue > 0)
    shape = values.shape
    if not windows.size:
        return np.zeros(shape, np.float32)
    power = np.mean(np.abs(np.fft.fft2(windows)) ** 2, axis=0) / _WINDOW**2
    power[0, 0] = 0.0
    amplitude = _spectrum(np.sqrt(power), shape[1:])
    white = rng.standard_normal(shape, dtype=np.float32)
    noise = np.fft.irfft2(np.fft.rfft2(white) * amplitude, s=shape[1:]).astype(np.float32)
    wanted = float(np.sqrt(power.sum() / _WINDOW**2))
    return np.asarray(noise * (wanted / max(float(noise.std()), 1e-9)), dtype=np.float32)


def _quiet_windows(values: Voxels, mask: Mask) -> Voxels:
    """Return detrended windows (n, w, w) inside the mask, the quieter half of them."""
    found: list[Voxels] = []
    half = _WINDOW // 2
    for z in range(0, values.shape[0], 2):
        for y in range(0, values.shape[1] - _WINDOW, half):
            for x in range(0, values.shape[2] - _WINDOW, half):
                window = np.s_[z, y : y + _WINDOW, x : x + _WINDOW]
                if mask[window].all():
                    found.append(values[window] - ndimage.gaussian_filter(values[window], 4.0))
    if not found:
        return np.zeros((0, _WINDOW, _WINDOW), np.float32)
    stack = np.stack(found)
    quiet = np.argsort(stack.std(axis=(1, 2)), kind="stable")[: max(len(stack) // 2, 1)]
    taper = np.hanning(_WINDOW + 2)[1:-1]
    window2 = np.sqrt(np.outer(taper, taper) / np.mean(np.outer(taper, taper)))
    return np.asarray(stack[quiet] * window2, dtype=np.float32)


def _spectrum(amplitude: Voxels, shape: tuple[int, ...]) -> Voxels:
    """Read the amplitude (w, w) of a small window at the frequencies of a larger image (rfft2)."""
    fy = np.abs(np.fft.fftfreq(shape[0])) * _WINDOW
    fx = np.abs(np.fft.rfftfreq(shape[1])) * _WINDOW
    quarter = amplitude[: _WINDOW // 2 + 1, : _WINDOW // 2 + 1]
    y, x = np.meshgrid(fy, fx, indexing="ij")
    return np.asarray(ndimage.map_coordinates(quarter, [y, x], order=1, mode="nearest"), dtype=np.float32)


def draw(palette_: Palette, crop: Crop, tissue: Labels, lipiodol: Voxels | None) -> VirtualImage:
    """Draw one series from a tissue map.

    Parameters
    ----------
    tissue : array of uint8, shape of the crop
    lipiodol : array of float32, shape of the crop, or None
        Deposit, in typical deposits.

    Returns
    -------
    VirtualImage
        Differs from the baseline only where the tissue changed or holds oil, and within the width
        of the edge around it, inside the liver mask.
    """
    volume = palette_.volume
    changed = tissue != crop.tissue
    if lipiodol is not None:
        changed |= (lipiodol > 0.02) & (crop.tissue > Tissue.BACKGROUND)
    out = palette_.stored.copy()
    found = ndimage.find_objects(changed.astype(np.uint8))
    if not found:
        return VirtualImage(volume.series_instance_uid, volume.phase, crop.box, out)
    box = tuple(
        slice(max(s.start - 3, 0), min(s.stop + 3, n)) for s, n in zip(found[0], changed.shape, strict=True)
    )
    weight, target = _blend(palette_, crop, tissue, lipiodol, changed, box)
    touched = (weight > 1e-3) & (crop.tissue[box] > Tissue.BACKGROUND)
    values = palette_.values[box]
    value = values[touched] + weight[touched] * (target[touched] - values[touched])
    first = crop.box.start[0] + box[0].start
    rows = first + np.nonzero(touched)[0]
    stored = np.rint((value - volume.intercept[rows]) / volume.slope[rows])
    low, high = stored_range(volume)
    out[box][touched] = np.clip(stored, low, high).astype(np.int32)
    return VirtualImage(volume.series_instance_uid, volume.phase, crop.box, out)


def _blend(
    palette_: Palette,
    crop: Crop,
    tissue: Labels,
    lipiodol: Voxels | None,
    changed: Mask,
    box: tuple[slice, ...],
) -> tuple[Voxels, Voxels]:
    """Return the weight of new tissue (0 to 1) and its value, both blurred like the scanner's edges."""
    now, was = tissue[box], crop.tissue[box]
    mean = np.where(now == Tissue.LIVER, palette_.liver[box], palette_.viable[box])
    dead = (now == Tissue.NECROSIS) | (now == Tissue.LIPIODOL)
    mean = np.where(dead, palette_.necrosis[box], mean)
    fresh = (now != was) & ~palette_.dense[box]
    content = mean + palette_.noise[box]
    # Tissue that is what it was keeps the patient's own voxels, under the oil.
    content = np.where(fresh, content, palette_.values[box])
    if lipiodol is not None:
        content = content + np.float32(palette_.lipiodol_gain) * lipiodol[box]
    new = changed[box].astype(np.float32)
    sigma = (_EDGE_VOXELS * 0.5, _EDGE_VOXELS, _EDGE_VOXELS)
    weight = ndimage.gaussian_filter(new, sigma, truncate=2.5)
    top = ndimage.gaussian_filter(new * content, sigma, truncate=2.5)
    # Inside, the content itself, not its blur: the noise must stay as sharp as around it.
    target = np.where(new > 0, content, top / np.maximum(weight, 1e-6))
    return weight, np.asarray(target, dtype=np.float32)
