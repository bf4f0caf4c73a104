"""The trunk of a simulated abdomen: skin, fat, muscles, spine, ribs, diaphragm and lungs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.results import Voxels
from inference.simulation.habitus import Habitus
from inference.simulation.painting import Painter
from inference.simulation.shapes import Field, cylinder, ellipsoid, union
from inference.simulation.tissues import Structure

SPINE_Y_MM = 62.0
"""Where the vertebral bodies have their middle."""


@dataclass(frozen=True, slots=True)
class Trunk:
    """Signed distances (mm, negative inside) that organs are fitted to.

    Attributes
    ----------
    body, wall, cavity : skin, outer and inner border of the muscles
    under_diaphragm : negative below the diaphragm
    spine : round the vertebral bodies, the crura and psoas
    """

    body: Voxels
    wall: Voxels
    cavity: Voxels
    under_diaphragm: Voxels
    spine: Voxels


def measure_trunk(soft: Field, habitus: Habitus) -> Trunk:
    """Return the distances of one trunk."""
    angle = _angle(soft)
    cavity = _cavity(soft, habitus)
    front = np.clip((angle - 1.9) / 0.8, 0.0, 1.0)
    back = np.clip((1.2 - angle) / 0.8, 0.0, 1.0)
    wall = cavity - habitus.wall_mm * (1.0 - 0.18 * front + 0.7 * back)
    # Fat is thickest at the flanks and the back, thin over the ribs in front.
    fat = habitus.fat_mm * (0.62 + 0.36 * np.sin(angle) ** 2 + 0.40 * back)
    # The muscles of the back stand out on both sides of a furrow.
    furrow = 5.0 * np.exp(-((soft.x / 14.0) ** 2)) * (soft.y > 0)
    body = wall - fat + furrow - 4.0 * back
    # Lying on the couch flattens the back.
    couch = soft.y - (habitus.back_mm + habitus.wall_mm + 0.55 * habitus.fat_mm + 8.0) + 0.6 * furrow
    body = -union(-body, -couch, 22.0)
    spine = np.minimum(
        cylinder(soft, (SPINE_Y_MM, 0.0), (24.0, 30.0)),
        np.maximum(np.minimum(_psoas(soft, 1.0), _psoas(soft, -1.0)), soft.z - 88.0),
    )
    f32 = np.float32
    return Trunk(
        body=body.astype(f32),
        wall=wall.astype(f32),
        cavity=cavity,
        under_diaphragm=_diaphragm(soft, cavity, angle, habitus),
        spine=spine.astype(f32),
    )


def _angle(field: Field) -> Voxels:
    """0 at the back, pi in front."""
    return np.asarray(np.pi - np.arctan2(np.abs(field.x), -(field.y - 8.0)), dtype=np.float32)


def _psoas(field: Field, side: float) -> Voxels:
    return cylinder(field, (66.0, side * 36.0), (17.0, 13.0))


def _cavity(soft: Field, habitus: Habitus) -> Voxels:
    """Distance to a superellipse, q - 1 over the length of its gradient."""
    a = np.float32(habitus.half_width_mm)
    b = np.float32((habitus.front_mm + habitus.back_mm) / 2.0)
    middle = np.float32((habitus.back_mm - habitus.front_mm) / 2.0)
    # Squarer at the back than in front.
    power = np.where(soft.y > middle, np.float32(2.7), np.float32(2.15))
    # The chest is a little narrower than the belly at its top.
    narrow = 1.0 - 0.0007 * np.maximum(soft.z - 110.0, 0.0)
    u = np.abs(soft.x) / (a * narrow) + np.float32(1e-3)
    v = np.abs(soft.y - middle) / (b * narrow) + np.float32(1e-3)
    up, vp = u ** (power - 1), v ** (power - 1)
    q = (up * u + vp * v) ** (1 / power)
    slope = q ** (1 - power) * np.hypot(up / a, vp / b)
    return np.asarray((q - 1.0) / slope, dtype=np.float32)


def _diaphragm(soft: Field, cavity: Voxels, angle: Voxels, habitus: Habitus) -> Voxels:
    """Two domes that fall to the ribs: steeply at the side and in front, far down at the back."""
    attached = 74.0 + 62.0 * (1.0 - np.cos(angle)) / 2.0 + 0.4 * habitus.dome_mm
    peak = np.where(soft.x < 0, 178.0 + habitus.dome_mm, 168.0 + 0.6 * habitus.dome_mm)
    peak = peak - 12.0 * np.exp(-(((soft.x - 6.0) / 22.0) ** 2))
    length = 13.0 + 17.0 * np.clip((1.3 - angle) / 0.8, 0.0, 1.0)
    fall = np.exp(np.minimum(cavity, 0.0) / length)
    height = attached + (peak - attached) * (1.0 - fall)
    slope = (peak - attached) / length * fall
    return np.asarray((soft.z - height) / np.sqrt(1.0 + slope * slope), dtype=np.float32)


def paint_trunk(painter: Painter, trunk: Trunk) -> None:
    """Paint from the skin to the cavity; the spine comes last, by `paint_spine`."""
    field = painter.field
    angle = _angle(painter.soft)
    couch = np.abs(np.hypot(field.x, field.y + 230.0) - 372.0) - 2.0
    couch = np.maximum(couch, np.abs(field.x) - 190.0)
    painter.put(Structure.COUCH, np.maximum(couch, 1.0 - trunk.body))
    painter.put(Structure.SKIN, trunk.body)
    painter.put(Structure.FAT, trunk.body + 2.0)
    painter.put(Structure.MUSCLE, trunk.wall)
    _sheets(painter, trunk, angle)
    painter.put(Structure.CAVITY_FAT, trunk.cavity)
    _back(painter, trunk)
    _ribs(painter, trunk, angle)


def _sheets(painter: Painter, trunk: Trunk, angle: Voxels) -> None:
    """Fat between the layers of the wall, and the white line between the straight muscles."""
    depth = trunk.cavity - trunk.wall
    for share in (0.34, 0.68):
        sheet = np.abs(trunk.cavity - share * depth) - 0.45
        sheet = np.maximum(sheet, np.abs(angle - 1.7) * 30.0 - 21.0)
        painter.put(Structure.FAT, sheet)
    middle = np.maximum(np.abs(painter.soft.x) - 1.2, painter.soft.y)
    painter.put(Structure.FAT, np.maximum(np.maximum(middle, trunk.wall + 1.0), 2.0 - trunk.cavity))
    edge = np.abs(np.abs(painter.soft.x) - 62.0) - 1.0
    edge = np.maximum(np.maximum(edge, painter.soft.y + 20.0), trunk.wall + 3.0)
    painter.put(Structure.FAT, np.maximum(edge, 2.0 - trunk.cavity))


def _back(painter: Painter, trunk: Trunk) -> None:
    soft = painter.soft
    inside = trunk.body + 5.0
    for side in (-1.0, 1.0):
        erector = union(
            cylinder(soft, (101.0, side * 27.0), (24.0, 25.0)),
            cylinder(soft, (95.0, side * 52.0), (19.0, 24.0)),
            9.0,
        )
        painter.put(Structure.MUSCLE, np.maximum(erector, inside))
        streak = np.maximum(np.abs(soft.y - 92.0 + 0.28 * np.abs(soft.x - side * 40.0)) - 0.5, erector + 3.0)
        painter.put(Structure.FAT, np.maximum(streak, inside))
        painter.put(Structure.MUSCLE, np.maximum(_psoas(soft, side), soft.z - 80.0))
        square = ellipsoid(soft, (20.0, 82.0, side * 66.0), (60.0, 9.0, 20.0), -0.35 * side)
        painter.put(Structure.MUSCLE, square)


def _ribs(painter: Painter, trunk: Trunk, angle: Voxels) -> None:
    """Paint oblique bars in the wall, cartilage in front, none below the arch."""
    field = painter.soft
    along = field.z + 165.0 * (1.0 - np.cos(angle)) / 2.0 + 5.0 * np.sign(field.x)
    period = 26.0
    across = np.mod(along, period) - period / 2.0
    depth = (trunk.cavity - trunk.wall) * 0.30
    radial = (trunk.cavity - np.minimum(depth, 4.6)) / 3.2
    # The bars run steeply, so a slice cuts them along: the height is measured across the bar.
    bar = (np.sqrt(radial**2 + (across / 6.0) ** 2) - 1.0) * 3.2
    arch = field.z - (8.0 + 118.0 * np.clip((angle - 1.35) / 1.5, 0.0, 1.0))
    bar = np.maximum(bar, -arch)
    bar = np.maximum(bar, (0.42 - angle) * 60.0)
    boundary = (angle - 2.15) * 60.0
    cartilage = np.maximum(np.maximum(bar, -boundary), 8.0 - np.abs(field.x))
    bone = np.maximum(bar, boundary)
    painter.put(Structure.CARTILAGE, cartilage)
    painter.put(Structure.BONE_CORTEX, bone)
    painter.put(Structure.BONE_MARROW, bone + 1.5)


def paint_lungs(painter: Painter, trunk: Trunk) -> None:
    """Paint lungs and heart above the diaphragm, whose muscle is a thin line over the organs."""
    soft = painter.soft
    outside = np.maximum(-trunk.under_diaphragm, trunk.cavity + 1.2)
    column = np.minimum(
        cylinder(soft, (SPINE_Y_MM, 0.0), (19.0, 24.0)), cylinder(soft, (98.0, 0.0), (22.0, 44.0))
    )
    outside = np.maximum(outside, 0.5 - column)
    heart = ellipsoid(soft, (226.0, -44.0, 26.0), (62.0, 54.0, 66.0), 0.35)
    middle = np.maximum(np.abs(soft.x + 4.0) - 16.0, 26.0 - soft.y)
    chest = -trunk.under_diaphragm
    line = np.maximum(np.abs(trunk.under_diaphragm + 1.0) - 1.2, trunk.cavity + 0.4)
    painter.put(Structure.MUSCLE, line)
    painter.put(Structure.CAVITY_FAT, np.maximum(np.maximum(heart - 5.0, trunk.cavity + 1.2), chest))
    painter.put(Structure.LUNG, np.maximum(np.maximum(outside, 4.0 - heart), -middle))
    painter.put(Structure.MUSCLE, np.maximum(heart, chest + 2.0))
    painter.put(Structure.HEART, np.maximum(heart + 9.0, chest + 4.0))
    gullet = ellipsoid(soft, (214.0, 24.0, 6.0), (70.0, 8.0, 10.0))
    painter.put(Structure.STOMACH_WALL, np.maximum(gullet, 140.0 - soft.z))


def paint_spine(painter: Painter) -> None:
    """Paint vertebral bodies with discs between them, arches, processes and the canal."""
    field = painter.field
    level = np.mod(field.z - 6.0, 33.0)
    disc = np.minimum(level, 33.0 - level) - 4.0
    waist = 1.0 - 0.10 * np.sin(np.pi * level / 33.0)
    hollow = 2.5 * np.exp(-((field.x / 9.0) ** 2)) * (field.y > SPINE_Y_MM)
    body = (np.hypot((field.y - SPINE_Y_MM) / 17.0, field.x / 22.0) / waist - 1.0) * 17.0 + hollow
    posterior = _arches(field, level)
    painter.put(Structure.BONE_CORTEX, posterior)
    painter.put(Structure.BONE_MARROW, posterior + 1.8)
    painter.put(Structure.CARTILAGE, body)
    painter.put(Structure.BONE_CORTEX, np.maximum(body, -disc))
    painter.put(Structure.BONE_MARROW, np.maximum(body + 1.4, 1.2 - disc))
    painter.put(Structure.CANAL, cylinder(field, (84.5, 0.0), (8.0, 10.0)))


def _arches(field: Field, level: Voxels) -> Voxels:
    """Laminae, joints, spinous and transverse processes."""
    laminae = np.abs(np.hypot(field.y - 84.0, field.x / 1.15) - 11.5) - 2.6
    laminae = np.maximum(laminae, np.abs(level - 20.0) - 11.0)
    spinous = np.maximum(np.abs(field.x) - 2.8, np.abs(field.y - 107.0) - 13.0)
    spinous = np.maximum(spinous, np.abs(level - 14.0) - 8.0)
    joints = np.hypot(np.abs(field.x) - 15.0, field.y - 90.0) - 5.5
    # Transverse processes point backwards and are thin.
    lean = field.y - 84.0 - 0.30 * (np.abs(field.x) - 15.0)
    transverse = np.maximum(np.abs(lean) - 3.0, np.abs(np.abs(field.x) - 26.0) - 11.0)
    transverse = np.maximum(transverse, np.abs(level - 22.0) - 5.0)
    posterior = np.minimum(np.minimum(laminae, spinous), np.minimum(joints, transverse))
    return np.asarray(posterior, dtype=np.float32)
