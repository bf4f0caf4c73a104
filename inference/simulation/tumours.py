"""Tumours of one patient in a liver: edge, dead core, tolerance to treatment, thrombus, lesions to come.

All random fields are the patient's own and bear no regimen's name, so that follow-ups under two
regimens differ by the treatment alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.models.mechanistic.sampling import resample, smooth_noise
from inference.randomness import RandomStreams
from inference.results import Box, FloatArray, Mask, Voxels
from inference.simulation.anatomy import Anatomy, Structure
from inference.simulation.latents import Person
from inference.simulation.parameters import SimulationParameters

DAYS_PER_MONTH = 30.4375
_MARGIN_MM = (8.0, 55.0)
_YEAR_MONTHS = 12.5
_REACH_MM = {1: 10.0, 3: 24.0, 4: 40.0}
_DIRECTIONS = np.pi * np.arange(16) / 16.0


@dataclass(frozen=True, slots=True)
class Lesion:
    """One tumour at baseline; arrays have the shape of the box.

    Attributes
    ----------
    depth : mm inside the edge, negative outside
    domain : liver that is nearer to this tumour than to others
    core : share that was dead before treatment
    tolerance : level of treatment that the tissue survives; mean 0 and deviation 1 over the tumour
    deposit : lipiodol that one session leaves in tissue it reaches, in typical deposits
    vascularity : arterial supply of viable tissue, 1 is typical
    speed : mm by which the untreated edge moves in a month
    diameter_mm : longest in-plane diameter
    luck : standard normal, what makes this tumour respond unlike the others
    """

    number: int
    box: Box
    depth: Voxels
    domain: Mask
    core: Voxels
    tolerance: Voxels
    deposit: Voxels
    vascularity: Voxels
    speed: float
    diameter_mm: float
    luck: float


@dataclass(frozen=True, slots=True)
class Thrombus:
    """Tumour thrombus in the portal vein.

    Attributes
    ----------
    share : share of the voxel inside the branches that are connected with the tumour
    distance : mm from the tumour's edge
    reach_mm : how far the thrombus comes at baseline
    """

    box: Box
    share: Voxels
    distance: Voxels
    tolerance: Voxels
    reach_mm: float


@dataclass(frozen=True, slots=True)
class Seed:
    """A tumour to come: seen once the cumulated intensity of new lesions exceeds `threshold`."""

    number: int
    threshold: float
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    tvdt_months: float


@dataclass(frozen=True, slots=True)
class Disease:
    """All tumours of a patient, as fields of an anatomy's grid."""

    step_mm: float
    liver: Mask
    lesions: tuple[Lesion, ...]
    thrombus: Thrombus | None
    seeds: tuple[Seed, ...]

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return self.step_mm**3 / 1000.0


def _noise(rng: np.random.Generator, shape: tuple[int, ...], deviation: float) -> Voxels:
    """Smooth noise of deviation 1; `deviation` of the smoothing in voxels. Broad noise is made coarse."""
    factor = max(int(deviation / 1.6), 1)
    if factor == 1:
        return smooth_noise(rng, shape, deviation)
    coarse = tuple(n // factor + 2 for n in shape)
    z, y, x = (np.arange(n) / factor for n in shape)
    return resample(smooth_noise(rng, coarse, deviation / factor), (z, y, x))


def longest_in_plane(mask: Mask, step_mm: float) -> float:
    """Return the longest extent in mm of one connected part on one slice, over 16 directions."""
    if not mask.any():
        return 0.0
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[1] = True
    parts, count = ndimage.label(mask, structure=in_plane)
    z, y, x = np.nonzero(parts)
    index = parts[z, y, x]
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(1, count + 1))
    y, x = y[order].astype(np.float32), x[order].astype(np.float32)
    longest = 0.0
    for angle in _DIRECTIONS:
        along = y * np.float32(math.sin(angle)) + x * np.float32(math.cos(angle))
        extent = np.maximum.reduceat(along, starts) - np.minimum.reduceat(along, starts)
        longest = max(longest, float(extent.max()))
    return (longest + 1.0) * step_mm


def true_distance(depth: Voxels, inside: Mask, step_mm: float) -> Voxels:
    """Return a depth that is in mm outside an edge, so that a front can be moved through it.

    Next to the edge the given depth tells where it lies within the voxel; farther off, the distance
    transform does.
    """
    step = np.float32(step_mm)
    outside = np.asarray(ndimage.distance_transform_edt(~inside), np.float32) * step
    far = 0.5 * step - outside
    near = np.where(outside < 1.1 * step, np.maximum(np.maximum(depth, -0.5 * step), far), far)
    return np.where(inside, np.maximum(depth, 0.05 * step), near).astype(np.float32)


