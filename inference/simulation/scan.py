"""The simulated scanner: an abdomen and its tumours as one CT or MR series sees them.

What is drawn depends only on the anatomy, the tumours, the patient and the protocol; the random
generator makes noise and nothing else, so that two noise-free scans differ where the tumours do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.results import Voxels
from inference.simulation.acquisition import Protocol
from inference.simulation.anatomy import Anatomy
from inference.simulation.disease import Appearance, TumourState
from inference.simulation.noise import add_ct_noise, add_mr_noise
from inference.simulation.shapes import Point
from inference.simulation.tissues import (
    Structure,
    Tumour,
    appearance_table,
    blood,
    grain_table,
    tumour,
)

_FWHM = 2.3548
LIPIODOL_CAP_HU = 520.0
"""Most that lipiodol adds: beyond, deposits read the same (the tumour under them is still seen)."""

_STEATOSIS_HU = 48.0
_STEATOSIS_MR = 0.16
_NODULES_HU = (2.0, 3.5, 4.5, 6.5)
_EDGE_MM = 1.3
_LIPIODOL_MR = 0.05


def scan(
    anatomy: Anatomy,
    state: TumourState | None,
    appearance: Appearance,
    protocol: Protocol,
    rng: np.random.Generator,
) -> Voxels:
    """Return one series on the grid of the anatomy.

    Parameters
    ----------
    state : TumourState or None
        On a box of the anatomy's grid; None for a liver without tumours.
    protocol : Protocol
        With `noise` 0 (`Protocol.clean`) the generator is not used.

    Returns
    -------
    array of float32, (slices, rows, columns)
        HU in CT, stored values in MR. Two noise-free scans of the same anatomy, appearance and
        protocol differ inside the liver only.
    """
    return scan_over(background(anatomy, appearance, protocol), anatomy, state, appearance, protocol, rng)


@dataclass(frozen=True, slots=True)
class Background:
    """A series without tumours, before coil and noise; the same at every visit.

    Attributes
    ----------
    image : what the scanner resolves
    liver : what liver with its vessels is at every voxel, unblurred
    parenchyma : level of a real liver, over which tumours have their contrast; None for a simulated
        one, whose level is `liver_value`
    """

    image: Voxels
    liver: Voxels
    parenchyma: Voxels | None = None


def background(anatomy: Anatomy, appearance: Appearance, protocol: Protocol) -> Background:
    """Return what `scan` draws before it draws tumours."""
    image, liver = _tissue(anatomy, appearance, protocol)
    return Background(_blurred(image, protocol, anatomy.step_mm), liver)


def scan_over(
    behind: Background,
    anatomy: Anatomy,
    state: TumourState | None,
    appearance: Appearance,
    protocol: Protocol,
    rng: np.random.Generator,
) -> Voxels:
    """Return what `scan` does, from a background that was made before."""
    image = behind.image.copy()
    if state is not None:
        where = state.box.slices
        image[where] += tumour_change(behind, anatomy, state, appearance, protocol)
    if protocol.modality == "MR":
        image = _coil(image, protocol)
    return add_noise(image, anatomy, protocol, rng)


def add_noise(image: Voxels, anatomy: Anatomy, protocol: Protocol, rng: np.random.Generator) -> Voxels:
    """Return a noise-free image of a protocol with its noise, in the range that a scanner stores."""
    if protocol.modality == "MR":
        return add_mr_noise(image, protocol, anatomy.step_mm, rng)
    noisy = add_ct_noise(image, anatomy.body, protocol, anatomy.step_mm, rng)
    return np.clip(noisy, -1024.0, 3071.0)


def _tissue(anatomy: Anatomy, appearance: Appearance, protocol: Protocol) -> tuple[Voxels, Voxels]:
    """Return the image without tumours, and what liver with its vessels is at every voxel."""
    phase, timing, gain = protocol.phase, protocol.timing, protocol.enhancement
    table = appearance_table(phase, timing, gain)
    table[Structure.LIVER] = liver_value(appearance, protocol)
    spread = grain_table(phase)
    share = anatomy.share
    image = table[anatomy.under]
    image += share * (table[anatomy.over] - image)
    rough = spread[anatomy.under]
    rough += share * (spread[anatomy.over] - rough)
    image += rough * anatomy.grain
    stripes = _spleen_stripes(protocol, table)
    if stripes:
        image += np.float32(stripes) * anatomy.stripes

    liver = table[Structure.LIVER] + spread[Structure.LIVER] * anatomy.grain
    nodules = _nodule_contrast(appearance, protocol) * anatomy.nodules
    liver += nodules
    image += anatomy.liver * nodules
    for vessel, cover in anatomy.vessels():
        value = np.float32(blood(vessel, phase, timing, gain))
        image += cover * (value - image)
        liver += cover * (value - liver)
    return image, liver


def liver_value(appearance: Appearance, protocol: Protocol) -> float:
    """Value of a patient's parenchyma in one series (before the coil in MR)."""
    table = appearance_table(protocol.phase, protocol.timing, protocol.enhancement)
    healthy = float(table[Structure.LIVER])
    if protocol.modality == "MR":
        return healthy * (1.0 - _STEATOSIS_MR * appearance.steatosis)
    return healthy - _STEATOSIS_HU * appearance.steatosis


