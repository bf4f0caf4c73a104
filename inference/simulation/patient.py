"""A simulated patient: an abdomen with tumours, seen by a simulated scanner in several phases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.case import Phase
from inference.randomness import RandomStreams
from inference.results import FloatArray, Labels, Mask, StoredValues, Voxels
from inference.simulation.anatomy import (
    Anatomy,
    Structure,
    attenuation,
    build_anatomy,
    parenchyma,
    vessel_attenuation,
)
from inference.simulation.shapes import coarse_noise

_CORE_HU = 27.0


@dataclass(frozen=True, slots=True)
class PatientSpec:
    """What is simulated.

    Attributes
    ----------
    shape : (slices, rows, columns)
    step_mm : (z, y, x)
    tumour_diameters_mm : one for each tumour, largest first
    noise_hu : standard deviation of noise in the middle of the body
    """

    shape: tuple[int, int, int] = (60, 256, 256)
    step_mm: tuple[float, float, float] = (3.0, 1.45, 1.45)
    phases: tuple[Phase, ...] = (Phase.ARTERIAL, Phase.PORTAL_VENOUS)
    tumour_diameters_mm: tuple[float, ...] = (62.0, 36.0, 20.0)
    noise_hu: float = 11.0


@dataclass(frozen=True, slots=True)
class SimulatedPatient:
    """Images and truth; arrays are (slices, rows, columns), slices from the feet upwards.

    Attributes
    ----------
    volumes : HU of each phase, int32
    structures : values of `anatomy.Structure`; tumours are LIVER here
    tumour : 0, or the number of the tumour (1 is the largest), its necrotic core included
    core : necrosis before treatment
    portal_vein : the portal vein and its larger branches
    affine : maps (slice, row, column, 1) to LPS in mm
    """

    seed: int
    spec: PatientSpec
    volumes: Mapping[Phase, StoredValues]
    structures: Labels
    tumour: Labels
    core: Mask
    portal_vein: Mask
    affine: FloatArray

    @property
    def liver(self) -> Mask:
        """The liver with tumours and vessels."""
        return np.asarray(self.structures == Structure.LIVER)


@dataclass(frozen=True, slots=True)
class _Tumours:
    number: Labels
    depth: Voxels
    core: Voxels
    mosaic: Voxels


def simulate_patient(seed: int, spec: PatientSpec | None = None) -> SimulatedPatient:
    """Simulate one patient; the same seed and specification always give the same voxels."""
    wanted = spec or PatientSpec()
    streams = RandomStreams(seed)
    anatomy = build_anatomy(wanted.shape, wanted.step_mm, streams.derive("anatomy"))
    tumours = _place_tumours(anatomy, wanted, streams)
    uneven = parenchyma(anatomy, streams.derive("parenchyma"))
    volumes = {
        phase: _scan(anatomy, tumours, uneven, phase, wanted, streams.derive("noise", phase.value))
        for phase in wanted.phases
    }
    inside = anatomy.labels == Structure.LIVER
    return SimulatedPatient(
        seed=seed,
        spec=wanted,
        volumes=volumes,
        structures=anatomy.labels,
        tumour=tumours.number,
        core=(tumours.core > 0.5) & (tumours.number > 0),
        portal_vein=(anatomy.portal > 0.5) & (tumours.number == 0) & _near(inside),
        affine=_affine(wanted),
    )


def _near(mask: Mask) -> Mask:
    return np.asarray(ndimage.binary_dilation(mask, iterations=6))


def _affine(spec: PatientSpec) -> FloatArray:
    affine = np.zeros((4, 4))
    dz, dy, dx = spec.step_mm
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = dz, dy, dx, 1.0
    affine[:3, 3] = (
        -dx * (spec.shape[2] - 1) / 2.0,
        -dy * (spec.shape[1] - 1) / 2.0,
        -spec.shape[0] * dz / 2.0,
    )
    return affine


def _place_tumours(anatomy: Anatomy, spec: PatientSpec, streams: RandomStreams) -> _Tumours:
    shape = anatomy.labels.shape
    number = np.zeros(shape, np.uint8)
    best = np.full(shape, -99.0, np.float32)
    core = np.zeros(shape, np.float32)
    rough = coarse_noise(streams.derive("tumour", "edge"), shape, 9.0, spec.step_mm)
    mosaic = _mosaic(streams.derive("tumour", "mosaic"), shape, spec.step_mm)
    liver = anatomy.labels == Structure.LIVER
    for index, diameter in enumerate(spec.tumour_diameters_mm, start=1):
        rng = streams.derive("tumour", index)
        centre = _site(anatomy, liver & (best < -12.0), diameter, rng)
        radii = diameter / 2.0 * np.array([rng.uniform(0.85, 1.0), rng.uniform(0.85, 1.0), 1.0])
        field = anatomy.field
        q = np.sqrt(
            ((field.z - centre[0]) / radii[0]) ** 2
            + ((field.y - centre[1]) / radii[1]) ** 2
            + ((field.x - centre[2]) / radii[2]) ** 2
        )
        depth = ((1.0 - q) * radii.min() + 0.045 * diameter * rough).astype(np.float32)
        inside = (depth > 0) & liver & (q < 1.4)
        number[inside] = index
        best = np.maximum(best, depth)
        if diameter > 45.0:
            middle = 0.42 * diameter + 0.10 * diameter * mosaic
            core = np.maximum(core, np.clip((depth - middle + 0.14 * diameter) / 2.0, 0.0, 1.0))
    return _Tumours(number, best, core, mosaic)


def _mosaic(rng: np.random.Generator, shape: tuple[int, ...], step_mm: tuple[float, float, float]) -> Voxels:
    """Nodules within the nodule: patches of about 9 mm with fairly sharp borders, deviation 1."""
    noise = np.tanh(2.0 * coarse_noise(rng, shape, 4.5, step_mm)) + 0.5 * coarse_noise(
        rng, shape, 2.4, step_mm
    )
    return np.asarray(noise / noise.std(), dtype=np.float32)


def _site(
    anatomy: Anatomy, free: Mask, diameter: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Choose a centre that leaves most of the tumour in the liver and clear of the others."""
    wanted = 0.40 * diameter
    deep = free & (anatomy.liver_depth > min(wanted, 0.9 * float(anatomy.liver_depth[free].max())))
    z, y, x = np.unravel_index(rng.choice(np.flatnonzero(deep)), deep.shape)
    field = anatomy.field
    return float(field.z.flat[z]), float(field.y.flat[y]), float(field.x.flat[x])


