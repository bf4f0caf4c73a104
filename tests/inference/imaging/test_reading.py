from pathlib import Path

import pydicom
import pytest

from inference.errors import RejectedInput
from inference.imaging.reading import read_case
from inference.provenance import MANUFACTURER
from tests.builders.studies import SeriesSpec, slice_headers, write, write_study

SHAPE, SPACING = (3, 8, 8), (3.0, 2.0, 2.0)


def small_series(folder: Path, spec: SeriesSpec) -> list[Path]:
    paths = []
    for k, ds in enumerate(slice_headers(spec, SHAPE, SPACING)):
        ds.PixelData = bytes(8 * 8 * 2)
        if spec.edit is not None:
            spec.edit(k, ds)
        paths.append(folder / f"{spec.name or spec.phase}{k}.dcm")
        write(ds, paths[-1])
    return paths


def test_series_are_grouped_and_pixels_are_not_read(tmp_path):
    folder = write_study(tmp_path / "study")
    case = read_case(folder)
    assert [s.modality for s in sorted(case.series, key=lambda s: s.modality)] == ["CT", "CT", "SEG"]
    assert {len(s.instances) for s in case.series} == {40, 1}
    assert not any("PixelData" in i.header for s in case.series for i in s.instances)
    assert case.left_out == ()


def test_the_order_of_paths_does_not_matter(tmp_path):
    paths = small_series(tmp_path, SeriesSpec())
    assert read_case(paths) == read_case(reversed(paths))


def test_files_that_are_not_dicom_are_passed_over(tmp_path):
    small_series(tmp_path, SeriesSpec())
    (tmp_path / "README.txt").write_text("hello")
    (tmp_path / "empty").touch()
    case = read_case(tmp_path)
    assert len(case.series) == 1
    assert case.left_out == ()


def test_a_truncated_header_is_left_out_with_its_reason(tmp_path):
    paths = small_series(tmp_path, SeriesSpec())
    paths[1].write_bytes(paths[1].read_bytes()[:300])
    case = read_case(tmp_path)
    assert len(case.series[0].instances) == 2
    assert [item.path for item in case.left_out] == [paths[1]]
    assert "damaged" in case.left_out[0].reason or "missing" in case.left_out[0].reason


def test_an_object_made_here_is_never_input_but_an_edited_one_is(tmp_path):
    def made_here(_: int, ds: pydicom.Dataset) -> None:
        ds.Manufacturer = MANUFACTURER

    own = small_series(tmp_path, SeriesSpec(name="virtual", edit=made_here))
    small_series(tmp_path, SeriesSpec())
    case = read_case(tmp_path)
    assert [s.series_instance_uid for s in case.series] == [SeriesSpec().series_uid]
    assert {item.path for item in case.left_out} == set(own)


def test_only_objects_made_here_is_refused_with_that_reason(tmp_path):
    small_series(tmp_path, SeriesSpec(edit=lambda _, ds: setattr(ds, "Manufacturer", MANUFACTURER)))
    with pytest.raises(RejectedInput, match="made by this product"):
        read_case(tmp_path)


def test_several_studies_are_refused(tmp_path):
    small_series(tmp_path, SeriesSpec(name="a", study="one"))
    small_series(tmp_path, SeriesSpec(name="b", study="two"))
    with pytest.raises(RejectedInput, match="there are 2 studies"):
        read_case(tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(RejectedInput, match="no DICOM file"):
        read_case(tmp_path)


def test_the_same_file_twice_counts_once(tmp_path):
    paths = small_series(tmp_path, SeriesSpec())
    (tmp_path / "copy.dcm").write_bytes(paths[0].read_bytes())
    assert len(read_case(tmp_path).series[0].instances) == 3


def test_one_sop_instance_uid_with_other_content_is_refused(tmp_path):
    paths = small_series(tmp_path, SeriesSpec())
    ds = pydicom.dcmread(paths[0])
    ds.PixelData = b"\x01" * len(ds.PixelData)
    write(ds, tmp_path / "other.dcm")
    with pytest.raises(RejectedInput, match="same SOP Instance UID"):
        read_case(tmp_path)


def test_one_sop_instance_uid_in_two_series_is_kept_in_both(tmp_path):
    small_series(tmp_path, SeriesSpec(name="a"))
    uids = {k: SeriesSpec(name="a").sop_uid(k) for k in range(3)}
    small_series(tmp_path, SeriesSpec(name="b", edit=lambda k, ds: setattr(ds, "SOPInstanceUID", uids[k])))
    assert [len(s.instances) for s in read_case(tmp_path).series] == [3, 3]


def test_real_first_slices_are_several_studies_without_a_segmentation(needs_data):
    with pytest.raises(RejectedInput, match="4 studies.*no liver segmentation"):
        read_case(needs_data("hcc_tace_seg/first_slices"))


def test_a_file_with_an_unreadable_attribute_is_left_out(tmp_path):
    paths = small_series(tmp_path, SeriesSpec())
    data = paths[2].read_bytes()
    at = data.index(b"\x20\x00\x13\x00IS")  # Instance Number is not used; Rows is
    rows = data.index(b"\x28\x00\x10\x00US")
    assert at < rows
    paths[2].write_bytes(data[: rows + 4] + b"ZZ" + data[rows + 6 :])
    case = read_case(tmp_path)
    assert len(case.series[0].instances) == 2
    assert case.left_out[0].path == paths[2]
