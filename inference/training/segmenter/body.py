"""What lies around the organs of a random abdomen: couch, arms, wall, diaphragm, chest and bones."""

from __future__ import annotations

import numpy as np

from inference.results import Voxels
from inference.simulation.shapes import Field, coarse_noise
from inference.training.segmenter.scene import SHAPE, SPACING_MM, STEP, Label, Scene, ellipsoid


def trunk(rng: np.random.Generator) -> Scene:
    """Paint couch, arms, skin, fat, wall and the fat of the cavity; place the diaphragm."""
    u = rng.uniform
    z, y, x = (((np.arange(n) - (n - 1) / 2.0) * SPACING_MM).astype(np.float32) for n in SHAPE)
    field = Field(z[:, None, None], y[None, :, None], x[None, None, :])
    soft = field.warped(rng, float(u(2.0, 6.0)), 32.0, STEP)
    labels = np.zeros(SHAPE, np.uint8)
    width = float(u(138.0, 178.0))
    depth = min(width * float(u(0.60, 0.78)), 126.0)
    fat = float(u(4.0, 34.0))
    power = float(u(1.9, 2.6))
    taper = 1.0 - float(u(0.0, 7e-4)) * np.abs(field.z + 20.0)
    radius = (
        (np.abs(field.x) / (width * taper)) ** power
        + (np.abs(soft.y + float(u(-4.0, 4.0))) / (depth * taper)) ** power
    ) ** (1.0 / power)
    body = np.asarray((radius - 1.0) * depth, dtype=np.float32)
    angle = np.arctan2(field.y, field.x)
    layer = 0.75 + 0.5 * (field.y > 0) * np.abs(field.y) / depth + 0.2 * np.sin(2.0 * angle + float(u(0, 6)))
    wall = body + np.float32(fat) * layer
    back = np.exp(-(((np.abs(field.x) - 30.0) / 34.0) ** 2)) * (field.y > 0)
    cavity = np.asarray(wall + float(u(8.0, 15.0)) + back * float(u(18.0, 30.0)), dtype=np.float32)
    half_width, half_depth = width - fat - 12.0, depth - fat - 12.0
    dome_right = float(u(45.0, 88.0))
    dome_left = dome_right - float(u(4.0, 28.0))
    steep = float(u(0.004, 0.0075)) * (105.0 / half_width) ** 2
    dome = np.maximum(
        dome_right - steep * ((field.x + 0.5 * half_width) ** 2 + (field.y + 5.0) ** 2),
        dome_left - steep * ((field.x - 0.55 * half_width) ** 2 + field.y**2),
    )
    centre = min(dome_right, dome_left) - float(u(5.0, 18.0)) - 0.0035 * (field.y + 20.0) ** 2
    dome = np.where(np.abs(field.x) < 0.6 * half_width, np.maximum(dome, centre), dome)
    dome = np.maximum(dome, -220.0) + coarse_noise(rng, SHAPE, 30.0, STEP) * 2.0
    scene = Scene(
        rng,
        field,
        soft,
        labels,
        cavity,
        np.asarray(field.z - dome, dtype=np.float32),
        half_width,
        half_depth,
        depth - fat - float(u(44.0, 56.0)),
        dome_right,
        dome_left,
    )
    _surroundings(scene, width, depth)
    scene.put(body < 0, Label.FAT)
    scene.put(wall < 0, Label.MUSCLE)
    scene.put(cavity < 0, Label.CAVITY_FAT)
    if rng.random() < 0.15:
        deep = -scene.between(5.0, 24.0)
        scene.put((cavity < 0) & (cavity > deep) & (field.y < 45.0), Label.ASCITES)
    return scene


