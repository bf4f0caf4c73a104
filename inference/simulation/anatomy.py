"""A simulated abdomen: which structure each voxel belongs to, and how it looks in each phase."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from inference.case import Phase
from inference.results import Labels, Voxels
from inference.simulation.shapes import (
    Field,
    Point,
    Vessel,
    coarse_noise,
    coverage,
    cylinder,
    ellipsoid,
    random_points,
    tree,
    union,
)


class Structure(IntEnum):
    """Values of the label map of the anatomy, without lesions."""

    AIR = 0
    FAT = 1
    MUSCLE = 2
    CAVITY_FAT = 3
    BONE_CORTEX = 4
    BONE_MARROW = 5
    CARTILAGE = 6
    CANAL = 7
    LUNG = 8
    LIVER = 9
    SPLEEN = 10
    KIDNEY_CORTEX = 11
    KIDNEY_MEDULLA = 12
    KIDNEY_SINUS = 13
    STOMACH_WALL = 14
    STOMACH_CONTENT = 15
    GAS = 16
    BOWEL_WALL = 17
    BOWEL_CONTENT = 18
    PANCREAS = 19
    GALLBLADDER = 20
    AORTA = 21
    CAVA = 22
    SKIN = 23
    COUCH = 24
    HEART = 25


_HU: Mapping[Structure, tuple[float, float, float]] = {
    # structure: HU native, late arterial, portal venous
    Structure.AIR: (-1000, -1000, -1000),
    Structure.FAT: (-105, -104, -104),
    Structure.MUSCLE: (52, 58, 65),
    Structure.CAVITY_FAT: (-102, -100, -100),
    Structure.BONE_CORTEX: (520, 525, 530),
    Structure.BONE_MARROW: (165, 180, 190),
    Structure.CARTILAGE: (105, 108, 110),
    Structure.CANAL: (30, 34, 36),
    Structure.LUNG: (-860, -850, -850),
    Structure.LIVER: (58, 72, 112),
    Structure.SPLEEN: (48, 118, 122),
    Structure.KIDNEY_CORTEX: (34, 178, 192),
    Structure.KIDNEY_MEDULLA: (32, 88, 172),
    Structure.KIDNEY_SINUS: (-40, -30, -35),
    Structure.STOMACH_WALL: (42, 80, 88),
    Structure.STOMACH_CONTENT: (14, 15, 15),
    Structure.GAS: (-960, -960, -960),
    Structure.BOWEL_WALL: (40, 76, 90),
    Structure.BOWEL_CONTENT: (22, 24, 24),
    Structure.PANCREAS: (42, 104, 96),
    Structure.GALLBLADDER: (8, 9, 9),
    Structure.AORTA: (42, 318, 158),
    Structure.CAVA: (42, 82, 138),
    Structure.SKIN: (5, 8, 12),
    Structure.COUCH: (-760, -760, -760),
    Structure.HEART: (42, 210, 150),
}

_VESSEL_HU: Mapping[str, tuple[float, float, float]] = {
    "artery": (42, 230, 140),
    "portal": (42, 112, 172),
    "hepatic": (42, 74, 160),
}

_COLUMN: Mapping[Phase, int] = {Phase.NATIVE: 0, Phase.ARTERIAL: 1, Phase.PORTAL_VENOUS: 2}

PHASES = tuple(_COLUMN)
"""Phases that can be simulated."""


def attenuation(structure: Structure, phase: Phase) -> float:
    """HU of a structure in one phase."""
    return _HU[structure][_COLUMN[phase]]


def vessel_attenuation(name: str, phase: Phase) -> float:
    """HU of blood in the arteries, the portal vein or the hepatic veins of the liver."""
    return _VESSEL_HU[name][_COLUMN[phase]]


@dataclass(frozen=True, slots=True)
class Anatomy:
    """One abdomen; arrays are (slices, rows, columns).

    Attributes
    ----------
    labels : array of uint8
        Values of `Structure`.
    liver_depth : array of float32
        mm below the liver's surface, negative outside.
    portal, artery, hepatic : arrays of float32
        Coverage by these vessels in the liver, 0 to 1.
    """

    field: Field
    step_mm: Point
    labels: Labels
    liver_depth: Voxels
    portal: Voxels
    artery: Voxels
    hepatic: Voxels


def coordinates(shape: tuple[int, int, int], step_mm: Point) -> Field:
    """Return the coordinates of a volume: z from 0 upwards, x and y centred on the body."""
    z = (np.arange(shape[0], dtype=np.float32) + 0.5) * step_mm[0]
    y = (np.arange(shape[1], dtype=np.float32) - (shape[1] - 1) / 2.0) * step_mm[1]
    x = (np.arange(shape[2], dtype=np.float32) - (shape[2] - 1) / 2.0) * step_mm[2]
    return Field(
        z[:, None, None].astype(np.float32),
        y[None, :, None].astype(np.float32),
        x[None, None, :].astype(np.float32),
    )


@dataclass(slots=True)
class _Painter:
    field: Field
    labels: Labels

    def put(self, structure: Structure, distance: Voxels) -> None:
        self.labels[np.broadcast_to(distance < 0, self.labels.shape)] = structure


def build_anatomy(shape: tuple[int, int, int], step_mm: Point, rng: np.random.Generator) -> Anatomy:
    """Build one abdomen from the liver's dome (top) to the lower poles of the kidneys."""
    field = coordinates(shape, step_mm)
    soft = field.warped(rng, 3.2, 30.0, step_mm)
    size = float(rng.uniform(0.95, 1.04))
    fat = float(rng.uniform(12.0, 20.0))
    height = shape[0] * step_mm[0]
    painter = _Painter(field, np.zeros(shape, np.uint8))

    body, wall, cavity = _trunk(painter, soft, size, fat)
    _skeleton(painter, field, body, cavity)
    # Fine bumps: the contour of a cirrhotic liver.
    liver = _liver(soft, size, height) + 1.1 * coarse_noise(rng, shape, 6.0, step_mm)
    organs = _organs(soft, size, height)
    liver = np.maximum(liver, cavity + 2.0)
    for other, gap in ((organs["kidney right"], 3.0), (organs["gallbladder"], 0.5), (organs["stomach"], 2.0)):
        liver = np.maximum(liver, gap - other)
    liver = np.maximum(liver, 1.0 - organs["cava"])
    liver = np.maximum(liver, 16.0 - cylinder(field, (62.0, 0.0), (24.0, 28.0)))
    liver = np.maximum(liver, 7.0 - organs["aorta"])
    _lungs(painter, soft, cavity, liver, organs, height)
    _bowel(painter, soft, cavity, rng)
    _viscera(painter, field, organs, cavity, liver)
    _vertebrae(painter, field)

    mask = painter.labels == Structure.LIVER
    hilum = (0.46 * height, 2.0, -22.0)
    trunk = [
        Vessel(np.array([0.33 * height, 12.0, 8.0]), np.array([0.40 * height, 7.0, -8.0]), 7.0),
        Vessel(np.array([0.40 * height, 7.0, -8.0]), np.array(hilum), 7.0),
    ]
    portal = trunk + tree(rng, random_points(rng, mask, field, 900), hilum, 7.0, 0.7)
    outlet = (0.84 * height, 20.0, -22.0)
    hepatic = tree(rng, random_points(rng, mask, field, 700), outlet, 7.0, 0.7)
    arteries = [Vessel(v.start, v.end, max(0.32 * v.radius_mm, 0.5)) for v in portal if v.radius_mm > 1.3]
    inside = np.clip(0.5 - liver / step_mm[2], 0.0, 1.0)
    portal_cover = coverage(portal, field, step_mm)
    return Anatomy(
        field=field,
        step_mm=step_mm,
        labels=painter.labels,
        liver_depth=np.where(mask, np.maximum(-liver, 0.1), np.minimum(-liver, -0.1)).astype(np.float32),
        portal=portal_cover,
        artery=coverage(arteries, field, step_mm, (0.0, -3.2, 2.6)),
        hepatic=(coverage(hepatic, field, step_mm) * inside).astype(np.float32),
    )


