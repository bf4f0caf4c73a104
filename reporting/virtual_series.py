"""The virtual follow-up series: CT or MR Image Storage, one file for each slice.

Stored values are those of the baseline but for what the generator changed inside the liver and one
label in air. Geometry, bits and rescale are the baseline's; dose and exposure are left out, because
nothing was exposed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import UID

from inference.results import (
    RegimenForecast,
    SeriesVolume,
    StudyResults,
    TimePoint,
    VirtualImage,
)
from reporting import codes
from reporting.common import (
    SeriesOfNode,
    body_part,
    clean_element,
    copy_elements,
    months_text,
    new_dataset,
    point_key,
    reference,
    set_file_meta,
    set_series,
    statement,
    synthesizing_equipment,
    time_point_text,
    time_points,
    volume_of,
)
from reporting.context import Context
from reporting.marker import Marker, burn, draw, marker_lines, place_marker

FIRST_SERIES_NUMBER = 9001
ABDOMEN_WINDOW = (60, 350)
"""Window Center and Width in HU for sources that have none that can be used."""

_GEOMETRY = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceLocation",
    "SliceThickness",
    "SpacingBetweenSlices",
    "PixelSpacing",
    "Rows",
    "Columns",
    "PatientPosition",
)
_PIXELS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "PresentationLUTShape",
)
_LOSSY = ("LossyImageCompressionRatio", "LossyImageCompressionMethod")
_ACQUISITION: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "CT": (
            "KVP",
            "AcquisitionNumber",
            "ContrastBolusAgent",
            "ConvolutionKernel",
            "ReconstructionDiameter",
        ),
        "MR": (
            "AcquisitionNumber",
            "ContrastBolusAgent",
            "ScanningSequence",
            "SequenceVariant",
            "ScanOptions",
            "MRAcquisitionType",
            "RepetitionTime",
            "EchoTime",
            "EchoTrainLength",
            "InversionTime",
            "MagneticFieldStrength",
        ),
    }
)
_TYPE_2: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "CT": ("KVP", "AcquisitionNumber"),
        "MR": ("ScanOptions", "MRAcquisitionType", "EchoTime", "EchoTrainLength", "RepetitionTime"),
    }
)
_SCANNER = (
    "Manufacturer",
    "InstitutionName",
    "StationName",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
)
_PLANE_WORD: Mapping[str, str] = MappingProxyType({"CT": "AXIAL", "MR": "OTHER"})


@dataclass(frozen=True, slots=True)
class VirtualSeries:
    """One virtual series: one phase of one time point of one regimen."""

    forecast: RegimenForecast
    point: TimePoint
    image: VirtualImage
    source: SeriesVolume
    series: SeriesOfNode

    @property
    def sop_class_uid(self) -> UID:
        """SOP Class of the source, which is also that of the virtual images."""
        return UID(self.source.headers[0].SOPClassUID)


def virtual_series(results: StudyResults, context: Context) -> tuple[VirtualSeries, ...]:
    """Return the plan of all virtual series, in order, without pixels."""
    plans: list[VirtualSeries] = []
    for forecast, point in time_points(results):
        for image in point.generated.images:
            source = volume_of(results, image.series_instance_uid)
            several = len(point.generated.images) > 1
            series = SeriesOfNode(
                context.uids.derive(
                    "virtual series", *point_key(forecast, point), str(image.series_instance_uid)
                ),
                FIRST_SERIES_NUMBER + len(plans),
                _series_description(forecast, point, source, several),
            )
            plans.append(VirtualSeries(forecast, point, image, source, series))
    return tuple(plans)


def primary_series(
    results: StudyResults, plans: Sequence[VirtualSeries]
) -> dict[tuple[str, str], VirtualSeries]:
    """Return the virtual series of the primary phase by `point_key`: what measurements refer to."""
    uid = results.baseline.primary.series_instance_uid
    return {point_key(p.forecast, p.point): p for p in plans if p.source.series_instance_uid == uid}


def instance_uid(context: Context, plan: VirtualSeries, index: int) -> UID:
    """Return the SOP Instance UID of one slice."""
    return context.uids.derive("virtual image", plan.series.uid, index)


def build(results: StudyResults, context: Context) -> Iterator[Dataset]:
    """Yield every virtual slice, one at a time.

    Raises
    ------
    NoRoomForMarker
        The images have no room in air for the label.
    """
    marker = place_marker(results)
    plans = virtual_series(results, context)
    for source in results.baseline.volumes:
        frames = tuple(_frame(results, context, source, index) for index in range(len(source.headers)))
        for plan in plans:
            if plan.source is source:
                yield from _slices(results, context, plan, frames, marker)


def header(results: StudyResults, context: Context, plan: VirtualSeries, index: int) -> Dataset:
    """Return the header of one virtual slice without pixels, for those who refer to it."""
    frame = _frame(results, context, plan.source, index)
    return _merged(frame, _series_elements(results, context, plan), context, plan, index)


def references(context: Context, plan: VirtualSeries) -> tuple[Dataset, ...]:
    """Return, for each slice of a virtual series, its UIDs and its position, and nothing else."""
    found = []
    for index, source in enumerate(plan.source.headers):
        ds = Dataset()
        ds.SOPClassUID = source.SOPClassUID
        ds.SOPInstanceUID = instance_uid(context, plan, index)
        ds.SeriesInstanceUID = plan.series.uid
        ds.ImagePositionPatient = source.ImagePositionPatient
        found.append(ds)
    return tuple(found)


# ------------------------------------------------------------------ one slice


def _slices(
    results: StudyResults,
    context: Context,
    plan: VirtualSeries,
    frames: Sequence[Dataset],
    marker: Marker,
) -> Iterator[Dataset]:
    shared = _series_elements(results, context, plan)
    ink = draw(marker_lines(results, plan.forecast, plan.point, marker.line_letters), marker)
    for index, frame in enumerate(frames):
        ds = _merged(frame, shared, context, plan, index)
        values = slice_values(plan, index)
        burn(values, plan.source, index, marker, ink)
        ds.add_new("PixelData", "OW", values.astype(_dtype(plan.source)).tobytes())
        set_file_meta(ds)
        yield ds


def slice_values(plan: VirtualSeries, index: int) -> npt.NDArray[np.int32]:
    """Return stored values of one slice, (rows, columns), without the label."""
    values: npt.NDArray[np.int32] = plan.source.stored[index].copy()
    box = plan.image.box
    if box.start[0] <= index < box.stop[0]:
        _, rows, columns = box.slices
        values[rows, columns] = plan.image.stored[index - box.start[0]]
    return values


def _dtype(volume: SeriesVolume) -> npt.DTypeLike:
    header = volume.headers[0]
    kind = "i" if int(header.PixelRepresentation) else "u"
    return np.dtype(f"<{kind}{int(header.BitsAllocated) // 8}")


def _merged(frame: Dataset, shared: Dataset, context: Context, plan: VirtualSeries, index: int) -> Dataset:
    """Return the header of one slice from what its position and what its series say."""
    ds = Dataset()
    ds.update({e.tag: e for e in frame})
    ds.update({e.tag: e for e in shared})
    # A new element: assigning a value would change the one that the slices of all series share.
    ds.add_new("SOPInstanceUID", "UI", instance_uid(context, plan, index))
    return ds


def _frame(results: StudyResults, context: Context, source: SeriesVolume, index: int) -> Dataset:
    """Return what one slice has in every virtual series made from it."""
    header = source.headers[index]
    ds = new_dataset(results, context, UID(header.SOPClassUID), UID(header.SOPInstanceUID))
    ds.InstanceNumber = index + 1
    copy_elements(header, ds, (*_GEOMETRY, *_PIXELS, *_ACQUISITION[source.modality]))
    for keyword in _TYPE_2[source.modality]:
        if keyword not in ds:
            setattr(ds, keyword, None)
    ds.FrameOfReferenceUID = source.grid.frame_of_reference_uid
    ds.PositionReferenceIndicator = str(header.get("PositionReferenceIndicator", "") or "")
    ds.BodyPartExamined = body_part(header)
    if "PatientPosition" not in ds:
        ds.PatientPosition = ""
    _set_rescale(ds, source)
    _set_window(ds, source, index)
    _set_lossy(ds, header)
    _set_sources(ds, source, header)
    return ds


def _set_rescale(ds: Dataset, source: SeriesVolume) -> None:
    if source.modality != "CT":
        return
    for keyword, default in (("RescaleIntercept", "0"), ("RescaleSlope", "1"), ("RescaleType", "HU")):
        if keyword not in ds:
            setattr(ds, keyword, default)


def _set_window(ds: Dataset, source: SeriesVolume, index: int) -> None:
    """Keep the source's window; where it has none that can be used, give one."""
    header = source.headers[index]
    width = np.atleast_1d(np.asarray(header.get("WindowWidth", 0) or 0, dtype=float))
    if header.get("WindowCenter") is not None and (width >= 1).all():
        for keyword in ("WindowCenter", "WindowWidth"):
            ds.add(clean_element(header[keyword]))
        return
    center, width_used = ABDOMEN_WINDOW if source.modality == "CT" else _signal_window(source)
    ds.WindowCenter, ds.WindowWidth = center, width_used


