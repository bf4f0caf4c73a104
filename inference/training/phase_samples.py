"""What the phase classifier learns from: sampled organ tables, and simulated abdomens painted with them.

A table has one row of contrast for a patient at a time after injection; timing, contrast medium, tube
voltage, circulation, fat in the liver and bone density vary far more than between the simulator's own
scanners, which are kept for the test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.case import Phase
from inference.imaging.phase_features import COARSE_MM, LEAST_EXTENT_MM, PHASES, coarse_features
from inference.randomness import RandomStreams
from inference.results import FloatArray, Voxels
from inference.simulation.acquisition import Scanner, draw_protocols
from inference.simulation.anatomy import Anatomy, build_anatomy
from inference.simulation.patient import TYPICAL
from inference.simulation.scan import scan
from inference.simulation.tissues import CT_PHASES as SIMULATED_CT
from inference.simulation.tissues import MR_PHASES as SIMULATED_MR
from inference.simulation.tissues import Blood, Structure, appearance_table, blood, grain_table

SHAPE = (28, 72, 96)
"""Voxels of a simulated abdomen on the coarse grid, (z, y, x)."""

_TIMING: Mapping[Phase, tuple[float, float]] = {
    # How much earlier or later than the phase's own time, in phases.
    Phase.NATIVE: (0.0, 0.0),
    Phase.ARTERIAL: (-0.35, 0.30),
    Phase.PORTAL_VENOUS: (-0.35, 0.45),
    Phase.DELAYED: (-0.30, 0.0),
    Phase.T1: (0.0, 0.0),
    Phase.T1_ARTERIAL: (-0.35, 0.30),
    Phase.T1_PORTAL_VENOUS: (-0.30, 0.0),
    Phase.T2: (0.0, 0.0),
}
_ENHANCEMENT = (0.65, 1.45)
_ORGAN_SPREAD = 0.12
_MOST_MISSING = 0.8
"""Segmentations have all organs, or hardly any beside the liver: tables lack from none to this share."""
_LIVER_ALONE = 0.06

_LATE_MR: Mapping[Structure, tuple[float, float]] = {
    # Enhancement in delayed MR over that of the portal venous phase: extracellular, hepatobiliary.
    Structure.LIVER: (0.85, 1.50),
    Structure.SPLEEN: (0.70, 0.35),
    Structure.AORTA: (0.62, 0.22),
    Structure.CAVA: (0.66, 0.24),
    Structure.HEART: (0.62, 0.22),
    Structure.KIDNEY_CORTEX: (0.90, 0.50),
    Structure.KIDNEY_MEDULLA: (1.00, 0.60),
    Structure.PANCREAS: (0.75, 0.40),
}
_LATE_MR_OTHER = (0.85, 0.50)
_LATE_MR_BLOOD = (0.64, 0.22)


@dataclass(frozen=True, slots=True)
class Contrast:
    """Values of all tissues in one series: `tissue` by `Structure`, and of the vessel trees."""

    modality: str
    phase: Phase
    tissue: Voxels
    vessels: Mapping[Blood, float]


def draw_contrast(modality: str, phase: Phase, rng: np.random.Generator) -> Contrast:
    """Draw the values of all tissues of one patient in one series (HU, or signal over that of liver)."""
    drawn = _late_mr(rng) if (modality, phase) == ("MR", Phase.DELAYED) else _timed(phase, rng)
    base = appearance_table(Phase.NATIVE if modality == "CT" else Phase.T1)
    tissue = drawn.tissue
    if phase is not Phase.T2:
        factor = np.exp(rng.normal(0.0, _ORGAN_SPREAD, len(tissue))).astype(np.float32)
        tissue = base + (tissue - base) * factor
    blood_factor = {b: float(np.exp(rng.normal(0.0, _ORGAN_SPREAD))) for b in Blood}
    vessels = {b: v * blood_factor[b] for b, v in drawn.vessels.items()}
    if modality == "CT":
        tissue = _varied_ct(tissue, rng)
    else:
        tissue = tissue * np.exp(rng.normal(0.0, 0.10, len(tissue))).astype(np.float32)
    return Contrast(modality, phase, tissue.astype(np.float32), vessels)


def _timed(phase: Phase, rng: np.random.Generator) -> Contrast:
    timing, gain = float(rng.uniform(*_TIMING[phase])), float(rng.uniform(*_ENHANCEMENT))
    table = appearance_table(phase, timing, gain)
    return Contrast("", phase, table, {b: blood(b, phase, timing, gain) for b in Blood})


def _late_mr(rng: np.random.Generator) -> Contrast:
    gain, agent = float(rng.uniform(*_ENHANCEMENT)), int(rng.integers(2))
    plain, venous = appearance_table(Phase.T1), appearance_table(Phase.T1_PORTAL_VENOUS, 0.0, gain)
    share = np.array([_LATE_MR.get(s, _LATE_MR_OTHER)[agent] for s in Structure], np.float32)
    at, late = Phase.T1_PORTAL_VENOUS, _LATE_MR_BLOOD[agent]
    vessels = {b: blood(b, Phase.T1) + late * (blood(b, at, 0.0, gain) - blood(b, Phase.T1)) for b in Blood}
    return Contrast("MR", Phase.DELAYED, plain + share * (venous - plain), vessels)


def _varied_ct(tissue: Voxels, rng: np.random.Generator) -> Voxels:
    """Fat in the liver, thin bone, contrast medium in the bowel, and a scanner that is off by some HU."""
    out = tissue.copy()
    if rng.random() < 0.4:
        out[Structure.LIVER] -= rng.uniform(0.0, 45.0)
    bone = rng.uniform(0.45, 1.35)
    out[[Structure.BONE_CORTEX, Structure.BONE_MARROW]] *= bone
    if rng.random() < 0.15:
        level = rng.uniform(90.0, 350.0)
        out[[Structure.STOMACH_CONTENT, Structure.BOWEL_CONTENT]] = level
    soft = out > -300.0
    out[soft] += rng.normal(0.0, 4.0)
    out[soft] += rng.normal(0.0, 3.0, int(soft.sum()))
    return out


# ------------------------------------------------------------------ organ tables


def organs_of(contrast: Contrast, rng: np.random.Generator) -> dict[str, float]:
    """Return the organ medians that a segmentation would measure, some missing."""
    t, v = contrast.tissue, contrast.vessels
    liver = float(t[Structure.LIVER])
    in_liver = max(v[Blood.PORTAL], v[Blood.HEPATIC])
    mixture = rng.uniform(0.25, 1.0)
    high = max(liver, 0.35 * liver + 0.65 * in_liver)
    unit = 1.0 if contrast.modality == "CT" else 0.01
    values = {
        "liver": liver,
        "liver_vessels": high + unit * rng.uniform(2.0, 12.0),
        "aorta": float(t[Structure.AORTA]),
        "portal_vein": v[Blood.PORTAL],
        "veins": mixture * float(t[Structure.CAVA]) + (1.0 - mixture) * v[Blood.PORTAL],
        "spleen": float(t[Structure.SPLEEN]),
        "kidney_high": float(t[Structure.KIDNEY_CORTEX]),
        "kidney_low": float(0.8 * t[Structure.KIDNEY_MEDULLA] + 0.2 * t[Structure.KIDNEY_CORTEX]),
    }
    # The rim of a small organ is mixed with what lies around it.
    rim = rng.uniform(0.8, 1.0)
    around = 20.0 if contrast.modality == "CT" else 0.5
    for name in ("aorta", "portal_vein", "veins", "kidney_high"):
        values[name] = around + rim * (values[name] - around)
    noisy = {name: value + unit * rng.normal(0.0, 4.0) for name, value in values.items()}
    return _with_missing(noisy, rng)


def _with_missing(values: dict[str, float], rng: np.random.Generator) -> dict[str, float]:
    share = 1.0 if rng.random() < _LIVER_ALONE else float(rng.uniform(0.0, _MOST_MISSING))
    dropped = {name for name in values if rng.random() < share}
    dropped |= {"kidney_low"} if "kidney_high" in dropped else set()
    return {k: v for k, v in values.items() if k not in dropped - {"liver", "liver_vessels"}}


# ------------------------------------------------------------------ painted abdomens


def simulated_anatomy(number: int, streams: RandomStreams) -> Anatomy:
    """Return one abdomen on the coarse grid, always the same for the same number."""
    return build_anatomy(SHAPE, COARSE_MM, streams.derive("phase", "anatomy", number))


def painted(anatomy: Anatomy, contrast: Contrast, rng: np.random.Generator) -> Voxels:
    """Return an abdomen with the values of a contrast, as a scanner would show it on the coarse grid."""
    table = contrast.tissue
    image = table[anatomy.under] + anatomy.share * (table[anatomy.over] - table[anatomy.under])
    phase = contrast.phase
    if (contrast.modality, phase) == ("MR", Phase.DELAYED):
        phase = Phase.T1_PORTAL_VENOUS
    image = image + grain_table(phase)[anatomy.under] * anatomy.grain
    for kind, cover in anatomy.vessels():
        image = image + cover * (np.float32(contrast.vessels[kind]) - image)
    if contrast.modality == "MR":
        image = image * _shading(image.shape, rng)
    spread = rng.uniform(2.0, 14.0) * (1.0 if contrast.modality == "CT" else 0.006)
    noise = ndimage.gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), 0.4)
    image = image + np.float32(spread / max(float(noise.std()), 1e-6)) * noise
    image = np.abs(image) * np.float32(500.0) if contrast.modality == "MR" else image
    return _field_of_view(np.asarray(image, dtype=np.float32), rng)


def _shading(shape: tuple[int, ...], rng: np.random.Generator) -> Voxels:
    axes = [np.linspace(-1.0, 1.0, n, dtype=np.float32) for n in shape]
    grids = np.meshgrid(*axes, indexing="ij", sparse=True)
    slopes = rng.uniform(-0.3, 0.3, 3)
    total = sum(np.float32(s) * g for s, g in zip(slopes, grids, strict=True))
    return np.asarray(np.float32(1.0) + total, dtype=np.float32)


def _field_of_view(image: Voxels, rng: np.random.Generator) -> Voxels:
    """Cut a scan out of the abdomen, in a body of another size."""
    least = int(np.ceil(LEAST_EXTENT_MM[0] / COARSE_MM[0])) + 1
    length = int(rng.integers(max(least, 8), image.shape[0] + 1))
    start = int(rng.integers(0, image.shape[0] - length + 1))
    rows, columns = (int(n) for n in rng.integers(0, 5, 2))
    part = image[start : start + length, rows:, columns : image.shape[2] - columns]
    size = rng.uniform(0.88, 1.15)
    return np.asarray(ndimage.zoom(part, (1.0, size, size), order=1, mode="nearest", grid_mode=True))


def painted_features(
    anatomy: Anatomy, modality: str, draws: int, rng: np.random.Generator
) -> Iterator[tuple[int, FloatArray]]:
    """Yield the class and the features of painted series of one abdomen, each phase `draws` times."""
    for number, phase in enumerate(PHASES[modality]):
        for _ in range(draws):
            features = coarse_features(painted(anatomy, draw_contrast(modality, phase, rng), rng), modality)
            if features is not None:
                yield number, features


# ------------------------------------------------------------------ scans for the test


@dataclass(frozen=True, slots=True)
class HeldOutScan:
    """One series of the simulated scanner, which no classifier was trained on."""

    phase: Phase
    image: Voxels
    organs: Mapping[str, float]


def scans_for_test(
    anatomy: Anatomy, modality: str, scanner: Scanner, rng: np.random.Generator
) -> list[HeldOutScan]:
    """Scan an abdomen in every phase that the simulator has."""
    phases = SIMULATED_CT if modality == "CT" else SIMULATED_MR
    protocols = draw_protocols(phases, scanner, rng)
    found = []
    for phase, protocol in protocols.items():
        image = scan(anatomy, None, TYPICAL, protocol, rng)
        found.append(HeldOutScan(phase, image, measured_organs(image, anatomy)))
    return found


_MEASURED: Mapping[str, tuple[tuple[Structure, ...], float]] = {
    "liver": ((Structure.LIVER,), 50.0),
    "liver_vessels": ((Structure.LIVER,), 98.0),
    "aorta": ((Structure.AORTA,), 50.0),
    "veins": ((Structure.CAVA,), 50.0),
    "spleen": ((Structure.SPLEEN,), 50.0),
    "kidney_high": ((Structure.KIDNEY_CORTEX, Structure.KIDNEY_MEDULLA), 85.0),
    "kidney_low": ((Structure.KIDNEY_CORTEX, Structure.KIDNEY_MEDULLA), 20.0),
}


def measured_organs(image: Voxels, anatomy: Anatomy) -> dict[str, float]:
    """Measure the organ values of a scan with the true labels."""
    found = {}
    for name, (structures, percentile) in _MEASURED.items():
        values = image[np.isin(anatomy.labels, [int(s) for s in structures])]
        if len(values):
            found[name] = float(np.percentile(values, percentile))
    return found
