"""Speed of the imaging stages on one core."""

import time

import numpy as np
import pytest
from scipy import ndimage

from inference.imaging.measurement import measure_lesions
from inference.imaging.reading import read_case
from inference.models.seg_in_study import SegInStudy
from inference.results import Box, Grid, Tissue, TissueMap
from inference.settings import SegmentationLimits
from inference.stages.load import load
from inference.stages.segment import segment
from inference.stages.selection import select

pytestmark = pytest.mark.benchmark


def patchy_tumour(radius_mm: float) -> tuple[TissueMap, Grid]:
    """A lesion that is mostly necrotic, viable at the rim and in nodules: the slowest kind to measure."""
    shape, spacing = (119, 260, 260), np.array([1.6, 0.743, 0.743])
    z, y, x = (np.arange(n) * s - n * s / 2 for n, s in zip(shape, spacing, strict=True))
    r = np.sqrt(z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2)
    noise = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=shape), (3, 6, 6))
    lesion = r <= radius_mm
    viable = lesion & ((r > radius_mm - 8) | (noise > 1.5 * noise.std()))
    tissue = np.where(lesion, np.where(viable, Tissue.VIABLE, Tissue.NECROSIS), Tissue.LIVER)
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing
    labels = TissueMap(Box((0, 0, 0), shape), tissue.astype(np.uint8), lesion.astype(np.uint8))
    return labels, Grid(shape, affine, "1.2")


def best_of(n: int, work) -> float:
    seconds = []
    for _ in range(n):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


@pytest.mark.parametrize(("radius_mm", "limit_s"), [(35.0, 0.3), (60.0, 1.0)])
def test_measuring_one_time_point(record_property, radius_mm, limit_s):
    labels, grid = patchy_tumour(radius_mm)
    seconds = best_of(3, lambda: measure_lesions(labels, grid))
    record_property("seconds", seconds)
    print(f"one time point of a patchy lesion of {2 * radius_mm:.0f} mm: {seconds:.3f} s")
    assert seconds < limit_s


def test_reading_to_segmentation_of_a_real_ct(needs_data, record_property):
    folder = needs_data("ircad17")

    def work() -> None:
        case = read_case(folder)
        segment(case, load(select(case)), SegInStudy(), SegmentationLimits())

    seconds = best_of(2, work)
    record_property("seconds", seconds)
    print(f"119 slices read, loaded and segmented: {seconds:.2f} s")
    assert seconds < 10
