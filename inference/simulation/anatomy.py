"""A simulated abdomen: which structures share each voxel, its vessels, and the texture of its tissue.

An abdomen is a function of the patient's space: built on a fine grid of a whole study or on a coarse
grid round the liver, the same generator gives the same person.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from inference.results import FloatArray, Labels, Voxels
from inference.simulation.habitus import Habitus, draw_habitus
from inference.simulation.organs import (
    HILUM_MM,
    LIVER_CENTRE_MM,
    OUTLET_MM,
    measure_organs,
    paint_bowel,
    paint_organs,
)
from inference.simulation.painting import Painter
from inference.simulation.shapes import Field, Point, Vessel, filling, random_points, tree
from inference.simulation.texture import Texture, texture
from inference.simulation.tissues import Blood, Structure
from inference.simulation.trunk import measure_trunk, paint_lungs, paint_spine, paint_trunk

__all__ = [
    "LIVER_CENTRE_MM",
    "STUDY_CENTRE_MM",
    "Anatomy",
    "Structure",
    "build_anatomy",
    "coordinates",
    "liver_fraction",
]

STUDY_CENTRE_MM: Point = (102.0, 0.0, 0.0)
"""Middle of a whole study of the liver."""

_COARSE_MM = 6.0


@dataclass(frozen=True, slots=True)
class Anatomy:
    """One abdomen; arrays are (slices, rows, columns), slices from the feet upwards.

    Attributes
    ----------
    field : coordinates of the voxels
    centre_mm : middle of the grid
    labels : array of uint8
        The structure that holds most of the voxel, values of `Structure`.
    over, under, share : arrays
        The two structures that share a voxel, and the share of the first.
    liver : array of float32
        Share of the voxel that is liver, vessels included.
    liver_depth : array of float32
        mm below the liver's surface, negative outside.
    portal, artery, hepatic : arrays of float32
        Share of the voxel that these vessels hold.
    body : array of float32
        1 in the middle of the body, falling towards the skin and beyond.
    grain, mosaic, nodules, stripes : arrays of float32
        Unevenness of tissue, mosaic of tumours, regenerative nodules, bands of the spleen.
    """

    field: Field
    step_mm: Point
    centre_mm: Point
    habitus: Habitus
    labels: Labels
    over: Labels
    under: Labels
    share: Voxels
    liver: Voxels
    liver_depth: Voxels
    portal: Voxels
    artery: Voxels
    hepatic: Voxels
    body: Voxels
    grain: Voxels
    mosaic: Voxels
    nodules: Voxels
    stripes: Voxels

    def vessels(self) -> Iterator[tuple[Blood, Voxels]]:
        """Yield the vessel trees, the last over the first."""
        yield Blood.HEPATIC, self.hepatic
        yield Blood.PORTAL, self.portal
        yield Blood.ARTERY, self.artery


def coordinates(shape: tuple[int, int, int], step_mm: Point, centre_mm: Point = STUDY_CENTRE_MM) -> Field:
    """Return the coordinates of a grid in the patient's space, by its middle."""
    z, y, x = (
        (np.arange(n, dtype=np.float32) - (n - 1) / 2.0) * s + c
        for n, s, c in zip(shape, step_mm, centre_mm, strict=True)
    )
    return Field(
        z[:, None, None].astype(np.float32),
        y[None, :, None].astype(np.float32),
        x[None, None, :].astype(np.float32),
    )


@dataclass(frozen=True, slots=True)
class _Textures:
    """All random fields of one person."""

    warp: tuple[Texture, Texture, Texture]
    fine: Texture
    broad: Texture
    patches: Texture
    specks: Texture
    bumps: Texture

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Textures:
        warp = (texture(rng, 34.0), texture(rng, 34.0), texture(rng, 34.0))
        lengths = (3.5, 16.0, 4.5, 2.4, 4.2)
        return cls(warp, *(texture(rng, length) for length in lengths))

    def soften(self, field: Field) -> Field:
        """Displace coordinates, so that no organ is an ellipsoid."""
        axes = (field.z, field.y, field.x)
        moved = [a + np.float32(3.4) * w.on(field) for a, w in zip(axes, self.warp, strict=True)]
        return Field(*moved)


