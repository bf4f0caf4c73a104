"""Decode the chosen series into volumes on checked grids."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from inference.case import Instance, Phase
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
from inference.imaging.limits import check_series
from inference.imaging.phase_conclusion import rejected_as_same_phase, rejection, with_settled
from inference.imaging.phase_evidence import PhaseReader, SeriesEvidence, evidence_of, settle, with_image
from inference.imaging.pixels import rescale, stored_values
from inference.imaging.regridding import overlap, regridded
from inference.imaging.segmentations import referenced_series
from inference.imaging.selection import PRIMARY_ORDER, ChosenSeries, Selection
from inference.results import Baseline, Grid, RejectedSeries, SeriesVolume, StoredValues
from inference.uids import stand_in_frame_of_reference

_log = logging.getLogger(__name__)


def load(selection: Selection, reader: PhaseReader | None = None) -> Baseline:
    """Decode the chosen series; the primary must form a volume, others are left out when they do not.

    Series of other phases that share the primary's space but not its grid are interpolated on it, and
    a warning says so.

    Parameters
    ----------
    reader : PhaseReader, optional
        Tells phases from images. With it, phases rest on attributes and images; which series is primary
        too, unless a segmentation was drawn on one. Without it attributes alone decide.

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
    loading = _Loading(selection)
    volumes = [loading.primary(selection.chosen[0]), *loading.others(selection.chosen[1:])]
    if reader is not None:
        volumes = loading.by_images(volumes, reader)
    volumes = loading.on_one_grid(volumes)
    return Baseline(
        selection.study_instance_uid, tuple(volumes), tuple(loading.rejected), tuple(loading.warnings)
    )


class _Loading:
    """What was loaded of one study so far, with the reasons and warnings that people read."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self.rejected = list(selection.rejected)
        self.warnings: list[str] = []

    def primary(self, chosen: ChosenSeries) -> SeriesVolume:
        """Decode the series that must form a volume."""
        return _volume(chosen, self._selection, self.warnings)

    def others(self, chosen: Sequence[ChosenSeries]) -> list[SeriesVolume]:
        """Decode series that may be left out."""
        found = []
        for one in chosen:
            try:
                found.append(_volume(one, self._selection, self.warnings))
            except (GeometryError, PixelsUnreadable) as error:
                self.rejected.append(_reject(one, str(error)))
        return found

    def by_images(self, volumes: list[SeriesVolume], reader: PhaseReader) -> list[SeriesVolume]:
        """Return one series for each phase, as attributes and images tell it; the primary first."""
        asked = [*volumes, *self._alternatives()]
        chosen = len(volumes)
        told = [_seen(volume, reader) for volume in asked]
        settled = settle(told)
        self.warnings += [s.warning for s in settled[:chosen] if s.warning]
        named = [with_settled(volume, s) for volume, s in zip(asked, settled, strict=True)]
        kept = self._one_of_each(named, [s.probability for s in settled], chosen)
        drawn_on = self._drawn_on()
        kept.sort(key=lambda v: (v.series_instance_uid not in drawn_on, PRIMARY_ORDER.index(v.phase)))
        return kept

    def _alternatives(self) -> list[SeriesVolume]:
        """Decode other acquisitions of a phase; what cannot be decoded has its reason already."""
        found = []
        for one in self._selection.alternatives:
            try:
                found.append(_volume(one, self._selection, []))
            except (GeometryError, PixelsUnreadable):
                _log.info("another acquisition of a chosen phase does not form a volume")
        return found

    def _one_of_each(
        self, named: list[SeriesVolume], probabilities: list[float], chosen: int
    ) -> list[SeriesVolume]:
        """Keep the surest series of each phase; alternatives only for phases that would be missing."""
        drawn_on = self._drawn_on()
        ranked = sorted(
            range(len(named)),
            key=lambda k: (named[k].series_instance_uid not in drawn_on, k >= chosen, -probabilities[k]),
        )
        kept: list[SeriesVolume] = []
        for k in ranked:
            volume = named[k]
            taken = any(v.phase is volume.phase for v in kept)
            if k >= chosen:
                self._consider(volume, kept, wanted=not taken and volume.phase is not Phase.UNKNOWN)
            elif taken and volume.phase is not Phase.UNKNOWN:
                self.rejected.append(rejected_as_same_phase(volume))
            else:
                kept.append(volume)
        return kept

    def _consider(self, volume: SeriesVolume, kept: list[SeriesVolume], *, wanted: bool) -> None:
        if not wanted:
            return
        uid = volume.series_instance_uid
        self.rejected = [r for r in self.rejected if r.series_instance_uid != uid]
        self.warnings.append(f"Another acquisition was taken for a phase. {volume.phase_evidence}")
        kept.append(volume)

    def _drawn_on(self) -> tuple[str, ...]:
        segmentations = self._selection.segmentations
        return referenced_series(segmentations[0].header) if segmentations else ()

    def on_one_grid(self, volumes: list[SeriesVolume]) -> list[SeriesVolume]:
        """Return the series on the primary's grid; what lies elsewhere is left out with its reason."""
        primary = volumes[0]
        kept = [primary]
        for volume in volumes[1:]:
            if _same_space(primary.grid, volume.grid):
                kept.append(volume)
                continue
            reason = _apart(primary.grid, volume.grid)
            if reason is not None:
                self.rejected.append(rejection(volume, reason))
                continue
            kept.append(regridded(volume, primary))
            name = str(volume.phase.value).replace("_", " ")
            self.warnings.append(
                f"The {name} series has other slices or another field of view than the primary series; it "
                "was interpolated on the primary's grid."
            )
        return kept


LEAST_OVERLAP = 0.05
"""Least share of the primary's volume that another series must cover; the liver is asked for later."""


def _apart(primary: Grid, other: Grid) -> str | None:
    if primary.frame_of_reference_uid != other.frame_of_reference_uid:
        return "its frame of reference is not that of the primary series, so that its place is not known"
    if overlap(other, primary) < LEAST_OVERLAP:
        return "its slices lie elsewhere than those of the primary series"
    return None


def _seen(volume: SeriesVolume, reader: PhaseReader) -> SeriesEvidence:
    """Return what attributes and the image say of one series."""
    evidence = evidence_of(volume.headers, volume.modality)
    if volume.modality == "MR" and evidence.attributes.phase is Phase.T2:
        return evidence
    seen = reader.from_image(volume.values(), volume.grid, volume.modality)
    return with_image(evidence, seen, "the image")


def _nothing_chosen(selection: Selection) -> str:
    if not selection.rejected:
        return "the study has no image series of CT or MR"
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
    rows, columns = (max(_size(i, keyword) for i in series.instances) for keyword in ("Rows", "Columns"))
    check_series(rows, columns, len(planes))
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


def _size(instance: Instance, keyword: str) -> int:
    value = instance.header.get(keyword)
    return value if isinstance(value, int) else 0


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
