"""Response from label maps: target choice, nadir, new lesions, non-targets, and what is not assessed."""

import numpy as np
import pytest
from pydicom.dataset import Dataset

from inference.case import Phase
from inference.clinical.response_course import smallest_target_mm
from inference.results import (
    Baseline,
    Box,
    BundleInfo,
    GeneratedCourse,
    GeneratedTimePoint,
    Grid,
    Lesion,
    NotAssessed,
    Reason,
    Response,
    ResponseCategory,
    Segmentation,
    SeriesVolume,
    TimePointKind,
    Tissue,
    TissueMap,
)
from inference.stages.respond import measure_baseline, respond

SHAPE = (3, 60, 200)
BOX = Box((0, 0, 0), SHAPE)
C = ResponseCategory


def bars(lengths: dict[int, float], viable: dict[int, float] | None = None) -> TissueMap:
    """One-pixel-high bars of the given lengths in mm (pixels of 1 mm), one lesion in each row."""
    tissue = np.full(SHAPE, Tissue.LIVER, dtype=np.uint8)
    lesion = np.zeros(SHAPE, dtype=np.uint8)
    for number, length in lengths.items():
        row, n = 4 * number, round(length)
        lesion[1, row, :n] = number
        tissue[1, row, :n] = Tissue.NECROSIS
        tissue[1, row, : round(length if viable is None else viable.get(number, 0))] = Tissue.VIABLE
    return TissueMap(BOX, tissue, lesion)


def baseline_of(phases=(Phase.PORTAL_VENOUS,), thickness: str = "1", spacing: float = 1.0) -> Baseline:
    header = Dataset()
    header.SliceThickness = thickness
    affine = np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [spacing, 0, 0, 0], [0, 0, 0, 1]])
    grid = Grid(SHAPE, affine, "1.2")
    volumes = tuple(
        SeriesVolume(
            f"1.{k}", "CT", p, "", grid, np.zeros(SHAPE, np.int32), np.ones(3), np.zeros(3), (header,) * 3
        )
        for k, p in enumerate(phases)
    )
    return Baseline("1.2.3", volumes, ())


def segmentation_of(labels: TissueMap) -> Segmentation:
    lesions = tuple(Lesion(int(n), f"L{n}") for n in np.unique(labels.lesion) if n)
    return Segmentation(labels, lesions, BundleInfo("x", "1", "0", "none"), None)


def course_of(*maps: TissueMap) -> GeneratedCourse:
    points = tuple(
        GeneratedTimePoint(float(k), TimePointKind.SCHEDULED, (), labels, (0.0, 1.0))
        for k, labels in enumerate(maps, 1)
    )
    return GeneratedCourse("tace", points, ())


def assess(first: TissueMap, *later: TissueMap, baseline: Baseline | None = None):
    baseline = baseline or baseline_of()
    segmentation = segmentation_of(first)
    return respond(baseline, segmentation, measure_baseline(baseline, segmentation), course_of(*later))


def diagonal(length: float) -> float:
    return float(np.hypot(length, 1))


def categories(points) -> list[ResponseCategory]:
    return [p.recist11.category for p in points]


def test_sums_and_changes_of_two_targets():
    points = assess(bars({1: 60, 2: 40}), bars({1: 30, 2: 20}))
    response = points[0].recist11
    assert response.sum_mm == pytest.approx(diagonal(30) + diagonal(20))
    assert response.change_pct == pytest.approx(-50, abs=0.1)
    assert response.target_lesion_ids == ("L1", "L2")
    assert response.category is C.PR


def test_at_most_two_targets_the_largest():
    points = assess(bars({1: 20, 2: 40, 3: 30}), bars({1: 20, 2: 40, 3: 30}))
    assert points[0].recist11.target_lesion_ids == ("L2", "L3")


