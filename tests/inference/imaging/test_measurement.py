"""Diameters against brute force, volumes and centres against closed forms."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from inference.imaging.measurement import (
    MAJOR_NECROSIS_MM,
    lesion_numbers,
    liver_ml,
    measure_lesions,
    viable_ml,
)
from inference.results import Axis, Box, Grid, Tissue, TissueMap


def grid_of(shape, spacing=(3.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)) -> Grid:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *spacing, 1
    affine[:3, 3] = origin
    return Grid(shape, affine, "1.2")


def map_of(lesion, viable=None, start=(0, 0, 0)) -> TissueMap:
    lesion = np.asarray(lesion, dtype=np.uint8)
    viable = lesion > 0 if viable is None else viable
    tissue = np.where(lesion > 0, np.where(viable, Tissue.VIABLE, Tissue.NECROSIS), Tissue.LIVER)
    stop = tuple(a + n for a, n in zip(start, lesion.shape, strict=True))
    return TissueMap(Box(start, stop), tissue.astype(np.uint8), lesion)


def brute_force_diameter(mask, spacing) -> float:
    """Largest distance of any two pixel corners of one connected part of one slice."""
    longest = 0.0
    for plane in mask:
        labelled, count = ndimage.label(plane, structure=np.ones((3, 3)))
        for k in range(1, count + 1):
            pixels = np.argwhere(labelled == k)
            corners = np.unique(
                np.concatenate([pixels + d for d in itertools.product((-0.5, 0.5), repeat=2)]), axis=0
            )
            mm = corners * spacing[1:]
            longest = max(longest, np.sqrt(((mm[:, None] - mm[None]) ** 2).sum(-1)).max())
    return float(longest)


masks = st.integers(0, 2**32 - 1).map(
    lambda seed: (
        ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(3, 14, 11)), (0, 1.2, 1.2)) > 0.12
    )
)


@settings(max_examples=60, deadline=None)
@given(masks, st.sampled_from([(3.0, 1.0, 1.0), (5.0, 0.74, 0.74), (2.0, 0.6, 1.3)]))
def test_the_long_axis_is_the_brute_force_diameter(mask, spacing):
    measured = measure_lesions(map_of(mask), grid_of(mask.shape, spacing))
    if not mask.any():
        assert measured == ()
        return
    axis = measured[0].long_axis
    assert axis.length_mm == pytest.approx(brute_force_diameter(mask, spacing), abs=1e-9)
    assert np.linalg.norm(np.subtract(axis.start_mm, axis.end_mm)) == pytest.approx(axis.length_mm, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(masks)
def test_the_short_axis_is_perpendicular_and_not_longer(mask):
    for lesion in measure_lesions(map_of(mask), grid_of(mask.shape)):
        long, short = lesion.long_axis, lesion.short_axis
        assert short.slice_index == long.slice_index
        assert short.length_mm <= long.length_mm + 1e-9
        assert direction(short) @ direction(long) == pytest.approx(0, abs=1e-6)


def direction(axis: Axis):
    v = np.subtract(axis.end_mm, axis.start_mm)
    return v / np.linalg.norm(v)


def test_a_rectangle_has_the_diagonal_and_its_perpendicular_chord():
    mask = np.zeros((1, 10, 12), dtype=bool)
    mask[0, 2:8, 1:11] = True  # 6 x 10 mm
    lesion = measure_lesions(map_of(mask), grid_of(mask.shape))[0]
    assert lesion.long_axis.length_mm == pytest.approx(np.hypot(6, 10))
    # the chord at right angles to a diagonal, from side to side: b * sqrt(a^2 + b^2) / a
    assert lesion.short_axis.length_mm == pytest.approx(6 * np.hypot(6, 10) / 10)


def test_a_circle_has_its_diameter_and_at_most_a_pixel_diagonal_more():
    r, c = np.ogrid[:200, :200]
    mask = (((r - 99.3) * 0.8) ** 2 + ((c - 98.8) * 0.8) ** 2 <= 40**2)[None]
    lesion = measure_lesions(map_of(mask), grid_of(mask.shape, (1.0, 0.8, 0.8)))[0]
    assert 80 <= lesion.long_axis.length_mm <= 80 + 0.8 * np.sqrt(2)
    assert 80 <= lesion.short_axis.length_mm <= 80 + 0.8 * np.sqrt(2)


def test_one_pixel_measures_its_diagonal():
    mask = np.zeros((1, 3, 3), dtype=bool)
    mask[0, 1, 1] = True
    lesion = measure_lesions(map_of(mask), grid_of(mask.shape))[0]
    assert lesion.long_axis.length_mm == pytest.approx(np.sqrt(2))
    assert lesion.short_axis.length_mm == pytest.approx(np.sqrt(2))


def test_the_axis_lies_on_the_slice_where_the_lesion_is_longest_and_in_patient_coordinates():
    mask = np.zeros((5, 20, 20), dtype=bool)
    mask[1, 5:8, 5:8] = True
    mask[3, 4:6, 2:18] = True
    grid = grid_of((9, 40, 40), (3.0, 1.0, 2.0), origin=(-50.0, 10.0, 100.0))
    lesion = measure_lesions(map_of(mask, start=(2, 10, 20)), grid)[0]
    axis = lesion.long_axis
    assert axis.slice_index == 5
    assert axis.length_mm == pytest.approx(np.hypot(2, 32))
    assert sorted((axis.start_rc[1], axis.end_rc[1])) == [21.5, 37.5]
    assert {round(axis.start_mm[0], 6), round(axis.end_mm[0], 6)} == {-50 + 2 * 21.5, -50 + 2 * 37.5}
    assert axis.start_mm[2] == pytest.approx(100 + 5 * 3)


def test_parts_that_do_not_touch_are_measured_apart():
    mask = np.zeros((1, 20, 40), dtype=bool)
    mask[0, 5:10, 2:8] = mask[0, 5:10, 30:40] = True
    lesion = measure_lesions(map_of(mask), grid_of(mask.shape))[0]
    assert lesion.long_axis.length_mm == pytest.approx(np.hypot(5, 10))
    assert lesion.volume_ml == pytest.approx(80 * 3 / 1000)


def test_volume_and_centre_of_a_sphere():
    z, y, x = np.ogrid[:30, :60, :60]
    mask = ((z - 15) * 2.0) ** 2 + (y - 30.0) ** 2 + (x - 28.0) ** 2 <= 20**2
    labels = map_of(mask)
    grid = grid_of(mask.shape, (2.0, 1.0, 1.0), origin=(5.0, 6.0, 7.0))
    lesion = measure_lesions(labels, grid)[0]
    assert lesion.volume_ml == pytest.approx(4 / 3 * np.pi * 8, rel=0.01)
    assert np.allclose(lesion.center_mm, (5 + 28, 6 + 30, 7 + 30), atol=1e-6)
    assert viable_ml(labels, grid) == lesion.volume_ml
    assert liver_ml(labels, grid) == pytest.approx(30 * 60 * 60 * 2 / 1000)


def test_in_a_tilted_slice_the_distance_is_that_in_the_slice():
    a = np.radians(25)
    affine = np.array(
        [[0, 0, 1.5, 0], [0, np.cos(a) * 1.5, 0, 0], [3, np.sin(a) * 1.5, 0, 0], [0, 0, 0, 1.0]]
    )
    mask = np.zeros((2, 30, 10), dtype=bool)
    mask[0, 2:28, 4] = True
    lesion = measure_lesions(map_of(mask), Grid(mask.shape, affine, "1.2"))[0]
    assert lesion.long_axis.length_mm == pytest.approx(1.5 * np.hypot(26, 1))
    assert lesion.volume_ml == pytest.approx(26 * 1.5 * 1.5 * 3 * np.cos(a) / 1000)


# ------------------------------------------------------------------ viable axes


def ring(outer: float, inner: float):
    r, c = np.ogrid[:101, :101]
    d = np.hypot(r - 50.0, c - 50.0)
    return (d <= outer)[None], ((d <= outer) & (d > inner))[None]


def test_a_small_necrotic_core_does_not_shorten_the_viable_axis():
    lesion, viable = ring(30, 3)
    measured = measure_lesions(map_of(lesion, viable), grid_of(lesion.shape))[0]
    assert measured.viable_long_axis == measured.long_axis
    assert measured.viable_ml < measured.volume_ml


def test_major_necrosis_is_not_crossed():
    lesion, viable = ring(40, 25)
    measured = measure_lesions(map_of(lesion, viable), grid_of(lesion.shape))[0]
    axis = measured.viable_long_axis
    assert axis.length_mm < measured.long_axis.length_mm - 10
    # the longest chord whose part over the core is shorter than the limit, from geometry:
    # distance h from the centre with 2 sqrt(25^2 - h^2) = limit, chord 2 sqrt(40^2 - h^2)
    h2 = 25**2 - (MAJOR_NECROSIS_MM / 2) ** 2
    assert axis.length_mm == pytest.approx(2 * np.sqrt(40**2 - h2), abs=2.0)
    assert longest_run_outside(viable[0], axis) < MAJOR_NECROSIS_MM + 0.2


def longest_run_outside(mask, axis: Axis) -> float:
    t = np.linspace(0, 1, 2001)[:, None]
    points = np.array(axis.start_rc) + t * np.subtract(axis.end_rc, axis.start_rc)
    index = np.clip(np.rint(points).astype(int), 0, np.array(mask.shape) - 1)
    outside = ~mask[index[:, 0], index[:, 1]]
    runs = [len(list(g)) for on, g in itertools.groupby(outside) if on]
    return max(runs, default=0) * axis.length_mm / 2000


def test_the_viable_short_axis_is_perpendicular_inside_viable_tissue():
    lesion, viable = ring(40, 25)
    measured = measure_lesions(map_of(lesion, viable), grid_of(lesion.shape))[0]
    long, short = measured.viable_long_axis, measured.viable_short_axis
    assert direction(short) @ direction(long) == pytest.approx(0, abs=1e-6)
    assert short.length_mm <= long.length_mm
    assert longest_run_outside(viable[0], short) < MAJOR_NECROSIS_MM + 0.5


def test_nothing_viable_has_no_viable_axis():
    lesion, _ = ring(10, 0)
    measured = measure_lesions(map_of(lesion, np.zeros_like(lesion)), grid_of(lesion.shape))[0]
    assert measured.viable_long_axis is None
    assert measured.viable_short_axis is None
    assert measured.viable_ml == 0
    assert measured.long_axis is not None


def test_a_lesion_that_is_gone_is_reported_with_nothing():
    lesion, _ = ring(10, 0)
    measured = measure_lesions(map_of(lesion * 2), grid_of(lesion.shape), numbers=(1, 2))
    assert [m.lesion_id for m in measured] == ["L1", "L2"]
    assert (measured[0].volume_ml, measured[0].long_axis, measured[0].center_mm) == (0.0, None, None)
    assert lesion_numbers(map_of(lesion * 2)) == (2,)
