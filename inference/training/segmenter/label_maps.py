"""Random abdomens as label maps, far more varied than the simulated patients.

A network that segments real images after training on synthetic ones needs variety beyond what is
likely (Billot et al. 2023, Med Image Anal 86:102789): thin and obese bodies, livers of all shapes,
arms beside the trunk, ascites, oral contrast, tumours that bulge out of the liver.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from scipy import ndimage

from inference.results import Labels, Mask, Voxels
from inference.simulation.shapes import (
    Field,
    Point,
    Vessel,
    coarse_noise,
    coverage,
    random_points,
    tree,
    union,
)

SPACING_MM = 3.0
SHAPE = (112, 92, 124)
"""Voxels of a label map, (z, y, x)."""

_STEP: Point = (SPACING_MM, SPACING_MM, SPACING_MM)


class Label(IntEnum):
    """Values of a label map."""

    AIR = 0
    FAT = 1
    MUSCLE = 2
    CAVITY_FAT = 3
    LUNG = 4
    CORTEX = 5
    MARROW = 6
    HEART = 7
    LIVER = 8
    LESION = 9
    PORTAL_VEIN = 10
    HEPATIC_VEIN = 11
    SPLEEN = 12
    KIDNEY_CORTEX = 13
    KIDNEY_MEDULLA = 14
    STOMACH_WALL = 15
    STOMACH_CONTENT = 16
    GAS = 17
    BOWEL_WALL = 18
    BOWEL_CONTENT = 19
    GALLBLADDER = 20
    PANCREAS = 21
    AORTA = 22
    CAVA = 23
    CANAL = 24
    ASCITES = 25
    COUCH = 26
    NECROSIS = 27
    KIDNEY_SINUS = 28
    COLON_CONTENT = 29
    DISC = 30
    OUTER_VEIN = 31
    ADRENAL = 32


@dataclass(slots=True)
class _Scene:
    """What is being painted, and the measures that organs share (mm)."""

    rng: np.random.Generator
    field: Field
    soft: Field
    labels: Labels
    cavity: Voxels
    above: Voxels
    half_width: float
    half_depth: float
    spine_y: float
    dome_right: float
    dome_left: float

    def put(self, mask: Mask, label: Label) -> None:
        self.labels[np.broadcast_to(mask, self.labels.shape)] = label

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def noise(self, length_mm: float) -> Voxels:
        return coarse_noise(self.rng, self.labels.shape, length_mm, _STEP)


def random_label_map(rng: np.random.Generator) -> Labels:
    """Return one abdomen, uint8 (z, y, x): z upwards, y to the back, x to the patient's left."""
    scene = _trunk(rng)
    liver = _liver_shape(scene)
    organs = _organ_shapes(scene)
    for name, gap in (("aorta", 5.0), ("cava", 0.5), ("kidney right", 3.0), ("stomach", 2.0), ("heart", 4.0)):
        liver = np.maximum(liver, gap * scene.between(0.3, 1.4) - organs[name])
    has_gallbladder = rng.random() < 0.8
    if has_gallbladder:
        liver = np.maximum(liver, -organs["gallbladder"])
    spine = np.hypot(scene.field.x, scene.field.y - scene.spine_y) - scene.between(30.0, 38.0)
    liver = np.maximum(liver, -spine) + scene.noise(8.0) * scene.between(0.0, 2.4)
    inside = _largest(np.asarray(liver < 0))
    _bowel(scene)
    _viscera(scene, organs)
    if has_gallbladder:
        scene.put((organs["gallbladder"] < 0) & (scene.cavity < -2), Label.GALLBLADDER)
    _thorax(scene, organs)
    scene.put(inside, Label.LIVER)
    _vessels(scene, inside, organs)
    _skeleton(scene)
    _lesions(scene, inside)
    return scene.labels


