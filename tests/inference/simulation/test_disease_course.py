"""The course of simulated tumours: growth, sharp kill, clearance, lipiodol, counterfactuals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from inference.errors import UnsupportedRegimen
from inference.models.mechanistic.growth import Diffusion, FrontProfile, front_constants
from inference.settings import Regimen
from inference.simulation.parameters import load_parameters
from inference.simulation.tumours import longest_in_plane
from tests.builders.simulated_disease import (
    HAIC,
    STEP_MM,
    TACE,
    UNTREATED,
    course,
    round_tumour,
    with_level,
)


def test_an_untreated_tumour_doubles_its_volume_in_its_doubling_time() -> None:
    tvdt = 6.0
    speed = 21.0 * math.log(2.0) / (3.0 * tvdt)
    grown = course(round_tumour(21.0, speed)).follow(UNTREATED, (0.0, tvdt))
    # The edge keeps its speed, so the volume grows a little slower than exponentially.
    ratio = grown[1].lesions[0].viable_ml / grown[0].lesions[0].viable_ml
    assert ratio == pytest.approx((1 + math.log(2) / 3) ** 3, rel=0.02)


def test_the_edge_moves_as_fisher_kpp_says() -> None:
    """The front of the equation itself, integrated on a grid, after its first weeks."""
    radius, tvdt, months = 24.0, 5.0, 6.0
    step, nodes = 2.0, 61
    axis = (np.arange(nodes) - nodes // 2) * step
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    depth = (radius - np.sqrt(z**2 + y**2 + x**2)).astype(np.float32)
    front = front_constants(radius, tvdt, 2.0)
    density = FrontProfile.of_width(2.0).density_at(depth)
    operator = Diffusion.in_domain(np.ones(depth.shape, bool), step)
    days = np.float32(5.0)
    before = float(density.sum())
    for _ in range(int(months * 30.4375 / days)):
        density += days * (
            np.float32(front.diffusion) * operator.laplacian(density)
            + np.float32(front.proliferation) * density * (1 - density)
        )
    speed = radius * math.log(2.0) / (3.0 * tvdt)
    moved = radius * ((float(density.sum()) / before) ** (1 / 3) - 1.0)
    assert moved == pytest.approx(speed * months, rel=0.12)


def test_without_treatment_nothing_dies_and_no_oil_appears() -> None:
    disease = round_tumour(20.0, 0.8, core_mm=9.0)
    seen = course(disease).follow(UNTREATED)
    dead = [f.lesions[0].necrosis_ml for f in seen]
    assert dead == pytest.approx([dead[0]] * len(dead), rel=0.02)
    assert all(f.lesions[0].lipiodol_ml == 0 for f in seen)
    assert seen[-1].viable_ml > seen[0].viable_ml


def test_what_treatment_leaves_is_sharp() -> None:
    parameters = with_level(load_parameters(), "haic", 0.3)
    seen = course(round_tumour(24.0, 0.3), parameters).follow(HAIC, (3.0,), keep=(3.0,))[0].lesions[0]
    assert seen.viable is not None
    assert seen.necrosis is not None
    inside = (seen.viable + seen.necrosis) > 0.99
    soft = (seen.viable[inside] > 0.2) & (seen.viable[inside] < 0.8)
    assert 0.05 < seen.viable[inside].mean() < 0.95
    assert soft.mean() < 0.25


def test_a_stronger_treatment_kills_more_of_the_same_tissue() -> None:
    kept = []
    for level in (-0.5, 0.5, 1.5):
        parameters = with_level(load_parameters(), "haic", level)
        seen = course(round_tumour(24.0, 0.2), parameters).follow(HAIC, (3.0,), keep=(3.0,))[0].lesions[0]
        assert seen.viable is not None
        kept.append(seen.viable > 0.5)
    assert kept[0].sum() > kept[1].sum() > kept[2].sum()
    # Nested up to the edges of nodules.
    assert (kept[2] & ~kept[0]).sum() <= 0.05 * max(kept[2].sum(), 20)


def test_killed_tissue_clears_and_old_necrosis_does_not() -> None:
    parameters = with_level(load_parameters(), "haic", 30.0)
    seen = course(round_tumour(21.0, 0.5, core_mm=9.0), parameters).follow(HAIC)
    assert all(f.lesions[0].viable_ml == 0 for f in seen)
    dead = [f.lesions[0].necrosis_ml for f in seen]
    assert all(later < earlier for earlier, later in zip(dead, dead[1:], strict=False))
    core_ml = float(round_tumour(21.0, 0.5, core_mm=9.0).lesions[0].core.sum()) * STEP_MM**3 / 1000
    assert dead[-1] > core_ml * 0.99
    long_after = course(round_tumour(21.0, 0.5, core_mm=9.0), parameters).follow(HAIC, (1.0, 60.0))
    assert long_after[-1].lesions[0].necrosis_ml == pytest.approx(core_ml, rel=0.01)


def test_lipiodol_lies_in_dead_tissue_and_washes_out() -> None:
    parameters = with_level(load_parameters(), "tace", 1.5)
    followed = course(round_tumour(24.0, 0.2, core_mm=8.0), parameters).follow(TACE, keep=(3.0,))
    state = followed[1].state
    assert state is not None
    oil = state.lipiodol > parameters.lipiodol.visible
    assert oil.any()
    assert state.necrosis[oil].mean() > 0.6
    axis = (np.arange(44) - 21.5) * STEP_MM
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    assert not oil[np.sqrt(z**2 + y**2 + x**2) < 5.0].any()
    assert state.lipiodol.max() <= parameters.lipiodol.saturation
    assert followed[-1].lesions[0].lipiodol_ml < followed[1].lesions[0].lipiodol_ml


def test_a_course_is_the_same_every_time_and_in_any_order() -> None:
    first = course(round_tumour(20.0, 0.5))
    again = course(round_tumour(20.0, 0.5))
    again.follow(HAIC)
    assert first.follow(TACE) == again.follow(TACE)


def test_drugs_delay_the_same_new_lesions() -> None:
    disease = round_tumour(20.0, 0.5)
    drugs = Regimen.model_validate(
        {**TACE.model_dump(), "id": "tace_lenvatinib", "name": "TACE + lenvatinib", "tki": 1.0}
    )
    alone, together = course(disease).follow(TACE, (24.0,)), course(disease).follow(drugs, (24.0,))
    assert {n.number for n in together[0].new} <= {n.number for n in alone[0].new}
    for lesion in together[0].new:
        same = next(n for n in alone[0].new if n.number == lesion.number)
        assert same.diameter_mm >= lesion.diameter_mm


def test_shares_of_a_state_are_shares() -> None:
    state = course(round_tumour(24.0, 1.5, core_mm=8.0)).follow(TACE, (6.0,), keep=(6.0,))[0].state
    assert state is not None
    total = state.viable + state.necrosis
    assert total.min() >= 0
    assert total.max() <= 1 + 1e-5
    assert (state.thrombus <= state.viable + 1e-6).all()
    assert set(np.unique(state.lesion)) <= {0, 1, 2, 3}


def test_a_regimen_without_terms_is_refused() -> None:
    other = Regimen.model_validate({**TACE.model_dump(), "id": "tace_new_drug", "name": "TACE + new drug"})
    with pytest.raises(UnsupportedRegimen):
        course(round_tumour(15.0, 0.5)).follow(other)


def test_longest_in_plane_looks_at_connected_parts() -> None:
    mask = np.zeros((3, 20, 20), bool)
    mask[1, 2, 2:8] = True
    mask[1, 2, 12:15] = True
    mask[2, 5, 5:7] = True
    assert longest_in_plane(mask, 2.0) == pytest.approx(12.0)
    assert longest_in_plane(np.zeros((2, 4, 4), bool), 2.0) == 0.0