def _trunk(painter: _Painter, soft: Field, size: float, fat: float) -> tuple[Voxels, Voxels, Voxels]:
    """Paint skin, subcutaneous fat and the muscular wall; return their signed distances."""
    y, x = soft.y - 4.0, soft.x
    # An ellipse that is flatter at the back.
    flat = np.where(y > 0, 0.90, 1.0)
    q = ((np.abs(x) / (163.0 * size)) ** 2.4 + (np.abs(y) / (118.0 * size * flat)) ** 2.4) ** (1 / 2.4)
    body = ((q - 1.0) * 118.0 * size).astype(np.float32)
    angle = np.arctan2(np.abs(x), -y)
    layer = fat * (0.75 + 0.35 * np.sin(angle) ** 2)
    wall = (body + layer).astype(np.float32)
    cavity = (wall + 12.0 + 3.0 * np.cos(angle * 2.0)).astype(np.float32)
    painter.put(Structure.SKIN, body)
    painter.put(Structure.FAT, body + 2.2)
    painter.put(Structure.MUSCLE, wall)
    # A thin sheet of fat between the muscles.
    painter.put(Structure.FAT, np.abs(cavity - 7.5) - 0.7)
    painter.put(Structure.CAVITY_FAT, cavity)
    couch = np.abs(np.hypot(painter.field.x, painter.field.y + 240.0) - 366.0) - 2.2
    couch = np.maximum(couch, np.abs(painter.field.x) - 170.0)
    painter.put(Structure.COUCH, np.maximum(couch, 1.0 - body))
    return body, wall, cavity