def _ellipsoid(field: Field, centre: Point, radii: Point, turn: float = 0.0, tilt: float = 0.0) -> Voxels:
    """Approximate signed distance; `turn` is about z, `tilt` then about y (rad)."""
    z, y, x = field.z - centre[0], field.y - centre[1], field.x - centre[2]
    c, s = np.cos(turn), np.sin(turn)
    x, y = c * x + s * y, c * y - s * x
    c, s = np.cos(tilt), np.sin(tilt)
    x, z = c * x + s * z, c * z - s * x
    q = np.sqrt((z / radii[0]) ** 2 + (y / radii[1]) ** 2 + (x / radii[2]) ** 2)
    return np.asarray((q - 1.0) * min(radii), dtype=np.float32)


def _tube(field: Field, points: list[Point], radius: float) -> Voxels:
    """Signed distance of a tube along a chain of points (z, y, x)."""
    best = np.full(field.shape, 99.0, np.float32)
    for first, last in zip(points[:-1], points[1:], strict=True):
        way = np.subtract(last, first)
        dz, dy, dx = field.z - first[0], field.y - first[1], field.x - first[2]
        along = np.clip((dz * way[0] + dy * way[1] + dx * way[2]) / float(way @ way), 0.0, 1.0)
        d = (dz - along * way[0]) ** 2 + (dy - along * way[1]) ** 2 + (dx - along * way[2]) ** 2
        best = np.minimum(best, np.sqrt(d))
    return np.asarray(best - radius, dtype=np.float32)


def _largest(mask: Mask) -> Mask:
    parts, count = ndimage.label(mask)
    if count < 2:
        return mask
    return np.asarray(parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:])))


