"""Pictures of DICOM objects for the demonstration's page: slice sheets, outlines, charts."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from scipy import ndimage

TILE_PX = 336
"""Side of one slice in a sheet."""
MAXIMUM_TILES = 40
SHEET_COLUMNS = 8
WINDOW_HU = (-110.0, 240.0)
"""Abdominal soft tissue with contrast: level 65, width 350."""
OUTLINE_RGBA = {
    "liver": (120, 200, 255, 150),
    "viable": (255, 196, 0, 255),
    "necrosis": (150, 120, 255, 255),
    "lipiodol": (255, 90, 160, 255),
}


@dataclass(frozen=True, slots=True)
class Stack:
    """One image series, sorted along its normal.

    Attributes
    ----------
    positions_mm : array, (slices,)
        Along the normal of the slices.
    values : array of float32, (slices, rows, columns)
        Rescaled values.
    """

    series_instance_uid: str
    description: str
    modality: str
    positions_mm: npt.NDArray[np.float64]
    values: npt.NDArray[np.float32]


def _position(header: Dataset) -> float:
    row, column = np.reshape(np.asarray(header.ImageOrientationPatient, dtype=float), (2, 3))
    return float(np.dot(np.cross(row, column), np.asarray(header.ImagePositionPatient, dtype=float)))


def read_stacks(files: Iterable[Path]) -> dict[str, Stack]:
    """Read all CT and MR series among `files`, by Series Instance UID."""
    series: dict[str, list[Dataset]] = defaultdict(list)
    for path in files:
        data_set = dcmread(path, force=False)
        if data_set.get("Modality") in ("CT", "MR") and "PixelData" in data_set:
            series[str(data_set.SeriesInstanceUID)].append(data_set)
    return {uid: _stack(uid, sorted(slices, key=_position)) for uid, slices in series.items()}


def _stack(uid: str, slices: Sequence[Dataset]) -> Stack:
    values = [
        s.pixel_array.astype(np.float32) * float(s.get("RescaleSlope", 1))
        + float(s.get("RescaleIntercept", 0))
        for s in slices
    ]
    return Stack(
        series_instance_uid=uid,
        description=str(slices[0].get("SeriesDescription", "")),
        modality=str(slices[0].Modality),
        positions_mm=np.array([_position(s) for s in slices]),
        values=np.stack(values),
    )


def chosen_slices(stack: Stack, focus: npt.NDArray[np.bool_] | None) -> list[int]:
    """Return at most `MAXIMUM_TILES` slice indices, spread over the slices in `focus` (or all)."""
    wanted = np.flatnonzero(focus) if focus is not None and focus.any() else np.arange(len(stack.values))
    first, last = int(wanted.min()), int(wanted.max())
    count = min(MAXIMUM_TILES, last - first + 1)
    return [int(i) for i in np.unique(np.linspace(first, last, count).round())]


def grey(image: npt.NDArray[np.float32], modality: str) -> npt.NDArray[np.uint8]:
    """Map one slice to 8 bit: a fixed window in CT, the 99.5th percentile in MR."""
    low, high = WINDOW_HU if modality == "CT" else (0.0, float(np.percentile(image, 99.5)) or 1.0)
    scaled = np.clip((image - low) / (high - low), 0, 1) * 255
    return np.asarray(scaled, dtype=np.uint8)


def _sheet(tiles: Sequence[Image.Image], mode: str) -> Image.Image:
    rows = -(-len(tiles) // SHEET_COLUMNS)
    sheet = Image.new(mode, (SHEET_COLUMNS * TILE_PX, rows * TILE_PX))
    for number, tile in enumerate(tiles):
        sheet.paste(tile, ((number % SHEET_COLUMNS) * TILE_PX, (number // SHEET_COLUMNS) * TILE_PX))
    return sheet


def slice_sheet(stack: Stack, slices: Sequence[int]) -> bytes:
    """Return a JPEG sheet of slices, `SHEET_COLUMNS` tiles a row."""
    tiles = [
        Image.fromarray(grey(stack.values[i], stack.modality)).resize(
            (TILE_PX, TILE_PX), Image.Resampling.LANCZOS
        )
        for i in slices
    ]
    buffer = io.BytesIO()
    _sheet(tiles, "L").save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class SegmentMasks:
    """The segments of one SEG by tissue, on the slices of a stack: (slices, rows, columns)."""

    masks: dict[str, npt.NDArray[np.bool_]]


def tissue_of(segment: Dataset) -> str | None:
    """Return which outline colour a segment has, by its label."""
    label = str(segment.SegmentLabel).lower()
    return next((name for name in ("lipiodol", "necrosis", "viable", "liver") if name in label), None)


def read_segments(path: Path, stack: Stack) -> SegmentMasks:
    """Place the frames of a SEG on the slices of a stack by their positions."""
    seg = dcmread(path)
    frames = np.atleast_3d(seg.pixel_array)
    frames = frames.reshape(-1, seg.Rows, seg.Columns)
    tissues = {int(s.SegmentNumber): tissue_of(s) for s in seg.SegmentSequence}
    shared = seg.SharedFunctionalGroupsSequence[0]
    row, column = np.reshape(
        np.asarray(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float), (2, 3)
    )
    normal = np.cross(row, column)
    masks: dict[str, npt.NDArray[np.bool_]] = {}
    for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        tissue = tissues[int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)]
        if tissue is None:
            continue
        position = float(
            np.dot(normal, np.asarray(groups.PlanePositionSequence[0].ImagePositionPatient, float))
        )
        index = int(np.abs(stack.positions_mm - position).argmin())
        mask = masks.setdefault(tissue, np.zeros(stack.values.shape, dtype=bool))
        mask[index] |= frame > 0
    return SegmentMasks(masks)


def outline_sheet(segments: SegmentMasks, slices: Sequence[int]) -> bytes:
    """Return a transparent PNG sheet of outlines, laid out like `slice_sheet`."""
    tiles = []
    for index in slices:
        tile = np.zeros((TILE_PX, TILE_PX, 4), dtype=np.uint8)
        for tissue, colour in OUTLINE_RGBA.items():
            if tissue in segments.masks:
                plane = Image.fromarray(segments.masks[tissue][index]).resize((TILE_PX, TILE_PX))
                mask = np.asarray(plane, dtype=bool)
                tile[mask & ~ndimage.binary_erosion(mask)] = colour
        tiles.append(Image.fromarray(tile))
    buffer = io.BytesIO()
    _sheet(tiles, "RGBA").quantize(32).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def capture_png(path: Path) -> bytes:
    """Return a secondary capture as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(dcmread(path).pixel_array).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