def _spleen_stripes(protocol: Protocol, table: Voxels) -> float:
    """Bands in which the spleen takes up contrast in the arterial phase."""
    return 0.16 * float(table[Structure.SPLEEN]) if "arterial" in protocol.phase else 0.0


def _nodule_contrast(appearance: Appearance, protocol: Protocol) -> np.float32:
    """Fibrosis between nodules takes up contrast late."""
    if protocol.modality == "MR":
        return np.float32(0.05 * appearance.nodularity)
    column = ("native", "arterial", "portal_venous", "delayed").index(protocol.phase.value)
    return np.float32(_NODULES_HU[column] * appearance.nodularity)


def tumour_change(
    behind: Background, anatomy: Anatomy, state: TumourState, appearance: Appearance, protocol: Protocol
) -> Voxels:
    """Return what the tumours change in their box, confined to the liver; before the coil in MR."""
    box = state.box
    liver = behind.liver[box.slices]
    looks = tumour(protocol.phase)
    step = anatomy.step_mm
    inside = anatomy.liver[box.slices]
    viable, necrosis = _shares(state, inside)
    viable = _infiltrating(viable, appearance, inside, step)
    mosaic = anatomy.mosaic[box.slices]

    base: np.float32 | Voxels = np.float32(liver_value(appearance, protocol))
    if behind.parenchyma is not None:
        base = behind.parenchyma[box.slices]
    alive = base + _viable_contrast(state, appearance, protocol, looks, mosaic)
    dead = np.float32(looks.necrosis) + np.float32(0.25 * looks.mosaic * appearance.mosaic_hu) * mosaic
    change = viable * (alive - liver) + necrosis * (dead - liver)
    whole = viable + necrosis
    if behind.parenchyma is not None:
        whole = _continued(whole, inside, step)
    change += _capsule(whole, appearance, looks, step) * inside
    change += _lipiodol(state, appearance, protocol, mosaic)
    blurred = _blurred(change, protocol, step)
    # The point spread would carry a little over the capsule of the liver.
    return np.asarray(blurred * np.clip(2.0 * inside, 0.0, 1.0), dtype=np.float32)


def _shares(state: TumourState, inside: Voxels) -> tuple[Voxels, Voxels]:
    """Tumour cannot hold more of a voxel than the liver does."""
    total = state.viable + state.necrosis
    fit = np.minimum(1.0, inside / np.maximum(total, 1e-6)).astype(np.float32)
    return state.viable * fit, state.necrosis * fit


def _continued(total: Voxels, inside: Voxels, step: Point) -> Voxels:
    """Continue tumours beyond a real liver: its border is no capsule, nor is that of its own lesions."""
    sigma = [2.0 * _EDGE_MM / s for s in step]
    near = ndimage.gaussian_filter(inside, sigma, truncate=4.0)
    share = ndimage.gaussian_filter(total, sigma, truncate=4.0) / np.maximum(near, 1e-3)
    return np.where(inside > 0.95, total, np.clip(share, 0.0, 1.0)).astype(np.float32)


