"""The course of the disease under a regimen: growth, kill, clearance, lipiodol, new tumours.

Growth is the travelling wave of Fisher-KPP, du/dt = D lap(u) + rho u (1 - u): after its first weeks a
front moves at 2 sqrt(D rho) whatever it began as, so the edge (density 1/2) of each tumour moves
outwards at r ln 2 / (3 TVDT). What treatment leaves is a set of sharp nodules, and each of them grows
again as a front. Nothing is stepped on the grid in between, which makes a year under one regimen a
matter of a tenth of a second.

A treatment kills where its level exceeds the tissue's tolerance (see `Lesion.tolerance`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from inference.randomness import RandomStreams
from inference.results import Box, Mask, Voxels
from inference.settings import Regimen
from inference.simulation.disease import TumourState
from inference.simulation.latents import Person
from inference.simulation.parameters import SimulationParameters
from inference.simulation.treatment import Luck, Plan, plan
from inference.simulation.tumours import (
    Disease,
    Lesion,
    Thrombus,
    longest_in_plane,
    true_distance,
)

MONTHS = (1.0, 3.0, 6.0, 9.0, 12.0)
"""When the course is looked at."""

_LAST_KILL_MONTHS = 6.0
_MM_PER_TOLERANCE = 6.0
_GONE = -200.0


@dataclass(frozen=True, slots=True)
class LesionFollowUp:
    """One baseline tumour at one month; arrays only where they were asked for."""

    number: int
    viable_ml: float
    necrosis_ml: float
    lipiodol_ml: float
    whole_mm: float
    viable_mm: float
    viable: Voxels | None = None
    necrosis: Voxels | None = None
    lipiodol: Voxels | None = None


@dataclass(frozen=True, slots=True)
class NewLesion:
    """One tumour that was not there at baseline."""

    number: int
    diameter_mm: float
    viable_ml: float


@dataclass(frozen=True, slots=True)
class FollowUp:
    """All tumours of a patient at one month of one regimen."""

    regimen_id: str
    months: float
    lesions: tuple[LesionFollowUp, ...]
    new: tuple[NewLesion, ...]
    thrombus_ml: float
    dead_thrombus_ml: float
    state: TumourState | None = None

    @property
    def viable_ml(self) -> float:
        """Viable tumour, thrombus and new lesions included."""
        grown = sum(v.viable_ml for v in self.lesions) + sum(n.viable_ml for n in self.new)
        return grown + self.thrombus_ml


class Course:
    """A patient's disease, followed under any regimen; counterfactuals share all random fields."""

    def __init__(
        self, person: Person, disease: Disease, parameters: SimulationParameters, streams: RandomStreams
    ) -> None:
        self.person, self.disease, self.parameters = person, disease, parameters
        self.streams = streams
        self.luck = Luck.draw(parameters, streams)

    def baseline(self) -> FollowUp:
        """Return the tumours before treatment, with their state."""
        never = Regimen(id="untreated", name="Untreated", source="simulation")
        return self.follow(never, (0.0,), keep=(0.0,))[0]

    def follow(
        self, regimen: Regimen, months: Sequence[float] = MONTHS, keep: Sequence[float] = ()
    ) -> tuple[FollowUp, ...]:
        """Return the follow-ups of a regimen; those at the months in `keep` have a `state`.

        Raises
        ------
        UnsupportedRegimen
            The simulator has no terms for this regimen.
        """
        laid_out = plan(self.person, self.luck, regimen, self.parameters, months)
        wanted = [m in keep for m in months]
        tracks = [self._track(lesion, laid_out, wanted) for lesion in self.disease.lesions]
        return tuple(
            self._at(laid_out, index, tuple(track[index] for track in tracks), wanted[index])
            for index in range(len(months))
        )

    # ------------------------------------------------------------ one tumour

    def _track(self, lesion: Lesion, laid_out: Plan, wanted: Sequence[bool]) -> list[LesionFollowUp]:
        phi, largest = lesion.depth, lesion.depth
        reached = (
            laid_out.level
            + laid_out.size_slope * math.log(lesion.diameter_mm / 60.0)
            + self.parameters.treatment.lesion_sd * lesion.luck
        )
        track, before = [], 0.0
        given = -1.0
        for index, month in enumerate(laid_out.months):
            grown = lesion.speed * self._grown_months(laid_out, before, month)
            if grown > 0:
                phi = phi + np.float32(grown)
                largest = np.maximum(largest, phi)
            if month <= _LAST_KILL_MONTHS and laid_out.progress[index] > given:
                given = laid_out.progress[index]
                level = reached - self.parameters.treatment.session_gap * (1.0 - given)
                phi = self._killed(phi, lesion, level)
            track.append(self._seen(lesion, phi, largest, laid_out, index, reached, wanted[index]))
            before = month
        return track

    def _grown_months(self, laid_out: Plan, start: float, stop: float) -> float:
        """Months of untreated growth between two times."""
        if laid_out.level == -math.inf:
            return stop - start
        held = max(min(stop, laid_out.control_months) - start, 0.0)
        free = (stop - start) - held
        return held * (1.0 - laid_out.suppression) + free * self.parameters.treatment.after_control

    def _killed(self, phi: Voxels, lesion: Lesion, level: float) -> Voxels:
        """Return the signed depth of what survives a level of treatment."""
        if level == -math.inf:
            return phi
        left = np.minimum(phi, np.float32(_MM_PER_TOLERANCE) * (lesion.tolerance - np.float32(level)))
        alive = (left > 0) & lesion.domain & (lesion.core < 0.5)
        if np.count_nonzero(alive) == np.count_nonzero((phi > 0) & lesion.domain & (lesion.core < 0.5)):
            return phi
        alive = _without_specks(alive, self._speck_voxels())
        if not alive.any():
            return np.full_like(phi, _GONE)
        return true_distance(left, alive, self.disease.step_mm)

    def _speck_voxels(self) -> int:
        size = self.parameters.treatment.smallest_nodule_mm
        return int(max(round(math.pi / 6.0 * size**3 / self.disease.step_mm**3), 1))

    def _seen(
        self,
        lesion: Lesion,
        phi: Voxels,
        largest: Voxels,
        laid_out: Plan,
        index: int,
        reached: float,
        keep: bool,
    ) -> LesionFollowUp:
        step = self.disease.step_mm
        viable = _inside(phi, step) * lesion.domain * (1.0 - lesion.core)
        whole = _inside(largest - np.float32(laid_out.clearance_mm[index]), step) * lesion.domain
        necrosis = np.clip(whole - viable, 0.0, 1.0)
        # What was dead before treatment stays.
        necrosis = np.maximum(necrosis, np.minimum(lesion.core, 1.0 - viable)).astype(np.float32)
        oil = self._oil(lesion, viable, necrosis, laid_out, index, reached)
        ml = self.disease.voxel_ml
        covered = 0.0
        if oil is not None:
            covered = float(necrosis[oil > self.parameters.lipiodol.visible].sum())
        alive = viable > 0.5
        return LesionFollowUp(
            number=lesion.number,
            viable_ml=float(viable.sum()) * ml,
            necrosis_ml=(float(necrosis.sum()) - covered) * ml,
            lipiodol_ml=covered * ml,
            whole_mm=longest_in_plane((viable + necrosis) > 0.5, step),
            viable_mm=longest_in_plane(alive, step),
            viable=viable if keep else None,
            necrosis=necrosis if keep else None,
            lipiodol=oil if keep else None,
        )

    def _oil(
        self,
        lesion: Lesion,
        viable: Voxels,
        necrosis: Voxels,
        laid_out: Plan,
        index: int,
        reached: float,
    ) -> Voxels | None:
        dead, live = laid_out.oil_dead[index], laid_out.oil_live[index]
        if dead <= 0:
            return None
        # Oil goes where the embolus went; what was dead before took none up.
        fresh = necrosis * (1.0 - lesion.core)
        served = np.where(lesion.tolerance < reached, np.float32(1.0), np.float32(0.35))
        amount = lesion.deposit * (np.float32(dead) * fresh * served + np.float32(0.35 * live) * viable)
        return np.minimum(amount, np.float32(self.parameters.lipiodol.saturation))

    # ------------------------------------------------------------ the whole patient

    def _at(self, laid_out: Plan, index: int, lesions: tuple[LesionFollowUp, ...], keep: bool) -> FollowUp:
        new = tuple(self._new(laid_out, index))
        share = self._thrombus(laid_out, index)
        alive, dead = (0.0, 0.0) if share is None else (float(part.sum()) for part in share)
        ml = self.disease.voxel_ml
        state = self._state(laid_out, index, lesions, new, share) if keep else None
        return FollowUp(
            laid_out.regimen_id, laid_out.months[index], lesions, new, alive * ml, dead * ml, state
        )

    def _new(self, laid_out: Plan, index: int) -> list[NewLesion]:
        """Tumours that are seen by now; each was `seen_mm` large when the intensity passed its threshold."""
        times = (0.0, *laid_out.months[: index + 1])
        course = (0.0, *laid_out.intensity[: index + 1])
        out = []
        for seed in self.disease.seeds:
            if seed.threshold >= course[-1]:
                break
            age = laid_out.months[index] - float(np.interp(seed.threshold, course, times))
            size = self.parameters.new_lesions.seen_mm * 2.0 ** (age / (3.0 * seed.tvdt_months))
            size = min(size, 40.0)
            ml = math.pi / 6.0 * size**3 * float(np.prod(seed.radii)) / 1000.0
            out.append(NewLesion(seed.number, size * max(seed.radii), ml))
        return out

    def _thrombus(self, laid_out: Plan, index: int) -> tuple[Voxels, Voxels] | None:
        """Viable and dead share of the thrombus."""
        thrombus = self.disease.thrombus
        if thrombus is None:
            return None
        speed = 1.6 * max(lesion.speed for lesion in self.disease.lesions)
        reach = thrombus.reach_mm + speed * self._grown_months(laid_out, 0.0, laid_out.months[index])
        return _thrombus_shares(thrombus, reach, self._thrombus_level(laid_out, index))

    def _thrombus_level(self, laid_out: Plan, index: int) -> float:
        gap = self.parameters.treatment.session_gap * (1.0 - laid_out.progress[index])
        return laid_out.level - gap - 0.3

    def _state(
        self,
        laid_out: Plan,
        index: int,
        lesions: tuple[LesionFollowUp, ...],
        new: tuple[NewLesion, ...],
        thrombus: tuple[Voxels, Voxels] | None,
    ) -> TumourState:
        canvas = _Canvas(self.disease)
        for lesion, seen in zip(self.disease.lesions, lesions, strict=True):
            canvas.add(lesion, seen)
        if self.disease.thrombus is not None and thrombus is not None:
            canvas.add_thrombus(self.disease.thrombus.box, *thrombus)
        for arrived in new:
            canvas.add_new(arrived, self.disease)
        return canvas.state(laid_out.months[index])


