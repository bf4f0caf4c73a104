from __future__ import annotations

import math

import numpy as np
import pytest

from inference.models.mechanistic.growth import DAYS_PER_MONTH, Diffusion, FrontProfile, front_constants


def test_front_constants_give_speed_and_width() -> None:
    front = front_constants(radius_mm=1e6, tvdt_months=4.6, front_width_mm=2.0)
    speed = 2.0 * math.sqrt(front.diffusion * front.proliferation)
    assert speed == pytest.approx(1e6 * math.log(2) / (3 * 4.6 * DAYS_PER_MONTH), rel=1e-5)
    assert math.sqrt(front.diffusion / front.proliferation) == pytest.approx(2.0)


def test_profile_is_half_at_the_edge_and_its_own_inverse() -> None:
    front = FrontProfile.of_width(2.0)
    assert front.density_at(np.zeros(1, np.float32))[0] == pytest.approx(0.5, abs=1e-3)
    depth = np.linspace(-8, 8, 33, dtype=np.float32)
    assert front.depth_of(front.density_at(depth)) == pytest.approx(depth, abs=0.02)


def test_profile_solves_the_equation_of_the_slowest_wave() -> None:
    front = FrontProfile.of_width(1.0)
    x = np.arange(-6.0, 6.0, 0.05)
    u = np.interp(x, front.depth, front.density)
    first, second = np.gradient(u, x), np.gradient(np.gradient(u, x), x)
    # Depth grows inwards, so that the outward axis is -x: u'' - 2 u' + u (1 - u) = 0.
    residual = (second - 2.0 * first + u * (1.0 - u))[5:-5]
    assert np.abs(residual).max() < 0.01


def test_plane_front_moves_at_its_speed_from_the_first_day() -> None:
    width, h, dt = 2.0, 1.0, 1.0
    front = front_constants(30.0, 4.6, width)
    x = np.arange(120) * h
    profile = FrontProfile.of_width(width)
    u = np.broadcast_to(profile.density_at((40.0 - x).astype(np.float32)), (3, 3, 120)).copy()
    operator = Diffusion.in_domain(np.ones(u.shape, bool), h)
    positions = []
    for _ in range(181):
        positions.append(_edge(u[1, 1], x))
        u = u + dt * (front.diffusion * operator.laplacian(u) + front.proliferation * u * (1 - u))
    speed = 2.0 * math.sqrt(front.diffusion * front.proliferation)
    early = (positions[30] - positions[0]) / 30.0
    late = (positions[180] - positions[90]) / 90.0
    assert early == pytest.approx(speed, rel=0.08)
    assert late == pytest.approx(speed, rel=0.08)


def _edge(line: np.ndarray, x: np.ndarray) -> float:
    return float(np.interp(-0.5, -line, x))


def test_diffusion_keeps_mass_inside_the_domain() -> None:
    domain = np.zeros((8, 9, 10), bool)
    domain[2:6, 2:7, 1:9] = True
    u = np.random.default_rng(0).random(domain.shape).astype(np.float32) * domain
    change = Diffusion.in_domain(domain, 2.0).laplacian(u)
    assert float(change.sum()) == pytest.approx(0.0, abs=1e-3)
    assert not change[~domain].any()
