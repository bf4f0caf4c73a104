"""What the builders of one study share: results, context, the label's place, and earlier objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from pydicom.dataset import Dataset

from inference.imaging.marker import PixelBox
from inference.results import RegimenForecast, StudyResults, TimePoint
from reporting import attributes
from reporting.context import Context
from reporting.layout import VirtualSeries, time_point_key, virtual_series
from reporting.marker_label import Placement
from reporting.virtual_series import place_marker

BULK = ("PixelData", "EncapsulatedDocument")


@dataclass(frozen=True, slots=True)
class VirtualPart:
    """Which part of the forecast a virtual series shows."""

    regimen_id: str
    months: float
    kind: str
    phase: str
    primary: bool
    marker_box: PixelBox


@dataclass(frozen=True, slots=True)
class OutputObject:
    """One object, ready to be written; `part` is set on virtual images only."""

    kind: str
    dataset: Dataset
    part: VirtualPart | None = None


@dataclass
class StudyBuild:
    """Builders read from here, and leave here the headers of what later objects reference.

    A later object references only what was built: without virtual series, for example, the reports
    have no measurements on virtual images.

    Attributes
    ----------
    virtual_headers : dict
        Series Instance UID -> headers without pixels, in the order of the slices.
    segmentation_headers : dict
        Time point key, or () for the baseline -> header of the SEG.
    """

    results: StudyResults
    context: Context
    virtual_headers: dict[str, list[Dataset]] = field(default_factory=dict)
    segmentation_headers: dict[tuple[str, ...], Dataset] = field(default_factory=dict)

    @cached_property
    def series(self) -> tuple[VirtualSeries, ...]:
        """All virtual series of the study."""
        return virtual_series(self.results, self.context)

    @cached_property
    def placement(self) -> Placement:
        """Where the label is; raises `NoRoomForMarker`."""
        return place_marker(self.results, self.series)

    @cached_property
    def made_at(self) -> datetime:
        """The time that the objects carry."""
        return attributes.local_time(self.results, self.context)

    @cached_property
    def baseline_headers(self) -> tuple[Dataset, ...]:
        """Headers of the primary series with the grid's Frame of Reference and valid decimal strings."""
        primary = self.results.baseline.primary
        return tuple(self._clean(header) for header in primary.headers)

    def _clean(self, header: Dataset) -> Dataset:
        found = attributes.patient_and_study(self.results)
        for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "Rows", "Columns"):
            found.add(attributes.element(keyword, header[keyword].value))
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
            if keyword in header:
                found.add(attributes.element(keyword, attributes.decimal(header[keyword].value)))
        found.FrameOfReferenceUID = self.results.baseline.primary.grid.frame_of_reference_uid
        found.BodyPartExamined = attributes.body_part(self.results)
        return found

    def images_of(self, forecast: RegimenForecast, point: TimePoint) -> list[Dataset] | None:
        """Return the headers of a time point's virtual primary series, if it was built."""
        key = time_point_key(forecast, point)
        primary = self.results.baseline.primary.series_instance_uid
        for series in self.series:
            same = time_point_key(series.forecast, series.time_point) == key
            if same and series.source.series_instance_uid == primary:
                return self.virtual_headers.get(str(series.series_instance_uid))
        return None

    def evidence(self) -> Iterator[Dataset]:
        """Yield the headers of all images and segmentations that a report may reference."""
        yield from self.baseline_headers
        for headers in self.virtual_headers.values():
            yield from headers
        yield from self.segmentation_headers.values()


def without_bulk(dataset: Dataset) -> Dataset:
    """Return a data set without pixels or document; elements are shared, not copied."""
    found = Dataset()
    for element in dataset:
        if element.keyword not in BULK:
            found.add(element)
    return found