def _inside(depth: Voxels, step_mm: float) -> Voxels:
    """Share of a voxel that lies inside an edge at this depth."""
    return np.asarray(np.clip(np.float32(0.5) + depth / np.float32(step_mm), 0.0, 1.0), dtype=np.float32)


def _without_specks(mask: Mask, least_voxels: int) -> Mask:
    parts, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.asarray((sizes >= least_voxels)[parts])


def _thrombus_shares(thrombus: Thrombus, reach: float, level: float) -> tuple[Voxels, Voxels]:
    filled = thrombus.share * np.clip((np.float32(reach) - thrombus.distance) / 3.0 + 0.5, 0.0, 1.0)
    alive = filled * (thrombus.tolerance > level)
    return np.asarray(alive, np.float32), np.asarray(filled - alive, np.float32)


class _Canvas:
    """A box of the anatomy's grid into which tumours are painted."""

    def __init__(self, disease: Disease) -> None:
        self.liver = disease.liver
        found = ndimage.find_objects(disease.liver.astype(np.uint8))[0]
        self.box = Box(
            (found[0].start, found[1].start, found[2].start), (found[0].stop, found[1].stop, found[2].stop)
        )
        self.viable, self.necrosis, self.lipiodol, self.thrombus = (
            np.zeros(self.box.shape, np.float32) for _ in range(4)
        )
        self.vascularity = np.ones(self.box.shape, np.float32)
        self.lesion = np.zeros(self.box.shape, np.uint8)

    def _where(self, box: Box) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Index of the common part of a box in the canvas and in the box."""
        low = [max(a, b) for a, b in zip(self.box.start, box.start, strict=True)]
        high = [max(min(a, b), c) for a, b, c in zip(self.box.stop, box.stop, low, strict=True)]
        here = tuple(slice(a - o, b - o) for a, b, o in zip(low, high, self.box.start, strict=True))
        there = tuple(slice(a - o, b - o) for a, b, o in zip(low, high, box.start, strict=True))
        return here, there

    def add(self, lesion: Lesion, seen: LesionFollowUp) -> None:
        here, there = self._where(lesion.box)
        if seen.viable is None or seen.necrosis is None:
            return
        domain = lesion.domain[there]
        self.viable[here] += seen.viable[there]
        self.necrosis[here] += seen.necrosis[there]
        if seen.lipiodol is not None:
            self.lipiodol[here] += seen.lipiodol[there]
        self.vascularity[here][domain] = lesion.vascularity[there][domain]
        self.lesion[here][(seen.viable + seen.necrosis)[there] > 0.5] = lesion.number

    def add_thrombus(self, box: Box, alive: Voxels, dead: Voxels) -> None:
        here, there = self._where(box)
        room = np.clip(1.0 - self.viable[here] - self.necrosis[here], 0.0, 1.0)
        alive, dead = np.minimum(alive[there], room), dead[there]
        self.viable[here] += alive
        self.thrombus[here] += alive
        self.necrosis[here] += np.minimum(dead, np.clip(room - alive, 0.0, 1.0))

    def add_new(self, arrived: NewLesion, disease: Disease) -> None:
        seed = next(s for s in disease.seeds if s.number == arrived.number)
        axes = [
            (np.arange(a, b, dtype=np.float32) - np.float32(c)) * np.float32(disease.step_mm / r)
            for a, b, c, r in zip(self.box.start, self.box.stop, seed.centre, seed.radii, strict=True)
        ]
        q = np.sqrt(axes[0][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[2][None, None, :] ** 2)
        radius = arrived.diameter_mm / max(seed.radii) / 2.0
        room = np.clip(1.0 - self.viable - self.necrosis, 0.0, 1.0)
        share = (
            np.minimum(_inside(np.float32(radius) - q, disease.step_mm), room) * self.liver[self.box.slices]
        )
        self.viable += share
        self.lesion[(share > 0.5) & (self.lesion == 0)] = arrived.number

    def state(self, months: float) -> TumourState:
        total = np.maximum(self.viable + self.necrosis, 1.0)
        return TumourState(
            months=months,
            box=self.box,
            viable=np.asarray(self.viable / total, np.float32),
            necrosis=np.asarray(self.necrosis / total, np.float32),
            lipiodol=self.lipiodol,
            vascularity=self.vascularity,
            thrombus=np.asarray(self.thrombus / total, np.float32),
            lesion=self.lesion,
        )