def _surroundings(scene: Scene, width: float, depth: float) -> None:
    field = scene.field
    if scene.rng.random() < 0.7:
        level = depth + scene.between(2.0, 14.0)
        bend = scene.between(0.0, 0.002)
        couch = np.abs(field.y - level + bend * field.x**2) < scene.between(3.0, 7.0)
        scene.put(couch, Label.COUCH)
    if scene.rng.random() < 0.25:
        for side in (-1.0, 1.0):
            centre = (0.0, scene.between(0.0, 60.0), side * (width + scene.between(10.0, 40.0)))
            thick = scene.between(24.0, 40.0)
            arm = ellipsoid(field, centre, (900.0, thick, thick))
            scene.put(arm < 0, Label.FAT)
            scene.put(arm < -scene.between(4.0, 9.0), Label.MUSCLE)
            scene.put(arm < -thick + 10.0, Label.CORTEX)


def thorax(scene: Scene, organs: dict[str, Voxels]) -> None:
    """Paint lungs, sometimes an effusion, heart and gullet above the diaphragm."""
    field, above = scene.field, scene.above
    inside = (scene.cavity < -1) & (above > 0)
    wide = np.abs(field.x) > scene.between(18.0, 30.0)
    spine = np.hypot(field.x, field.y - scene.spine_y) < 32.0
    behind = (field.y > scene.spine_y - 15.0) & (np.abs(field.x) > 22.0)
    lung = inside & ((wide & ~spine) | behind)
    scene.put(inside & ~lung, Label.CAVITY_FAT)
    scene.put(lung, Label.LUNG)
    scene.put(lung & (scene.noise(5.0) > 2.0), Label.OUTER_VEIN)
    if scene.rng.random() < 0.4:
        scene.put(lung & (above < 4.0), Label.MUSCLE)
    if scene.rng.random() < 0.15:
        scene.put(lung & (field.y > scene.between(10.0, 60.0)), Label.ASCITES)  # effusion
    heart = organs["heart"]
    scene.put((heart < 6) & (above > -4) & (scene.cavity < -2), Label.CAVITY_FAT)
    scene.put((heart < 0) & (above > -6) & (scene.cavity < -3), Label.HEART)
    gullet = ellipsoid(field, (0.0, scene.spine_y - 40.0, 8.0), (900.0, 9.0, 11.0))
    scene.put((gullet < 0) & (above > -20), Label.STOMACH_WALL)


def skeleton(scene: Scene) -> None:
    """Paint ribs, spine and sternum."""
    b, field, y = scene.between, scene.field, scene.spine_y
    shell = np.abs(scene.cavity - 5.0)
    period, slope, start = b(26.0, 37.0), b(0.25, 0.6), b(0.0, 32.0)
    across = np.abs(np.mod(field.z - slope * field.y + start, period) - period / 2.0)
    margin = -b(40.0, 110.0) - 0.35 * field.y - (field.y < -20) * field.y * b(0.5, 1.2)
    rib = (shell < 4.2) & (across < b(4.5, 6.5)) & (field.z > margin) & (np.abs(field.x) > 28.0)
    scene.put(rib, Label.CORTEX)
    scene.put(rib & (shell < 1.7) & (across < 3.0), Label.MARROW)
    body = (np.hypot(field.x / b(20.0, 25.0), (field.y - y) / b(16.0, 20.0)) - 1.0) * 18.0
    scene.put(body < 0, Label.CORTEX)
    scene.put(body < -3, Label.MARROW)
    scene.put((body < -1) & (np.mod(field.z + b(0.0, 36.0), 36.0) < 6.0), Label.DISC)
    canal = np.hypot(field.x / 11.0, (field.y - y - 26.0) / 9.0)
    scene.put(canal < 1.6, Label.CORTEX)
    scene.put(canal < 1.0, Label.CANAL)
    level = np.mod(field.z + start, 36.0)
    process = (np.abs(field.x) < 42.0) & (np.abs(field.y - y - 24.0) < 5.0) & (level < 10.0)
    scene.put(process & (canal > 1.0), Label.CORTEX)
    spinous = (np.abs(field.x) < 4.5) & (field.y > y + 34.0) & (field.y < y + 60.0) & (level < 24.0)
    scene.put(spinous, Label.CORTEX)
    sternum = (np.abs(field.x) < b(14.0, 20.0)) & (np.abs(scene.cavity - 6.0) < 5.0) & (field.y < 0)
    scene.put(sternum & (field.z > b(20.0, 60.0)), Label.CORTEX)