def _signal_window(source: SeriesVolume) -> tuple[int, int]:
    low, high = np.percentile(source.stored[len(source.headers) // 2], (1, 99))
    return round((low + high) / 2), max(round(high - low), 1)


def _set_lossy(ds: Dataset, header: Dataset) -> None:
    lossy = str(header.get("LossyImageCompression", "") or "00")
    ds.LossyImageCompression = lossy
    if lossy == "01":
        copy_elements(header, ds, _LOSSY)


def _set_sources(ds: Dataset, source: SeriesVolume, header: Dataset) -> None:
    """Refer to the slice and the series that the image was made from, and to their scanner."""
    image = reference(header.SOPClassUID, header.SOPInstanceUID)
    image.PurposeOfReferenceCodeSequence = [codes.item(codes.SOURCE_IMAGE)]
    ds.SourceImageSequence = [image]
    series = Dataset()
    series.SeriesInstanceUID = source.series_instance_uid
    series.ReferencedInstanceSequence = [reference(header.SOPClassUID, header.SOPInstanceUID)]
    ds.ReferencedSeriesSequence = [series]


# ------------------------------------------------------------------ one series


def _series_elements(results: StudyResults, context: Context, plan: VirtualSeries) -> Dataset:
    """Return what all slices of one virtual series have."""
    ds = Dataset()
    set_series(ds, plan.series, plan.source.modality)
    del ds.InstanceNumber
    ds.SyntheticData = "YES"
    ds.ImageType = ["DERIVED", "SECONDARY", _PLANE_WORD[plan.source.modality], "VIRTUAL_FOLLOWUP"]
    ds.ProtocolName = ds.SeriesDescription
    ds.ImageComments = _comment(results, plan)
    ds.DerivationDescription = _derivation(results, plan)[:1024]
    ds.DerivationCodeSequence = [
        codes.item(codes.FOLLOW_UP_SYNTHESIS),
        codes.item(codes.ARTIFICIAL_INTELLIGENCE),
    ]
    ds.ContributingEquipmentSequence = [
        _scanner(plan.source.headers[0]),
        synthesizing_equipment(context, "Synthesized the predicted follow-up image"),
    ]
    ds.BurnedInAnnotation = "NO"
    return ds


def _series_description(
    forecast: RegimenForecast, point: TimePoint, source: SeriesVolume, several: bool
) -> str:
    head = f"AI VIRTUAL {time_point_text(point)} "
    tail = f" {codes.PHASE_WORDS[source.phase]}" if several else ""
    tail += ", not acquired"
    return head + forecast.name[: 64 - len(head) - len(tail)] + tail


def _comment(results: StudyResults, plan: VirtualSeries) -> str:
    when = f"{time_point_text(plan.point)} after the start of {plan.forecast.name}"
    return f"AI VIRTUAL image, predicted {when}. {statement(results)}"


def _derivation(results: StudyResults, plan: VirtualSeries) -> str:
    model = results.bundles["generator"]
    return (
        f"{model.name} {model.version}, weights sha256 {model.sha256}, trained on {model.trained_on}; "
        f"seed {results.seed}; regimen {plan.forecast.regimen_id} ({plan.forecast.name}); "
        f"{months_text(plan.point.generated.months)} months after the start of treatment "
        f"({plan.point.generated.kind})"
    )


def _scanner(header: Dataset) -> Dataset:
    """Return the scanner as contributing equipment; Manufacturer must be there (PS3.3 C.12.1)."""
    ds = Dataset()
    ds.PurposeOfReferenceCodeSequence = [codes.item(codes.ACQUISITION_EQUIPMENT)]
    copy_elements(header, ds, _SCANNER)
    if not ds.get("Manufacturer"):
        ds.Manufacturer = "UNKNOWN"
    return ds
