"""Decode the chosen series into volumes on checked grids."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from inference.case import Instance
from inference.errors import GeometryError, PixelsUnreadable, RejectedInput
from inference.imaging.attributes import text
from inference.imaging.geometry import (
    TILT_DEGREES,
    Plane,
    check_parallel,
    group_by_position,
    plane_of,
    same_grid,
    tilt_degrees,
    volume_affine,
)
from inference.imaging.pixels import rescale, stored_values
from inference.imaging.segmentations import referenced_series
from inference.imaging.selection import ChosenSeries, Selection
from inference.results import Baseline, Grid, RejectedSeries, SeriesVolume, StoredValues
from inference.uids import stand_in_frame_of_reference

_log = logging.getLogger(__name__)


def load(selection: Selection) -> Baseline:
    """Decode the chosen series; the primary must form a volume, others are left out when they do not.

    Raises
    ------
    RejectedInput
        No series was chosen.
    GeometryError
        The slices of the primary series do not form one regular volume.
    PixelsUnreadable
        Its pixels cannot be decoded.
    """
    if not selection.chosen:
        raise RejectedInput(_nothing_chosen(selection))
    warnings: list[str] = []
    rejected = list(selection.rejected)
    primary = _volume(selection.chosen[0], selection, warnings)
    volumes = [primary]
    for chosen in selection.chosen[1:]:
        try:
            volume = _volume(chosen, selection, warnings)
        except (GeometryError, PixelsUnreadable) as error:
            rejected.append(_reject(chosen, str(error)))
            continue
        if _same_space(primary.grid, volume.grid):
            volumes.append(volume)
        else:
            rejected.append(_reject(chosen, "its slices lie elsewhere than those of the primary series"))
    return Baseline(selection.study_instance_uid, tuple(volumes), tuple(rejected), tuple(warnings))


def _nothing_chosen(selection: Selection) -> str:
    if not selection.rejected:
        return "the study has no image series"
    reasons = "; ".join(sorted({r.reason for r in selection.rejected})[:4])
    return f"the study has no CT or MR series that can be used: {reasons}"


def _reject(chosen: ChosenSeries, reason: str) -> RejectedSeries:
    series = chosen.series
    return RejectedSeries(series.series_instance_uid, series.modality, series.description, reason)


def _same_space(a: Grid, b: Grid) -> bool:
    return a.frame_of_reference_uid == b.frame_of_reference_uid and same_grid(
        a.affine, a.shape, b.affine, b.shape
    )


def _volume(chosen: ChosenSeries, selection: Selection, warnings: list[str]) -> SeriesVolume:
    series = chosen.series
    planes = [plane_of(i.header) for i in series.instances]
    check_parallel(planes)
    stored = [_decode(i) for i in series.instances]
    kept = _one_at_each_position(planes, stored, warnings)
    affine = volume_affine([planes[k] for k in kept])
    tilt = tilt_degrees(affine)
    if tilt > TILT_DEGREES:
        warnings.append(
            f"The gantry was tilted by {tilt:.1f} degrees; distances are measured in the tilted slices."
        )
    instances = [series.instances[k] for k in kept]
    scaling = np.array([rescale(i.header) for i in instances])
    volume = np.stack([stored[k] for k in kept])
    volume.setflags(write=False)
    frame_of_reference = _frame_of_reference(instances, selection, series.series_instance_uid)
    return SeriesVolume(
        series_instance_uid=series.series_instance_uid,
        modality=series.modality,
        phase=chosen.phase,
        phase_evidence=chosen.evidence,
        grid=Grid(volume.shape, affine, frame_of_reference),
        stored=volume,
        slope=scaling[:, 0],
        intercept=scaling[:, 1],
        headers=tuple(i.header for i in instances),
    )


def _decode(instance: Instance) -> StoredValues:
    pixels = stored_values(instance.path)
    expected = (instance.header.get("Rows"), instance.header.get("Columns"))
    if pixels.shape != expected:
        raise PixelsUnreadable("an image has other rows and columns than its header says")
    return pixels


def _one_at_each_position(
    planes: Sequence[Plane], stored: Sequence[StoredValues], warnings: list[str]
) -> list[int]:
    """Return one slice for each position, ascending; the same image twice is dropped once, with a warning."""
    kept: list[int] = []
    dropped = 0
    for group in group_by_position(planes):
        first = group[0]
        different = [k for k in group[1:] if not np.array_equal(stored[k], stored[first])]
        if different:
            depth = float(planes[first].position @ planes[first].normal)
            raise GeometryError(
                f"{len(group)} different images lie at one position ({depth:.1f} mm along the slice normal): "
                "the series holds several phases or time points"
            )
        kept.append(first)
        dropped += len(group) - 1
    if dropped:
        warnings.append(
            f"{dropped} image(s) were in the series twice, with equal pixels; each was used once."
        )
    return kept


def _frame_of_reference(instances: Sequence[Instance], selection: Selection, series_instance_uid: str) -> str:
    """Return the Frame of Reference UID of a series, or a stand-in where the files have none.

    The stand-in is that of the most trusted segmentation drawn on the series, because it was used for
    this very space before; without one it is derived from the Series Instance UID.
    """
    uids = {text(i.header, "FrameOfReferenceUID") for i in instances}
    if len(uids) > 1:
        raise GeometryError("the slices of a series have different Frames of Reference")
    own = uids.pop()
    if own:
        return own
    for segmentation in selection.segmentations:
        theirs = text(segmentation.header, "FrameOfReferenceUID")
        if theirs and series_instance_uid in referenced_series(segmentation.header):
            return theirs
    return stand_in_frame_of_reference(series_instance_uid)
