import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import GeometryError
from inference.imaging.geometry import (
    Plane,
    check_parallel,
    group_by_position,
    plane_of,
    same_grid,
    slice_distance_mm,
    tilt_degrees,
    volume_affine,
)
from inference.results import Box, Grid
from tests.builders.studies import SeriesSpec, slice_headers

SHAPE, SPACING = (12, 16, 20), (3.0, 2.0, 2.5)


def planes(**kwargs) -> list[Plane]:
    return [plane_of(h) for h in slice_headers(SeriesSpec(**kwargs), SHAPE, SPACING)]


def tilted(degrees: float) -> dict:
    """Gantry tilt about the x axis: rows lean, the table still moves along z."""
    a = np.radians(degrees)
    return {"orientation": (1, 0, 0, 0, np.cos(a), np.sin(a)), "step_mm": (0.0, 0.0, 3.0)}


def test_the_affine_maps_indices_as_the_standard_says():
    found = planes(origin_mm=(-10.0, -20.0, 5.0))
    grid = Grid(SHAPE, volume_affine(found), "1.2")
    # PS3.3 C.7.6.2.1.1: x grows with the column index by the second value of Pixel Spacing
    assert np.allclose(grid.to_patient((0, 0, 0)), (-10, -20, 5))
    assert np.allclose(grid.to_patient((2, 3, 4)), (-10 + 4 * 2.5, -20 + 3 * 2.0, 5 + 2 * 3.0))
    assert np.allclose(grid.spacing_mm, SPACING)
    assert grid.voxel_ml == pytest.approx(3 * 2 * 2.5 / 1000)


def test_the_grid_of_a_box_has_its_voxels_where_they_were():
    grid = Grid(SHAPE, volume_affine(planes(**tilted(12.0))), "1.2")
    part = grid.part(Box((2, 3, 4), (7, 9, 5)))
    assert (part.shape, part.frame_of_reference_uid) == ((5, 6, 1), "1.2")
    assert np.allclose(part.to_patient((1, 2, 0)), grid.to_patient((3, 5, 4)))


def test_slices_are_sorted_along_the_normal_whatever_their_order():
    found = planes()
    shuffled = [found[k] for k in np.random.default_rng(1).permutation(len(found))]
    order = [shuffled[g[0]].position[2] for g in group_by_position(shuffled)]
    assert order == sorted(order)


def test_feet_first_orientation_keeps_a_right_handed_grid():
    found = planes(orientation=(-1, 0, 0, 0, 1, 0))
    ordered = [found[g[0]] for g in group_by_position(found)]
    affine = volume_affine(ordered)
    assert affine[2, 0] == pytest.approx(-3.0)
    assert np.linalg.det(np.stack([affine[:3, 2], affine[:3, 1], affine[:3, 0]], axis=1)) > 0


@given(st.floats(-30, 30))
def test_gantry_tilt_keeps_volumes_and_distances(degrees):
    affine = volume_affine(planes(**tilted(degrees)))
    grid = Grid(SHAPE, affine, "1.2")
    assert tilt_degrees(affine) == pytest.approx(abs(degrees), abs=1e-4)
    # slices 3 mm apart along the table are 3 cos(a) mm apart perpendicular to themselves
    assert slice_distance_mm(affine) == pytest.approx(3 * np.cos(np.radians(degrees)), rel=1e-6)
    assert grid.voxel_ml == pytest.approx(2 * 2.5 * 3 * np.cos(np.radians(degrees)) / 1000, rel=1e-6)
    in_slice = grid.to_patient((4, 10, 3)) - grid.to_patient((4, 2, 3))
    assert np.linalg.norm(in_slice) == pytest.approx(8 * 2.0, rel=1e-6)
    along_table = grid.to_patient((9, 0, 0)) - grid.to_patient((2, 0, 0))
    assert np.allclose(along_table, (0, 0, 21))


