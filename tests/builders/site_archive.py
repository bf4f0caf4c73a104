"""A tiny site: patients whose liver, vessels and tumours are formulas, scanned before and after treatment.

The follow-up is the same formulas seen through a known rigid and elastic displacement, so that the true
place of every point is known without any interpolation.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from inference.imaging.resampling import points_of
from inference.results import Grid
from inference.training.registration import ScanForRegistration
from tests.builders.studies import (
    ABNORMAL,
    ANATOMY,
    LIVER,
    NECROSIS,
    NEOPLASM,
    Phantom,
    SegSpec,
    SeriesSpec,
    slice_headers,
    uid,
    write_seg,
    write_series,
)

Points = npt.NDArray[np.float64]
"""(3, ...) LPS in mm, components (x, y, z)."""

SHAPE = (44, 112, 120)
SPACING_MM = (4.0, 2.7, 2.7)
_CENTRE = np.array([-25.0, 5.0, 0.0])
_RADII = np.array([88.0, 66.0, 62.0])
_HU = {
    "arterial": {"body": -10.0, "liver": 68.0, "vessel": 105.0, "tumour": 130.0, "necrosis": 25.0},
    "portal_venous": {"body": 0.0, "liver": 110.0, "vessel": 165.0, "tumour": 88.0, "necrosis": 25.0},
}
_SIGNAL = {
    "t1_arterial": {"body": 120.0, "liver": 260.0, "vessel": 380.0, "tumour": 420.0, "necrosis": 90.0},
    "t1_portal_venous": {"body": 150.0, "liver": 400.0, "vessel": 560.0, "tumour": 300.0, "necrosis": 90.0},
}
_LIPIODOL_HU = 480.0


@dataclass(frozen=True)
class Tumour:
    """A ball, in the baseline's space; `dead` is the share of its radius that is necrotic."""

    centre_mm: tuple[float, float, float]
    radius_mm: float
    dead: float = 0.0
    lipiodol: float = 0.0


@dataclass(frozen=True)
class Displacement:
    """Follow-up to baseline: a turn and shift, then waves of `wave_mm`."""

    degrees: float = 0.0
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    wave_mm: float = 0.0

    def to_baseline(self, points: Points) -> Points:
        a = np.deg2rad(self.degrees)
        turn = np.array([[np.cos(a), -np.sin(a), 0.0], [np.sin(a), np.cos(a), 0.0], [0.0, 0.0, 1.0]])
        shape = (3,) + (1,) * (points.ndim - 1)
        centre = _CENTRE.reshape(shape)
        moved = np.tensordot(turn, points - centre, axes=1) + centre
        x, y, z = points / 55.0
        waves = np.stack([np.sin(y), np.cos(x + 0.4), np.sin(x + z)]) * self.wave_mm
        return moved + np.array(self.shift_mm).reshape(shape) + waves

    def to_follow_up(self, points: Points) -> Points:
        """Invert by fixed-point iteration."""
        found = points.copy()
        for _ in range(80):
            found = found - (self.to_baseline(found) - points)
        return found


@dataclass(frozen=True)
class Scene:
    """What one patient has inside, as functions of the place in the baseline's space."""

    seed: int
    tumours: tuple[Tumour, ...]

    def vessels(self, points: Points) -> npt.NDArray[np.bool_]:
        rng = np.random.default_rng(self.seed)
        inside = np.zeros(points.shape[1:], dtype=bool)
        for _ in range(26):
            start = _CENTRE + rng.uniform(-0.25, 0.25, 3) * _RADII
            way = rng.normal(size=3)
            way /= np.linalg.norm(way)
            length, radius = rng.uniform(45, 80), rng.uniform(2.5, 5.0)
            offset = points - start.reshape((3,) + (1,) * (points.ndim - 1))
            along = np.clip(np.tensordot(way, offset, axes=1), 0.0, length)
            nearest = way.reshape((3,) + (1,) * (points.ndim - 1)) * along
            inside |= np.linalg.norm(offset - nearest, axis=0) <= radius
        return inside

    @staticmethod
    def liver(points: Points) -> npt.NDArray[np.bool_]:
        shape = (3,) + (1,) * (points.ndim - 1)
        q = (points - _CENTRE.reshape(shape)) / _RADII.reshape(shape)
        lobe = 0.12 * np.sin(q[0] * 4.0) + 0.1 * np.cos(q[2] * 5.0 + q[1])
        return np.asarray((q**2).sum(axis=0) <= 1.0 + lobe)


