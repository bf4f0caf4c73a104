"""The output objects: a table of kinds, in the order in which they reference each other.

To add an object: a file beside this one and a line in `BUILDERS`.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmwrite
from pydicom.dataset import Dataset

from inference.imaging.marker import PixelBox
from inference.results import StudyResults
from reporting import virtual_series
from reporting.checks import check
from reporting.context import Context

Builder = Callable[[StudyResults, Context], Iterable[Dataset]]


@dataclass(frozen=True, slots=True)
class VirtualPart:
    """Which part of the forecast a virtual image shows, and where its label is."""

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


@dataclass(frozen=True, slots=True)
class WrittenObject:
    """One object on disk; `part` is set on virtual images only."""

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    path: Path
    sha256: str
    part: VirtualPart | None = None


def _module(name: str) -> Builder:
    """Return ``reporting.<name>.build``, imported when first used: charts and PDF load slow libraries."""

    def build_kind(results: StudyResults, context: Context) -> Iterable[Dataset]:
        built: Iterable[Dataset] = importlib.import_module(f"reporting.{name}").build(results, context)
        return built

    return build_kind


BUILDERS: Mapping[str, Builder] = {
    "virtual_series": virtual_series.build,
    "segmentation": _module("segmentation"),
    "axes": _module("axes"),
    "report": _module("report"),
    "charts": _module("charts"),
    "pdf": _module("pdf"),
}
"""Kind -> builder, in the order of building."""


def build(results: StudyResults, context: Context, kinds: Iterable[str]) -> Iterator[OutputObject]:
    """Yield the objects of the wanted kinds one by one, each checked.

    Parameters
    ----------
    results : StudyResults
    context : Context
    kinds : iterable of str
        Keys of `BUILDERS`; built in the order of that table, whatever the order here.

    Raises
    ------
    reporting.marker.NoRoomForMarker
        The study is refused: the label of virtual images finds no room in air.
    reporting.errors.CheckFailed
        An object is not what it has to be.
    ValueError
        A kind is not in `BUILDERS`.
    """
    wanted = {str(kind) for kind in kinds}
    if unknown := wanted - set(BUILDERS):
        raise ValueError(f"no output is called {min(unknown)!r}; there are {', '.join(BUILDERS)}")
    parts = _virtual_parts(results, context) if "virtual_series" in wanted else {}
    for kind, builder in BUILDERS.items():
        if kind not in wanted:
            continue
        for dataset in builder(results, context):
            check(dataset, context)
            yield OutputObject(kind, dataset, parts.get(str(dataset.SeriesInstanceUID)))


def _virtual_parts(results: StudyResults, context: Context) -> dict[str, VirtualPart]:
    """Return what each virtual series shows, by Series Instance UID."""
    box = virtual_series.series_marker(results)
    primary = results.baseline.primary.series_instance_uid
    return {
        str(plan.series.uid): VirtualPart(
            regimen_id=plan.forecast.regimen_id,
            months=plan.point.generated.months,
            kind=str(plan.point.generated.kind),
            phase=str(plan.image.phase),
            primary=plan.source.series_instance_uid == primary,
            marker_box=box,
        )
        for plan in virtual_series.virtual_series(results, context)
    }


def write_objects(objects: Iterable[OutputObject], folder: Path) -> list[WrittenObject]:
    """Write objects as ``folder/<kind>/<series>/<instance>.dcm``, and flush the folders to disk.

    The name of a series is the end of its UID, that of an instance its number: nothing of a patient
    is in a file name.
    """
    written: list[WrittenObject] = []
    for built in objects:
        dataset = built.dataset
        series = folder / built.kind / str(dataset.SeriesInstanceUID)[-12:]
        series.mkdir(parents=True, exist_ok=True)
        path = series / f"{int(dataset.InstanceNumber):04d}.dcm"
        content = encode(dataset)
        path.write_bytes(content)
        written.append(
            WrittenObject(
                kind=built.kind,
                sop_class_uid=str(dataset.SOPClassUID),
                sop_instance_uid=str(dataset.SOPInstanceUID),
                series_instance_uid=str(dataset.SeriesInstanceUID),
                path=path,
                sha256=hashlib.sha256(content).hexdigest(),
                part=built.part,
            )
        )
    for parent in sorted({w.path.parent for w in written}):
        _flush_folder(parent)
    return written


def encode(dataset: Dataset) -> bytes:
    """Return a data set as the bytes of a DICOM file."""
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