def test_progression_is_from_the_nadir_not_from_baseline():
    points = assess(bars({1: 100}), bars({1: 60}), bars({1: 75}), bars({1: 68}))
    assert categories(points) == [C.PR, C.PD, C.PR]
    # 75 is 25 % above the nadir of 60; 68 is 13 % above it, and 32 % below baseline


def test_the_time_points_are_taken_in_the_order_of_their_months():
    segmentation = segmentation_of(bars({1: 100}))
    baseline = baseline_of()
    course = course_of(bars({1: 60}), bars({1: 75}))
    backwards = GeneratedCourse("tace", course.time_points[::-1], ())
    points = respond(baseline, segmentation, measure_baseline(baseline, segmentation), backwards)
    assert [p.generated.months for p in points] == [1, 2]
    assert categories(points) == [C.PR, C.PD]


def test_complete_response_only_when_all_lesions_are_gone():
    assert categories(assess(bars({1: 50, 2: 30}), bars({}))) == [C.CR]
    three = bars({1: 50, 2: 30, 3: 12})
    assert categories(assess(three, bars({3: 12}), bars({}))) == [C.PR, C.CR]


def test_a_new_lesion_of_measurable_size_is_progression():
    assert categories(assess(bars({1: 50}), bars({1: 30, 2: 11}))) == [C.PD]
    assert categories(assess(bars({1: 50}), bars({1: 30, 2: 4}))) == [C.PR]


def test_small_lesions_are_no_targets():
    points = assess(bars({1: 50, 2: 8}), bars({1: 20, 2: 8}))
    assert points[0].recist11.target_lesion_ids == ("L1",)
    nothing = assess(bars({1: 8}), bars({1: 4}))[0].recist11
    assert isinstance(nothing, NotAssessed)
    assert nothing.reason is Reason.NOTHING_MEASURABLE


def test_thick_slices_need_larger_targets():
    assert smallest_target_mm(baseline_of(thickness="5").primary) == 10
    assert smallest_target_mm(baseline_of(thickness="7.5").primary) == 15
    assert smallest_target_mm(baseline_of(thickness="", spacing=8.0).primary) == 16
    points = assess(bars({1: 14}), bars({1: 4}), baseline=baseline_of(thickness="7.5"))
    assert isinstance(points[0].recist11, NotAssessed)


def test_mrecist_needs_an_arterial_phase():
    mrecist = assess(bars({1: 50}), bars({1: 50}))[0].mrecist
    assert isinstance(mrecist, NotAssessed)
    assert mrecist.reason is Reason.PHASE_MISSING


@pytest.mark.parametrize("phase", [Phase.ARTERIAL, Phase.T1_ARTERIAL])
def test_mrecist_measures_what_is_viable(phase):
    both = baseline_of((Phase.PORTAL_VENOUS, phase))
    points = assess(bars({1: 50}), bars({1: 50}, {1: 20}), bars({1: 50}, {}), baseline=both)
    assert categories(points) == [C.SD, C.SD]
    assert [p.mrecist.category for p in points] == [C.PR, C.CR]
    assert points[0].mrecist.sum_mm == pytest.approx(diagonal(20))
    assert points[0].viable_ml == pytest.approx(20 / 1000)
    assert points[1].lesions[0].viable_long_axis is None


def test_mrecist_with_nothing_viable_at_baseline_is_not_assessed():
    both = baseline_of((Phase.PORTAL_VENOUS, Phase.ARTERIAL))
    points = assess(bars({1: 50}, {}), bars({1: 50}, {}), baseline=both)
    assert isinstance(points[0].recist11, Response)
    assert points[0].mrecist.reason is Reason.NOTHING_MEASURABLE


def test_every_baseline_lesion_is_reported_at_every_time_point():
    points = assess(bars({1: 50, 2: 30}), bars({2: 30, 3: 12}))
    assert [x.lesion_id for x in points[0].lesions] == ["L1", "L2", "L3"]
    assert points[0].lesions[0].long_axis is None