def build_disease(
    person: Person, anatomy: Anatomy, parameters: SimulationParameters, streams: RandomStreams
) -> Disease:
    """Place a patient's tumours in an abdomen; the grid must be isotropic.

    A tumour for which the liver has no room is left out, so the number may fall short of the plan.
    """
    liver = np.asarray(anatomy.labels == Structure.LIVER)
    builder = _Builder(person, anatomy, liver, parameters, streams)
    for rank, diameter in enumerate(person.plan.diameters_mm):
        builder.place(rank, diameter)
    lesions = builder.lesions()
    thrombus = builder.thrombus(lesions[0]) if person.plan.thrombus else None
    return Disease(builder.step, liver, lesions, thrombus, builder.seeds(len(lesions)))


@dataclass(frozen=True, slots=True)
class _Shape:
    box: Box
    depth: Voxels
    diameter_mm: float
    radius_mm: float


class _Builder:
    def __init__(
        self,
        person: Person,
        anatomy: Anatomy,
        liver: Mask,
        parameters: SimulationParameters,
        streams: RandomStreams,
    ) -> None:
        self.person, self.anatomy, self.liver = person, anatomy, liver
        self.parameters, self.streams = parameters, streams
        self.step = float(anatomy.step_mm[0])
        self.shapes: list[_Shape] = []
        self.best = np.full(liver.shape, -200.0, np.float32)
        self.owner = np.zeros(liver.shape, np.uint8)
        blurred = ndimage.gaussian_filter(anatomy.portal, parameters.tolerance.vessel_mm / self.step)
        self.supply = blurred / max(float(blurred[liver].std()), 1e-6)

    # ------------------------------------------------------------ where

    def place(self, rank: int, diameter: float) -> None:
        rng = self.streams.derive("tumour", rank)
        centre = self._site(diameter, rng)
        if centre is None:
            return
        proportions = np.array([rng.uniform(0.8, 1.0), rng.uniform(0.82, 1.0), 1.0])
        half = np.ceil((0.72 * diameter + self._margin(diameter)) / self.step).astype(int)
        start = np.maximum(centre - half, 0)
        stop = np.minimum(centre + half + 1, self.liver.shape)
        box = _box(start, stop)
        distance = self._distance(box, centre, proportions, float(rng.uniform(0, np.pi)))
        infiltrative = self.person.plan.infiltrative if rank == 0 else 0.6 * self.person.plan.infiltrative
        shape = self.parameters.tumours
        rough = shape.roughness + (shape.infiltrative_roughness - shape.roughness) * infiltrative
        noise = _noise(rng, box.shape, max(0.16 * diameter, 4.0) / self.step)
        fine = _noise(rng, box.shape, max(0.06 * diameter, 2.5) / self.step)
        noise = noise + np.float32(0.6 * infiltrative) * fine
        self._add(box, distance, noise, rough, diameter)

    def _margin(self, diameter: float) -> float:
        """Room for a year of growth, in mm."""
        return float(np.clip(5.0 + _YEAR_MONTHS * self._speed(diameter / 2.0), *_MARGIN_MM))

    def _speed(self, radius_mm: float) -> float:
        """Front speed of an untreated tumour, mm in a month."""
        growth = self.parameters.growth
        radius = float(np.clip(radius_mm, growth.smallest_radius_mm, growth.largest_radius_mm))
        return radius * math.log(2.0) / (3.0 * self.person.plan.tvdt_months)

    def _site(self, diameter: float, rng: np.random.Generator) -> FloatArray | None:
        free = self.liver & (self.best < -(0.5 * diameter + 3.0))
        if not free.any():
            free = self.liver & (self.best < -4.0)
        if not free.any():
            return None
        depth = self.anatomy.liver_depth
        wanted = min(0.32 * diameter, 0.85 * float(depth[free].max()))
        candidates = np.flatnonzero(free & (depth >= wanted))
        return np.array(np.unravel_index(rng.choice(candidates), free.shape))

    def _distance(self, box: Box, centre: FloatArray, proportions: FloatArray, turn: float) -> Voxels:
        """Distance from the centre in mm, stretched so that spheres of it are ellipsoids."""
        z, y, x = (
            (np.arange(a, b, dtype=np.float32) - np.float32(c)) * np.float32(self.step)
            for a, b, c in zip(box.start, box.stop, centre, strict=True)
        )
        u = math.cos(turn) * x[None, None, :] + math.sin(turn) * y[None, :, None]
        v = math.cos(turn) * y[None, :, None] - math.sin(turn) * x[None, None, :]
        squares = (z[:, None, None] / proportions[0]) ** 2 + (v / proportions[1]) ** 2 + u**2
        return np.asarray(np.sqrt(squares), dtype=np.float32)

    def _add(self, box: Box, distance: Voxels, noise: Voxels, rough: float, diameter: float) -> None:
        room = self.liver[box.slices] & (self.best[box.slices] < 0)
        size = diameter
        # The liver's surface cuts tumours: grow the shape until it has the diameter that was wanted.
        for _ in range(3):
            depth = np.float32(size / 2.0) - distance + np.float32(rough * diameter) * noise
            reached = longest_in_plane((depth > 0) & room, self.step)
            if reached <= 0:
                return
            size *= float(np.clip(diameter / reached, 0.75, 1.3))
        depth = np.asarray(
            np.float32(size / 2.0) - distance + np.float32(rough * diameter) * noise, np.float32
        )
        inside = (depth > 0) & room
        if np.count_nonzero(inside) < 3:
            return
        depth = true_distance(depth, depth > 0, self.step)
        volume = float(np.count_nonzero(inside)) * self.step**3
        radius = (3.0 * volume / (4.0 * math.pi)) ** (1.0 / 3.0)
        longest = longest_in_plane(inside, self.step)
        small, part = _cropped(box, inside, math.ceil(self._margin(diameter) / self.step))
        self.shapes.append(_Shape(small, np.ascontiguousarray(depth[part]), longest, radius))
        best, owner = self.best[box.slices], self.owner[box.slices]
        # An earlier tumour keeps its voxels; ground outside both goes to the nearer one.
        won = (depth > best) & ~(best > 0)
        best[won] = depth[won]
        owner[won] = len(self.shapes)

    # ------------------------------------------------------------ what

    def lesions(self) -> tuple[Lesion, ...]:
        return tuple(self._lesion(n, shape) for n, shape in enumerate(self.shapes, 1))

    def _lesion(self, number: int, shape: _Shape) -> Lesion:
        rng = self.streams.derive("tissue", number)
        domain = self.liver[shape.box.slices] & (self.owner[shape.box.slices] == number)
        inside = domain & (shape.depth > 0)
        core = self._core(number, shape, inside, rng)
        perfusion = _noise(rng, shape.depth.shape, 6.0 / self.step)
        grains = _noise(rng, shape.depth.shape, max(1.8 / self.step, 0.6))
        oil = self.parameters.lipiodol
        deposit = np.exp(0.35 * perfusion) * np.clip(1.0 + oil.granularity * grains, 0.15, 2.5)
        pace = 1.0 if number == 1 else math.exp(0.25 * float(rng.standard_normal()))
        return Lesion(
            number=number,
            box=shape.box,
            depth=shape.depth,
            domain=domain,
            core=core,
            tolerance=self._tolerance(shape, inside & (core < 0.5), rng),
            deposit=np.asarray(deposit, dtype=np.float32),
            vascularity=np.asarray(np.exp(0.22 * perfusion - 0.03), dtype=np.float32),
            speed=self._speed(shape.radius_mm) / pace,
            diameter_mm=shape.diameter_mm,
            luck=float(rng.standard_normal()),
        )

    def _core(self, number: int, shape: _Shape, inside: Mask, rng: np.random.Generator) -> Voxels:
        """Dead core: the deepest tissue, in blotches."""
        share = self.person.plan.necrosis_share * min(shape.diameter_mm / self.shapes[0].diameter_mm, 1.0)
        if number > 1 and shape.diameter_mm < 25.0:
            share = 0.0
        blotches = _noise(rng, shape.depth.shape, max(0.09 * shape.diameter_mm, 3.0) / self.step)
        if share * np.count_nonzero(inside) < 4:
            return np.zeros_like(shape.depth)
        score = shape.depth / np.float32(shape.radius_mm) + np.float32(0.45) * blotches
        edge = float(np.quantile(score[inside], 1.0 - share))
        soft = np.clip(0.5 + (score - edge) * np.float32(3.0), 0.0, 1.0)
        return np.asarray(soft * inside * (shape.depth > 2.0), dtype=np.float32)

    def _tolerance(self, shape: _Shape, tissue: Mask, rng: np.random.Generator) -> Voxels:
        table = self.parameters.tolerance
        field = table.smooth * _noise(rng, shape.depth.shape, max(0.13 * shape.diameter_mm, 2.5) / self.step)
        field += table.territory * self._territories(shape, rng)
        field += table.rim * np.exp(-np.maximum(shape.depth, 0.0) / table.rim_depth_mm)
        field += table.vessel * np.minimum(self.supply[shape.box.slices], 3.0)
        values = field[tissue] if tissue.any() else field.ravel()
        spread = max(float(values.std()), 1e-3)
        return np.asarray((field - float(values.mean())) / spread, dtype=np.float32)

    def _territories(self, shape: _Shape, rng: np.random.Generator) -> Voxels:
        """Random level of each arterial territory: the cells of random points, warped."""
        size = self.parameters.tolerance.territory_mm
        extent = np.array(shape.depth.shape)
        count = int(np.clip(np.prod(extent) * self.step**3 / size**3, 4, 400))
        points = np.zeros(shape.depth.shape, bool)
        points[tuple(rng.integers(0, n, count) for n in extent)] = True
        index = ndimage.distance_transform_edt(~points, return_distances=False, return_indices=True)
        levels = rng.standard_normal(shape.depth.shape, dtype=np.float32)
        return np.asarray(levels[tuple(index)], dtype=np.float32)

    def thrombus(self, main: Lesion) -> Thrombus | None:
        """Thrombus in the branches of the portal vein that touch the main tumour."""
        reach = _REACH_MM[self.person.plan.thrombus] * float(self.streams.derive("reach").uniform(0.8, 1.2))
        # Distance to the main tumour within its surroundings.
        pad = int(np.ceil((reach + 22.0) / self.step))
        start = np.maximum(np.array(main.box.start) - pad, 0)
        stop = np.minimum(np.array(main.box.stop) + pad, self.liver.shape)
        box = _box(start, stop)
        tumour = np.zeros(box.shape, bool)
        inner = tuple(
            slice(a - o, b - o) for a, b, o in zip(main.box.start, main.box.stop, box.start, strict=True)
        )
        tumour[inner] = (main.depth > 0) & main.domain
        distance = np.asarray(ndimage.distance_transform_edt(~tumour) * self.step, np.float32)
        portal = self.anatomy.portal[box.slices]
        vein = (portal > 0.3) & self.liver[box.slices] & ~tumour & self._nowhere(box)
        parts, _ = ndimage.label(vein, structure=np.ones((3, 3, 3), bool))
        near = np.unique(parts[vein & (distance < float(distance[vein].min()) + 6.0)]) if vein.any() else ()
        joined = np.isin(parts, near) & vein
        if not joined.any():
            return None
        start_mm = float(distance[joined].min())
        noise = _noise(self.streams.derive("thrombus"), box.shape, 5.0 / self.step)
        share = np.asarray(np.minimum(portal * 1.6, 1.0) * joined, np.float32)
        return Thrombus(box, share, np.asarray(distance - start_mm, np.float32), noise, reach)

    def _nowhere(self, box: Box) -> Mask:
        """Where there is no tumour at baseline."""
        return np.asarray(~(self.best[box.slices] > 0))

    # ------------------------------------------------------------ what is to come

    def seeds(self, lesions: int) -> tuple[Seed, ...]:
        rng = self.streams.derive("new lesions")
        count = self.parameters.new_lesions.largest_count
        thresholds = np.cumsum(rng.exponential(1.0, count))
        free = np.flatnonzero(self.liver & (self.best < -12.0) & (self.anatomy.liver_depth > 6.0))
        if len(free) == 0:
            free = np.flatnonzero(self.liver)
        places = rng.choice(free, count)
        out = []
        for k in range(count):
            z, y, x = np.unravel_index(places[k], self.liver.shape)
            radii = rng.uniform(0.8, 1.15, 3)
            pace = self.person.plan.tvdt_months * math.exp(0.3 * float(rng.standard_normal()))
            out.append(
                Seed(
                    number=lesions + k + 1,
                    threshold=float(thresholds[k]),
                    centre=(float(z), float(y), float(x)),
                    radii=(float(radii[0]), float(radii[1]), float(radii[2])),
                    tvdt_months=float(np.clip(pace, 1.5, 15.0)),
                )
            )
        return tuple(out)


def _box(start: FloatArray, stop: FloatArray) -> Box:
    a, b = [int(v) for v in start], [int(v) for v in stop]
    return Box((a[0], a[1], a[2]), (b[0], b[1], b[2]))


def _cropped(box: Box, inside: Mask, margin: int) -> tuple[Box, tuple[slice, ...]]:
    """Return the part of a box round a tumour, and its index in the box."""
    found = ndimage.find_objects(inside.astype(np.uint8))[0]
    low = [max(f.start - margin, 0) for f in found]
    high = [min(f.stop + margin, n) for f, n in zip(found, inside.shape, strict=True)]
    start = np.array(box.start)
    return _box(start + low, start + high), tuple(slice(a, b) for a, b in zip(low, high, strict=True))
