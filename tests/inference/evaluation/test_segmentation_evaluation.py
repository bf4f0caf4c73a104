"""Segmentation measures by hand and against SimpleITK, and cases from folders."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk

from inference.errors import SegmentationMissing, TrainingDataError
from inference.evaluation.segmentation_cases import LabelValues, find_cases, read_case_volumes
from inference.evaluation.segmentation_measures import detect_lesions, volume_ml
from inference.evaluation.segmentation_run import evaluate_segmenter, write_segmenter_evaluation
from inference.imaging.overlap import dice, hausdorff95_mm, mean_surface_distance_mm, surface_distances
from inference.randomness import RandomStreams

SPACING = (2.5, 1.0, 0.8)
CT = LabelValues()


def block(z: slice, y: slice, x: slice, shape=(20, 30, 30)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[z, y, x] = True
    return mask


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    smooth = sitk.GetArrayFromImage(
        sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(rng.normal(size=(20, 30, 30))), 3.0)
    )
    return smooth > np.quantile(smooth, 0.8), np.roll(smooth, 2, axis=2) > np.quantile(smooth, 0.75)


def test_dice_and_hausdorff_are_those_of_simpleitk(pair):
    predicted, truth = pair
    images = [sitk.GetImageFromArray(m.astype(np.uint8)) for m in pair]
    for image in images:
        image.SetSpacing(SPACING[::-1])
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*images)
    assert dice(predicted, truth) == pytest.approx(overlap.GetDiceCoefficient())
    there, back = surface_distances(predicted, truth, SPACING)
    hausdorff = sitk.HausdorffDistanceImageFilter()
    hausdorff.Execute(*images)
    # SimpleITK measures from every voxel of one mask to the other mask; inside voxels are at 0.
    outside = max(
        sitk_like(predicted, truth, SPACING),
        sitk_like(truth, predicted, SPACING),
    )
    assert outside == pytest.approx(hausdorff.GetHausdorffDistance(), abs=1e-4)
    assert max(there.max(), back.max()) >= outside - 1e-9


def sitk_like(a: np.ndarray, b: np.ndarray, spacing) -> float:
    points, others = np.argwhere(a) * spacing, np.argwhere(b) * spacing
    return float(max(np.sqrt(((others - p) ** 2).sum(axis=1)).min() for p in points))


def test_distances_of_shifted_blocks_by_hand():
    truth = block(slice(4, 10), slice(5, 15), slice(5, 15))
    moved = block(slice(4, 10), slice(5, 15), slice(8, 18))
    assert dice(moved, truth) == pytest.approx(0.7)
    assert hausdorff95_mm(moved, truth, SPACING) == pytest.approx(2.4)  # three voxels of 0.8 mm
    assert 0 < mean_surface_distance_mm(moved, truth, SPACING) < 2.4
    assert volume_ml(truth, SPACING) == pytest.approx(600 * 2.0 / 1000)


def test_distances_are_in_mm_of_each_axis():
    truth = block(slice(4, 10), slice(5, 15), slice(5, 15))
    taller = block(slice(2, 10), slice(5, 15), slice(5, 15))
    there, back = surface_distances(taller, truth, SPACING)
    assert there.max() == pytest.approx(5.0)
    assert back.max() == pytest.approx(3.2)  # the middle of the old top: 4 voxels of 0.8 mm to the side


def test_nothing_is_not_a_number():
    empty, some = np.zeros((3, 3, 3), dtype=bool), np.ones((3, 3, 3), dtype=bool)
    assert np.isnan(dice(empty, empty))
    assert dice(empty, some) == 0.0
    assert np.isnan(hausdorff95_mm(empty, some, SPACING))
    assert mean_surface_distance_mm(some, some, SPACING) == 0.0


def test_lesions_are_counted_one_by_one():
    truth = block(slice(2, 6), slice(2, 8), slice(2, 8)) | block(slice(10, 14), slice(20, 26), slice(20, 26))
    truth |= block(slice(17, 18), slice(2, 3), slice(2, 3))  # a speck is no lesion
    predicted = block(slice(2, 6), slice(2, 8), slice(4, 10))
    predicted |= block(slice(14, 18), slice(10, 16), slice(10, 16))  # touches nothing
    found = detect_lesions(predicted, truth, SPACING)
    assert (found.lesions, found.found, found.false_positives) == (2, 1, 1)
    assert found.sensitivity == 0.5


def test_a_corner_that_is_touched_is_not_a_lesion_found():
    truth = block(slice(2, 12), slice(2, 14), slice(2, 14))
    predicted = block(slice(11, 16), slice(13, 19), slice(13, 19))
    found = detect_lesions(predicted, truth, SPACING)
    assert (found.found, found.false_positives) == (0, 0)


def test_without_lesions_there_is_no_sensitivity():
    empty = np.zeros((4, 4, 4), dtype=bool)
    assert np.isnan(detect_lesions(empty, empty, SPACING).sensitivity)


# ------------------------------------------------------------------ folders


def write_case(folder, labels: np.ndarray, name="image.nii.gz", flipped=False):
    folder.mkdir(parents=True, exist_ok=True)
    image = np.where(labels > 0, 100, -50).astype(np.int16)
    for array, path in ((image, folder / name), (labels, folder / "label.nii.gz")):
        volume = sitk.GetImageFromArray(array[:, ::-1, ::-1] if flipped else array)
        volume.SetSpacing(SPACING[::-1])
        if flipped:
            volume.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
        sitk.WriteImage(volume, str(path))


@pytest.fixture
def labels():
    liver = block(slice(4, 16), slice(5, 25), slice(4, 20)).astype(np.uint8)
    liver[block(slice(6, 10), slice(8, 14), slice(6, 12))] = 2
    return liver


def test_cases_come_in_one_orientation_however_they_are_stored(tmp_path, labels):
    write_case(tmp_path / "a", labels)
    write_case(tmp_path / "b", labels, flipped=True)
    cases = [read_case_volumes(files, CT) for files in find_cases(tmp_path, "CT")]
    for case in cases:
        assert case.spacing_mm == pytest.approx(SPACING)
        np.testing.assert_array_equal(case.liver, labels > 0)
        np.testing.assert_array_equal(case.tumour, labels == 2)
        np.testing.assert_array_equal(case.volume > 0, labels > 0)


def test_a_table_names_files_modality_and_labels(tmp_path, labels):
    write_case(tmp_path / "x", labels * 3)
    (tmp_path / "cases.csv").write_text(
        "case,image,label,modality\nfirst,x/image.nii.gz,x/label.nii.gz,MR\n", encoding="utf-8"
    )
    (files,) = find_cases(tmp_path, "CT")
    case = read_case_volumes(files, LabelValues(liver=(3, 6), tumour=(6,)))
    assert (case.name, case.modality) == ("first", "MR")
    np.testing.assert_array_equal(case.tumour, labels == 2)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("case,image\na,x.nii.gz\n", "image and label are needed"),
        ("image,label\nx.nii.gz,y.nii.gz\n", "row 2: there is no x.nii.gz"),
        ("image,label\n", "neither"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path, table, reason):
    (tmp_path / "cases.csv").write_text(table, encoding="utf-8")
    with pytest.raises(TrainingDataError, match=reason):
        find_cases(tmp_path, "CT")


def test_a_label_on_another_grid_is_refused(tmp_path, labels):
    write_case(tmp_path / "a", labels)
    sitk.WriteImage(sitk.GetImageFromArray(labels[:5]), str(tmp_path / "a" / "label.nii.gz"))
    with pytest.raises(TrainingDataError, match="another grid"):
        read_case_volumes(find_cases(tmp_path, "CT")[0], CT)


def test_a_segmenter_is_measured_from_folder_to_tables(tmp_path, labels):
    for name in ("a", "b", "c"):
        write_case(tmp_path / "data" / name, labels)
    calls = []

    def threshold(volume, spacing, modality):
        calls.append((spacing, modality))
        if len(calls) == 3:
            raise SegmentationMissing("no liver in the field of view")
        return (volume > 0).astype(np.uint8)

    cases = find_cases(tmp_path / "data", "CT")
    report = evaluate_segmenter("threshold 1", threshold, cases, CT, RandomStreams(0), lambda *_: None)
    assert [c.liver_dice for c in report.cases] == [1.0, 1.0, 0.0]
    assert report.cases[2].refused == "no liver in the field of view"
    assert report.means["liver_dice"].value == pytest.approx(2 / 3)
    assert report.means["tumour_dice"].value == 0.0
    assert report.sensitivity.value == 0.0
    assert calls[0][1] == "CT"
    text, data, picture = write_segmenter_evaluation(tmp_path / "out", report)
    assert "| folder 001 | 1.000 | 0.0 |" in text.read_text(encoding="utf-8")
    assert "refused: no liver" in text.read_text(encoding="utf-8")
    assert json.loads(data.read_text(encoding="utf-8"))["cases"][2]["liver_hd95_mm"] is None
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_labels_on_another_grid_are_an_error(tmp_path, labels):
    write_case(tmp_path / "a", labels)
    with pytest.raises(TrainingDataError, match="another grid"):
        evaluate_segmenter(
            "wrong",
            lambda volume, spacing, modality: np.zeros((2, 2, 2), dtype=np.uint8),
            find_cases(tmp_path, "CT"),
            CT,
            RandomStreams(0),
            lambda *_: None,
        )
