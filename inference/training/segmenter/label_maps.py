"""Random abdomens as label maps, far more varied than the simulated patients.

A network that segments real images after training on synthetic ones needs variety beyond what is
likely (Billot et al. 2023, Med Image Anal 86:102789): thin and obese bodies, livers of all shapes,
arms beside the trunk, ascites, oral contrast, tumours that bulge out of the liver.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from inference.imaging.parts import largest_part
from inference.results import Labels, Mask, Voxels
from inference.simulation.shapes import (
    Point,
    Vessel,
    coverage,
    random_points,
    tree,
    union,
)
from inference.training.segmenter.body import skeleton, thorax, trunk
from inference.training.segmenter.scene import STEP, Label, Scene, ellipsoid, tube


def random_label_map(rng: np.random.Generator) -> Labels:
    """Return one abdomen, uint8 (z, y, x): z upwards, y to the back, x to the patient's left."""
    scene = trunk(rng)
    liver = _liver_shape(scene)
    organs = _organ_shapes(scene)
    for name, gap in (("aorta", 5.0), ("cava", 0.5), ("kidney right", 3.0), ("stomach", 2.0), ("heart", 4.0)):
        liver = np.maximum(liver, gap * scene.between(0.3, 1.4) - organs[name])
    has_gallbladder = rng.random() < 0.8
    if has_gallbladder:
        liver = np.maximum(liver, -organs["gallbladder"])
    spine = np.hypot(scene.field.x, scene.field.y - scene.spine_y) - scene.between(30.0, 38.0)
    liver = np.maximum(liver, -spine) + scene.noise(8.0) * scene.between(0.0, 2.4)
    inside = largest_part(np.asarray(liver < 0))
    _bowel(scene)
    _viscera(scene, organs)
    if has_gallbladder:
        scene.put((organs["gallbladder"] < 0) & (scene.cavity < -2), Label.GALLBLADDER)
    thorax(scene, organs)
    scene.put(inside, Label.LIVER)
    _vessels(scene, inside, organs)
    skeleton(scene)
    _lesions(scene, inside)
    return scene.labels


def _liver_shape(scene: Scene) -> Voxels:
    """Signed distance of the liver: right lobe, left lobe, sometimes a caudate, cut from below."""
    b, w, d, soft = scene.between, scene.half_width, scene.half_depth, scene.soft
    right = ellipsoid(
        soft,
        (b(-28.0, 12.0), b(-14.0, 14.0), -w * b(0.48, 0.62)),
        (b(68.0, 115.0), d * b(0.85, 1.15), w * b(0.48, 0.70)),
        b(-0.2, 0.3),
        b(-0.25, 0.2),
    )
    left = ellipsoid(
        soft,
        (scene.dome_right - b(40.0, 68.0), -d * b(0.32, 0.52), b(-10.0, 28.0)),
        (b(24.0, 50.0), d * b(0.35, 0.60), w * b(0.35, 0.85)),
        b(-0.3, 0.15),
        b(-0.3, 0.25),
    )
    liver = union(right, left, b(8.0, 24.0))
    if scene.rng.random() < 0.5:
        centre = (b(0.0, 32.0), scene.spine_y - b(32.0, 44.0), -b(13.0, 28.0))
        liver = np.minimum(liver, ellipsoid(soft, centre, (b(20.0, 36.0), b(14.0, 26.0), b(14.0, 28.0))))
    if scene.rng.random() < 0.35:
        # The fissures of a shrunken, cirrhotic liver.
        centre = (b(-20.0, 40.0), -d * b(0.5, 0.9), b(-30.0, 5.0))
        fissure = ellipsoid(soft, centre, (b(30.0, 60.0), b(25.0, 45.0), b(2.0, 7.0)), b(-0.3, 0.5))
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