def build_anatomy(
    shape: tuple[int, int, int],
    step_mm: Point,
    rng: np.random.Generator,
    habitus: Habitus | None = None,
    centre_mm: Point = STUDY_CENTRE_MM,
) -> Anatomy:
    """Build one abdomen on a grid.

    Parameters
    ----------
    rng : Generator
        In the same state it gives the same person, whatever the grid.
    habitus : Habitus, optional
        The build; drawn without cirrhosis of note if absent. `habitus.draw_habitus` draws one that
        fits an `Appearance`.
    centre_mm : Point
        Middle of the grid in the patient's space: `STUDY_CENTRE_MM`, or `LIVER_CENTRE_MM` for a crop.
    """
    build = habitus or draw_habitus(rng)
    textures = _Textures.draw(rng)
    bowel_rng, vessel_rng = rng.spawn(2)
    field = coordinates(shape, step_mm, centre_mm)
    soft = textures.soften(field)
    painter = Painter(field, soft, step_mm)
    trunk = measure_trunk(soft, build)
    organs = measure_organs(field, soft, trunk, build, textures.bumps)
    paint_trunk(painter, trunk)
    paint_lungs(painter, trunk)
    paint_bowel(painter, trunk, build, textures.patches, bowel_rng)
    paint_organs(painter, organs, trunk, build, textures.bumps)
    paint_spine(painter)

    liver = painter.share_of(Structure.LIVER)
    labels = painter.labels()
    mask = labels == Structure.LIVER
    depth = np.where(mask, np.maximum(-organs.liver, 0.1), np.minimum(-organs.liver, -0.1))
    portal, artery, hepatic = _grow(vessel_rng, textures, build)
    opening = liver + painter.share_of(Structure.CAVITY_FAT) + painter.share_of(Structure.PANCREAS)
    mosaic = np.tanh(2.0 * textures.patches.on(field)) + 0.5 * textures.specks.on(field)
    return Anatomy(
        field=field,
        step_mm=step_mm,
        centre_mm=centre_mm,
        habitus=build,
        labels=labels,
        over=painter.over,
        under=painter.under,
        share=painter.share,
        liver=liver,
        liver_depth=depth.astype(np.float32),
        portal=filling(portal, field, step_mm) * opening,
        artery=filling(artery, field, step_mm) * opening,
        hepatic=filling(hepatic, field, step_mm) * liver,
        body=np.exp(-0.7 * ((field.y / 135.0) ** 2 + (field.x / 175.0) ** 2)).astype(np.float32),
        grain=_grain(labels, textures, field),
        mosaic=(mosaic / np.float32(0.93)).astype(np.float32),
        nodules=np.tanh(1.6 * textures.bumps.on(field)),
        stripes=_stripes(painter, textures),
    )


def liver_fraction(anatomy: Anatomy) -> Voxels:
    """Return the share of each voxel that is liver, tumours and vessels included, 0 to 1."""
    return anatomy.liver


def _grain(labels: Labels, textures: _Textures, field: Field) -> Voxels:
    """Unevenness over 4 and 16 mm; stool is mottled with small bubbles."""
    tissue = (textures.fine.on(field) + textures.broad.on(field)) / np.float32(np.sqrt(2.0))
    mottled = np.minimum(textures.specks.on(field) + 0.5 * textures.fine.on(field), 0.8)
    return np.where(labels == Structure.STOOL, mottled, tissue).astype(np.float32)


def _stripes(painter: Painter, textures: _Textures) -> Voxels:
    field = painter.field
    phase = 0.33 * field.x + 0.42 * field.y + 0.1 * field.z + 2.2 * textures.broad.on(field)
    return np.asarray(np.sin(phase) * painter.share_of(Structure.SPLEEN), dtype=np.float32)


