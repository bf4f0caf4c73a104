"""The charts as Secondary Capture images in one series.

References
----------
PS3.3 A.8.1 (Secondary Capture Image IOD), C.8.6.2 (SC Image).
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from inference.results import StudyResults
from reporting.common import (
    SeriesOfNode,
    body_part,
    new_dataset,
    set_series,
    source_header,
    statement,
    synthesizing_equipment,
)
from reporting.context import Context
from reporting.pictures import Picture, chart_images

SERIES_NUMBER = 9700

__all__ = ["build", "chart_images"]


def build(results: StudyResults, context: Context) -> Iterator[Dataset]:
    """Yield one image for each chart."""
    series = SeriesOfNode(context.uids.derive("chart series"), SERIES_NUMBER, "AI VIRTUAL forecast charts")
    for number, picture in enumerate(chart_images(results), start=1):
        yield _secondary_capture(results, context, series, picture, number)


def _secondary_capture(
    results: StudyResults, context: Context, series: SeriesOfNode, picture: Picture, number: int
) -> Dataset:
    ds = new_dataset(
        results, context, SecondaryCaptureImageStorage, context.uids.derive("chart", picture.name)
    )
    set_series(ds, series, "OT", number)
    ds.SyntheticData = "YES"
    ds.BodyPartExamined = body_part(source_header(results))
    ds.ConversionType = "WSD"
    ds.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    ds.PatientOrientation = None
    ds.DateOfSecondaryCapture, ds.TimeOfSecondaryCapture = ds.ContentDate, ds.ContentTime
    ds.SecondaryCaptureDeviceManufacturer = context.equipment.manufacturer
    ds.SecondaryCaptureDeviceManufacturerModelName = context.equipment.model_name
    ds.SecondaryCaptureDeviceSoftwareVersions = context.equipment.software_version
    ds.ContributingEquipmentSequence = [synthesizing_equipment(context, "Drew the chart")]
    ds.DerivationDescription = picture.title
    ds.ImageComments = f"{picture.title}. {statement(results)}"
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "00"
    ds.SamplesPerPixel = 3
    ds.PhotometricInterpretation = "RGB"
    ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = picture.pixels.shape[:2]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    data = picture.pixels.tobytes()
    ds.add_new("PixelData", "OB", data + b"\0" * (len(data) % 2))
    return ds
