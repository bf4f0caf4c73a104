"""The order of trust: the first segmenter that has outlines is used, and it is said why not those before."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from inference.case import Case
from inference.errors import ImplausibleSegmentation, ModelError, ReviewNeeded, SegmentationMissing
from inference.imaging.reading import read_case
from inference.models.seg_in_study import SegInStudy
from inference.models.segmenter_chain import SegmenterChain
from inference.results import Baseline, Box, BundleInfo, Lesion, PassedOver, Segmentation, TissueMap
from inference.settings import Doubtful, SegmentationLimits
from inference.stages.load import load
from inference.stages.segment import segment
from inference.stages.selection import select
from tests.builders.studies import Phantom, write_study

PHANTOM = Phantom(shape=(20, 64, 64), spacing_mm=(6.0, 5.0, 5.0))
LIMITS = SegmentationLimits()


@dataclass(frozen=True)
class Fixed:
    """A segmenter that answers always the same, or raises always the same."""

    name: str
    answer: Segmentation | Exception
    at_check: bool = False

    @property
    def info(self) -> BundleInfo:
        return BundleInfo(self.name, "1", self.name * 4, "simulated")

    def check(self, case: Case) -> None:
        if self.at_check and isinstance(self.answer, Exception):
            raise self.answer

    def segment(self, case: Case, baseline: Baseline) -> Segmentation:
        if isinstance(self.answer, Exception):
            raise self.answer
        return replace(self.answer, bundle=self.info)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    return tmp_path_factory.mktemp("chain")


@pytest.fixture(scope="module")
def with_seg(folder) -> Case:
    return read_case(write_study(folder / "with", ("portal_venous",), phantom=PHANTOM))


@pytest.fixture(scope="module")
def without_seg(folder) -> Case:
    return read_case(write_study(folder / "without", ("portal_venous",), phantom=PHANTOM, seg=None))


@pytest.fixture(scope="module")
def baseline(without_seg: Case) -> Baseline:
    return load(select(without_seg))


@pytest.fixture(scope="module")
def drawn() -> Segmentation:
    """Outlines as a program of the node draws them."""
    masks = PHANTOM.masks
    tissue = np.where(masks["liver"], np.uint8(1), np.uint8(0))
    lesion = np.zeros(PHANTOM.shape, dtype=np.uint8)
    for k in (1, 2):
        tissue[masks[f"tumour_{k}"]] = 2
        lesion[masks[f"tumour_{k}"]] = k
    box = Box((0, 0, 0), PHANTOM.shape)
    info = BundleInfo("drawn", "1", "0" * 64, "simulated")
    lesions = (Lesion(1, "L1"), Lesion(2, "L2"))
    return Segmentation(TissueMap(box, tissue, lesion), lesions, info, None)


def test_a_segmentation_in_the_study_comes_first(with_seg: Case, drawn: Segmentation):
    chain = SegmenterChain((SegInStudy(), Fixed("site", drawn), Fixed("default", drawn)))
    found = chain.segment(with_seg, load(select(with_seg)))
    assert found.bundle.name == "segmentation in the study"
    assert found.source_sop_instance_uid is not None
    assert found.passed_over == ()


def test_the_site_comes_before_the_default_and_reasons_are_kept(
    without_seg: Case, baseline: Baseline, drawn: Segmentation
):
    chain = SegmenterChain((SegInStudy(), Fixed("site", drawn), Fixed("default", drawn)))
    chain.check(without_seg)
    found = chain.segment(without_seg, baseline)
    assert found.bundle.name == "site"
    assert [p.name for p in found.passed_over] == ["segmentation in the study"]
    assert "no segmentation object" in found.passed_over[0].reason


@pytest.mark.parametrize(
    "broken",
    [
        Fixed("site", SegmentationMissing("its program is not on PATH"), at_check=True),
        Fixed("site", ModelError("its program is not on PATH")),
    ],
)
def test_a_site_segmenter_that_is_absent_or_fails_is_passed_over(
    without_seg: Case, baseline: Baseline, drawn: Segmentation, broken: Fixed
):
    chain = SegmenterChain((SegInStudy(), broken, Fixed("default", drawn)))
    found = chain.segment(without_seg, baseline)
    assert found.bundle.name == "default"
    assert found.passed_over[1] == PassedOver("site", "its program is not on PATH")
    assert found.warnings == ("site was not used: its program is not on PATH.",)


def test_impossible_outlines_are_an_error_whoever_drew_them(
    without_seg: Case, baseline: Baseline, drawn: Segmentation
):
    chain = SegmenterChain((Fixed("site", ImplausibleSegmentation("no liver")), Fixed("default", drawn)))
    with pytest.raises(ImplausibleSegmentation, match="no liver"):
        chain.segment(without_seg, baseline)


def test_where_none_has_outlines_all_reasons_are_said(without_seg: Case, baseline: Baseline):
    alone = SegmenterChain((SegInStudy(),))
    with pytest.raises(SegmentationMissing, match=r"^there is no liver segmentation in the study"):
        alone.check(without_seg)
    missing = SegmenterChain((SegInStudy(), Fixed("site", SegmentationMissing("MR only"), at_check=True)))
    with pytest.raises(SegmentationMissing, match="segmentation in the study: .*; site: MR only"):
        missing.check(without_seg)
    failed = SegmenterChain((SegInStudy(), Fixed("site", ModelError("it crashed"))))
    with pytest.raises(ModelError, match="it crashed"):
        failed.segment(without_seg, baseline)


def test_the_chain_has_a_digest_of_all_its_parts(drawn: Segmentation):
    one = SegmenterChain((SegInStudy(), Fixed("a", drawn)))
    two = SegmenterChain((SegInStudy(), Fixed("b", drawn)))
    assert one.info.sha256 != two.info.sha256
    assert SegmenterChain((SegInStudy(),)).info == SegInStudy().info


# ------------------------------------------------------------------ doubts


def _segmented(case: Case, baseline: Baseline, answer: Segmentation, **more: object):
    return segment(case, baseline, SegmenterChain((SegInStudy(), Fixed("default", answer))), **more)


def test_good_outlines_of_a_program_are_used(without_seg: Case, baseline: Baseline, drawn: Segmentation):
    found = _segmented(without_seg, baseline, replace(drawn, entropy=0.2), limits=LIMITS)
    assert found.segmentation.bundle.name == "default"


@pytest.mark.parametrize(
    ("change", "limits", "reason"),
    [
        ({"entropy": 0.9}, LIMITS, "uncertain .mean entropy 0.90"),
        ({}, SegmentationLimits(review_below_ml=3000.0), "unusual volume"),
        ({"lesions": ()}, LIMITS, "No tumour was found"),
        ({"doubts": ("Nobody has checked it.",)}, LIMITS, "Nobody has checked it"),
    ],
)
def test_doubtful_outlines_of_a_program_are_held_with_the_reason(
    without_seg: Case, baseline: Baseline, drawn: Segmentation, change, limits, reason: str
):
    with pytest.raises(ReviewNeeded, match=reason) as held:
        _segmented(without_seg, baseline, replace(drawn, **change), limits=limits)
    assert held.value.segmentation.bundle.name == "default"
    assert held.value.baseline is baseline


def test_released_outlines_are_used_with_a_warning(
    without_seg: Case, baseline: Baseline, drawn: Segmentation
):
    doubtful = replace(drawn, entropy=0.9)
    found = _segmented(without_seg, baseline, doubtful, limits=LIMITS, doubtful=Doubtful.ACCEPT)
    assert any("uncertain" in w for w in found.segmentation.warnings)
    with pytest.raises(ImplausibleSegmentation, match="no tumour is outlined"):
        _segmented(without_seg, baseline, replace(drawn, lesions=()), limits=LIMITS, doubtful=Doubtful.ACCEPT)


def test_a_persons_outlines_are_only_warned_of(with_seg: Case):
    unusual = SegmentationLimits(review_below_ml=3000.0)
    found = segment(with_seg, load(select(with_seg)), SegmenterChain((SegInStudy(),)), unusual)
    assert any("unusual volume" in w for w in found.segmentation.warnings)