@dataclass(frozen=True)
class Scan:
    """One time point on its grid; `tumour` holds the number of each tumour."""

    grid: Grid
    volumes: Mapping[str, npt.NDArray[np.int16]]
    liver: npt.NDArray[np.bool_]
    tumour: npt.NDArray[np.uint8]
    necrosis: npt.NDArray[np.bool_]

    @property
    def modality(self) -> str:
        return "CT" if set(self.volumes) <= set(_HU) else "MR"

    def for_registration(self) -> ScanForRegistration:
        values = self.volumes["portal_venous"].astype(np.float32)
        return ScanForRegistration(self.grid, values, self.liver, self.tumour)


def scan(
    scene: Scene,
    displacement: Displacement | None = None,
    *,
    phases: Sequence[str] = ("arterial", "portal_venous"),
    origin_mm: tuple[float, float, float] = (-160.0, -145.0, -86.0),
) -> Scan:
    """Scan a scene; without a displacement as it is at baseline."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *SPACING_MM, 1.0
    affine[:3, 3] = origin_mm
    grid = Grid(SHAPE, affine, "1.2.3")
    points = points_of(grid)
    place = points if displacement is None else displacement.to_baseline(points)
    liver = scene.liver(place)
    tumour, necrosis = np.zeros(SHAPE, dtype=np.uint8), np.zeros(SHAPE, dtype=bool)
    dense = np.zeros(SHAPE, dtype=bool)
    for number, t in enumerate(scene.tumours, start=1):
        distance = np.linalg.norm(place - np.array(t.centre_mm).reshape(3, 1, 1, 1), axis=0)
        tumour[distance <= t.radius_mm] = number
        necrosis |= distance <= t.radius_mm * t.dead
        dense |= distance <= t.radius_mm * t.lipiodol
    body = ((points[0] / 148.0) ** 2 + (points[1] / 118.0) ** 2) <= 1.0
    vessels = scene.vessels(place) & liver
    rng = np.random.default_rng([scene.seed, 0 if displacement is None else 1])
    volumes = {}
    for phase in phases:
        level, air, least = (_HU[phase], -1000.0, -1024.0) if phase in _HU else (_SIGNAL[phase], 0.0, 0.0)
        values = np.where(body, level["body"], air)
        values[liver] = level["liver"]
        values[vessels] = level["vessel"]
        values[tumour > 0] = level["tumour"]
        values[necrosis] = level["necrosis"]
        values[dense] = _LIPIODOL_HU
        values += rng.normal(0.0, 7.0, SHAPE)
        volumes[phase] = np.rint(np.maximum(values, least)).astype(np.int16)
    return Scan(grid, volumes, liver, tumour, necrosis)


def write_scan(
    found: Scan, folder: Path, patient_id: str, when: dt.date, *, description: str | None = None
) -> str:
    """Write a scan as a DICOM study with a SEG; return its Study Instance UID.

    `description` is that of all series; by default each says its phase.
    """
    study = f"{patient_id}/{when.isoformat()}"

    def edit(_: int, ds) -> None:
        ds.PatientID = patient_id
        ds.PatientName = f"SECRET^{patient_id}"
        ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = when.strftime("%Y%m%d")

    x, y, z = (float(v) for v in found.grid.affine[:3, 3])
    headers = []
    for number, (phase, values) in enumerate(found.volumes.items(), start=1):
        spec = SeriesSpec(
            phase=phase,
            modality=found.modality,
            study=study,
            number=number,
            origin_mm=(x, y, z),
            description=description,
            edit=edit,
        )
        write_series(folder / phase, spec, values, SPACING_MM)
        headers = slice_headers(dataclasses.replace(spec, edit=None), SHAPE, SPACING_MM)
        for index, header in enumerate(headers):
            edit(index, header)
    _write_seg(found, folder / "seg.dcm", headers)
    return uid(study)


def _write_seg(found: Scan, path: Path, headers) -> None:
    masks = {"liver": found.liver | (found.tumour > 0)}
    segments = [("liver", ANATOMY, LIVER)]
    for number in range(1, int(found.tumour.max(initial=0)) + 1):
        if (found.tumour == number).any():
            masks[f"tumour_{number}"] = found.tumour == number
            segments.append((f"tumour_{number}", ABNORMAL, NEOPLASM))
    if found.necrosis.any():
        masks["necrosis"] = found.necrosis
        segments.append(("necrosis", ABNORMAL, NECROSIS))
    phantom = Phantom(shape=SHAPE, spacing_mm=SPACING_MM, tumours=())
    write_seg(path, headers, phantom, SegSpec(tuple(segments), masks))


# ------------------------------------------------------------------ a site

START = dt.date(2024, 3, 1)
BEFORE, AFTER = dt.date(2024, 2, 20), dt.date(2024, 5, 31)

TWO = (Tumour((-60.0, 10.0, 8.0), 24.0), Tumour((15.0, 0.0, -12.0), 12.0))
SHRUNK = (Tumour((-60.0, 10.0, 8.0), 15.0, dead=0.6), Tumour((15.0, 0.0, -12.0), 9.0))
WITH_NEW = (
    Tumour((-60.0, 10.0, 8.0), 28.0),
    Tumour((15.0, 0.0, -12.0), 12.0),
    Tumour((-40.0, -25.0, -25.0), 9.0),
)
MOVED = Displacement(degrees=3.0, shift_mm=(8.0, -6.0, 10.0), wave_mm=3.0)


@dataclass(frozen=True)
class SitePatient:
    """A patient of the archive."""

    patient_id: str
    seed: int
    before: tuple[Tumour, ...] = TWO
    after: tuple[Tumour, ...] = SHRUNK
    displacement: Displacement = MOVED
    centre: str = "Hospital A"
    regimen_id: str = "tace"


def write_patient(folder: Path, patient: SitePatient) -> tuple[dict[str, str], dict[str, str]]:
    """Write both studies; return their rows of the table."""
    place = folder / patient.patient_id
    before = scan(Scene(patient.seed, patient.before))
    after = scan(Scene(patient.seed, patient.after), patient.displacement, origin_mm=(-165.0, -140.0, -90.0))
    first = write_scan(before, place / "before", patient.patient_id, BEFORE)
    write_scan(after, place / "after", patient.patient_id, AFTER)
    rows = (
        {
            "patient_id": patient.patient_id,
            "study_instance_uid": first,
            "role": "baseline",
            "treatment_start": START.isoformat(),
            "regimen_id": patient.regimen_id,
            "centre": patient.centre,
            "os_months": "20.5",
            "os_event": "1",
            "pfs_months": "6",
            "pfs_event": "1",
            "albumin [g/dL]": "3.8",
            "cirrhosis": "yes",
        },
        {"patient_id": patient.patient_id, "study_date": AFTER.isoformat()},
    )
    return rows


COLUMNS = (
    "patient_id", "study_instance_uid", "study_date", "role", "no_tumour_left", "treatment_start",
    "regimen_id", "centre", "os_months", "os_event", "pfs_months", "pfs_event", "albumin [g/dL]", "cirrhosis",
)  # fmt: skip

Edit = Callable[[list[dict[str, str]]], None]


def write_table(path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str] = COLUMNS) -> Path:
    """Write rows of the table; absent cells are empty."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, columns, restval="")
        table.writeheader()
        table.writerows(rows)
    return path
