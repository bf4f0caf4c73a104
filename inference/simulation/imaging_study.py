"""One visit of a simulated patient to a scanner: volumes and true segments, before they are written."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from pydicom.sr.coding import Code

from inference.case import Phase
from inference.models.mechanistic.sampling import resample
from inference.randomness import RandomStreams
from inference.results import Box, FloatArray, Mask, StoredValues, Voxels
from inference.simulation.acquisition import Protocol, Scanner
from inference.simulation.anatomy import Anatomy
from inference.simulation.disease import Appearance, TumourState
from inference.simulation.displacement import Displacement, Motion
from inference.simulation.scan import add_noise, scan
from inference.simulation.shapes import Field, Point
from inference.simulation.tissues import Structure

_ANATOMY = Code("123037004", "SCT", "Anatomical Structure")
_ABNORMAL = Code("49755003", "SCT", "Morphologically Altered Structure")
LIVER = Code("10200004", "SCT", "Liver")
CARCINOMA = Code("109841003", "SCT", "Liver cell carcinoma")
NECROSIS = Code("6574001", "SCT", "Necrosis")
LIPIODOL = Code("HC102", "99HEPATOCAST", "Retained iodized oil")
AORTA = Code("15825003", "SCT", "Aorta")
PORTAL_VEIN = Code("32764006", "SCT", "Portal vein")
KIDNEY = Code("64033007", "SCT", "Kidney")


@dataclass(frozen=True, slots=True)
class StudySegment:
    """One true structure of a study, on the grid of its images."""

    label: str
    mask: Mask
    kind: Code

    @property
    def category(self) -> Code:
        """Whether it is anatomy or disease."""
        return _ABNORMAL if self.kind in (CARCINOMA, NECROSIS, LIPIODOL) else _ANATOMY


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is examined; the same at every visit."""

    patient_id: str
    sex: str = "M"
    age_years: int = 61


@dataclass(frozen=True, slots=True)
class ImagingStudy:
    """One study as it is written to DICOM; arrays are (slices, rows, columns), feet first.

    Attributes
    ----------
    key : str
        All UIDs of the study derive from it, the frame of reference too: every visit has its own.
    affine : maps (slice, row, column, 1) to LPS in mm
    volumes : HU in CT, stored values in MR
    """

    subject: Subject
    key: str
    when: dt.datetime
    step_mm: Point
    affine: FloatArray
    volumes: Mapping[Phase, StoredValues]
    segments: tuple[StudySegment, ...]
    scanner: Scanner = Scanner.STANDARD


@dataclass(frozen=True, slots=True)
class Visit:
    """When and how a patient is scanned.

    Attributes
    ----------
    streams : of the noise; derive them from the patient's and the visit's number
    visible_deposit : typical deposits of lipiodol from which a voxel counts as covered
    """

    when: dt.datetime
    protocols: Mapping[Phase, Protocol]
    streams: RandomStreams
    displacement: Displacement = field(default_factory=Displacement)
    scanner: Scanner = Scanner.STANDARD
    visible_deposit: float = 0.28


def acquire_study(
    subject: Subject, visit: Visit, anatomy: Anatomy, state: TumourState | None, appearance: Appearance
) -> ImagingStudy:
    """Scan a patient as it is at one visit.

    Parameters
    ----------
    state : TumourState or None
        On the grid of the anatomy; `state_on` brings it there from another grid of the same person.

    Raises
    ------
    ValueError
        The protocols are of CT and of MR: those are two studies.
    """
    if len({p.modality for p in visit.protocols.values()}) != 1:
        raise ValueError("one study is of one modality: acquire CT and MR as two studies")
    motion = Motion(visit.displacement, anatomy.field, anatomy.step_mm)
    volumes = {}
    for phase, protocol in visit.protocols.items():
        rng = visit.streams.derive("noise", phase.value)
        clean = motion(scan(anatomy, state, appearance, protocol.clean(), rng))
        volumes[phase] = np.rint(add_noise(clean, anatomy, protocol, rng)).astype(np.int32)
    shape = anatomy.labels.shape
    return ImagingStudy(
        subject=subject,
        key="\x1f".join([subject.patient_id, visit.when.isoformat(), *sorted(visit.protocols)]),
        when=visit.when,
        step_mm=anatomy.step_mm,
        affine=grid_affine((shape[0], shape[1], shape[2]), anatomy.step_mm, anatomy.centre_mm),
        volumes=volumes,
        segments=tuple(_segments(anatomy, state, motion, visit.visible_deposit)),
        scanner=visit.scanner,
    )


