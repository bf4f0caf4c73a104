"""A simulated patient: an abdomen with tumours, seen by a simulated scanner in several phases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from inference.case import Phase
from inference.randomness import RandomStreams
from inference.results import Box, FloatArray, Labels, Mask, StoredValues, Voxels
from inference.simulation.acquisition import Scanner, draw_protocols, noise_scale
from inference.simulation.anatomy import STUDY_CENTRE_MM, Anatomy, build_anatomy
from inference.simulation.disease import Appearance, TumourState
from inference.simulation.habitus import draw_habitus
from inference.simulation.imaging_study import grid_affine
from inference.simulation.scan import scan
from inference.simulation.shapes import Point, coarse_noise
from inference.simulation.tissues import Structure

TYPICAL = Appearance(
    arterial_contrast_hu=48.0,
    portal_contrast_hu=-24.0,
    delayed_contrast_hu=-22.0,
    mosaic_hu=10.0,
    capsule=0.7,
    steatosis=0.05,
    nodularity=0.25,
    ascites=0.0,
    lipiodol_hu=283.0,
    infiltrative=0.0,
)
"""A compensated liver with encapsulated tumours that wash out."""


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
    step_mm: tuple[float, float, float] = (3.0, 1.6, 1.6)
    phases: tuple[Phase, ...] = (Phase.ARTERIAL, Phase.PORTAL_VENOUS)
    tumour_diameters_mm: tuple[float, ...] = (62.0, 36.0, 20.0)
    noise_hu: float = 11.0


@dataclass(frozen=True, slots=True)
class SimulatedPatient:
    """Images and truth; arrays are (slices, rows, columns), slices from the feet upwards.

    Attributes
    ----------
    volumes : HU of each phase, int32
    structures : values of `tissues.Structure`; tumours are LIVER here
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


def simulate_patient(seed: int, spec: PatientSpec | None = None) -> SimulatedPatient:
    """Simulate one patient; the same seed and specification always give the same voxels."""
    wanted = spec or PatientSpec()
    streams = RandomStreams(seed)
    habitus = draw_habitus(streams.derive("habitus"), TYPICAL)
    anatomy = build_anatomy(wanted.shape, wanted.step_mm, streams.derive("anatomy"), habitus)
    state = _place_tumours(anatomy, wanted, streams)
    protocols = draw_protocols(wanted.phases, Scanner.STANDARD, streams.derive("protocol"))
    level = wanted.noise_hu / noise_scale("CT", wanted.step_mm)
    volumes = {}
    for phase, protocol in protocols.items():
        noise = streams.derive("noise", phase.value)
        image = scan(anatomy, state, TYPICAL, replace(protocol, noise=level), noise)
        volumes[phase] = np.rint(image).astype(np.int32)
    inside = anatomy.labels == Structure.LIVER
    return SimulatedPatient(
        seed=seed,
        spec=wanted,
        volumes=volumes,
        structures=anatomy.labels,
        tumour=state.lesion,
        core=(state.necrosis > 0.5) & (state.lesion > 0),
        portal_vein=(anatomy.portal > 0.5) & (state.lesion == 0) & _near(inside),
        affine=grid_affine(wanted.shape, wanted.step_mm, STUDY_CENTRE_MM),
    )


def _near(mask: Mask) -> Mask:
    return np.asarray(ndimage.binary_dilation(mask, iterations=6))


def _place_tumours(anatomy: Anatomy, spec: PatientSpec, streams: RandomStreams) -> TumourState:
    """Grow rough ellipsoids with a dark core in the large ones."""
    shape = anatomy.labels.shape
    number = np.zeros(shape, np.uint8)
    best = np.full(shape, -99.0, np.float32)
    core = np.zeros(shape, np.float32)
    rough = coarse_noise(streams.derive("tumour", "edge"), shape, 9.0, spec.step_mm)
    liver = anatomy.labels == Structure.LIVER
    for index, diameter in enumerate(spec.tumour_diameters_mm, start=1):
        rng = streams.derive("tumour", index)
        depth, reach = _ellipsoid(anatomy, liver & (best < -12.0), diameter, rng)
        depth += np.float32(0.045 * diameter) * rough
        number[(depth > 0) & liver & reach] = index
        best = np.maximum(best, np.where(reach, depth, -99.0))
        if diameter > 45.0:
            middle = 0.42 * diameter + 0.10 * diameter * anatomy.mosaic
            core = np.maximum(core, np.clip((depth - middle + 0.14 * diameter) / 2.0, 0.0, 1.0))
    total = np.clip(0.5 + best / spec.step_mm[2], 0.0, 1.0) * anatomy.liver
    return TumourState(
        months=0.0,
        box=Box((0, 0, 0), spec.shape),
        viable=(total * (1.0 - core)).astype(np.float32),
        necrosis=(total * core).astype(np.float32),
        lipiodol=np.zeros(shape, np.float32),
        vascularity=np.ones(shape, np.float32),
        thrombus=np.zeros(shape, np.float32),
        lesion=number,
    )


def _ellipsoid(
    anatomy: Anatomy, free: Mask, diameter: float, rng: np.random.Generator
) -> tuple[Voxels, Mask]:
    """Return the depth in mm below the surface of one tumour, and how far it may reach."""
    centre = _site(anatomy, free, diameter, rng)
    radii = diameter / 2.0 * np.array([rng.uniform(0.85, 1.0), rng.uniform(0.85, 1.0), 1.0])
    field = anatomy.field
    q = np.sqrt(
        ((field.z - centre[0]) / radii[0]) ** 2
        + ((field.y - centre[1]) / radii[1]) ** 2
        + ((field.x - centre[2]) / radii[2]) ** 2
    )
    depth = ((1.0 - q) * radii.min()).astype(np.float32)
    return depth, np.asarray(q < 1.4)


def _site(anatomy: Anatomy, free: Mask, diameter: float, rng: np.random.Generator) -> Point:
    """Choose a centre that leaves most of the tumour in the liver and clear of the others."""
    wanted = 0.40 * diameter
    deep = free & (anatomy.liver_depth > min(wanted, 0.9 * float(anatomy.liver_depth[free].max())))
    z, y, x = np.unravel_index(rng.choice(np.flatnonzero(deep)), deep.shape)
    field = anatomy.field
    return float(field.z.flat[z]), float(field.y.flat[y]), float(field.x.flat[x])
