import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from inference.case import Phase
from inference.errors import GeometryError, PixelsUnreadable, RejectedInput
from inference.imaging.reading import read_case
from inference.results import Baseline
from inference.stages.load import load
from inference.stages.selection import select
from tests.builders.studies import (
    Phantom,
    SeriesSpec,
    image,
    restore_uids,
    slice_headers,
    uid,
    write,
    write_seg,
    write_series,
)

PHANTOM = Phantom(shape=(14, 32, 32), spacing_mm=(8.0, 10.0, 10.0))


def study(folder: Path, **spec) -> Path:
    spec = SeriesSpec(**spec)
    write_series(folder, spec, image(PHANTOM, spec.phase), PHANTOM.spacing_mm)
    return folder


def loaded(folder: Path) -> Baseline:
    return load(select(read_case(folder)))


def at(folder: Path, index: int, phase: str = "portal_venous") -> Path:
    return folder / f"{phase}_{index:03d}.dcm"


def change(path: Path, **attributes) -> None:
    ds = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    write(ds, path)


def test_hu_and_stored_values_are_those_of_the_files(tmp_path):
    volume = loaded(study(tmp_path)).primary
    assert np.array_equal(volume.values(), image(PHANTOM, "portal_venous"))
    assert np.array_equal(volume.stored[5], pydicom.dcmread(at(tmp_path, 5)).pixel_array)
    assert volume.stored.dtype == np.int32
    assert volume.phase is Phase.PORTAL_VENOUS
    assert [h.InstanceNumber for h in volume.headers] == list(range(1, 15))
    assert not volume.stored.flags.writeable


def test_file_names_and_order_do_not_matter(tmp_path):
    study(tmp_path / "a")
    (tmp_path / "b").mkdir()
    for k, path in enumerate(sorted((tmp_path / "a").iterdir(), reverse=True)):
        shutil.copy(path, tmp_path / "b" / f"{k}.dcm")
    a, b = loaded(tmp_path / "a").primary, loaded(tmp_path / "b").primary
    assert np.array_equal(a.stored, b.stored)
    assert np.array_equal(a.grid.affine, b.grid.affine)


def test_the_rescale_of_each_slice_is_its_own(tmp_path):
    study(tmp_path)
    change(at(tmp_path, 3), RescaleSlope="2", RescaleIntercept="-1000")
    volume = loaded(tmp_path).primary
    stored = pydicom.dcmread(at(tmp_path, 3)).pixel_array
    assert np.array_equal(volume.values()[3], stored * 2.0 - 1000)
    assert (volume.slope[3], volume.intercept[3]) == (2, -1000)


def test_mr_has_no_rescale(tmp_path):
    spec = SeriesSpec(phase="t2", modality="MR")
    write_series(tmp_path, spec, image(PHANTOM, "t2"), PHANTOM.spacing_mm)
    assert np.array_equal(loaded(tmp_path).primary.values(), image(PHANTOM, "t2"))


def test_gantry_tilt_is_loaded_with_a_sheared_affine_and_said(tmp_path):
    a = np.radians(15)
    tilted = {"orientation": (1, 0, 0, 0, np.cos(a), np.sin(a)), "step_mm": (0, 0, 8.0)}
    baseline = loaded(study(tmp_path, **tilted))
    grid = baseline.primary.grid
    assert any("tilted by 15.0 degrees" in w for w in baseline.warnings)
    assert grid.voxel_ml == pytest.approx(8 * np.cos(a) * 10 * 10 / 1000, rel=1e-5)
    headers = baseline.primary.headers
    for k in (0, 7, 13):
        assert np.allclose(
            grid.to_patient((k, 0, 0)), [float(v) for v in headers[k].ImagePositionPatient], atol=1e-4
        )


def test_missing_slices_are_refused(tmp_path):
    study(tmp_path)
    at(tmp_path, 6).unlink()
    at(tmp_path, 7).unlink()
    with pytest.raises(GeometryError, match="2 slices are missing"):
        loaded(tmp_path)


def test_the_same_image_twice_is_used_once_with_a_warning(tmp_path):
    study(tmp_path)
    again = pydicom.dcmread(at(tmp_path, 4))
    again.SOPInstanceUID = uid("again")
    write(again, tmp_path / "again.dcm")
    baseline = loaded(tmp_path)
    assert baseline.primary.grid.shape[0] == 14
    assert any("twice" in w for w in baseline.warnings)


def test_two_time_points_in_one_series_are_refused(tmp_path):
    study(tmp_path)
    for k in range(14):
        again = pydicom.dcmread(at(tmp_path, k))
        again.SOPInstanceUID = uid("again", k)
        again.PixelData = bytes(len(again.PixelData))
        write(again, tmp_path / f"again{k}.dcm")
    with pytest.raises(GeometryError, match="2 different images lie at one position.*several phases"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0.9961947, 0.08715574]}, "orientations are mixed: 1 of 14"),
        ({"PixelSpacing": [10, 9]}, "pixel spacing differs in 1 of 14"),
        ({"ImagePositionPatient": None}, "no Image Position"),
        ({"ImageOrientationPatient": None}, "no Image Orientation"),
        ({"FrameOfReferenceUID": "1.2.3"}, "different Frames of Reference"),
    ],
)
def test_slices_that_do_not_belong_together_are_refused(tmp_path, attributes, reason):
    study(tmp_path)
    change(at(tmp_path, 5), **attributes)
    with pytest.raises(GeometryError, match=reason):
        loaded(tmp_path)


