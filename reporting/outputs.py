"""The output objects: a table of kinds, in the order in which they reference each other.

To add an object: a file beside this one and a line in `BUILDERS`.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmwrite
from pydicom.dataset import Dataset

from inference.results import StudyResults
from reporting.checks import check
from reporting.context import Context
from reporting.study_build import OutputObject, StudyBuild, VirtualPart, without_bulk
from reporting.virtual_series import SeriesBuilder

__all__ = ["BUILDERS", "OutputObject", "WrittenObject", "build", "write_objects"]


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


def _virtual_series(study: StudyBuild) -> Iterator[OutputObject]:
    primary = study.results.baseline.primary.series_instance_uid
    for series in study.series:
        headers = study.virtual_headers.setdefault(str(series.series_instance_uid), [])
        part = VirtualPart(
            regimen_id=series.forecast.regimen_id,
            months=series.months,
            kind=str(series.kind),
            phase=str(series.image.phase),
            primary=series.source.series_instance_uid == primary,
            marker_box=study.placement.box,
        )
        builder = SeriesBuilder(series, study.results, study.context, study.placement)
        for dataset in builder.instances():
            headers.append(without_bulk(dataset))
            yield OutputObject("virtual_series", dataset, part)


def _objects(kind: str, builder: Callable[[StudyBuild], Iterable[Dataset]]) -> Builder:
    def build_kind(study: StudyBuild) -> Iterator[OutputObject]:
        for dataset in builder(study):
            yield OutputObject(kind, dataset)

    return build_kind


Builder = Callable[[StudyBuild], Iterator[OutputObject]]

BUILDERS: Mapping[str, Builder] = {
    "virtual_series": _virtual_series,
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
    reporting.errors.NoRoomForMarker
        The study is refused: the label of virtual images finds no room in air.
    reporting.errors.CheckFailed
        An object is not what it has to be.
    KeyError
        A kind is not in `BUILDERS`.
    """
    wanted = {str(kind) for kind in kinds}
    if unknown := wanted - set(BUILDERS):
        raise KeyError(f"no output is called {min(unknown)!r}; there are {', '.join(BUILDERS)}")
    study = StudyBuild(results, context)
    for kind, builder in BUILDERS.items():
        if kind not in wanted:
            continue
        for built in builder(study):
            check(built.dataset, context)
            yield built


def write_objects(objects: Iterable[OutputObject], folder: Path) -> list[WrittenObject]:
    """Write objects as ``folder/<kind>/<series>/<instance>.dcm``, and flush the folders to disk.

    The name of a series is the end of its UID, that of an instance its number: nothing of a patient
    is in a file name.
    """
    written: list[WrittenObject] = []
    for built in objects:
        dataset = built.dataset
        series = folder / built.kind / str(dataset.SeriesInstanceUID)[-12:]
        if not written or written[-1].path.parent != series:
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
