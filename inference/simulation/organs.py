"""The organs of a simulated abdomen, as signed distances (mm, negative inside), and their painting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.results import Voxels
from inference.simulation.habitus import Habitus
from inference.simulation.painting import Painter
from inference.simulation.shapes import Field, Point, cylinder, ellipsoid, union
from inference.simulation.texture import Texture
from inference.simulation.tissues import Structure
from inference.simulation.trunk import Trunk

LIVER_CENTRE_MM: Point = (101.0, -8.0, -24.0)
"""Middle of the box round a typical liver."""

HILUM_MM: Point = (92.0, 4.0, -24.0)
"""Where the portal vein enters the liver."""

OUTLET_MM: Point = (156.0, 22.0, -22.0)
"""Where the hepatic veins leave the liver."""


@dataclass(frozen=True, slots=True)
class Organs:
    """Signed distances of organs that others are fitted to."""

    liver: Voxels
    spleen: Voxels
    stomach: Voxels
    kidney_right: Voxels
    kidney_left: Voxels
    gallbladder: Voxels
    aorta: Voxels
    cava: Voxels


def measure_organs(field: Field, soft: Field, trunk: Trunk, habitus: Habitus, bumps: Texture) -> Organs:
    """Return the distances of the organs of one person.

    Parameters
    ----------
    field, soft : coordinates, plain and displaced
    bumps : the nodules that a cirrhotic contour shows
    """
    aorta = cylinder(soft, (36.0, 10.0), (10.0, 10.0))
    cava = _cava(soft)
    kidneys = [
        ellipsoid(soft, (36.0, 56.0, -66.0), (54.0 * habitus.kidney, 25.0, 30.0 * habitus.kidney), 0.7),
        ellipsoid(soft, (48.0, 56.0, 68.0), (54.0 * habitus.kidney, 26.0, 29.0 * habitus.kidney), -0.7),
    ]
    stomach = _stomach(soft, trunk, habitus)
    gallbladder = ellipsoid(soft, (58.0, -52.0, -44.0), (28.0, 18.0, 13.0), 0.45)
    liver = _liver(soft, trunk, habitus)
    bulge = (0.4 + 1.8 * habitus.nodularity) * bumps.on(field)
    liver = liver + bulge
    wall_gap = 1.5 + 11.0 * habitus.ascites
    liver = np.maximum(liver, trunk.cavity + wall_gap)
    liver = np.maximum(liver, trunk.under_diaphragm + 2.5 + 5.0 * habitus.ascites)
    for other, gap in (
        (kidneys[0], 3.0),
        (gallbladder, 0.3),
        (stomach, 2.0),
        (cava, -2.0),
        (trunk.spine, 3.0),
        (aorta, 8.0),
    ):
        liver = np.maximum(liver, gap - other)
    spleen = ellipsoid(
        soft,
        (120.0, 52.0, 110.0),
        (50.0 * habitus.spleen, 55.0 * habitus.spleen, 26.0 * habitus.spleen),
        -0.62,
    )
    spleen = np.maximum(spleen, trunk.cavity + 1.5 + 0.5 * wall_gap)
    spleen = np.maximum(spleen, trunk.under_diaphragm + 2.5)
    spleen = np.maximum(spleen, 4.0 - kidneys[1])
    stomach = np.maximum(stomach, 3.0 - spleen)
    f32 = np.float32
    return Organs(
        liver=liver.astype(f32),
        spleen=spleen.astype(f32),
        stomach=stomach.astype(f32),
        kidney_right=kidneys[0],
        kidney_left=np.maximum(kidneys[1], 3.0 - trunk.spine).astype(f32),
        gallbladder=gallbladder,
        aorta=aorta,
        cava=cava,
    )


def _cava(soft: Field) -> Voxels:
    """Run up at the right of the spine, and forwards through the liver to the heart."""
    forwards = np.clip((soft.z - 90.0) / 80.0, 0.0, 1.0)
    dy, dx = soft.y - (34.0 - 14.0 * forwards), soft.x + 21.0
    q = np.hypot(dy / (9.0 + 2.0 * forwards), dx / 12.5)
    return np.asarray((q - 1.0) * 10.0, dtype=np.float32)


def _liver(soft: Field, trunk: Trunk, habitus: Habitus) -> Voxels:
    """Two lobes under the diaphragm, cut by the visceral surface, with fissures."""
    right = habitus.right_lobe
    left = habitus.left_lobe
    lobes = union(
        ellipsoid(soft, (103.0, -12.0, -74.0), (80.0 * right, 106.0 * right, 80.0 * right)),
        ellipsoid(soft, (130.0, -60.0, 24.0), (46.0 * left, 44.0 * left, 70.0 * left), -0.12),
        14.0,
    )
    # The visceral surface: a plane that rises to the left and to the back.
    tilt = habitus.tilt
    height = 50.0 - 10.0 * (right - 1.0)
    plane = tilt * (soft.x + 42.0) + 0.30 * (soft.y + 12.0) - 0.72 * (soft.z - height)
    plane = plane / np.sqrt(tilt**2 + 0.30**2 + 0.72**2)
    liver = _intersection(lobes, plane, 18.0)
    caudate = ellipsoid(
        soft, (118.0, 12.0, -14.0), (30.0 * habitus.caudate, 13.0 * habitus.caudate, 17.0 * habitus.caudate)
    )
    liver = union(liver, caudate, 5.0)
    wide = 1.4 + 3.2 * habitus.nodularity
    teres = ellipsoid(soft, (92.0, -88.0, -8.0), (46.0, 36.0, wide), 0.18)
    venosum = ellipsoid(soft, (122.0, -10.0, -6.0), (34.0, wide, 24.0), -0.35)
    porta = ellipsoid(soft, (HILUM_MM[0] - 2.0, 0.0, HILUM_MM[2] + 8.0), (15.0, 9.0 + wide, 22.0), 0.2)
    for gap in (teres, venosum, porta):
        liver = np.maximum(liver, 0.2 - gap)
    return np.asarray(liver, dtype=np.float32)


def _intersection(a: Voxels, b: Voxels, blend_mm: float) -> Voxels:
    return -union(-a, -b, blend_mm)


def _stomach(soft: Field, trunk: Trunk, habitus: Habitus) -> Voxels:
    """Fundus below the left dome, body in front of the spleen, antrum across the midline."""
    fill = 0.55 + 0.45 * habitus.stomach_fill
    fundus = ellipsoid(soft, (138.0, 22.0, 58.0), (42.0, 42.0 * fill, 42.0 * fill))
    body = ellipsoid(soft, (106.0, -36.0, 72.0), (48.0, 52.0 * fill, 32.0 * fill), 0.50)
    antrum = ellipsoid(soft, (76.0, -66.0, 28.0), (20.0, 22.0 * fill, 46.0), -0.25)
    stomach = union(union(fundus, body, 16.0), antrum, 12.0)
    stomach = np.maximum(stomach, trunk.cavity + 4.0)
    return np.asarray(np.maximum(stomach, trunk.under_diaphragm + 3.0), dtype=np.float32)


def paint_organs(painter: Painter, organs: Organs, trunk: Trunk, habitus: Habitus, bumps: Texture) -> None:
    """Paint the solid organs and the large vessels, the liver over all but them."""
    _paint_ascites(painter, organs, trunk, habitus)
    _paint_pancreas(painter, bumps)
    _paint_stomach(painter, organs, habitus)
    painter.put(Structure.SPLEEN, organs.spleen)
    _paint_kidney(painter, organs.kidney_right, (36.0, 56.0, -66.0))
    _paint_kidney(painter, organs.kidney_left, (48.0, 56.0, 68.0))
    _paint_adrenals(painter)
    painter.put(Structure.BOWEL_WALL, organs.gallbladder)
    painter.put(Structure.GALLBLADDER, organs.gallbladder + 0.8)
    painter.put(Structure.LIVER, organs.liver)
    crura = np.maximum(organs.aorta - 5.5, painter.soft.y - 44.0)
    crura = np.maximum(crura, 4.0 - np.abs(painter.soft.x - 10.0) - 0.25 * painter.soft.y + 6.0)
    painter.put(Structure.MUSCLE, np.maximum(crura, 72.0 - painter.soft.z))
    painter.put(Structure.AORTA, organs.aorta)
    painter.put(Structure.CAVA, organs.cava)
    _paint_renal_vessels(painter)


def _paint_ascites(painter: Painter, organs: Organs, trunk: Trunk, habitus: Habitus) -> None:
    if habitus.ascites < 0.05:
        return
    reach = 2.0 + 16.0 * habitus.ascites
    near = np.minimum(organs.liver, organs.spleen) - reach
    fluid = np.maximum(np.maximum(near, trunk.cavity + 1.0), trunk.under_diaphragm + 1.0)
    # The space behind the peritoneum stays dry.
    painter.put(
        Structure.ASCITES, np.maximum(fluid, 0.5 * painter.soft.y - 14.0 - 0.12 * np.abs(painter.soft.x))
    )


def _paint_pancreas(painter: Painter, bumps: Texture) -> None:
    soft = painter.soft
    head = ellipsoid(soft, (58.0, 2.0, -16.0), (24.0, 15.0, 15.0))
    neck = ellipsoid(soft, (72.0, -8.0, 12.0), (11.0, 9.0, 24.0), 0.1)
    tail = ellipsoid(soft, (84.0, 12.0, 56.0), (13.0, 10.0, 38.0), 0.45)
    gland = union(union(head, neck, 9.0), tail, 9.0)
    painter.put(Structure.PANCREAS, gland + np.float32(2.2) * bumps.on(painter.field))


def _paint_stomach(painter: Painter, organs: Organs, habitus: Habitus) -> None:
    field = painter.field
    folds = 1.3 * np.sin(0.55 * field.x + 0.3 * field.z) * np.sin(0.5 * field.y - 0.35 * field.z)
    painter.put(Structure.STOMACH_WALL, organs.stomach)
    painter.put(Structure.STOMACH_CONTENT, np.asarray(organs.stomach + 4.6 + folds, np.float32))
    level = -82.0 + 34.0 * habitus.stomach_gas
    painter.put(Structure.GAS, np.maximum(organs.stomach + 4.2, field.y - np.float32(level)))


def _paint_kidney(painter: Painter, kidney: Voxels, centre: Point) -> None:
    """Paint cortex, pyramids, and a sinus of fat that opens towards the middle and the front."""
    side = -1.0 if centre[2] < 0 else 1.0
    window, plain, soft = painter.near(centre, (60.0, 40.0, 44.0))
    part = kidney[window]
    painter.put(Structure.KIDNEY_CORTEX, part, window)
    columns = 3.4 * np.sin(0.40 * plain.x + 1.0) * np.sin(0.40 * plain.y) * np.cos(0.28 * plain.z)
    lobes = 2.0 * np.sin(0.45 * plain.x + 0.3 * plain.z) * np.sin(0.5 * plain.y)
    sinus = lobes + ellipsoid(
        soft, (centre[0], centre[1] - 5.0, centre[2] - side * 14.0), (30.0, 9.0, 22.0), -0.7 * side
    )
    painter.put(Structure.KIDNEY_MEDULLA, np.maximum(part + 7.0 + columns, -(sinus - 9.0) - 6.0), window)
    painter.put(Structure.KIDNEY_SINUS, sinus, window)
    pelvis = ellipsoid(
        soft, (centre[0], centre[1] - 6.0, centre[2] - side * 16.0), (9.0, 3.0, 15.0), -0.7 * side
    )
    painter.put(Structure.CAVA, pelvis, window)


def _paint_adrenals(painter: Painter) -> None:
    for centre in ((98.0, 44.0, -38.0), (94.0, 36.0, 40.0)):
        window, _, soft = painter.near(centre, (16.0, 18.0, 16.0))
        for turn in (0.75, -0.75):
            limb = ellipsoid(soft, centre, (13.0, 2.2, 13.0), turn)
            limb = np.maximum(limb, centre[1] - 1.5 - soft.y)
            painter.put(Structure.MUSCLE, limb, window)


def _paint_renal_vessels(painter: Painter) -> None:
    """Paint the renal veins (the left one before the aorta) and the renal arteries."""
    veins = (((44.0, 44.0, -40.0), (5.5, 5.0, 18.0), 0.55), ((54.0, 28.0, 22.0), (5.0, 4.5, 30.0), 0.55))
    arteries = (((50.0, 44.0, -18.0), (3.2, 3.2, 26.0), 0.20), ((50.0, 44.0, 34.0), (3.2, 3.2, 22.0), 0.35))
    for structure, pieces in ((Structure.CAVA, veins), (Structure.AORTA, arteries)):
        for centre, radii, turn in pieces:
            window, _, soft = painter.near(centre, (12.0, 26.0, 36.0))
            # Turned so that they run back towards the kidneys.
            lean = -turn if centre[2] < 0 else turn
            painter.put(structure, ellipsoid(soft, centre, radii, lean), window)


def paint_bowel(
    painter: Painter, trunk: Trunk, habitus: Habitus, folds: Texture, rng: np.random.Generator
) -> None:
    """Paint the colon with stool and gas, and loops of small bowel in the left and lower belly."""
    colon: list[tuple[Point, Point]] = [
        ((22.0, -20.0, -92.0), (34.0, 25.0, 24.0)),
        ((34.0, -76.0, -44.0), (19.0, 20.0, 36.0)),
        ((42.0, -86.0, 20.0), (20.0, 19.0, 40.0)),
        ((62.0, -72.0, 74.0), (26.0, 20.0, 28.0)),
        ((90.0, -46.0, 104.0), (30.0, 26.0, 20.0)),
        ((118.0, -26.0, 112.0), (26.0, 28.0, 16.0)),
        ((70.0, 0.0, 112.0), (40.0, 22.0, 18.0)),
        ((30.0, 32.0, 106.0), (60.0, 19.0, 18.0)),
        ((-4.0, 36.0, -100.0), (36.0, 20.0, 18.0)),
    ]
    uneven = folds.on(painter.field)
    for centre, radii in colon:
        moved = (centre[0] + rng.normal(0, 5), centre[1] + rng.normal(0, 4), centre[2] + rng.normal(0, 5))
        _loop(painter, trunk, uneven, (moved, radii, rng.uniform(-0.3, 0.3)), Structure.STOOL, rng)
    spread = 0.85 + 0.3 * habitus.visceral_fat
    for _ in range(90):
        middle = (rng.uniform(-40, 92), rng.uniform(-70, 24) * spread, rng.uniform(-24, 88) * spread)
        size = (rng.uniform(11, 20), rng.uniform(10, 15), rng.uniform(14, 26))
        _loop(painter, trunk, uneven, (middle, size, rng.uniform(-1.2, 1.2)), Structure.BOWEL_CONTENT, rng)


def _loop(
    painter: Painter,
    trunk: Trunk,
    uneven: Voxels,
    shape: tuple[Point, Point, float],
    content: Structure,
    rng: np.random.Generator,
) -> None:
    centre, radii, turn = shape
    reach = max(radii[1:])
    window, plain, soft = painter.near(centre, (radii[0], reach, reach))
    filled = (0.0, 1.3) if content is Structure.STOOL else (0.5, 3.0)
    level = centre[1] - radii[1] * rng.uniform(*filled)
    if 0 in painter.over[window].shape:
        return
    pouches = 2.0 * np.sin(0.30 * plain.x + 0.26 * plain.z + centre[0]) if content is Structure.STOOL else 0.0
    loop = ellipsoid(soft, centre, radii, turn) + np.float32(pouches)
    loop = np.maximum(loop, trunk.cavity[window] + 3.0)
    loop = np.maximum(loop, trunk.under_diaphragm[window] + 4.0)
    thick, relief = (1.6, 0.3) if content is Structure.STOOL else (3.4, 1.5)
    inner = loop + thick + np.float32(relief) * uneven[window]
    painter.put(Structure.BOWEL_WALL, loop, window)
    painter.put(content, inner, window)
    painter.put(Structure.GAS, np.maximum(inner + 0.4, plain.y - np.float32(level)), window)
