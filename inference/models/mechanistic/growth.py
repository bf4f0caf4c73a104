"""Fisher-KPP growth on a regular grid: du/dt = D lap(u) + rho u (1 - u)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from inference.results import FloatArray, Mask, Voxels

DAYS_PER_MONTH = 30.4375


@dataclass(frozen=True, slots=True)
class FrontConstants:
    """Diffusion (mm^2/day) and proliferation (1/day) of a travelling front."""

    diffusion: float
    proliferation: float


def front_constants(radius_mm: float, tvdt_months: float, front_width_mm: float) -> FrontConstants:
    """Return D and rho of a sphere whose volume doubles in `tvdt_months`.

    A sphere doubles its volume in TVDT when its radius grows at r ln 2 / (3 TVDT); a plane front of
    Fisher-KPP moves at 2 sqrt(D rho) and is sqrt(D / rho) wide. Two equations, two unknowns. A
    sphere's front is slower than a plane one by 2 D / r, which is made up for.

    References
    ----------
    Kolmogorov, Petrovsky & Piskunov 1937; Murray, Mathematical Biology I, 3rd ed., section 13.2.
    """
    speed = radius_mm * math.log(2.0) / (3.0 * tvdt_months * DAYS_PER_MONTH)
    speed /= 1.0 - min(front_width_mm / radius_mm, 0.5)
    return FrontConstants(
        diffusion=speed * front_width_mm / 2.0, proliferation=speed / (2.0 * front_width_mm)
    )


@dataclass(frozen=True, slots=True)
class FrontProfile:
    """The travelling wave of least speed, tabulated; a front that starts from it keeps its pace.

    Attributes
    ----------
    depth : array, ascending
        Depth inside the edge over the front width; 0 at density 1/2.
    density : array, ascending
    width_mm : float
    """

    depth: FloatArray
    density: FloatArray
    width_mm: float

    @classmethod
    def of_width(cls, width_mm: float) -> FrontProfile:
        """Integrate u'' + 2 u' + u (1 - u) = 0 from 1 outwards (x in widths, time in 1/rho)."""
        step, count = 0.01, 6000
        u, v = np.empty(count), np.empty(count)
        root = math.sqrt(2.0) - 1.0  # 1 - u grows as exp(root x) where it is small
        u[0], v[0] = 1.0 - 1e-6, -1e-6 * root
        for i in range(count - 1):
            middle_u = u[i] + 0.5 * step * v[i]
            middle_v = v[i] - 0.5 * step * (2.0 * v[i] + u[i] * (1.0 - u[i]))
            u[i + 1] = u[i] + step * middle_v
            v[i + 1] = v[i] - step * (2.0 * middle_v + middle_u * (1.0 - middle_u))
        depth = -step * np.arange(count)
        falling = u > 1e-12
        depth, u = depth[falling][::-1], u[falling][::-1]
        return cls(depth - np.interp(0.5, u, depth), u, width_mm)

    def density_at(self, depth_mm: Voxels) -> Voxels:
        """Return the density at a depth inside the edge (negative outside), 1/2 at the edge."""
        density = np.interp(depth_mm / self.width_mm, self.depth, self.density)
        return np.asarray(density, dtype=np.float32)

    def depth_of(self, density: Voxels) -> Voxels:
        """Return the depth (mm) at which the profile has this density, its inverse."""
        held = np.clip(density, 1e-3, 0.995)
        return np.asarray(self.width_mm * np.interp(held, self.density, self.depth), dtype=np.float32)

    @property
    def limits_mm(self) -> tuple[float, float]:
        """Least and largest depth that `depth_of` returns."""
        low, high = self.depth_of(np.array([0.0, 1.0], np.float32))
        return float(low), float(high)


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
