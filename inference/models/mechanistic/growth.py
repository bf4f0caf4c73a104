"""Fisher-KPP growth on a regular grid: du/dt = D lap(u) + rho u (1 - u)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from inference.results import Mask, Voxels

DAYS_PER_MONTH = 30.4375


@dataclass(frozen=True, slots=True)
class FrontConstants:
    """Diffusion (mm^2/day) and proliferation (1/day) of a travelling front."""

    diffusion: float
    proliferation: float


def front_constants(radius_mm: float, tvdt_months: float, front_width_mm: float) -> FrontConstants:
    """Return D and rho of a sphere whose volume doubles in `tvdt_months`.

    A sphere doubles its volume in TVDT when its radius grows at r ln 2 / (3 TVDT); the front of
    Fisher-KPP moves at 2 sqrt(D rho) and is sqrt(D / rho) wide. Two equations, two unknowns.

    References
    ----------
    Kolmogorov, Petrovsky & Piskunov 1937; Murray, Mathematical Biology I, 3rd ed., section 13.2.
    """
    speed = radius_mm * math.log(2.0) / (3.0 * tvdt_months * DAYS_PER_MONTH)
    return FrontConstants(
        diffusion=speed * front_width_mm / 2.0, proliferation=speed / (2.0 * front_width_mm)
    )


def front_profile(depth_mm: Voxels, front_width_mm: float) -> Voxels:
    """Return the density at a depth inside the edge (negative outside), 1/2 at the edge.

    Its tail falls as exp(x / width), the decay for which a Fisher-KPP front moves at 2 sqrt(D rho)
    from the first day, without the slow start that follows from a step.
    """
    return np.asarray(1.0 / (1.0 + np.exp(-depth_mm / front_width_mm)), dtype=np.float32)


def depth_of(density: Voxels, front_width_mm: float) -> Voxels:
    """Return the depth (mm) at which `front_profile` has this density; its inverse."""
    p = np.clip(density, 1e-4, 1.0 - 1e-4)
    return np.asarray(front_width_mm * np.log(p / (1.0 - p)), dtype=np.float32)


def _pair(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    lower = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
    upper = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
    return lower, upper


@dataclass(frozen=True, slots=True)
class Diffusion:
    """Laplacian with no flux through the border of a domain.

    Attributes
    ----------
    inside : array of float32, (z, y, x)
        1 inside the domain.
    neighbours : array of float32, (z, y, x)
        Number of the six neighbours that are inside.
    """

    inside: Voxels
    neighbours: Voxels
    spacing_mm: float

    @classmethod
    def in_domain(cls, domain: Mask, spacing_mm: float) -> Diffusion:
        """Prepare the operator for one domain, shape (z, y, x), isotropic spacing."""
        inside = domain.astype(np.float32)
        return cls(inside, _neighbour_sum(inside), spacing_mm)

    def laplacian(self, u: Voxels) -> Voxels:
        """Return the Laplacian (1/mm^2) of a field that is zero outside the domain."""
        total = _neighbour_sum(u)
        total -= u * self.neighbours
        total *= self.inside / np.float32(self.spacing_mm**2)
        return total


def _neighbour_sum(u: Voxels) -> Voxels:
    total = np.zeros_like(u)
    for axis in range(3):
        lower, upper = _pair(axis)
        total[lower] += u[upper]
        total[upper] += u[lower]
    return total
