"""The objects that a forecast leaves in the study: name -> builder, and how they are written.

To add an object: a file in this package and one line in `BUILDERS`. Objects come in the order of the
table, so that what refers to others comes after them, and one at a time, so that memory stays bounded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from pydicom.dataset import Dataset
from pydicom.uid import UID

from inference.results import StudyResults
from reporting import axes, charts, pdf, report, segmentation, virtual_series
from reporting.checks import check
from reporting.context import Context
from reporting.encoding import FileEncoder

Builder: TypeAlias = Callable[[StudyResults, Context], Iterator[Dataset]]

BUILDERS: Mapping[str, Builder] = MappingProxyType(
    {
        "virtual_series": virtual_series.build,
        "segmentation": segmentation.build,
        "axes": axes.build,
        "report": report.build,
        "charts": charts.build,
        "pdf": pdf.build,
    }
)
"""Every kind of object, in the order in which they are made."""


@dataclass(frozen=True, slots=True)
class OutputObject:
    """One object of a kind, complete with its file meta information."""

    kind: str
    dataset: Dataset


@dataclass(frozen=True, slots=True)
class WrittenObject:
    """One object on disk; `path` is relative to the folder it was written under."""

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    path: Path
    sha256: str


def build(
    results: StudyResults, context: Context, kinds: Iterable[str] = tuple(BUILDERS)
) -> Iterator[OutputObject]:
    """Yield every object of the given kinds; each has passed `reporting.checks`.

    The same results and context give the same bytes.

    Raises
    ------
    ValueError
        A kind is not in the table.
    reporting.marker.NoRoomForMarker
        The images have no room for the label of a virtual image.
    reporting.errors.CheckFailed
        A builder made an object that must not leave the node.
    """
    wanted = {str(kind) for kind in kinds}
    unknown = wanted - set(BUILDERS)
    if unknown:
        raise ValueError(f"no such output: {', '.join(sorted(unknown))}")
    return _build(results, context, [kind for kind in BUILDERS if kind in wanted])


def _build(results: StudyResults, context: Context, kinds: Sequence[str]) -> Iterator[OutputObject]:
    for kind in kinds:
        for dataset in BUILDERS[kind](results, context):
            check(dataset, context)
            yield OutputObject(kind, dataset)


def write_objects(objects: Iterable[OutputObject], folder: Path) -> list[WrittenObject]:
    """Write objects as ``folder/<kind>/<series>/<instance>.dcm`` and return what was written.

    File names are made of UIDs alone.
    """
    encoder = FileEncoder()
    return [_write(item, folder, encoder) for item in objects]


def _write(item: OutputObject, folder: Path, encoder: FileEncoder) -> WrittenObject:
    ds = item.dataset
    relative = Path(item.kind) / str(ds.SeriesInstanceUID) / f"{ds.SOPInstanceUID}.dcm"
    if not (UID(ds.SeriesInstanceUID).is_valid and UID(ds.SOPInstanceUID).is_valid):
        raise ValueError("a UID that is no UID cannot become a file name")
    data = encoder.encode(ds)
    path = folder / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return WrittenObject(
        kind=item.kind,
        sop_class_uid=str(ds.SOPClassUID),
        sop_instance_uid=str(ds.SOPInstanceUID),
        series_instance_uid=str(ds.SeriesInstanceUID),
        path=relative,
        sha256=hashlib.sha256(data).hexdigest(),
    )
