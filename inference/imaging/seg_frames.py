"""Frames of a segmentation object, placed on the grid of a series by their positions.

A frame is taken only where its pixels coincide with voxels of the grid, possibly with rows, columns
or slices in another order and over a part of the field of view. Nothing is resampled: a segmentation
on another grid is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from inference.case import Instance
from inference.errors import GeometryError, PixelsUnreadable
from inference.imaging.attributes import numbers, text
from inference.imaging.decoding import UNDECODABLE
from inference.imaging.limits import MAXIMUM_SEGMENTATION_PIXELS, check_claims
from inference.imaging.segmentations import LABEL_MAP_SEGMENTATION_STORAGE
from inference.results import Grid, Mask

COINCIDENCE = 0.1
"""Largest distance between a frame's pixel and the voxel it is put on, in voxels."""

FRACTION_LIMIT = 0.5
"""Share of Maximum Fractional Value from which a pixel of a FRACTIONAL segmentation counts."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one frame lies on the grid: its slice, and how its pixels run along rows and columns."""

    slice_index: int
    rows: slice
    columns: slice


def segment_masks(
    instance: Instance, grid: Grid, sources: Mapping[str, int], numbers_wanted: Iterable[int]
) -> dict[int, Mask]:
    """Return the mask of each wanted segment on the grid.

    Parameters
    ----------
    sources : mapping
        Slice index of each SOP Instance UID of the series; places frames that have no position.
    numbers_wanted : iterable of int
        Segment numbers.

    Returns
    -------
    dict of array of bool, (slices, rows, columns)

    Raises
    ------
    GeometryError
        The frames do not coincide with the grid.
    PixelsUnreadable
        The pixels cannot be decoded.
    """
    try:
        dataset = pydicom.dcmread(instance.path)
        check_claims(dataset, MAXIMUM_SEGMENTATION_PIXELS)
        frames = np.asarray(dataset.pixel_array)
    except UNDECODABLE as error:
        raise PixelsUnreadable("the segmentation cannot be decoded") from error
    frames = frames.reshape(-1, *frames.shape[-2:])
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    if len(per_frame) != len(frames):
        raise PixelsUnreadable("the segmentation has another number of frames than its header says")
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    masks = {n: np.zeros(grid.shape, dtype=bool) for n in numbers_wanted}
    inverse = np.linalg.inv(grid.affine)
    label_map = text(dataset, "SOPClassUID") == LABEL_MAP_SEGMENTATION_STORAGE
    for pixels, groups in zip(frames, per_frame, strict=True):
        for number, on in _segments_of_frame(dataset, pixels, groups, masks, label_map=label_map):
            if on.any():
                placement = _place(on.shape, groups, shared, grid, inverse, sources)
                masks[number][placement.slice_index, placement.rows, placement.columns] |= on
    return masks


def _segments_of_frame(
    dataset: Dataset, pixels: np.ndarray, groups: Dataset, masks: Mapping[int, Mask], *, label_map: bool
) -> list[tuple[int, Mask]]:
    if label_map:
        present = set(np.unique(pixels).tolist()) & set(masks)
        return [(n, pixels == n) for n in sorted(present)]
    identification = _group(groups, Dataset(), "SegmentIdentificationSequence")
    number = int(identification.ReferencedSegmentNumber) if identification is not None else 1
    if number not in masks:
        return []
    if text(dataset, "SegmentationType") == "FRACTIONAL":
        limit = FRACTION_LIMIT * float(dataset.get("MaximumFractionalValue") or 255)
        return [(number, pixels >= limit)]
    return [(number, pixels != 0)]


def _group(groups: Dataset, shared: Dataset, keyword: str) -> Dataset | None:
    """Return the first item of a functional group, per frame before shared."""
    sequence = groups.get(keyword) or shared.get(keyword)
    return sequence[0] if sequence else None


def _place(
    shape: Sequence[int],
    groups: Dataset,
    shared: Dataset,
    grid: Grid,
    inverse: np.ndarray,
    sources: Mapping[str, int],
) -> Placement:
    position = _values(groups, shared, "PlanePositionSequence", "ImagePositionPatient", 3)
    orientation = _values(groups, shared, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    spacing = _values(groups, shared, "PixelMeasuresSequence", "PixelSpacing", 2)
    if position is None or orientation is None or spacing is None:
        return _place_by_source(shape, groups, grid, sources)
    row_step = inverse[:3, :3] @ (np.array(orientation[3:]) * spacing[0])
    column_step = inverse[:3, :3] @ (np.array(orientation[:3]) * spacing[1])
    origin = inverse[:3, :3] @ np.array(position) + inverse[:3, 3]
    return _placement(origin, row_step, column_step, shape, grid)


def _placement(
    origin: np.ndarray, row_step: np.ndarray, column_step: np.ndarray, shape: Sequence[int], grid: Grid
) -> Placement:
    start = np.rint(origin)
    rows, columns = shape
    row_sign, column_sign = np.sign(row_step[1]), np.sign(column_step[2])
    far = np.array([0.0, row_sign * (rows - 1), column_sign * (columns - 1)])
    off = max(
        np.abs(origin - start).max(),
        np.abs(origin + row_step * (rows - 1) + column_step * (columns - 1) - start - far).max(),
        np.abs(row_step - (0, row_sign, 0)).max() * (rows - 1),
        np.abs(column_step - (0, 0, column_sign)).max() * (columns - 1),
    )
    if off > COINCIDENCE:
        raise GeometryError(
            "the segmentation lies on another grid than the images: its pixels do not coincide with theirs"
        )
    z, y, x = (int(v) for v in start)
    if not 0 <= z < grid.shape[0]:
        raise GeometryError("the segmentation has outlines above or below the images")
    return Placement(
        z,
        _run(y, int(row_sign), rows, grid.shape[1]),
        _run(x, int(column_sign), columns, grid.shape[2]),
    )


def _run(start: int, sign: int, count: int, size: int) -> slice:
    end = start + sign * (count - 1)
    if not (0 <= start < size and 0 <= end < size):
        raise GeometryError("the segmentation reaches beyond the field of view of the images")
    stop = end + sign
    return slice(start, stop if stop >= 0 else None, sign)


def _place_by_source(
    shape: Sequence[int], groups: Dataset, grid: Grid, sources: Mapping[str, int]
) -> Placement:
    """Place a frame without a position on the slice that it says it was drawn on."""
    derivation = _group(groups, Dataset(), "DerivationImageSequence") or Dataset()
    for item in derivation.get("SourceImageSequence") or ():
        index = sources.get(text(item, "ReferencedSOPInstanceUID"))
        if index is not None and tuple(shape) == grid.shape[1:]:
            return Placement(index, slice(None), slice(None))
    raise GeometryError(
        "a frame of the segmentation has neither a position nor a source image of this series"
    )


def _values(
    groups: Dataset, shared: Dataset, group: str, keyword: str, count: int
) -> tuple[float, ...] | None:
    item = _group(groups, shared, group)
    return None if item is None else numbers(item, keyword, count)