def _infiltrating(viable: Voxels, appearance: Appearance, inside: Voxels, step: Point) -> Voxels:
    """Blur the border of infiltrative tumours over up to 4 mm, along the liver's sinusoids."""
    if appearance.infiltrative <= 0.0:
        return viable
    sigma = [4.0 * appearance.infiltrative / s for s in step]
    return np.asarray(np.minimum(ndimage.gaussian_filter(viable, sigma, truncate=2.5), inside))


def _viable_contrast(
    state: TumourState, appearance: Appearance, protocol: Protocol, looks: Tumour, mosaic: Voxels
) -> Voxels:
    supply = np.clip(state.vascularity, 0.0, 2.0)
    # Washout needs wash-in first: tumour with little supply stays close to its neighbours.
    washed = np.float32(looks.portal * appearance.portal_contrast_hu)
    washed += np.float32(looks.delayed * appearance.delayed_contrast_hu)
    contrast = np.float32(looks.arterial * appearance.arterial_contrast_hu) * supply
    contrast += washed * (0.55 + 0.45 * np.minimum(supply, 1.2))
    contrast *= np.float32(protocol.enhancement * max(1.0 - 0.5 * abs(protocol.timing), 0.5))
    uneven = np.float32(looks.mosaic * appearance.mosaic_hu) * mosaic
    return np.asarray(contrast + np.float32(looks.constant) + uneven, dtype=np.float32)


def _capsule(total: Voxels, appearance: Appearance, looks: Tumour, step: Point) -> Voxels:
    """Rim of a tumour: 1 where its share falls steeply from 1 to 0."""
    strength = appearance.capsule * (1.0 - appearance.infiltrative) * looks.capsule
    if strength == 0.0:
        return np.zeros_like(total)
    sigma = [_EDGE_MM / s for s in step]
    smooth = ndimage.gaussian_filter(total, sigma, truncate=3.0)
    slope = np.sqrt(sum((np.gradient(smooth, s, axis=a)) ** 2 for a, s in enumerate(step)))
    rim = np.clip(slope * (_EDGE_MM * 2.5066), 0.0, 1.0)
    return np.asarray(rim * np.float32(strength), dtype=np.float32)


def _lipiodol(state: TumourState, appearance: Appearance, protocol: Protocol, mosaic: Voxels) -> Voxels:
    """Deposits are speckled, and together never add more than the cap."""
    deposit = np.clip(state.lipiodol, 0.0, None)
    if protocol.modality == "MR":
        return np.asarray(_LIPIODOL_MR * np.minimum(deposit, 1.0), dtype=np.float32)
    added = deposit * np.float32(appearance.lipiodol_hu) * np.clip(1.0 + 0.3 * mosaic, 0.3, 1.7)
    return np.asarray(added / (1.0 + (added / LIPIODOL_CAP_HU) ** 4) ** 0.25, dtype=np.float32)


def _blurred(image: Voxels, protocol: Protocol, step: Point) -> Voxels:
    """Point spread of the scanner; the voxel itself is an average already."""
    sigma = [protocol.through_plane_mm / _FWHM / step[0]]
    sigma += [protocol.in_plane_mm / _FWHM / s for s in step[1:]]
    return np.asarray(ndimage.gaussian_filter(image, sigma, truncate=3.0), dtype=np.float32)


def _coil(image: Voxels, protocol: Protocol) -> Voxels:
    """Gain and shading of a receive coil: smooth, and the same for every tissue."""
    out = image * np.float32(protocol.gain)
    for axis, slope in enumerate(protocol.shading):
        shape = [1, 1, 1]
        shape[axis] = -1
        place = np.linspace(-1.0, 1.0, image.shape[axis], dtype=np.float32).reshape(shape)
        out *= np.exp(np.float32(slope) * (place + 0.5 * place * place - 0.17))
    return np.asarray(out, dtype=np.float32)
