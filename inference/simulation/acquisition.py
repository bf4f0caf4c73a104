"""How a simulated scan is acquired: one protocol for each phase, drawn from the habits of a scanner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from inference.case import Phase
from inference.simulation.shapes import Point
from inference.simulation.tissues import MR_PHASES

_REFERENCE_MM: Mapping[str, Point] = {"CT": (3.0, 0.75, 0.75), "MR": (3.0, 1.3, 1.3)}


class Scanner(StrEnum):
    """Where the images come from; the shifted scanner is for the external test of models."""

    STANDARD = "standard"
    SHIFTED = "shifted"


@dataclass(frozen=True, slots=True)
class Protocol:
    """How one series is acquired; every value is explicit, only the noise itself is random.

    Attributes
    ----------
    noise : float
        Standard deviation in the middle of the body, in a voxel of the reference grid (`noise_scale`):
        HU in CT; in MR over the signal of healthy liver before contrast. 0 for a noise-free image.
    timing : float
        How much later the scan was than the phase's own time, in phases.
    enhancement : float
        Uptake of contrast; lower tube voltage and larger doses enhance more.
    in_plane_mm, through_plane_mm : float
        Full width at half maximum of the point spread.
    roll_off_per_mm : float
        Where the noise spectrum of the kernel falls off, in cycles per mm.
    through_plane_noise : float
        Correlation of noise between slices, standard deviation in mm.
    shading : three floats
        MR: relative change of signal from the middle to the edge along z, y and x.
    gain : float
        MR: stored value of healthy liver before contrast.
    """

    phase: Phase
    noise: float
    timing: float = 0.0
    enhancement: float = 1.0
    in_plane_mm: float = 1.1
    through_plane_mm: float = 2.0
    roll_off_per_mm: float = 0.50
    through_plane_noise: float = 1.2
    shading: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gain: float = 1.0

    @property
    def modality(self) -> str:
        """CT or MR."""
        return "MR" if self.phase in MR_PHASES else "CT"

    def clean(self) -> Protocol:
        """Return the same acquisition without noise."""
        return replace(self, noise=0.0)


def noise_scale(modality: str, step_mm: Point) -> float:
    """Return the standard deviation of noise on a grid over that on the reference grid.

    Noise of CT is correlated: averaging over 3 x 3 pixels left 0.48 of it in a real portal venous
    scan, which gives the exponent in the plane. Noise of MR falls with the root of the volume.
    """
    reference = _REFERENCE_MM[modality]
    ratio = [r / s for r, s in zip(reference, step_mm, strict=True)]
    if modality == "MR":
        return float((ratio[0] * ratio[1] * ratio[2]) ** 0.5)
    return float(ratio[0] ** 0.4 * (ratio[1] * ratio[2]) ** 0.33)


_Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Habit:
    """Ranges from which a scanner of one modality draws; `arterial` and `later` are timings."""

    noise: _Range
    arterial: _Range
    later: _Range
    enhancement: _Range
    in_plane_mm: _Range
    through_plane_mm: _Range
    roll_off_per_mm: _Range
    through_plane_noise: _Range
    shading: float
    gain: _Range


_HABITS: Mapping[tuple[Scanner, str], _Habit] = {
    (Scanner.STANDARD, "CT"): _Habit(
        noise=(11.0, 19.0),
        arterial=(-0.10, 0.15),
        later=(-0.12, 0.15),
        enhancement=(0.88, 1.15),
        in_plane_mm=(1.0, 1.4),
        through_plane_mm=(1.6, 2.8),
        roll_off_per_mm=(0.40, 0.65),
        through_plane_noise=(0.9, 1.6),
        shading=0.0,
        gain=(1.0, 1.0),
    ),
    # Low dose with a sharp kernel and thick slices; scans come earlier; 100 kV.
    (Scanner.SHIFTED, "CT"): _Habit(
        noise=(21.0, 30.0),
        arterial=(-0.32, -0.08),
        later=(-0.30, -0.05),
        enhancement=(1.05, 1.40),
        in_plane_mm=(0.7, 0.9),
        through_plane_mm=(3.5, 5.0),
        roll_off_per_mm=(0.75, 0.95),
        through_plane_noise=(1.8, 2.6),
        shading=0.0,
        gain=(1.0, 1.0),
    ),
    (Scanner.STANDARD, "MR"): _Habit(
        noise=(0.03, 0.06),
        arterial=(-0.12, 0.15),
        later=(-0.15, 0.0),
        enhancement=(0.85, 1.15),
        in_plane_mm=(1.5, 2.0),
        through_plane_mm=(3.0, 4.5),
        roll_off_per_mm=(0.5, 0.5),
        through_plane_noise=(1.0, 1.5),
        shading=0.20,
        gain=(180.0, 420.0),
    ),
    (Scanner.SHIFTED, "MR"): _Habit(
        noise=(0.07, 0.12),
        arterial=(-0.30, -0.10),
        later=(-0.30, -0.10),
        enhancement=(0.70, 1.00),
        in_plane_mm=(2.0, 2.8),
        through_plane_mm=(5.0, 6.5),
        roll_off_per_mm=(0.4, 0.4),
        through_plane_noise=(1.5, 2.2),
        shading=0.45,
        gain=(600.0, 1500.0),
    ),
}


def draw_protocols(
    phases: Sequence[Phase], scanner: Scanner, rng: np.random.Generator
) -> dict[Phase, Protocol]:
    """Draw how the series of one study are acquired.

    Noise, contrast medium, kernel and coil are those of the study; the timing is each series' own.

    Raises
    ------
    ValueError
        A phase cannot be simulated.
    """
    protocols: dict[Phase, Protocol] = {}
    for modality in ("CT", "MR"):
        wanted = [p for p in phases if Protocol(p, 0.0).modality == modality]
        if wanted:
            protocols.update(_study(wanted, _HABITS[scanner, modality], rng))
    return {p: protocols[p] for p in phases}


def _study(phases: Sequence[Phase], habit: _Habit, rng: np.random.Generator) -> dict[Phase, Protocol]:
    common = Protocol(
        phase=phases[0],
        noise=rng.uniform(*habit.noise),
        enhancement=rng.uniform(*habit.enhancement),
        in_plane_mm=rng.uniform(*habit.in_plane_mm),
        through_plane_mm=rng.uniform(*habit.through_plane_mm),
        roll_off_per_mm=rng.uniform(*habit.roll_off_per_mm),
        through_plane_noise=rng.uniform(*habit.through_plane_noise),
        shading=(
            rng.uniform(-habit.shading, habit.shading),
            rng.uniform(-habit.shading, habit.shading),
            rng.uniform(-habit.shading, habit.shading),
        ),
        gain=rng.uniform(*habit.gain),
    )
    timings = {p: rng.uniform(*(habit.arterial if "arterial" in p else habit.later)) for p in phases}
    return {p: replace(common, phase=p, timing=timings[p]) for p in phases}
