import numpy as np
import pytest

from inference.case import Phase
from inference.imaging.marker import CLEARANCE_PIXELS, find_common_marker_box
from inference.imaging.reading import read_case
from inference.results import Grid, SeriesVolume
from inference.stages.load import load
from inference.stages.selection import select
from tests.builders.studies import Phantom, image, restore_uids


def volume_of(values, modality="CT") -> SeriesVolume:
    n = values.shape[0]
    grid = Grid(values.shape, np.eye(4), "1.2")
    stored = values.astype(np.int32) + (1024 if modality == "CT" else 0)
    intercept = np.full(n, -1024.0 if modality == "CT" else 0.0)
    return SeriesVolume("1.2.3", modality, Phase.UNKNOWN, "", grid, stored, np.ones(n), intercept, ())


@pytest.mark.parametrize(
    ("phase", "modality"), [("portal_venous", "CT"), ("t1_arterial", "MR"), ("t2", "MR")]
)
def test_the_marker_lies_in_air_on_every_slice(phase, modality):
    phantom = Phantom()
    box = find_common_marker_box([volume_of(image(phantom, phase), modality)], (8, 40))
    r0, c0, r1, c1 = box
    assert (r1 - r0, c1 - c0) == (8, 40)
    assert not phantom.masks["body"][:, r0:r1, c0:c1].any()


def test_one_slice_with_body_in_a_corner_moves_the_marker():
    values = np.full((5, 40, 60), -1000.0)
    values[:, 15:35, 10:50] = 40
    assert find_common_marker_box([volume_of(values)], (6, 20)) == (0, 0, 6, 20)
    values[3, 2, 3] = 40
    moved = find_common_marker_box([volume_of(values)], (6, 20))
    assert moved == (0, 40, 6, 60)
    values[4, 0:40, 58:60] = 40
    values[:, 12, 12] = 0
    r0, c0, r1, c1 = find_common_marker_box([volume_of(values)], (6, 20))
    grown = values[
        :,
        max(0, r0 - CLEARANCE_PIXELS) : r1 + CLEARANCE_PIXELS,
        max(0, c0 - CLEARANCE_PIXELS) : c1 + CLEARANCE_PIXELS,
    ]
    assert (grown < -400).all()


def test_lung_is_body():
    values = np.full((3, 60, 60), 40.0)
    values[:, 10:50, 10:50] = -850
    assert find_common_marker_box([volume_of(values)], (5, 5)) is None


def test_no_room_is_no_box():
    values = np.full((3, 30, 30), -1000.0)
    values[:, 5:25, 5:25] = 40
    assert find_common_marker_box([volume_of(values)], (10, 20)) is None
    assert find_common_marker_box([volume_of(values)], (31, 5)) is None
    assert find_common_marker_box([volume_of(values)], (2, 10)) is not None


def test_real_ct_has_room(needs_data):
    volume = load(select(read_case(needs_data("ircad17")))).primary
    r0, c0, r1, c1 = find_common_marker_box([volume], (24, 150))
    assert volume.values()[:, r0:r1, c0:c1].max() < -400


def test_real_jpeg2000_ct_has_room(needs_data, tmp_path):
    folder = restore_uids(needs_data("totalsegmentator/example_ct_dicom"), tmp_path / "ct")
    volume = load(select(read_case(folder))).primary
    r0, c0, r1, c1 = find_common_marker_box([volume], (24, 150))
    assert volume.values()[:, r0:r1, c0:c1].max() < -400
