"""The order of trust among segmenters: the first that has outlines to give is used, and it is said why.

A segmentation in the study, drawn by a reader or by the site's own software, comes first; then the
site's installed segmenters, in the order of the configuration; then the default that comes with the
product.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from inference.case import Case
from inference.errors import InferenceError, ModelError, SegmentationMissing
from inference.models.protocols import Segmenter
from inference.models.seg_in_study import INFO as IN_STUDY
from inference.results import Baseline, BundleInfo, PassedOver, Segmentation

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SegmenterChain:
    """Segmenters, the most trusted first.

    One that has nothing for this study (`SegmentationMissing`) or that failed (`ModelError`) is passed
    over. Outlines that cannot be right are not: they are an error, whoever drew them.
    """

    segmenters: tuple[Segmenter, ...]

    @property
    def info(self) -> BundleInfo:
        """What the chain consists of; a result names the one that was used."""
        infos = [s.info for s in self.segmenters]
        if len(infos) == 1:
            return infos[0]
        return BundleInfo(
            name=" > ".join(i.name for i in infos),
            version="1",
            sha256=hashlib.sha256("\n".join(i.sha256 for i in infos).encode()).hexdigest(),
            trained_on=infos[-1].trained_on,
        )

    def check(self, case: Case) -> None:
        """Refuse a study that the headers show to be for none of them.

        Raises
        ------
        SegmentationMissing
            With the reasons of all.
        """
        passed = _Passed()
        for segmenter in self.segmenters:
            with passed.over(segmenter):
                segmenter.check(case)
                return
        raise passed.error()

    def segment(self, case: Case, baseline: Baseline) -> Segmentation:
        """Return the outlines of the first that has any, with the reasons of those before it.

        Raises
        ------
        SegmentationMissing
            None has outlines; with the reasons of all.
        ModelError
            None has outlines, and one of them failed.
        ImplausibleSegmentation, GeometryError
            The most trusted outlines do not fit the images.
        """
        passed = _Passed()
        for segmenter in self.segmenters:
            with passed.over(segmenter):
                segmenter.check(case)
                found = segmenter.segment(case, baseline)
                warnings = (*found.warnings, *passed.warnings())
                return replace(found, passed_over=tuple(passed.reasons), warnings=warnings)
        raise passed.error()


@dataclass(slots=True)
class _Passed:
    """Segmenters that were passed over so far."""

    reasons: list[PassedOver] = field(default_factory=list)
    failed: bool = False

    @contextmanager
    def over(self, segmenter: Segmenter) -> Iterator[None]:
        """Note why a segmenter is passed over, where it is."""
        try:
            yield
        except (SegmentationMissing, ModelError) as error:
            _log.info("segmenter %s is passed over: %s", segmenter.info.name, error)
            self.reasons.append(PassedOver(segmenter.info.name, str(error)))
            self.failed = self.failed or isinstance(error, ModelError)

    def warnings(self) -> list[str]:
        """Return what people are told; that a study has no segmentation object is no news."""
        return [f"{p.name} was not used: {p.reason}." for p in self.reasons if p.name != IN_STUDY.name]

    def error(self) -> InferenceError:
        """Return what is to be raised when all were passed over."""
        if len(self.reasons) == 1:
            text = self.reasons[0].reason
        else:
            each = "; ".join(f"{p.name}: {p.reason}" for p in self.reasons)
            text = f"no segmenter has outlines of this study: {each}"
        return ModelError(text) if self.failed else SegmentationMissing(text)