def _skeleton(painter: _Painter, field: Field, body: Voxels, cavity: Voxels) -> None:
    """Paint the back muscles and the ribs: oblique tubes in the wall, cartilage in front."""
    for side in (-1.0, 1.0):
        back = cylinder(field, (86.0, side * 36.0), (19.0, 27.0))
        painter.put(Structure.MUSCLE, np.maximum(back, body + 12.0))
        psoas = cylinder(field, (60.0, side * 38.0), (15.0, 12.0))
        painter.put(Structure.MUSCLE, np.maximum(psoas, field.z - 75.0))
    angle = np.arctan2(np.abs(field.x), field.y - 20.0)  # 0 at the back, pi in front
    along = field.z + 62.0 * (1.0 - np.cos(angle)) / 2.0 + 6.0 * np.sign(field.x)
    across = np.mod(along, 28.0) - 14.0
    tube = np.sqrt(((cavity - 4.2) / 4.0) ** 2 + (across / 6.5) ** 2) - 1.0
    tube = np.where((angle < 2.45) & (angle > 0.25), tube, 1.0)
    cartilage = angle > 1.95
    reach = field.z > 34.0 * cartilage - 10.0
    tube = np.where(reach, tube, 1.0) * 4.0
    bone = np.where(cartilage, 1.0, tube).astype(np.float32)
    painter.put(Structure.CARTILAGE, np.where(cartilage, tube, 1.0).astype(np.float32))
    painter.put(Structure.BONE_CORTEX, bone)
    painter.put(Structure.BONE_MARROW, bone + 1.7)


def _liver(soft: Field, size: float, height: float) -> Voxels:
    right = ellipsoid(soft, (0.525 * height, -4.0, -66.0 * size), (79.0, 84.0 * size, 68.0 * size), 0.12)
    left = ellipsoid(soft, (0.68 * height, -46.0 * size, 8.0), (42.0, 34.0 * size, 74.0 * size), -0.10)
    caudate = ellipsoid(soft, (0.62 * height, 8.0, -16.0), (30.0, 14.0, 16.0))
    liver = union(union(right, left, 16.0), caudate, 8.0)
    # The fissure of the falciform ligament.
    fissure = ellipsoid(soft, (0.50 * height, -72.0 * size, -14.0), (34.0, 30.0, 2.4), 0.15)
    return np.asarray(np.maximum(liver, -fissure - 0.3), dtype=np.float32)


