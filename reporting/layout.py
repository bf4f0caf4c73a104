"""Which virtual series there will be: their UIDs, numbers and texts, known before any is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.uid import UID, CTImageStorage, MRImageStorage

from inference.case import Phase
from inference.results import (
    RegimenForecast,
    SeriesVolume,
    StudyResults,
    TimePoint,
    TimePointKind,
    VirtualImage,
)
from reporting.context import Context

DEMONSTRATION = "DEMONSTRATION MODEL"
STORAGE_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage}


@dataclass(frozen=True, slots=True)
class SeriesNumbers:
    """First Series Number of each kind of object; far above those of scanners."""

    virtual: int = 9001
    segmentation: int = 9500
    charts: int = 9700
    axes: int = 9800
    report: int = 9801
    pdf: int = 9820


SERIES_NUMBERS = SeriesNumbers()

PHASE_NAMES = {
    Phase.NATIVE: "native",
    Phase.ARTERIAL: "arterial",
    Phase.PORTAL_VENOUS: "portal venous",
    Phase.DELAYED: "delayed",
    Phase.T1: "T1",
    Phase.T1_ARTERIAL: "T1 arterial",
    Phase.T1_PORTAL_VENOUS: "T1 portal venous",
    Phase.T2: "T2",
    Phase.UNKNOWN: "phase unknown",
}


def months_text(months: float) -> str:
    """Return months without needless decimals: 3, 1.5."""
    return f"{months:.1f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class VirtualSeries:
    """One virtual series to be: one phase of one time point of one regimen."""

    forecast: RegimenForecast
    time_point: TimePoint
    image: VirtualImage
    source: SeriesVolume
    series_instance_uid: UID
    sop_instance_uids: tuple[UID, ...]
    series_number: int

    @property
    def months(self) -> float:
        """Months after the start of treatment."""
        return self.time_point.generated.months

    @property
    def kind(self) -> TimePointKind:
        """Whether the time was asked for or is the one of best response."""
        return self.time_point.generated.kind

    @property
    def title(self) -> str:
        """The time point in words: regimen, months, and whether it is the best response."""
        return time_point_title(self.forecast, self.time_point)

    @property
    def sop_class_uid(self) -> UID:
        """SOP Class UID of the images."""
        return STORAGE_CLASSES[self.source.modality]


def time_point_title(forecast: RegimenForecast, point: TimePoint) -> str:
    """Return regimen and months in words; the time of best response says so."""
    best = " best response" if point.generated.kind is TimePointKind.BEST_RESPONSE else ""
    return f"{forecast.name} +{months_text(point.generated.months)} mo{best}"


def time_point_key(forecast: RegimenForecast, point: TimePoint) -> tuple[str, str, str]:
    """Return what names a time point in UIDs and dictionaries."""
    return forecast.regimen_id, str(point.generated.kind), months_text(point.generated.months)


def time_points(results: StudyResults) -> Iterator[tuple[RegimenForecast, TimePoint]]:
    """Yield every time point of every regimen."""
    for forecast in results.forecasts:
        for point in forecast.time_points:
            yield forecast, point


def virtual_series(results: StudyResults, context: Context) -> tuple[VirtualSeries, ...]:
    """Return all virtual series; within a time point in the order of the generated images."""
    volumes = {volume.series_instance_uid: volume for volume in results.baseline.volumes}
    found: list[VirtualSeries] = []
    for forecast, point in time_points(results):
        for image in point.generated.images:
            source = volumes[image.series_instance_uid]
            name = ("virtual", *time_point_key(forecast, point), str(image.series_instance_uid))
            found.append(
                VirtualSeries(
                    forecast=forecast,
                    time_point=point,
                    image=image,
                    source=source,
                    series_instance_uid=context.uids.derive(*name),
                    sop_instance_uids=tuple(
                        context.uids.derive(*name, k) for k in range(source.grid.shape[0])
                    ),
                    series_number=SERIES_NUMBERS.virtual + len(found),
                )
            )
    return tuple(found)