def _scan(
    anatomy: Anatomy,
    tumours: _Tumours,
    uneven: Voxels,
    phase: Phase,
    spec: PatientSpec,
    rng: np.random.Generator,
) -> StoredValues:
    """Return one phase as the scanner would give it: HU, int32."""
    table = np.array([attenuation(s, phase) for s in Structure], np.float32)
    image = table[anatomy.labels]
    image += uneven * _unevenness()[anatomy.labels]
    liver = anatomy.labels == Structure.LIVER
    for name, cover in (("hepatic", anatomy.hepatic), ("portal", anatomy.portal), ("artery", anatomy.artery)):
        image += cover * (np.float32(vessel_attenuation(name, phase)) - image) * _in_soft_tissue(anatomy)
    if phase is Phase.ARTERIAL:
        _stripe_spleen(image, anatomy, uneven)
    _paint_tumours(image, tumours, liver, phase)
    sigma = [0.35, 0.62, 0.62]
    image = ndimage.gaussian_filter(image, sigma, truncate=3.0)
    image += _scanner_noise(image, spec, rng)
    return np.asarray(np.clip(np.rint(image), -1024, 3071), dtype=np.int32)


def _in_soft_tissue(anatomy: Anatomy) -> Voxels:
    allowed = [Structure.LIVER, Structure.CAVITY_FAT, Structure.PANCREAS]
    return np.isin(anatomy.labels, allowed).astype(np.float32)


def _unevenness() -> Voxels:
    """Deviation in HU of each structure over 5 to 20 mm."""
    spread = np.full(len(Structure), 2.0, np.float32)
    spread[[Structure.AIR, Structure.GAS, Structure.COUCH, Structure.GALLBLADDER]] = 0.0
    spread[Structure.LUNG] = 35.0
    spread[Structure.BONE_MARROW] = 45.0
    spread[Structure.BOWEL_CONTENT] = 20.0
    spread[Structure.MUSCLE] = 7.0
    spread[[Structure.FAT, Structure.CAVITY_FAT]] = 6.0
    spread[Structure.PANCREAS] = 10.0
    spread[Structure.LIVER] = 3.5
    spread[Structure.STOMACH_CONTENT] = 7.0
    return spread


def _stripe_spleen(image: Voxels, anatomy: Anatomy, uneven: Voxels) -> None:
    """Give the spleen the bands in which it takes up contrast in the arterial phase."""
    spleen = anatomy.labels == Structure.SPLEEN
    bands = np.sin(0.33 * anatomy.field.x + 0.42 * anatomy.field.y + 0.1 * anatomy.field.z + 1.6 * uneven)
    image[spleen] += 20.0 * bands[spleen]


def _paint_tumours(image: Voxels, tumours: _Tumours, liver: Mask, phase: Phase) -> None:
    """Arterial hyperenhancement, washout with a bright capsule, a dark core (LI-RADS v2018)."""
    base = attenuation(Structure.LIVER, phase)
    contrast, spread, capsule = {
        Phase.ARTERIAL: (48.0, 13.0, 0.0),
        Phase.PORTAL_VENOUS: (-24.0, 7.0, 20.0),
    }.get(phase, (-14.0, 4.0, 0.0))
    inside = tumours.number > 0
    tissue = base + contrast + spread * tumours.mosaic
    tissue += (_CORE_HU - tissue) * tumours.core
    image[inside] = tissue[inside]
    shell = liver & (np.abs(tumours.depth) < 1.3) & (tumours.depth > -90.0)
    image[shell] = base + capsule + (contrast / 2.0 if capsule == 0.0 else 0.0)


def _scanner_noise(image: Voxels, spec: PatientSpec, rng: np.random.Generator) -> Voxels:
    """Noise with the ramp-and-roll-off spectrum of filtered back projection, stronger in the middle."""
    white = rng.standard_normal(image.shape, dtype=np.float32)
    fy = np.fft.fftfreq(image.shape[1], spec.step_mm[1])[:, None]
    fx = np.fft.rfftfreq(image.shape[2], spec.step_mm[2])[None, :]
    f = np.hypot(fy, fx)
    shape = np.sqrt(f) * np.exp(-((f / 0.26) ** 2)) + 0.02
    noise = np.fft.irfft2(np.fft.rfft2(white) * shape, s=image.shape[1:]).astype(np.float32)
    noise = ndimage.gaussian_filter1d(noise, 0.45, axis=0)
    noise /= max(float(noise.std()), 1e-9)
    y = np.linspace(-1, 1, image.shape[1], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, image.shape[2], dtype=np.float32)[None, :]
    return np.asarray(noise * (spec.noise_hu * np.exp(-0.9 * (y * y + x * x))), dtype=np.float32)