def _organs(soft: Field, size: float, height: float) -> dict[str, Voxels]:
    """Signed distances of the other organs."""
    return {
        "spleen": ellipsoid(soft, (0.68 * height, 42.0, 104.0 * size), (46.0, 44.0, 21.0), -0.5),
        "stomach": ellipsoid(soft, (0.66 * height, -28.0, 72.0 * size), (52.0, 46.0, 36.0), 0.45),
        "kidney right": ellipsoid(soft, (0.26 * height, 52.0, -62.0), (54.0, 24.0, 29.0), 0.6),
        "kidney left": ellipsoid(soft, (0.32 * height, 52.0, 66.0), (54.0, 25.0, 28.0), -0.6),
        "pancreas": union(
            ellipsoid(soft, (0.38 * height, -2.0, 34.0), (13.0, 12.0, 42.0), -0.35),
            ellipsoid(soft, (0.32 * height, -2.0, -4.0), (20.0, 15.0, 16.0)),
            8.0,
        ),
        "gallbladder": ellipsoid(soft, (0.34 * height, -44.0, -40.0), (26.0, 17.0, 14.0), 0.4),
        "aorta": cylinder(soft, (33.0, 9.0), (10.5, 10.5)),
        "cava": cylinder(soft, (27.0, -22.0), (10.0, 12.5)),
        "heart": ellipsoid(soft, (1.22 * height, -40.0, 18.0), (50.0, 50.0, 62.0), 0.3),
    }


def _lungs(
    painter: _Painter,
    soft: Field,
    cavity: Voxels,
    liver: Voxels,
    organs: Mapping[str, Voxels],
    height: float,
) -> None:
    """Paint the lower lobes behind and above the diaphragm, whose muscle stays round the organs."""
    right = ellipsoid(soft, (0.30 * height, -16.0, -70.0), (108.0, 100.0, 78.0))
    left = ellipsoid(soft, (0.30 * height, -16.0, 78.0), (106.0, 98.0, 74.0))
    dome = np.minimum(right, left)
    middle = np.abs(soft.x) - 26.0
    outside = np.maximum(np.maximum(-dome, cavity + 1.5), -np.maximum(-middle, -(soft.z - 2.0 * height)))
    outside = np.maximum(outside, 0.46 * height - soft.z)
    for organ in (liver, organs["spleen"], organs["stomach"]):
        outside = np.maximum(outside, 3.0 - organ)
    outside = np.maximum(outside, 5.0 - organs["aorta"])
    outside = np.maximum(outside, 34.0 - np.hypot(soft.y - 62.0, soft.x))
    painter.put(Structure.MUSCLE, np.maximum(outside - 2.5, cavity + 0.5))
    painter.put(Structure.LUNG, outside)
    painter.put(Structure.HEART, np.maximum(organs["heart"], 4.0 - liver))


def _bowel(painter: _Painter, soft: Field, cavity: Voxels, rng: np.random.Generator) -> None:
    """Paint the colon's flexures and loops of small bowel, with fluid levels of gas."""
    loops: list[tuple[Point, Point]] = [
        ((14.0, -44.0, -92.0), (26.0, 24.0, 24.0)),
        ((24.0, -70.0, -44.0), (16.0, 17.0, 40.0)),
        ((28.0, -74.0, 34.0), (16.0, 17.0, 46.0)),
        ((52.0, -34.0, 106.0), (40.0, 22.0, 18.0)),
        ((20.0, 18.0, 104.0), (46.0, 20.0, 16.0)),
    ]
    for _ in range(18):
        centre = (rng.uniform(0, 58), rng.uniform(-48, 24), rng.uniform(-46, 86))
        loops.append((centre, (rng.uniform(10, 16), rng.uniform(10, 15), rng.uniform(12, 26))))
    for centre, radii in loops:
        shape = np.maximum(ellipsoid(soft, centre, radii, rng.uniform(-0.6, 0.6)), cavity + 3.0)
        painter.put(Structure.BOWEL_WALL, shape)
        painter.put(Structure.BOWEL_CONTENT, shape + 2.2)
        level = centre[1] - radii[1] * rng.uniform(-0.1, 0.9)
        painter.put(Structure.GAS, np.maximum(shape + 2.4, painter.field.y - np.float32(level)))


