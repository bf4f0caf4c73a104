"""Generated images are outlined again, and what does not agree with its map is said."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import ndimage

from inference.results import (
    Box,
    BundleInfo,
    Grid,
    ImageCheck,
    Mask,
    NotAssessed,
    Reason,
    Response,
    ResponseCategory,
    StudyResults,
    TimePoint,
    TimePointKind,
    Tissue,
    Voxels,
)
from inference.stages.check_images import check_images
from tests.builders.results import results


@dataclass(frozen=True)
class Threshold:
    """Calls tumour what is brighter than the liver around it."""

    modalities: tuple[str, ...] = ("CT",)
    info: BundleInfo = BundleInfo("threshold", "1", "0" * 64, "not trained: a rule")

    def covers(self, modality: str) -> bool:
        return modality in self.modalities

    def outline(self, values: Voxels, grid: Grid, modality: str, liver: Mask, box: Box) -> Mask:
        assert values.shape == grid.shape
        inside = values[box.slices]
        bright = ndimage.uniform_filter(inside, 3) > np.median(inside[liver]) + 25.0
        return np.asarray(bright & liver)


def _drawn(found: StudyResults, scale_hu: float) -> list[tuple[TimePoint, ...]]:
    """Return time points whose images show the map's tumours `scale_hu` above the liver."""
    regimens = []
    for forecast in found.forecasts:
        points = []
        for point in forecast.time_points:
            labels = point.generated.labels
            images = []
            for image, volume in zip(point.generated.images, found.baseline.volumes, strict=True):
                stored = volume.stored[labels.box.slices].copy()
                liver = labels.tissue == Tissue.LIVER
                level = int(np.median(stored[liver]))
                stored[labels.tissue != Tissue.BACKGROUND] = level
                stored[labels.lesion > 0] = level + int(scale_hu)
                images.append(replace(image, box=labels.box, stored=stored))
            points.append(replace(point, generated=replace(point.generated, images=tuple(images))))
        regimens.append(tuple(points))
    return regimens


@pytest.fixture(scope="module")
def found() -> StudyResults:
    return results()


def _best(points: tuple[TimePoint, ...]) -> TimePoint:
    return next(p for p in points if p.generated.kind is TimePointKind.BEST_RESPONSE)


def test_images_that_show_their_maps_agree(found: StudyResults) -> None:
    checked = check_images(found.baseline, found.segmentation, _drawn(found, 80.0), Threshold())
    for points in checked:
        check = _best(points).image_check
        assert isinstance(check, ImageCheck)
        assert check.dice > 0.8
        assert isinstance(check.recist11, Response)
        assert check.recist11.category in (ResponseCategory.PR, ResponseCategory.SD)
        drawn = np.count_nonzero(_best(points).generated.labels.lesion)
        assert check.tumour_ml == pytest.approx(drawn * found.baseline.primary.grid.voxel_ml, rel=0.35)


def test_only_the_best_response_is_outlined(found: StudyResults) -> None:
    checked = check_images(found.baseline, found.segmentation, _drawn(found, 80.0), Threshold())
    others = [p for points in checked for p in points if p is not _best(points)]
    assert others
    for point in others:
        assert isinstance(point.image_check, NotAssessed)
        assert "best response" in point.image_check.detail


def test_an_image_without_its_tumours_is_told_to_people(found: StudyResults) -> None:
    points = check_images(found.baseline, found.segmentation, _drawn(found, 0.0), Threshold())
    check = _best(points[0]).image_check
    assert isinstance(check, ImageCheck)
    assert check.dice == 0.0
    forecasts = tuple(replace(f, time_points=p) for f, p in zip(found.forecasts, points, strict=True))
    doubts = [w for w in replace(found, forecasts=forecasts).warnings if "outlined again" in w]
    assert (check.baseline_dice > 0.25) == bool(doubts)
    assert len(doubts) == len(forecasts)
    assert "TACE" in doubts[0]


@pytest.mark.parametrize(
    ("outliner", "text"),
    [(None, "no segmenter is installed"), (Threshold(modalities=("MR",)), "does not read CT")],
)
def test_a_check_that_cannot_be_made_says_why(
    found: StudyResults, outliner: Threshold | None, text: str
) -> None:
    points = [f.time_points for f in found.forecasts]
    for checked in check_images(found.baseline, found.segmentation, points, outliner):
        for point in checked:
            assert isinstance(point.image_check, NotAssessed)
            assert point.image_check.reason is Reason.IMAGE_NOT_CHECKED
            assert text in point.image_check.detail


def test_a_tumour_far_from_all_others_is_a_new_lesion(found: StudyResults) -> None:
    drawn = _drawn(found, 80.0)
    labels = _best(drawn[0]).generated.labels
    liver = labels.tissue == Tissue.LIVER
    spacing = found.baseline.primary.grid.spacing_mm
    far = ndimage.distance_transform_edt(labels.lesion == 0, sampling=spacing) > 30.0
    deep = ndimage.distance_transform_edt(liver, sampling=spacing) > 12.0
    place = np.argwhere(far & deep)[0]
    index = np.stack(np.indices(liver.shape), axis=-1)
    ball = np.linalg.norm((index - place) * np.array(spacing), axis=-1) < 12.0
    changed = []
    for point in drawn[0]:
        images = []
        for image in point.generated.images:
            stored = image.stored.copy()
            stored[ball] += 80
            images.append(replace(image, stored=stored))
        changed.append(replace(point, generated=replace(point.generated, images=tuple(images))))
    checked = check_images(found.baseline, found.segmentation, [tuple(changed)], Threshold())
    check = _best(checked[0]).image_check
    assert isinstance(check, ImageCheck)
    assert isinstance(check.recist11, Response)
    assert check.recist11.category is ResponseCategory.PD
