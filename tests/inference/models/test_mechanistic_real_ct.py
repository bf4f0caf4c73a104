"""The mechanistic model on a real portal venous CT, on its full-resolution grid."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from inference.case import ClinicalRecord
from inference.imaging.reading import read_case
from inference.models.mechanistic import MechanisticGenerator
from inference.models.seg_in_study import SegInStudy
from inference.randomness import RandomStreams
from inference.results import Baseline, Segmentation, Tissue
from inference.settings import PipelineSettings, Regimen, SegmentationLimits, TaceSession
from inference.stages.generate import generate
from inference.stages.load import load
from inference.stages.segment import segment
from inference.stages.selection import select

TACE = Regimen(id="tace", name="TACE", tace=(TaceSession(day=0), TaceSession(day=42)), source="test")
HAIC = Regimen(id="haic", name="HAIC", haic_days=(0, 21, 42, 63), source="test")
COMBINED = TACE.model_copy(update={"id": "tace_lenvatinib", "tki": 1.0})


def prepared_study(folder: Path) -> tuple[Baseline, Segmentation]:
    case = read_case(folder)
    return segment(case, load(select(case)), SegInStudy(), SegmentationLimits())


def test_real_ct_changes_inside_the_liver_only_and_tumour_shows_it(needs_data) -> None:
    baseline, shown = prepared_study(needs_data("ircad17"))
    settings = PipelineSettings(regimens=(TACE,), months=(1.0,), best_response=False)
    generator, streams = MechanisticGenerator.from_bundle(), RandomStreams(0)
    courses = generate(
        baseline, shown, ClinicalRecord(), settings, generator, streams, lambda text, share: None
    )
    point = courses[0].time_points[0]
    image = point.images[0]
    liver = np.zeros(baseline.primary.stored.shape, bool)
    liver[shown.labels.box.slices] = shown.labels.tissue > 0
    differs = image.stored != baseline.primary.stored[image.box.slices]
    assert differs.sum() > 10_000
    assert not (differs & ~liver[image.box.slices]).any()
    before = shown.labels.mask(Tissue.VIABLE).sum()
    after = point.labels.mask(Tissue.VIABLE).sum()
    assert 0.2 * before < after < 0.98 * before
    # Noise of new tissue is that of the scanner: within a third of the liver's own.
    hu = np.array(baseline.primary.stored[shown.labels.box.slices], dtype=float)
    inner = tuple(
        slice(a - o, b - o)
        for a, b, o in zip(image.box.start, image.box.stop, shown.labels.box.start, strict=True)
    )
    drawn = hu.copy()
    drawn[inner] = image.stored
    fresh = point.labels.mask(Tissue.NECROSIS) & (shown.labels.tissue == Tissue.VIABLE)
    parenchyma = shown.labels.tissue == Tissue.LIVER
    assert high_pass_spread(drawn, fresh) == pytest.approx(high_pass_spread(hu, parenchyma), rel=0.35)


def high_pass_spread(values: np.ndarray, mask: np.ndarray) -> float:
    """Robust deviation of the difference between neighbours that both lie in the mask."""
    both = mask[:, :, 1:] & mask[:, :, :-1]
    step = (values[:, :, 1:] - values[:, :, :-1])[both]
    return float(np.median(np.abs(step)))


@pytest.mark.benchmark
def test_three_regimens_at_three_months_and_best_response_take_less_than_12_seconds(needs_data) -> None:
    baseline, shown = prepared_study(needs_data("ircad17"))
    settings = PipelineSettings(regimens=(TACE, HAIC, COMBINED), months=(1.0, 3.0, 6.0))
    generator, streams = MechanisticGenerator.from_bundle(), RandomStreams(0)
    started = time.process_time()
    generate(baseline, shown, ClinicalRecord(), settings, generator, streams, lambda text, share: None)
    assert time.process_time() - started < 12.0
