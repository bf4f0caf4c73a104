"""Segmentations: what they hold, read back independently, and what they say."""

from __future__ import annotations

import highdicom as hd
import numpy as np
import pydicom
import pytest

from inference.results import StudyResults, Tissue, TissueMap
from tests.reporting.conftest import Written


def _maps(found: StudyResults) -> list[TissueMap]:
    points = [p.generated.labels for f in found.forecasts for p in f.time_points]
    return [found.segmentation.labels, *points]


@pytest.fixture(scope="module")
def segmentations(phantom: Written):
    return [hd.seg.segread(path) for path in phantom.paths("segmentation")]


def test_masks_read_back_equal_the_tissue_maps(phantom, segmentations):
    for seg, labels in zip(segmentations, _maps(phantom.results), strict=True):
        expected = {"Liver": labels.tissue > 0}
        for lesion in phantom.results.segmentation.lesions:
            viable = labels.mask(Tissue.VIABLE) & (labels.lesion == lesion.number)
            expected[f"{lesion.lesion_id} viable"] = viable
        expected["Necrosis"] = labels.mask(Tissue.NECROSIS)
        expected["Lipiodol"] = labels.mask(Tissue.LIPIODOL)
        expected = {name: mask for name, mask in expected.items() if mask.any()}
        assert {d.SegmentLabel for d in seg.SegmentSequence} == set(expected)
        for description in seg.SegmentSequence:
            whole = np.zeros(phantom.results.baseline.primary.grid.shape, dtype=bool)
            whole[labels.box.slices] = expected[description.SegmentLabel]
            assert np.array_equal(_volume(seg, description.SegmentNumber, phantom), whole)


def _volume(seg: pydicom.Dataset, number: int, phantom: Written) -> np.ndarray:
    """Place the frames of a segment by their positions in patient space."""
    grid = phantom.results.baseline.primary.grid
    found = np.zeros(grid.shape, dtype=bool)
    for frame, groups in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        if groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number:
            z = float(groups.PlanePositionSequence[0].ImagePositionPatient[2])
            found[round((z - grid.affine[2, 3]) / grid.spacing_mm[0])] = frame > 0
    return found


def test_tracking_uids_are_stable_and_the_lesions_own(phantom, segmentations):
    by_label: dict[str, set[str]] = {}
    for seg in segmentations:
        for description in seg.SegmentSequence:
            by_label.setdefault(description.SegmentLabel, set()).add(description.TrackingUID)
    assert all(len(uids) == 1 for uids in by_label.values())
    assert by_label["L1 viable"] == {phantom.results.segmentation.lesions[0].tracking_uid}


def test_only_virtual_segmentations_are_synthetic_and_refer_to_virtual_images(phantom, segmentations):
    primary = phantom.results.baseline.primary
    baseline, *virtual = segmentations
    assert "SyntheticData" not in baseline
    assert baseline.ReferencedSeriesSequence[0].SeriesInstanceUID == primary.series_instance_uid
    written = {w.sop_instance_uid for w in phantom.objects if w.kind == "virtual_series"}
    for seg in virtual:
        assert seg.SyntheticData == "YES"
        referenced = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        assert {r.ReferencedSOPInstanceUID for r in referenced} <= written


def test_segments_name_their_algorithm(segmentations):
    for seg in segmentations:
        assert seg.SegmentationType == "BINARY"
        for description in seg.SegmentSequence:
            assert description.SegmentAlgorithmType == "AUTOMATIC"
            algorithm = description.SegmentationAlgorithmIdentificationSequence[0]
            assert algorithm.AlgorithmVersion
            assert "sha256=" in algorithm.AlgorithmParameters


def test_no_frame_is_empty(segmentations):
    for seg in segmentations:
        assert seg.pixel_array.reshape(seg.NumberOfFrames, -1).any(axis=1).all()