def _viscera(
    painter: _Painter, field: Field, organs: Mapping[str, Voxels], cavity: Voxels, liver: Voxels
) -> None:
    painter.put(Structure.PANCREAS, organs["pancreas"])
    stomach = np.maximum(organs["stomach"], cavity + 3.0)
    painter.put(Structure.STOMACH_WALL, stomach)
    painter.put(Structure.STOMACH_CONTENT, stomach + 4.5)
    painter.put(Structure.GAS, np.maximum(stomach + 4.8, field.y + 44.0))
    painter.put(Structure.SPLEEN, np.maximum(np.maximum(organs["spleen"], cavity + 2.5), 2.0 - stomach))
    for name in ("kidney right", "kidney left"):
        kidney = organs[name]
        painter.put(Structure.KIDNEY_CORTEX, kidney)
        # Columns of cortex between the pyramids.
        pyramids = 3.0 * np.sin(0.42 * field.x) * np.sin(0.42 * field.y) * np.cos(0.3 * field.z)
        painter.put(Structure.KIDNEY_MEDULLA, kidney + 8.0 + pyramids)
        painter.put(Structure.KIDNEY_SINUS, kidney + 16.0)
    painter.put(Structure.GALLBLADDER, organs["gallbladder"])
    painter.put(Structure.LIVER, liver)
    crus = np.maximum(organs["aorta"] - 5.0, field.y - 40.0)
    painter.put(Structure.MUSCLE, np.maximum(crus, 70.0 - field.z))
    painter.put(Structure.AORTA, organs["aorta"])
    painter.put(Structure.CAVA, organs["cava"])


def _vertebrae(painter: _Painter, field: Field) -> None:
    """Paint vertebral bodies with discs between them, arches, processes and the canal."""
    level = np.mod(field.z - 6.0, 34.0)
    disc = level < 7.0
    waist = 1.0 - 0.10 * np.sin(np.pi * np.clip((level - 7.0) / 27.0, 0.0, 1.0))
    body = (np.hypot((field.y - 62.0) / 17.5, field.x / 23.0) / waist - 1.0) * 17.5
    arch = np.abs(np.hypot((field.y - 85.0) / 1.0, field.x / 1.15) - 12.5) - 3.0
    spinous = np.maximum(np.abs(field.x) - 3.2, np.abs(field.y - 99.0) - 7.0)
    spinous = np.maximum(spinous, 3.0 - np.abs(level - 3.0))
    transverse = np.maximum(np.abs(field.y - 86.0) - 4.0, np.abs(np.abs(field.x) - 26.0) - 13.0)
    transverse = np.maximum(transverse, np.abs(level - 20.0) - 7.0)
    posterior = np.minimum(np.minimum(arch, spinous), transverse)
    painter.put(Structure.BONE_CORTEX, posterior)
    painter.put(Structure.BONE_MARROW, posterior + 1.9)
    painter.put(Structure.CARTILAGE, body)
    bone = np.where(disc, 1.0, body)
    painter.put(Structure.BONE_CORTEX, bone)
    painter.put(Structure.BONE_MARROW, np.where(disc, 1.0, body + 1.6))
    painter.put(Structure.CANAL, cylinder(field, (85.0, 0.0), (8.5, 10.5)))


def parenchyma(anatomy: Anatomy, rng: np.random.Generator) -> Voxels:
    """Return the relative unevenness of tissue over 6 and 20 mm, mean 0 and deviation 1."""
    fine = coarse_noise(rng, anatomy.labels.shape, 5.0, anatomy.step_mm)
    broad = coarse_noise(rng, anatomy.labels.shape, 20.0, anatomy.step_mm)
    return np.asarray((fine + broad) / math.sqrt(2.0), dtype=np.float32)