def _trunk(rng: np.random.Generator) -> _Scene:
    """Paint couch, arms, skin, fat, wall and the fat of the cavity; place the diaphragm."""
    u = rng.uniform
    z, y, x = (((np.arange(n) - (n - 1) / 2.0) * SPACING_MM).astype(np.float32) for n in SHAPE)
    field = Field(z[:, None, None], y[None, :, None], x[None, None, :])
    soft = field.warped(rng, float(u(2.0, 6.0)), 32.0, _STEP)
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
    dome = np.maximum(dome, -220.0) + coarse_noise(rng, SHAPE, 30.0, _STEP) * 2.0
    scene = _Scene(
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


def _surroundings(scene: _Scene, width: float, depth: float) -> None:
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
            arm = _ellipsoid(field, centre, (900.0, thick, thick))
            scene.put(arm < 0, Label.FAT)
            scene.put(arm < -scene.between(4.0, 9.0), Label.MUSCLE)
            scene.put(arm < -thick + 10.0, Label.CORTEX)


def _liver_shape(scene: _Scene) -> Voxels:
    """Signed distance of the liver: right lobe, left lobe, sometimes a caudate, cut from below."""
    b, w, d, soft = scene.between, scene.half_width, scene.half_depth, scene.soft
    right = _ellipsoid(
        soft,
        (b(-28.0, 12.0), b(-14.0, 14.0), -w * b(0.48, 0.62)),
        (b(68.0, 115.0), d * b(0.85, 1.15), w * b(0.48, 0.70)),
        b(-0.2, 0.3),
        b(-0.25, 0.2),
    )
    left = _ellipsoid(
        soft,
        (scene.dome_right - b(40.0, 68.0), -d * b(0.32, 0.52), b(-10.0, 28.0)),
        (b(24.0, 50.0), d * b(0.35, 0.60), w * b(0.35, 0.85)),
        b(-0.3, 0.15),
        b(-0.3, 0.25),
    )
    liver = union(right, left, b(8.0, 24.0))
    if scene.rng.random() < 0.5:
        centre = (b(0.0, 32.0), scene.spine_y - b(32.0, 44.0), -b(13.0, 28.0))
        liver = np.minimum(liver, _ellipsoid(soft, centre, (b(20.0, 36.0), b(14.0, 26.0), b(14.0, 28.0))))
    if scene.rng.random() < 0.35:
        # The fissures of a shrunken, cirrhotic liver.
        centre = (b(-20.0, 40.0), -d * b(0.5, 0.9), b(-30.0, 5.0))
        fissure = _ellipsoid(soft, centre, (b(30.0, 60.0), b(25.0, 45.0), b(2.0, 7.0)), b(-0.3, 0.5))
        liver = np.maximum(liver, -fissure)
    liver = np.maximum(liver, scene.cavity + b(1.0, 5.0))
    liver = np.maximum(liver, scene.above + b(1.0, 4.0))
    normal = np.array([-b(0.35, 0.9), b(0.2, 0.8), b(0.4, 1.1)])
    normal /= np.linalg.norm(normal)
    plane = (
        (soft.z - b(-48.0, -8.0)) * normal[0]
        + (soft.y - b(-5.0, 25.0)) * normal[1]
        + (soft.x - b(-20.0, 12.0)) * normal[2]
    )
    liver = np.maximum(liver, plane - b(12.0, 45.0))
    return np.asarray(np.maximum(liver, -(soft.z + b(60.0, 145.0))), dtype=np.float32)


def _organ_shapes(scene: _Scene) -> dict[str, Voxels]:
    """Signed distances of the other organs."""
    b, w, d, soft, field = scene.between, scene.half_width, scene.half_depth, scene.soft, scene.field
    top, back = scene.dome_left, scene.spine_y
    k = min(w / 115.0, 1.2)
    stomach = _ellipsoid(
        soft,
        (top - b(32.0, 75.0), -b(0.0, 38.0), w * b(0.42, 0.68)),
        (b(36.0, 72.0), b(22.0, 50.0), b(24.0, 50.0)),
        b(-0.3, 0.8),
        b(-0.6, 0.3),
    )
    antrum: list[Point] = [
        (top - 75.0, -20.0, w * 0.5),
        (b(-62.0, -25.0), -b(28.0, 52.0), b(8.0, 42.0)),
        (b(-58.0, -12.0), -b(5.0, 42.0), -b(15.0, 46.0)),
    ]
    organs = {
        "stomach": np.minimum(stomach, _tube(soft, antrum, b(9.0, 19.0))),
        "spleen": _ellipsoid(
            soft,
            (top - b(32.0, 68.0), b(22.0, 52.0), w * b(0.76, 0.92)),
            (b(30.0, 78.0), b(26.0, 54.0), b(15.0, 34.0)),
            b(-0.7, -0.15),
            b(-0.3, 0.3),
        ),
        "gallbladder": _ellipsoid(
            soft,
            (b(-68.0, -18.0), -d * b(0.22, 0.62), -b(20.0, 62.0)),
            (b(16.0, 36.0), b(10.0, 21.0), b(9.0, 18.0)),
            b(-0.6, 0.6),
            b(-0.4, 0.4),
        ),
        "heart": _ellipsoid(
            soft,
            (min(scene.dome_right, top) + b(16.0, 46.0), -b(12.0, 46.0), b(4.0, 36.0)),
            (b(32.0, 52.0), b(36.0, 60.0), b(42.0, 68.0)),
            b(-0.3, 0.6),
        ),
        "pancreas": _tube(
            soft,
            [
                (b(-52.0, -28.0), back - 55.0, -25.0),
                (b(-38.0, -8.0), back - 62.0, 10.0),
                (b(-12.0, 22.0), back - 35.0, w * 0.6),
            ],
            b(7.0, 14.0),
        ),
        "duodenum": _tube(
            soft,
            [
                (-25.0, -15.0, -30.0),
                (-45.0, back - 50.0, -45.0),
                (-100.0, back - 45.0, -38.0),
                (-115.0, back - 50.0, 10.0),
            ],
            b(8.0, 16.0),
        ),
        "aorta": _tube(
            field,
            [
                (-230.0, back - 32.0, b(0.0, 12.0)),
                (0.0, back - b(28.0, 38.0), b(2.0, 16.0)),
                (210.0, back - b(16.0, 30.0), b(10.0, 28.0)),
            ],
            b(7.0, 14.0),
        ),
        "cava": _tube(
            field,
            [
                (-230.0, back - 30.0, -b(15.0, 26.0)),
                (0.0, back - b(30.0, 43.0), -b(18.0, 30.0)),
                (scene.dome_right, back - b(44.0, 62.0), -b(16.0, 28.0)),
                (scene.dome_right + 40.0, back - 60.0, -15.0),
            ],
            b(7.0, 15.0),
        ),
    }
    for name, side, low in (("kidney right", -1.0, (-98.0, -35.0)), ("kidney left", 1.0, (-78.0, -15.0))):
        organs[name] = _ellipsoid(
            soft,
            (b(*low), back - b(-6.0, 14.0), side * b(50.0, 70.0) * k),
            (b(40.0, 64.0), b(20.0, 32.0), b(18.0, 30.0)),
            -side * b(0.3, 0.8),
            side * b(-0.05, 0.2),
        )
    return organs


def _bowel(scene: _Scene) -> None:
    """Fill the cavity below the diaphragm with loops that become denser downwards, and the colon."""
    b, w, d, field = scene.between, scene.half_width, scene.half_depth, scene.field
    room = (scene.cavity < -4) & (scene.above < -6)
    loops = scene.noise(b(7.0, 14.0))
    limit = b(-0.4, 0.9) + np.clip((field.z + 20.0) / 60.0, -1.2, 3.0) + 0.8 * (field.y > scene.spine_y - 30)
    bowel = room & (loops > limit)
    scene.put(bowel, Label.BOWEL_CONTENT)
    scene.put(bowel & (loops < limit + 0.45), Label.BOWEL_WALL)
    scene.put(bowel & (loops > limit + 0.9) & (scene.noise(12.0) > 1.0), Label.GAS)
    x = w * b(0.6, 0.8)
    course: list[Point] = [
        (-200.0, 25.0, -x),
        (b(-112.0, -50.0), 10.0, -x),
        (b(-122.0, -60.0), -d * 0.6, -x * 0.5),
        (b(-122.0, -50.0), -d * 0.75, 0.0),
        (b(-62.0, -5.0), -d * 0.55, x * 0.6),
        (b(-12.0, 40.0), 10.0, x * 0.95),
        (-80.0, 30.0, x),
        (-200.0, 30.0, x),
    ]
    colon = _tube(scene.soft, course, b(12.0, 27.0)) + 4.0 * loops
    colon = np.maximum(np.maximum(colon, scene.cavity + 2.0), scene.above + 4.0)
    scene.put(colon < 0, Label.BOWEL_WALL)
    scene.put(colon < -3, Label.COLON_CONTENT)
    scene.put((colon < -4) & (scene.noise(9.0) - 0.02 * field.y > b(-0.8, 1.0)), Label.GAS)
    for side in (-1.0, 1.0):
        psoas: list[Point] = [
            (-20.0, scene.spine_y + 5.0, side * 30.0),
            (-210.0, scene.spine_y - 5.0, side * 52.0),
        ]
        scene.put(_tube(field, psoas, b(11.0, 21.0)) < 0, Label.MUSCLE)
        crus: list[Point] = [
            (40.0, scene.spine_y - 28.0, side * 10.0),
            (-60.0, scene.spine_y - 20.0, side * 16.0),
        ]
        scene.put(_tube(field, crus, b(4.0, 8.0)) < 0, Label.MUSCLE)


def _viscera(scene: _Scene, organs: dict[str, Voxels]) -> None:
    b = scene.between
    room = (scene.cavity < -3) & (scene.above < -3)
    scene.put((organs["pancreas"] + 3.0 * scene.noise(9.0) < 0) & room, Label.PANCREAS)
    scene.put((organs["duodenum"] < 0) & room, Label.BOWEL_WALL)
    scene.put((organs["duodenum"] < -4) & room, Label.BOWEL_CONTENT)
    stomach = np.maximum(organs["stomach"], scene.cavity + 3.0)
    below = scene.above < -1
    scene.put((stomach < 0) & below, Label.STOMACH_WALL)
    scene.put((stomach < -b(3.0, 6.0)) & below, Label.STOMACH_CONTENT)
    scene.put((stomach < -4) & below & (scene.field.y < b(-90.0, 5.0)), Label.GAS)
    for name in ("kidney right", "kidney left"):
        kidney = organs[name]
        inside = scene.cavity < -1
        scene.put((kidney < 0) & inside, Label.KIDNEY_CORTEX)
        scene.put((kidney < -7) & inside, Label.KIDNEY_MEDULLA)
        scene.put((kidney < -b(11.0, 17.0)) & inside, Label.KIDNEY_SINUS)
    spleen = np.maximum(organs["spleen"], scene.cavity + 2.0)
    free = (stomach > 0) & (organs["kidney left"] > 3) & (scene.above < -2)
    scene.put((spleen < 0) & free, Label.SPLEEN)
    for side in (-1.0, 1.0):
        gland: list[Point] = [
            (b(-5.0, 10.0), scene.spine_y - 18.0, side * 30.0),
            (b(-25.0, -15.0), scene.spine_y - 5.0, side * 45.0),
        ]
        scene.put((_tube(scene.soft, gland, b(2.0, 4.0)) < 0) & room, Label.ADRENAL)


def _thorax(scene: _Scene, organs: dict[str, Voxels]) -> None:
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
    gullet = _ellipsoid(field, (0.0, scene.spine_y - 40.0, 8.0), (900.0, 9.0, 11.0))
    scene.put((gullet < 0) & (above > -20), Label.STOMACH_WALL)


def _vessels(scene: _Scene, liver: Mask, organs: dict[str, Voxels]) -> None:
    if int(np.count_nonzero(liver)) > 2000:
        b = scene.between
        points = random_points(scene.rng, liver, scene.field, 700)
        hilum = (b(-22.0, 6.0), -b(3.0, 26.0), -b(14.0, 32.0))
        root = np.array([-45.0, scene.spine_y - 60.0, 5.0])
        trunk = [Vessel(root, np.asarray(hilum), b(5.0, 8.5))]
        portal = trunk + tree(scene.rng, points, hilum, b(4.5, 8.0), 1.2)
        outlet = (scene.dome_right - 20.0, scene.spine_y - 55.0, -24.0)
        hepatic = tree(scene.rng, points, outlet, b(4.0, 7.5), 1.2)
        scene.put((coverage(hepatic, scene.field, _STEP) > 0.5) & liver, Label.HEPATIC_VEIN)
        covered = coverage(portal, scene.field, _STEP) > 0.5
        scene.put(covered & liver, Label.PORTAL_VEIN)
        soft = np.isin(scene.labels, [Label.CAVITY_FAT, Label.PANCREAS])
        scene.put(covered & soft, Label.OUTER_VEIN)
    scene.put(organs["aorta"] < 0, Label.AORTA)
    scene.put((organs["cava"] < 0) & (scene.field.z < scene.dome_right + 40.0), Label.CAVA)


def _skeleton(scene: _Scene) -> None:
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


_EXOPHYTIC = [Label.CAVITY_FAT, Label.LUNG, Label.BOWEL_WALL, Label.BOWEL_CONTENT, Label.ASCITES]


def _lesions(scene: _Scene, liver: Mask) -> None:
    """Paint tumours, small and up to 13 cm, some bulging out of the liver, some with a dead core."""
    if int(np.count_nonzero(liver)) < 2000:
        return
    b, rough = scene.between, scene.noise(8.0)
    near = np.asarray(ndimage.binary_dilation(liver, iterations=4))
    for _ in range(int(scene.rng.choice([0, 1, 2, 3, 5], p=[0.3, 0.3, 0.2, 0.12, 0.08]))):
        centre = random_points(scene.rng, liver, scene.field, 1)[0]
        diameter = min(float(np.exp(scene.rng.normal(3.6, 0.6))), 130.0)
        radii = diameter / 2.0 * np.exp(scene.rng.normal(0.0, 0.15, 3))
        shape = _ellipsoid(
            scene.field,
            (float(centre[0]), float(centre[1]), float(centre[2])),
            (float(radii[0]), float(radii[1]), float(radii[2])),
            b(0.0, 3.0),
            b(0.0, 3.0),
        )
        shape = shape + rough * (0.05 * diameter)
        inside = (shape < 0) & (liver | (near & np.isin(scene.labels, _EXOPHYTIC)))
        scene.put(inside, Label.LESION)
        if scene.rng.random() < 0.45:
            scene.put(inside & (shape < -diameter / 2.0 * b(0.25, 0.8)), Label.NECROSIS)