@pytest.mark.parametrize(("removed", "missing"), [((5,), "1 slice is"), ((5, 6, 7), "3 slices are")])
def test_missing_slices_are_counted_and_located(removed, missing):
    found = [p for k, p in enumerate(planes(origin_mm=(0, 0, 0))) if k not in removed]
    with pytest.raises(GeometryError, match=rf"{missing} missing.*12.0 and {3.0 * (removed[-1] + 1):.1f} mm"):
        volume_affine(found)


def test_several_gaps_are_added_up():
    found = [p for k, p in enumerate(planes()) if k not in (3, 8)]
    with pytest.raises(GeometryError, match="2 slices are missing"):
        volume_affine(found)


def moved(plane: Plane, by: tuple[float, float, float]) -> Plane:
    return Plane(
        plane.position + np.array(by), plane.row_cosines, plane.column_cosines, plane.spacing, plane.shape
    )


def test_irregular_positions_are_refused_and_rounded_ones_are_not():
    found = planes()
    rounded = [moved(p, (0, 0, 0.05 * (-1) ** k)) for k, p in enumerate(found)]
    assert volume_affine(rounded)[2, 0] == pytest.approx(3.0, abs=0.02)
    found[4] = moved(found[4], (0, 0, 0.9))
    with pytest.raises(GeometryError, match="irregular"):
        volume_affine(found)


def test_a_slice_shifted_sideways_is_refused():
    found = planes()
    found[4] = moved(found[4], (4.0, 0, 0))
    with pytest.raises(GeometryError, match="sideways"):
        volume_affine(found)


def test_duplicate_positions_are_grouped():
    found = planes()
    assert [len(g) for g in group_by_position([*found, found[3]])] == [1, 1, 1, 2] + [1] * 8


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ImageOrientationPatient": None}, "no Image Orientation"),
        ({"ImagePositionPatient": None}, "no Image Position"),
        ({"PixelSpacing": None}, "no usable Pixel Spacing"),
        ({"PixelSpacing": [0, 1]}, "no usable Pixel Spacing"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "not perpendicular"),
        ({"ImageOrientationPatient": [2, 0, 0, 0, 1, 0]}, "not perpendicular"),
        ({"ImagePositionPatient": [0, 0]}, "no Image Position"),
    ],
)
def test_missing_or_impossible_attributes_are_refused(change, reason):
    header = slice_headers(SeriesSpec(), SHAPE, SPACING)[0]
    for keyword, value in change.items():
        if value is None:
            delattr(header, keyword)
        else:
            setattr(header, keyword, value)
    with pytest.raises(GeometryError, match=reason):
        plane_of(header)


def test_mixed_orientation_spacing_and_size_are_refused():
    found = planes()
    turned = planes(**tilted(5))
    with pytest.raises(GeometryError, match="orientations are mixed: 2 of 12"):
        check_parallel([*found[:10], *turned[:2]])
    other = Plane(
        found[1].position, found[1].row_cosines, found[1].column_cosines, (2.0, 2.6), found[1].shape
    )
    with pytest.raises(GeometryError, match="pixel spacing differs in 1 of 2"):
        check_parallel([found[0], other])
    small = Plane(
        found[1].position, found[1].row_cosines, found[1].column_cosines, found[1].spacing, (16, 19)
    )
    with pytest.raises(GeometryError, match="rows or columns differ in 1 of 2"):
        check_parallel([found[0], small])


def test_one_slice_is_no_volume():
    with pytest.raises(GeometryError, match="one slice"):
        volume_affine(planes()[:1])


def test_same_grid_looks_at_the_far_corner():
    affine = volume_affine(planes())
    other = affine.copy()
    assert same_grid(affine, SHAPE, other, SHAPE)
    other[0, 2] *= 1.02
    assert not same_grid(affine, SHAPE, other, SHAPE)
    assert not same_grid(affine, SHAPE, affine, (11, 16, 20))