def _segments(
    anatomy: Anatomy, state: TumourState | None, motion: Motion, visible: float
) -> Iterator[StudySegment]:
    def moved(share: Voxels | Mask) -> Mask:
        return np.asarray(motion(share.astype(np.float32)) >= 0.5)

    yield StudySegment("Liver", moved(anatomy.liver), LIVER)
    if state is not None:
        yield from _disease(anatomy, state, motion, visible)
    kidney = np.isin(anatomy.labels, [Structure.KIDNEY_CORTEX, Structure.KIDNEY_MEDULLA])
    for label, share, kind in (
        ("Aorta", anatomy.labels == Structure.AORTA, AORTA),
        ("Portal vein", (anatomy.portal >= 0.5) & (anatomy.liver_depth > -20.0), PORTAL_VEIN),
        ("Kidney", kidney, KIDNEY),
    ):
        mask = moved(share)
        if mask.any():
            yield StudySegment(label, mask, kind)


def _disease(anatomy: Anatomy, state: TumourState, motion: Motion, visible: float) -> Iterator[StudySegment]:
    def whole(part: Voxels) -> Voxels:
        full = np.zeros(anatomy.labels.shape, np.float32)
        full[state.box.slices] = part
        return motion(full)

    liver = motion(anatomy.liver) >= 0.5
    tumour = np.zeros(anatomy.labels.shape, bool)
    for number in range(1, int(state.lesion.max(initial=0)) + 1):
        mask = (whole(state.lesion == number) >= 0.5) & liver
        tumour |= mask
        if mask.any():
            yield StudySegment(f"Tumour {number}", mask, CARCINOMA)
    covered = tumour & (whole(state.lipiodol) > visible)
    dead = tumour & ~covered & (whole(state.necrosis) > whole(state.viable))
    for label, mask, kind in (("Necrosis", dead, NECROSIS), ("Lipiodol", covered, LIPIODOL)):
        if mask.any():
            yield StudySegment(label, mask, kind)


def grid_affine(shape: tuple[int, int, int], step_mm: Point, centre_mm: Point) -> FloatArray:
    """Return the affine of a grid of the anatomy: (slice, row, column, 1) to LPS in mm."""
    affine = np.zeros((4, 4))
    dz, dy, dx = step_mm
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = dz, dy, dx, 1.0
    half = [(n - 1) * s / 2.0 for n, s in zip(shape, step_mm, strict=True)]
    z, y, x = (c - h for c, h in zip(centre_mm, half, strict=True))
    affine[:3, 3] = (x, y, z)
    return affine


def state_on(state: TumourState, source: Anatomy, target: Anatomy) -> TumourState:
    """Bring tumours to another grid of the same person, by linear interpolation.

    Parameters
    ----------
    source, target : Anatomy
        Built by the same generator and habitus on two grids.
    """
    begin = [float(a.flat[i]) for a, i in zip(_axes(source.field), state.box.start, strict=True)]
    axes = _axes(target.field)
    spans = [(b, b + (n - 1) * s) for b, n, s in zip(begin, state.box.shape, source.step_mm, strict=True)]
    ends = [
        (int(np.searchsorted(a, low)), int(np.searchsorted(a, high, side="right")))
        for a, (low, high) in zip(axes, spans, strict=True)
    ]
    box = Box((ends[0][0], ends[1][0], ends[2][0]), (ends[0][1], ends[1][1], ends[2][1]))
    z, y, x = (
        (a[low:high] - b) / s for a, (low, high), b, s in zip(axes, ends, begin, source.step_mm, strict=True)
    )

    def there(values: Voxels) -> Voxels:
        return resample(values, (z, y, x))

    viable, necrosis = there(state.viable), there(state.necrosis)
    lesion = np.zeros(viable.shape, np.uint8)
    best = np.zeros(viable.shape, np.float32)
    for number in np.unique(state.lesion[state.lesion > 0]):
        share = there((state.lesion == number).astype(np.float32))
        lesion[share > np.maximum(best, 0.5)] = number
        best = np.maximum(best, share)
    return TumourState(
        months=state.months,
        box=box,
        viable=viable,
        necrosis=necrosis,
        lipiodol=there(state.lipiodol),
        vascularity=there(state.vascularity),
        thrombus=there(state.thrombus),
        lesion=lesion,
    )


def _axes(grid: Field) -> tuple[FloatArray, FloatArray, FloatArray]:
    return (
        grid.z.ravel().astype(np.float64),
        grid.y.ravel().astype(np.float64),
        grid.x.ravel().astype(np.float64),
    )
