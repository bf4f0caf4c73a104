"""The virtual follow-up series: what differs from the baseline, and what it says about itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from inference.errors import RejectedInput
from inference.results import SeriesVolume
from reporting import virtual_series
from reporting.marker import place_marker
from tests.builders.results import context, results
from tests.reporting.conftest import Written

DOSE = ("XRayTubeCurrent", "Exposure", "ExposureTime", "CTDIvol", "ExposureInuAs", "SAR")


def _images(written: Written) -> Iterator[tuple[Dataset, SeriesVolume, int]]:
    """Yield every virtual image, its baseline volume, and the slice it belongs to."""
    slices = {
        h.SOPInstanceUID: (v, k) for v in written.results.baseline.volumes for k, h in enumerate(v.headers)
    }
    for path in written.paths("virtual_series"):
        ds = pydicom.dcmread(path)
        volume, k = slices[ds.SourceImageSequence[0].ReferencedSOPInstanceUID]
        yield ds, volume, k


@pytest.mark.parametrize("name", ["phantom", "phantom_mr"])
def test_stored_values_differ_only_in_the_liver_and_the_label(name, request):
    written = request.getfixturevalue(name)
    labels = written.results.segmentation.labels
    allowed = np.zeros(written.results.baseline.primary.grid.shape, dtype=bool)
    allowed[labels.box.slices] = labels.tissue > 0
    row0, column0, row1, column1 = place_marker(written.results).box
    changed = seen = 0
    for ds, volume, k in _images(written):
        different = ds.pixel_array != volume.stored[k]
        different[row0:row1, column0:column1] = False
        assert not (different & ~allowed[k]).any()
        changed += int(different.sum())
        seen += 1
    points = sum(len(f.time_points) for f in written.results.forecasts)
    assert seen == points * sum(len(v.headers) for v in written.results.baseline.volumes)
    assert changed > 1000


def test_the_label_lies_in_air_on_every_slice(phantom):
    row0, column0, row1, column1 = place_marker(phantom.results).box
    for volume in phantom.results.baseline.volumes:
        assert volume.values()[:, row0:row1, column0:column1].max() < -400


def test_the_label_is_on_every_image_and_differs_between_time_points(phantom):
    row0, column0, row1, column1 = place_marker(phantom.results).box
    seen: dict[str, bytes] = {}
    for ds, volume, k in _images(phantom):
        label = ds.pixel_array[row0:row1, column0:column1]
        assert (label + volume.intercept[k] > 200).mean() > 0.02
        ink = label > label.max() // 2
        assert seen.setdefault(ds.SeriesInstanceUID, ink.tobytes()) == ink.tobytes()
    assert len(seen) == 12
    assert len(set(seen.values())) == 6  # one label for each regimen and time, the same in both phases


def test_no_room_in_air_is_a_refusal_with_its_reason():
    found = results()
    body = tuple(replace(v, stored=np.full_like(v.stored, 1064)) for v in found.baseline.volumes)
    full = replace(found, baseline=replace(found.baseline, volumes=body))
    with pytest.raises(RejectedInput, match="no room in air"):
        next(virtual_series.build(full, context()))


def test_images_say_what_they_are(phantom):
    for ds, volume, k in _images(phantom):
        source = volume.headers[k]
        assert ds.SyntheticData == "YES"
        assert list(ds.ImageType) == ["DERIVED", "SECONDARY", "AXIAL", "VIRTUAL_FOLLOWUP"]
        assert ds.ContentQualification == "RESEARCH"
        assert ds.Manufacturer == "Hepatocast"
        assert ds.BurnedInAnnotation == "NO"
        assert "AI VIRTUAL" in ds.SeriesDescription
        assert "Not an acquisition" in ds.ImageComments
        assert "DEMONSTRATION MODEL" in ds.ImageComments
        assert ds.StudyInstanceUID == source.StudyInstanceUID
        assert ds.SeriesInstanceUID != source.SeriesInstanceUID
        assert ds.ReferencedSeriesSequence[0].SeriesInstanceUID == volume.series_instance_uid
        purposes = [e.PurposeOfReferenceCodeSequence[0].CodeValue for e in ds.ContributingEquipmentSequence]
        assert purposes == ["109101", "109100"]
        assert [c.CodeValue for c in ds.DerivationCodeSequence][1] == "123110"
        assert "seed 7" in ds.DerivationDescription
        assert "b" * 64 in ds.DerivationDescription
        assert not [keyword for keyword in DOSE if keyword in ds]


def test_geometry_and_pixel_format_are_those_of_the_source(phantom):
    same = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "BitsAllocated", "BitsStored")
    same += ("PixelRepresentation", "RescaleIntercept", "RescaleSlope", "FrameOfReferenceUID", "HighBit")
    for ds, volume, k in _images(phantom):
        for keyword in same:
            assert ds[keyword].value == volume.headers[k][keyword].value, keyword


def test_no_date_lies_after_the_job(phantom):
    for path in phantom.all_paths:
        for element in pydicom.dcmread(path, stop_before_pixels=True).iterall():
            if element.VR in ("DA", "DT") and element.value:
                assert str(element.value)[:8] <= "20260302", element.keyword


def test_a_source_without_usable_window_gets_one_for_the_liver():
    found = results(phases=("portal_venous",))
    volume = found.baseline.primary
    for header in volume.headers:
        header.WindowCenter, header.WindowWidth = "0", "0"
    ds = next(virtual_series.build(found, context()))
    assert (ds.WindowCenter, ds.WindowWidth) == (60, 350)


def test_long_decimal_strings_of_the_source_are_shortened():
    found = results(phases=("portal_venous",))
    for k, header in enumerate(found.baseline.primary.headers):
        header.add_new("SliceLocation", "DS", f"{k}.123456789012345678")
    ds = next(virtual_series.build(found, context()))
    assert len(str(ds.SliceLocation)) <= 16
    assert float(ds.SliceLocation) == pytest.approx(0.123456789)
