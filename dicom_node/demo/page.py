"""The page that the demonstration leaves: every picture and number that came back."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader, select_autoescape
from pydicom import dcmread

from dicom_node.demo import pictures
from dicom_node.demo.report_text import Line, content_tree


@dataclass(frozen=True, slots=True)
class Returned:
    """The files that came back from the peer, by kind, and the study's own images.

    `phases` maps the phases of result.json to Series Instance UIDs.
    """

    originals: tuple[Path, ...]
    by_kind: Mapping[str, tuple[Path, ...]]


@dataclass(frozen=True, slots=True)
class Sheet:
    """One series in the viewer: its title, where it belongs, and the files of its sheets."""

    title: str
    regimen: str
    months: float
    phase: str
    image: str
    outline: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on the way, and how long after the study was sent (s)."""

    text: str
    seconds: float


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _referenced_series(seg_file: Path) -> str:
    return str(dcmread(seg_file, stop_before_pixels=True).ReferencedSeriesSequence[0].SeriesInstanceUID)


class _Viewer:
    """Writes the sheets of the viewer into a folder and remembers what it wrote."""

    def __init__(self, folder: Path, returned: Returned, document: Mapping[str, Any]) -> None:
        self.folder = folder
        self.document = document
        self.stacks = pictures.read_stacks((*returned.originals, *returned.by_kind.get("virtual_series", ())))
        self.segmentations = {
            _referenced_series(path): path for path in returned.by_kind.get("segmentation", ())
        }
        self.slices: list[int] = []

    def _outline(self, uid: str, stack: pictures.Stack, name: str) -> str:
        if uid not in self.segmentations:
            return ""
        segments = pictures.read_segments(self.segmentations[uid], stack)
        target = self.folder / f"{name}.png"
        target.write_bytes(pictures.outline_sheet(segments, self.slices))
        return f"pictures/{target.name}"

    def _write(self, uid: str, name: str, outlined_uid: str) -> tuple[str, str]:
        stack = self.stacks[uid]
        target = self.folder / f"{name}.jpg"
        target.write_bytes(pictures.slice_sheet(stack, self.slices))
        return f"pictures/{target.name}", self._outline(outlined_uid, stack, name)

    def sheets(self) -> list[Sheet]:
        """Write and return the sheets: the baseline's phases first, then each virtual series."""
        phases: Mapping[str, str] = self.document["study"]["series"]
        self._choose_slices(phases)
        primary = next((uid for uid in phases.values() if uid in self.segmentations), "")
        sheets = []
        for phase, uid in phases.items():
            if uid in self.stacks:
                image, outline = self._write(uid, f"baseline_{phase}", primary)
                sheets.append(Sheet("baseline", "", 0.0, phase, image, outline))
        for regimen in self.document["regimens"]:
            for point in _listed(regimen["time_points"]):
                sheets.extend(self._virtual(regimen, point))
        return sheets

    def _virtual(self, regimen: Mapping[str, Any], point: Mapping[str, Any]) -> list[Sheet]:
        by_phase: Mapping[str, str] = point["series_instance_uids"]
        outlined = next((u for u in by_phase.values() if u in self.segmentations), "")
        sheets = []
        for phase, uid in by_phase.items():
            if uid in self.stacks:
                name = f"{regimen['id']}_{point['months']:g}_{phase}"
                image, outline = self._write(uid, name, outlined)
                sheets.append(Sheet(regimen["name"], regimen["id"], point["months"], phase, image, outline))
        return sheets

    def _choose_slices(self, phases: Mapping[str, str]) -> None:
        uid = next((u for u in phases.values() if u in self.stacks), next(iter(self.stacks)))
        stack = self.stacks[uid]
        focus: npt.NDArray[np.bool_] | None = None
        for candidate in phases.values():
            if candidate in self.segmentations:
                masks = pictures.read_segments(self.segmentations[candidate], stack).masks
                if "liver" in masks:
                    focus = np.asarray(masks["liver"].any(axis=(1, 2)))
        self.slices = pictures.chosen_slices(stack, focus)


def _listed(value: Any) -> Sequence[Mapping[str, Any]]:
    return value if isinstance(value, list) else []


def _reports(returned: Returned) -> list[Line]:
    files = (*returned.by_kind.get("report", ()), *returned.by_kind.get("axes", ()))
    return [content_tree(dcmread(path)) for path in files]


def write_page(
    out: Path, document: Mapping[str, Any], returned: Returned, events: Sequence[Event], peer: str
) -> Path:
    """Write ``index.html`` and ``pictures/`` into `out` and return the page's path.

    Parameters
    ----------
    document : dict
        The contents of ``result.json``.
    peer : str
        What played the PACS, for people.
    """
    folder = out / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    viewer = _Viewer(folder, returned, document)
    sheets = viewer.sheets()
    pdf = returned.by_kind.get("pdf", ())
    if pdf:
        content = dcmread(pdf[0])
        (out / "report.pdf").write_bytes(
            bytes(content.EncapsulatedDocument)[: int(content.EncapsulatedDocumentLength)]
        )
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape(default=True)
    )
    html = environment.get_template("page.html.j2").render(
        document=document,
        sheets=sheets,
        tiles=len(viewer.slices),
        columns=pictures.SHEET_COLUMNS,
        tile_px=pictures.TILE_PX,
        charts=[
            _data_uri(pictures.capture_png(p), "image/png")
            for p in sorted(returned.by_kind.get("charts", ()), key=_instance_number)
        ],
        reports=_reports(returned),
        events=events,
        peer=peer,
        has_pdf=bool(pdf),
    )
    page = out / "index.html"
    page.write_text(html, encoding="utf-8")
    return page


def _instance_number(path: Path) -> int:
    return int(dcmread(path, stop_before_pixels=True).InstanceNumber)