def _grow(
    rng: np.random.Generator, textures: _Textures, build: Habitus
) -> tuple[list[Vessel], list[Vessel], list[Vessel]]:
    """Grow the portal, arterial and hepatic venous trees into the liver of a coarse grid."""
    shape = (36, 42, 48)
    field = coordinates(shape, (_COARSE_MM,) * 3, LIVER_CENTRE_MM)
    soft = textures.soften(field)
    trunk = measure_trunk(soft, build)
    mask = measure_organs(field, soft, trunk, build, textures.bumps).liver < -2.0
    root = build.portal_mm
    portal = tree(rng, random_points(rng, mask, field, 900), HILUM_MM, root, 0.8)
    hepatic = _hepatic_veins(rng, random_points(rng, mask, field, 900))
    mesentery = rng.uniform((-40.0, -70.0, -20.0), (90.0, 10.0, 90.0), (160, 3))
    portal += tree(rng, mesentery, (30.0, -12.0, 8.0), 3.4, 0.6)
    beside = np.array([2.6, -3.6, 1.5])
    artery = [
        Vessel(v.start + beside, v.end + beside, max(0.30 * v.radius_mm, 0.5))
        for v in portal
        if v.radius_mm > 1.4
    ]
    return portal + _veins(root), artery + _arteries(), hepatic


def _hepatic_veins(rng: np.random.Generator, points: FloatArray) -> list[Vessel]:
    """Grow the right, middle and left hepatic vein, each from the mouth at the cava."""
    from_mouth = points - np.asarray(OUTLET_MM)
    bearing = np.arctan2(-from_mouth[:, 2], -from_mouth[:, 1])
    edges = np.quantile(bearing, (0.25, 0.55))
    veins: list[Vessel] = []
    for number, radius in enumerate((4.4, 4.8, 5.4)):
        group = points[np.searchsorted(edges, bearing) == number]
        veins += tree(rng, group, OUTLET_MM, radius, 0.8)
    return veins


def _line(points: list[Point], radius_mm: float) -> list[Vessel]:
    places: list[FloatArray] = [np.asarray(p, dtype=np.float64) for p in points]
    return [Vessel(a, b, radius_mm) for a, b in zip(places[:-1], places[1:], strict=True)]


def _veins(root: float) -> list[Vessel]:
    """Portal vein from behind the pancreas, splenic and superior mesenteric vein."""
    confluence: Point = (70.0, 6.0, 2.0)
    trunk = _line([confluence, (80.0, 7.0, -10.0), HILUM_MM], root)
    splenic = [confluence, (78.0, 6.0, 24.0), (88.0, 20.0, 56.0), (100.0, 30.0, 86.0)]
    mesenteric = [confluence, (40.0, -6.0, 6.0), (0.0, -14.0, 10.0), (-60.0, -18.0, 10.0)]
    return trunk + _line(splenic, 0.72 * root) + _line(mesenteric, 0.80 * root)


def _arteries() -> list[Vessel]:
    """Coeliac trunk with hepatic, splenic and left gastric artery; superior mesenteric artery."""
    coeliac: Point = (88.0, 14.0, 8.0)
    hepatic = [coeliac, (86.0, 4.0, -6.0), (94.0, -1.0, -22.0)]
    splenic = [coeliac, (94.0, 8.0, 26.0), (90.0, 18.0, 48.0), (102.0, 28.0, 84.0)]
    mesenteric = [(74.0, 30.0, 10.0), (64.0, 16.0, 12.0), (0.0, 0.0, 14.0), (-60.0, -6.0, 14.0)]
    return (
        _line([(86.0, 30.0, 9.0), coeliac], 3.6)
        + _line(hepatic, 2.6)
        + _line(splenic, 2.6)
        + _line(mesenteric, 3.4)
    )