def test_other_rows_in_one_slice_are_refused(tmp_path):
    study(tmp_path)
    change(at(tmp_path, 5), Rows=16, PixelData=bytes(16 * 32 * 2))
    with pytest.raises(GeometryError, match="rows or columns differ in 1 of 14"):
        loaded(tmp_path)


def test_a_slope_of_zero_and_damaged_pixels_are_refused(tmp_path):
    study(tmp_path / "a")
    change(at(tmp_path / "a", 2), RescaleSlope="0")
    with pytest.raises(PixelsUnreadable, match="Rescale Slope"):
        loaded(tmp_path / "a")
    study(tmp_path / "b")
    change(at(tmp_path / "b", 2), PixelData=b"\0\0")
    with pytest.raises(PixelsUnreadable, match="cannot be decoded.*Explicit VR Little Endian"):
        loaded(tmp_path / "b")


def test_no_usable_series_is_refused_with_the_reasons(tmp_path):
    study(tmp_path, description="Topogram")
    with pytest.raises(RejectedInput, match="no CT or MR series that can be used: a localizer"):
        loaded(tmp_path)


def test_phases_on_other_grids_are_interpolated_and_those_elsewhere_left_out(tmp_path):
    study(tmp_path / "pv")
    study(tmp_path / "art", phase="arterial", number=2)
    study(tmp_path / "nat", phase="native", number=3, origin_mm=(-160.0, -160.0, -40.0))
    study(tmp_path / "del", phase="delayed", number=4, origin_mm=(-160.0, -160.0, 400.0))
    baseline = loaded(tmp_path)
    found = [(v.phase, v.resampled is None) for v in baseline.volumes]
    assert found == [(Phase.PORTAL_VENOUS, True), (Phase.ARTERIAL, True), (Phase.NATIVE, False)]
    assert [(r.description, r.reason) for r in baseline.rejected] == [
        ("Abdomen delayed 3.0", "its slices lie elsewhere than those of the primary series")
    ]


def test_a_broken_other_phase_does_not_stop_the_forecast(tmp_path):
    study(tmp_path / "pv")
    study(tmp_path / "art", phase="arterial", number=2)
    at(tmp_path / "art", 6, "arterial").unlink()
    baseline = loaded(tmp_path)
    assert [v.phase for v in baseline.volumes] == [Phase.PORTAL_VENOUS]
    assert "1 slice is missing" in baseline.rejected[0].reason


def no_frame_of_reference(_: int, ds: pydicom.Dataset) -> None:
    del ds.FrameOfReferenceUID


def test_a_missing_frame_of_reference_is_replaced_by_the_same_uid_every_time(tmp_path):
    found = [
        loaded(study(tmp_path / name, edit=no_frame_of_reference)).primary.grid.frame_of_reference_uid
        for name in ("a", "b")
    ]
    assert found[0] == found[1]
    assert found[0].startswith("2.25.")
    assert pydicom.uid.UID(found[0]).is_valid


def test_a_missing_frame_of_reference_is_that_of_the_segmentation(tmp_path):
    spec = SeriesSpec(edit=no_frame_of_reference)
    study(tmp_path, edit=no_frame_of_reference)
    headers = slice_headers(spec, PHANTOM.shape, PHANTOM.spacing_mm)
    write_seg(tmp_path / "seg.dcm", headers, PHANTOM)
    assert loaded(tmp_path).primary.grid.frame_of_reference_uid == uid("study", "frame of reference")


def test_real_jpeg_2000_is_decoded(needs_data, tmp_path):
    folder = restore_uids(needs_data("totalsegmentator/example_ct_dicom"), tmp_path / "ct")
    volume = loaded(folder).primary
    assert volume.grid.shape == (20, 512, 512)
    assert volume.grid.spacing_mm[0] == pytest.approx(2.0)
    assert volume.phase is Phase.PORTAL_VENOUS
    assert "96 s after the start" in volume.phase_evidence
    assert 0 < np.median(volume.values()[:, 200:300, 200:300]) < 150


def test_real_series_with_emptied_uids_is_refused(needs_data):
    with pytest.raises(RejectedInput, match="UID is empty"):
        read_case(needs_data("totalsegmentator/example_ct_dicom"))


def test_real_ct_without_frame_of_reference(needs_data):
    volume = loaded(needs_data("ircad17")).primary
    assert volume.grid.frame_of_reference_uid == "2.25.17000003"
    assert volume.grid.shape == (119, 512, 512)
    assert np.allclose(volume.grid.spacing_mm, (1.6, 0.743, 0.743), atol=1e-6)
