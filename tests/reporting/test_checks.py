"""The checks that every object passes before it leaves the node refuse what they are there for."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from reporting import segmentation, virtual_series
from reporting.checks import check
from reporting.errors import CheckFailed
from tests.builders.results import context, results


@pytest.fixture(scope="module")
def image() -> Dataset:
    return next(virtual_series.build(results(phases=("portal_venous",)), context()))


def _remove(keyword: str) -> Callable[[Dataset], None]:
    return lambda ds: delattr(ds, keyword)


def _set(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda ds: setattr(ds, keyword, value)


def _nested_bad_uid(ds: Dataset) -> None:
    item = copy.deepcopy(ds.SourceImageSequence[0])
    item["ReferencedSOPInstanceUID"] = DataElement(0x00081155, "UI", "1.02.3", validation_mode=0)
    ds.SourceImageSequence = [item]


FAULTS: tuple[tuple[str, Callable[[Dataset], None], str], ...] = (
    ("no equipment", _remove("DeviceSerialNumber"), "DeviceSerialNumber"),
    ("another maker", _set("Manufacturer", "Somebody"), "Manufacturer"),
    ("not said to be synthetic", _remove("SyntheticData"), "0008,001C"),
    ("a dose", _set("CTDIvol", 5.0), "CTDIvol"),
    ("a date in the future", _set("ContentDate", "20990101"), "ContentDate"),
    ("another UID in the file meta", _set("SOPInstanceUID", "1.2.3"), "different UIDs"),
    ("a bad UID in a sequence", _nested_bad_uid, "SourceImageSequence/ReferencedSOPInstanceUID"),
)


def test_a_sound_object_passes(image):
    check(image, context())


@pytest.mark.parametrize(("fault", "expected"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_fault_is_named(image, fault, expected):
    broken = copy.deepcopy(image)
    fault(broken)
    with pytest.raises(CheckFailed, match=expected):
        check(broken, context())


def test_a_text_that_is_too_long_is_named(image):
    broken = copy.deepcopy(image)
    broken["SeriesDescription"] = DataElement(0x0008103E, "LO", "x" * 65, validation_mode=0)
    with pytest.raises(CheckFailed, match="SeriesDescription"):
        check(broken, context())


def test_the_baseline_segmentation_is_not_synthetic_and_must_not_say_so():
    baseline = next(segmentation.build(results(phases=("portal_venous",)), context()))
    assert "SyntheticData" not in baseline
    check(baseline, context())
    baseline.SyntheticData = "YES"
    with pytest.raises(CheckFailed, match="0008,001C"):
        check(baseline, context())