def _organ_shapes(scene: Scene) -> dict[str, Voxels]:
    """Signed distances of the other organs."""
    b, w, d, soft, field = scene.between, scene.half_width, scene.half_depth, scene.soft, scene.field
    top, back = scene.dome_left, scene.spine_y
    k = min(w / 115.0, 1.2)
    stomach = ellipsoid(
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
        "stomach": np.minimum(stomach, tube(soft, antrum, b(9.0, 19.0))),
        "spleen": ellipsoid(
            soft,
            (top - b(32.0, 68.0), b(22.0, 52.0), w * b(0.76, 0.92)),
            (b(30.0, 78.0), b(26.0, 54.0), b(15.0, 34.0)),
            b(-0.7, -0.15),
            b(-0.3, 0.3),
        ),
        "gallbladder": ellipsoid(
            soft,
            (b(-68.0, -18.0), -d * b(0.22, 0.62), -b(20.0, 62.0)),
            (b(16.0, 36.0), b(10.0, 21.0), b(9.0, 18.0)),
            b(-0.6, 0.6),
            b(-0.4, 0.4),
        ),
        "heart": ellipsoid(
            soft,
            (min(scene.dome_right, top) + b(16.0, 46.0), -b(12.0, 46.0), b(4.0, 36.0)),
            (b(32.0, 52.0), b(36.0, 60.0), b(42.0, 68.0)),
            b(-0.3, 0.6),
        ),
        "pancreas": tube(
            soft,
            [
                (b(-52.0, -28.0), back - 55.0, -25.0),
                (b(-38.0, -8.0), back - 62.0, 10.0),
                (b(-12.0, 22.0), back - 35.0, w * 0.6),
            ],
            b(7.0, 14.0),
        ),
        "duodenum": tube(
            soft,
            [
                (-25.0, -15.0, -30.0),
                (-45.0, back - 50.0, -45.0),
                (-100.0, back - 45.0, -38.0),
                (-115.0, back - 50.0, 10.0),
            ],
            b(8.0, 16.0),
        ),
        "aorta": tube(
            field,
            [
                (-230.0, back - 32.0, b(0.0, 12.0)),
                (0.0, back - b(28.0, 38.0), b(2.0, 16.0)),
                (210.0, back - b(16.0, 30.0), b(10.0, 28.0)),
            ],
            b(7.0, 14.0),
        ),
        "cava": tube(
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
        organs[name] = ellipsoid(
            soft,
            (b(*low), back - b(-6.0, 14.0), side * b(50.0, 70.0) * k),
            (b(40.0, 64.0), b(20.0, 32.0), b(18.0, 30.0)),
            -side * b(0.3, 0.8),
            side * b(-0.05, 0.2),
        )
    return organs


def _bowel(scene: Scene) -> None:
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
    colon = tube(scene.soft, course, b(12.0, 27.0)) + 4.0 * loops
    colon = np.maximum(np.maximum(colon, scene.cavity + 2.0), scene.above + 4.0)
    scene.put(colon < 0, Label.BOWEL_WALL)
    scene.put(colon < -3, Label.COLON_CONTENT)
    scene.put((colon < -4) & (scene.noise(9.0) - 0.02 * field.y > b(-0.8, 1.0)), Label.GAS)
    for side in (-1.0, 1.0):
        psoas: list[Point] = [
            (-20.0, scene.spine_y + 5.0, side * 30.0),
            (-210.0, scene.spine_y - 5.0, side * 52.0),
        ]
        scene.put(tube(field, psoas, b(11.0, 21.0)) < 0, Label.MUSCLE)
        crus: list[Point] = [
            (40.0, scene.spine_y - 28.0, side * 10.0),
            (-60.0, scene.spine_y - 20.0, side * 16.0),
        ]
        scene.put(tube(field, crus, b(4.0, 8.0)) < 0, Label.MUSCLE)


def _viscera(scene: Scene, organs: dict[str, Voxels]) -> None:
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
        scene.put((tube(scene.soft, gland, b(2.0, 4.0)) < 0) & room, Label.ADRENAL)


def _vessels(scene: Scene, liver: Mask, organs: dict[str, Voxels]) -> None:
    if int(np.count_nonzero(liver)) > 2000:
        b = scene.between
        points = random_points(scene.rng, liver, scene.field, 700)
        hilum = (b(-22.0, 6.0), -b(3.0, 26.0), -b(14.0, 32.0))
        root = np.array([-45.0, scene.spine_y - 60.0, 5.0])
        trunk = [Vessel(root, np.asarray(hilum), b(5.0, 8.5))]
        portal = trunk + tree(scene.rng, points, hilum, b(4.5, 8.0), 1.2)
        outlet = (scene.dome_right - 20.0, scene.spine_y - 55.0, -24.0)
        hepatic = tree(scene.rng, points, outlet, b(4.0, 7.5), 1.2)
        scene.put((coverage(hepatic, scene.field, STEP) > 0.5) & liver, Label.HEPATIC_VEIN)
        covered = coverage(portal, scene.field, STEP) > 0.5
        scene.put(covered & liver, Label.PORTAL_VEIN)
        soft = np.isin(scene.labels, [Label.CAVITY_FAT, Label.PANCREAS])
        scene.put(covered & soft, Label.OUTER_VEIN)
    scene.put(organs["aorta"] < 0, Label.AORTA)
    scene.put((organs["cava"] < 0) & (scene.field.z < scene.dome_right + 40.0), Label.CAVA)


_EXOPHYTIC = [Label.CAVITY_FAT, Label.LUNG, Label.BOWEL_WALL, Label.BOWEL_CONTENT, Label.ASCITES]


def _lesions(scene: Scene, liver: Mask) -> None:
    """Paint tumours, small and up to 13 cm, some bulging out of the liver, some with a dead core."""
    if int(np.count_nonzero(liver)) < 2000:
        return
    b, rough = scene.between, scene.noise(8.0)
    near = np.asarray(ndimage.binary_dilation(liver, iterations=4))
    for _ in range(int(scene.rng.choice([0, 1, 2, 3, 5], p=[0.3, 0.3, 0.2, 0.12, 0.08]))):
        centre = random_points(scene.rng, liver, scene.field, 1)[0]
        diameter = min(float(np.exp(scene.rng.normal(3.6, 0.6))), 130.0)
        radii = diameter / 2.0 * np.exp(scene.rng.normal(0.0, 0.15, 3))
        shape = ellipsoid(
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
