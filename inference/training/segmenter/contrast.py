"""From a label map to an image that a scanner could have given: CT by physics, MR by lot.

All of it is made anew for every training step; nothing is learned from a real image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from inference.results import FloatArray
from inference.training.segmenter.scene import Label

_HU: Mapping[Label, tuple[float, float, float, float, float]] = {
    # label: HU native, late arterial, portal venous, delayed; deviation between patients
    Label.AIR: (-1000, -1000, -1000, -1000, 5),
    Label.FAT: (-103, -102, -101, -101, 9),
    Label.MUSCLE: (52, 57, 62, 61, 9),
    Label.CAVITY_FAT: (-100, -98, -95, -95, 12),
    Label.LUNG: (-825, -812, -808, -806, 60),
    Label.CORTEX: (420, 430, 430, 430, 140),
    Label.MARROW: (160, 172, 182, 180, 55),
    Label.HEART: (40, 230, 142, 112, 30),
    Label.LIVER: (56, 70, 109, 95, 14),
    Label.LESION: (42, 76, 74, 66, 24),
    Label.PORTAL_VEIN: (42, 90, 165, 120, 22),
    Label.HEPATIC_VEIN: (42, 62, 158, 120, 22),
    Label.SPLEEN: (48, 112, 119, 95, 13),
    Label.KIDNEY_CORTEX: (34, 155, 180, 160, 30),
    Label.KIDNEY_MEDULLA: (32, 80, 165, 160, 30),
    Label.STOMACH_WALL: (40, 60, 68, 62, 14),
    Label.STOMACH_CONTENT: (15, 18, 18, 18, 28),
    Label.GAS: (-900, -900, -900, -900, 80),
    Label.BOWEL_WALL: (40, 62, 76, 66, 16),
    Label.BOWEL_CONTENT: (20, 22, 25, 25, 26),
    Label.GALLBLADDER: (8, 8, 8, 10, 10),
    Label.PANCREAS: (40, 92, 90, 72, 16),
    Label.AORTA: (40, 310, 155, 115, 30),
    Label.CAVA: (40, 88, 132, 115, 25),
    Label.CANAL: (30, 32, 34, 34, 10),
    Label.ASCITES: (8, 8, 9, 9, 7),
    Label.COUCH: (-600, -600, -600, -600, 300),
    Label.NECROSIS: (27, 28, 28, 30, 12),
    Label.KIDNEY_SINUS: (-50, -48, -40, 40, 40),
    Label.COLON_CONTENT: (10, 10, 10, 10, 60),
    Label.DISC: (80, 82, 85, 85, 20),
    Label.OUTER_VEIN: (42, 80, 158, 118, 24),
    Label.ADRENAL: (30, 70, 72, 60, 15),
}
_ARTERIAL = 1
"""Place of the late arterial phase in the table."""
_LABELS = len(Label)
_TABLE = np.array([_HU[label] for label in Label], dtype=np.float64)

_T1: Mapping[Label, float] = {
    # signal over liver on fat-suppressed T1 without contrast; absent: 0.7
    Label.AIR: 0.02,
    Label.GAS: 0.02,
    Label.LUNG: 0.08,
    Label.FAT: 0.35,
    Label.CAVITY_FAT: 0.33,
    Label.CORTEX: 0.10,
    Label.MARROW: 0.45,
    Label.MUSCLE: 0.62,
    Label.LIVER: 1.0,
    Label.LESION: 0.72,
    Label.NECROSIS: 0.60,
    Label.SPLEEN: 0.66,
    Label.KIDNEY_CORTEX: 0.85,
    Label.KIDNEY_MEDULLA: 0.60,
    Label.PANCREAS: 1.08,
    Label.ASCITES: 0.25,
    Label.GALLBLADDER: 0.6,
    Label.STOMACH_CONTENT: 0.35,
    Label.BOWEL_CONTENT: 0.55,
    Label.CANAL: 0.35,
    Label.AORTA: 0.55,
    Label.CAVA: 0.55,
    Label.PORTAL_VEIN: 0.55,
    Label.HEPATIC_VEIN: 0.55,
    Label.OUTER_VEIN: 0.55,
    Label.HEART: 0.6,
    Label.COUCH: 0.02,
}
_T2: Mapping[Label, float] = {
    # signal over liver on T2; absent: 1.5
    Label.AIR: 0.03,
    Label.GAS: 0.03,
    Label.LUNG: 0.15,
    Label.FAT: 2.2,
    Label.CAVITY_FAT: 2.1,
    Label.CORTEX: 0.2,
    Label.MARROW: 1.1,
    Label.MUSCLE: 0.65,
    Label.LIVER: 1.0,
    Label.LESION: 1.7,
    Label.NECROSIS: 2.0,
    Label.SPLEEN: 2.0,
    Label.KIDNEY_CORTEX: 2.3,
    Label.KIDNEY_MEDULLA: 2.8,
    Label.PANCREAS: 1.4,
    Label.ASCITES: 5.0,
    Label.GALLBLADDER: 5.0,
    Label.STOMACH_CONTENT: 3.5,
    Label.BOWEL_CONTENT: 2.5,
    Label.CANAL: 4.5,
    Label.AORTA: 0.4,
    Label.CAVA: 0.5,
    Label.PORTAL_VEIN: 0.6,
    Label.HEPATIC_VEIN: 0.6,
    Label.OUTER_VEIN: 0.6,
    Label.HEART: 0.9,
    Label.COUCH: 0.03,
}
_ENHANCEMENT: Mapping[Label, tuple[float, float]] = {
    # gain of T1 signal over liver after gadolinium, arterial and portal venous; absent: (0.15, 0.3)
    Label.AIR: (0, 0),
    Label.GAS: (0, 0),
    Label.COUCH: (0, 0),
    Label.FAT: (0.02, 0.04),
    Label.CAVITY_FAT: (0.02, 0.04),
    Label.LUNG: (0.02, 0.04),
    Label.CORTEX: (0, 0),
    Label.LIVER: (0.15, 0.65),
    Label.LESION: (0.75, 0.5),
    Label.NECROSIS: (0, 0),
    Label.SPLEEN: (1.1, 0.95),
    Label.KIDNEY_CORTEX: (1.6, 1.4),
    Label.KIDNEY_MEDULLA: (0.5, 1.3),
    Label.PANCREAS: (0.9, 0.6),
    Label.AORTA: (2.4, 1.2),
    Label.HEART: (1.6, 1.0),
    Label.CAVA: (0.5, 1.2),
    Label.PORTAL_VEIN: (0.6, 1.3),
    Label.HEPATIC_VEIN: (0.2, 1.2),
    Label.OUTER_VEIN: (0.6, 1.2),
    Label.MUSCLE: (0.1, 0.2),
    Label.ASCITES: (0, 0),
    Label.GALLBLADDER: (0, 0),
    Label.STOMACH_CONTENT: (0, 0),
    Label.BOWEL_CONTENT: (0, 0),
    Label.COLON_CONTENT: (0, 0),
}

_TUMOUR = [Label.LESION, Label.NECROSIS]


@dataclass(frozen=True, slots=True)
class Contrast:
    """Mean and texture of every label in one image, and how the image was blurred and disturbed."""

    mean: FloatArray
    texture: FloatArray
    blur_voxels: float
    noise: float
    bias: float


def ct_contrast(rng: np.random.Generator) -> Contrast:
    """Return a CT contrast in HU: a mixture of phases, with diseases and preparations by chance."""
    weight = rng.dirichlet([0.35] * 4)
    mean = _TABLE[:, :4] @ weight + _TABLE[:, 4] * rng.standard_normal(_LABELS) * rng.choice([0.6, 1.0, 1.5])
    mean[Label.AIR] = -1000.0 + rng.uniform(0.0, 20.0)
    if rng.random() < 0.2:
        mean[Label.LIVER] -= rng.uniform(10.0, 50.0)  # steatosis
    liver = mean[Label.LIVER]
    if rng.random() < 0.7:
        # Tumours are brighter than the liver in the arterial phase; later, what is brighter is a vessel.
        bright = rng.random() < 0.6 * weight[_ARTERIAL]
        mean[Label.LESION] = liver + (rng.uniform(12, 80) if bright else rng.uniform(-75, -10))
    for contents in (Label.STOMACH_CONTENT, Label.BOWEL_CONTENT, Label.COLON_CONTENT):
        if rng.random() < 0.15:
            mean[contents] = rng.uniform(60.0, 350.0)  # oral contrast
    if rng.random() < 0.08:
        mean[Label.LESION] = rng.uniform(150.0, 600.0)  # lipiodol of an earlier treatment
    if rng.random() < 0.5:
        mean[Label.CAVITY_FAT] = mean[Label.FAT] + rng.normal(0.0, 5.0)
    texture = np.full(_LABELS, 4.0)
    texture[[Label.CORTEX, Label.MARROW]] = 70.0
    texture[Label.LUNG] = 60.0
    texture[[Label.STOMACH_CONTENT, Label.BOWEL_CONTENT, Label.BOWEL_WALL, Label.COLON_CONTENT]] = (
        rng.uniform(5.0, 35.0)
    )
    texture[[Label.MUSCLE, Label.CAVITY_FAT]] = rng.uniform(4.0, 18.0)
    texture[_TUMOUR] = rng.uniform(3.0, 24.0)
    texture[Label.LIVER] = rng.uniform(0.0, 7.0)
    texture[[Label.AIR]] = 0.0
    return Contrast(mean, texture, float(rng.uniform(0.3, 0.9)), float(rng.uniform(0.0, 24.0)), 0.0)


def mr_contrast(rng: np.random.Generator) -> Contrast:
    """Return an MR contrast with the liver at 100: T1, enhanced T1, T2, or drawn by lot."""
    kind = rng.choice(["t1", "enhanced", "t2", "random"], p=[0.2, 0.4, 0.25, 0.15])
    if kind == "random":
        mean = rng.uniform(0.0, 255.0, _LABELS)
        if rng.random() < 0.7:
            mean[[Label.AIR, Label.GAS, Label.COUCH]] = rng.uniform(0.0, 10.0)
            mean[Label.LUNG] = rng.uniform(0.0, 40.0)
        if rng.random() < 0.7:
            mean[Label.CAVITY_FAT] = mean[Label.FAT] + rng.normal(0.0, 12.0)
        if rng.random() < 0.7:
            veins = [Label.PORTAL_VEIN, Label.HEPATIC_VEIN, Label.OUTER_VEIN, Label.CAVA]
            mean[veins] = mean[Label.PORTAL_VEIN] + rng.normal(0.0, 10.0, 4)
        if rng.random() < 0.6:
            mean[_TUMOUR] = mean[Label.LIVER] + rng.normal(0.0, 40.0, 2)
    else:
        mean = 100.0 * _mr_mean(kind, rng) * np.exp(rng.normal(0.0, 0.16, _LABELS))
    texture = rng.uniform(0.0, 14.0, _LABELS) + 0.05 * mean
    texture[[Label.AIR, Label.COUCH]] = 0.0
    texture[Label.LIVER] = rng.uniform(0.0, 9.0)
    noise = float(rng.uniform(0.5, 16.0))
    return Contrast(mean, texture, float(rng.uniform(0.3, 1.0)), noise, float(rng.uniform(0.0, 0.4)))


def _mr_mean(kind: str, rng: np.random.Generator) -> FloatArray:
    if kind == "t2":
        return np.array([_T2.get(label, 1.5) for label in Label])
    mean = np.array([_T1.get(label, 0.7) for label in Label])
    if rng.random() < 0.3:
        mean[[Label.FAT, Label.CAVITY_FAT]] = rng.uniform(1.2, 2.2)  # no fat suppression
    if kind == "enhanced":
        gain = np.array([_ENHANCEMENT.get(label, (0.15, 0.3)) for label in Label])
        late = rng.uniform(0.0, 1.0)
        mean = mean + rng.uniform(0.6, 1.3) * ((1.0 - late) * gain[:, 0] + late * gain[:, 1])
        mean = mean / mean[Label.LIVER]
    return np.asarray(mean)


def smooth_field(shape: tuple[int, int, int], length: float | tuple[float, float, float]) -> Tensor:
    """Return smooth noise of about unit deviation over `length` voxels, from torch's generator."""
    lengths = length if isinstance(length, tuple) else (length, length, length)
    coarse = [max(2, int(np.ceil(n / each)) + 1) for n, each in zip(shape, lengths, strict=True)]
    noise = torch.randn(1, 1, *coarse)
    return functional.interpolate(noise, size=shape, mode="trilinear", align_corners=True)[0, 0]


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (z, y, x) with a deviation in voxels."""
    if sigma < 0.15:
        return image
    reach = max(1, int(np.ceil(2.5 * sigma)))
    t = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-t * t / (2.0 * sigma * sigma))
    kernel = kernel / kernel.sum()
    x = image[None, None]
    for axis in range(3):
        padding = [0] * 6
        padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = reach
        shape = [1] * 5
        shape[2 + axis] = -1
        x = functional.conv3d(functional.pad(x, padding, mode="replicate"), kernel.reshape(shape))
    return x[0, 0]


def ct_shading(shape: tuple[int, int, int], rng: np.random.Generator) -> Tensor:
    """Return HU added by beam hardening, in half of the scans: bands from side to side, and a slow drift."""
    if rng.random() < 0.5:
        return torch.zeros(shape)
    bands = smooth_field(shape, (20.0, float(rng.uniform(5.0, 12.0)), 40.0))
    drift = smooth_field(shape, 24.0)
    return bands * float(rng.uniform(0.0, 14.0)) + drift * float(rng.uniform(0.0, 8.0))


def paint(labels: Tensor, contrast: Contrast) -> Tensor:
    """Return an image (z, y, x) of a label map (int64), in the units of the contrast."""
    z, y, x = labels.shape
    shape = (z, y, x)
    mean = torch.as_tensor(contrast.mean, dtype=torch.float32)
    spread = torch.as_tensor(contrast.texture, dtype=torch.float32)
    pattern = 0.6 * torch.randn(shape) + 0.9 * smooth_field(shape, 3.0) + 0.5 * smooth_field(shape, 8.0)
    image = blurred(mean[labels] + 0.8 * spread[labels] * pattern, contrast.blur_voxels)
    if contrast.bias > 0:
        image = image * torch.exp(contrast.bias * smooth_field(shape, 25.0))
    return image + contrast.noise * torch.randn(shape)
