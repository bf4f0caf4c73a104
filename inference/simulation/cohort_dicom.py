"""Simulated patients as a hospital would have them: DICOM studies, and a table of dates and regimens.

``archive/PATIENT/baseline`` and ``archive/PATIENT/follow_up_MM`` hold the studies of the treatment that
the patient had; with ``studies.csv`` they are what ``hepatocast cohort prepare`` reads.
``counterfactual/PATIENT/REGIMEN_MM`` holds what would have been seen under another regimen.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from inference.clinical.variables import VARIABLES
from inference.errors import TrainingDataError
from inference.randomness import RandomStreams
from inference.settings import Frozen
from inference.simulation.acquisition import Scanner
from inference.simulation.anatomy import STUDY_CENTRE_MM, Anatomy, build_anatomy
from inference.simulation.cohort_patient import Request, SimulatedPatient
from inference.simulation.dicom_study import study_uid, write_imaging_study
from inference.simulation.disease import TumourState
from inference.simulation.displacement import Displacement, draw_displacement
from inference.simulation.imaging_study import Subject, Visit, acquire_study, state_on
from inference.simulation.shapes import Point
from inference.simulation.tumours import DAYS_PER_MONTH

_FIRST_DAY = dt.datetime(2020, 1, 6, 8, 0, tzinfo=dt.UTC)
_DAYS_TO_TREATMENT = 10
_LEFT_ML = 0.05

_SITE_COLUMNS = (
    "patient_id",
    "study_instance_uid",
    "study_date",
    "role",
    "no_tumour_left",
    "treatment_start",
    "regimen_id",
    "centre",
    "os_months",
    "os_event",
    "pfs_months",
    "pfs_event",
)
_CLINICAL = {f"{v.name} [{v.unit}]" if v.unit else v.name: v.name for v in VARIABLES.values()}
COLUMNS: tuple[str, ...] = (*_SITE_COLUMNS, *_CLINICAL)
"""Columns of ``studies.csv``, as ``hepatocast cohort prepare`` reads it."""


class StudyGrid(Frozen):
    """Grid of the written images."""

    shape: tuple[int, int, int] = (76, 288, 288)
    step_mm: Point = (3.0, 1.4, 1.4)


@dataclass(frozen=True, slots=True)
class _Clinic:
    """Where one patient is examined."""

    patient: SimulatedPatient
    anatomy: Anatomy
    scanner: Scanner
    folder: Path

    @property
    def subject(self) -> Subject:
        clinical = self.patient.person.clinical
        age = int(float(clinical["age"]))
        return Subject(f"SIM-{self.patient.patient_id}", str(clinical["sex"]), age)

    @property
    def baseline_day(self) -> dt.datetime:
        number = self.patient.number
        return _FIRST_DAY + dt.timedelta(days=number % 1500, minutes=10 * (number % 50))

    @property
    def treatment_day(self) -> dt.datetime:
        return self.baseline_day + dt.timedelta(days=_DAYS_TO_TREATMENT)

    def day(self, months: float) -> dt.datetime:
        return self.treatment_day + dt.timedelta(days=round(months * DAYS_PER_MONTH))

    def write(self, state: TumourState, when: dt.datetime, where: Displacement, path: str, key: str) -> str:
        """Scan, write one study under a path of the folder, and return its Study Instance UID.

        `key` tells studies of the same day under two regimens apart.
        """
        acquired = self.patient.acquired
        here = state_on(state, acquired.anatomy, self.anatomy)
        streams = RandomStreams(int(acquired.streams.derive("visit", key).integers(2**62)))
        visible = self.patient.course.parameters.lipiodol.visible
        visit = Visit(when, acquired.protocols, streams, where, self.scanner, visible)
        study = acquire_study(self.subject, visit, self.anatomy, here, self.patient.person.appearance)
        study = replace(study, key="\x1f".join([study.key, key]))
        write_imaging_study(study, self.folder / path)
        return study_uid(study)


def write_studies(
    patient: SimulatedPatient,
    row: Mapping[str, object],
    request: Request,
    folder: Path,
    grid: StudyGrid,
) -> list[dict[str, object]]:
    """Write the studies of one patient; return its rows of ``studies.csv``.

    Parameters
    ----------
    row : Mapping
        The patient's row of ``patients.csv``.

    Raises
    ------
    TrainingDataError
        The patient was simulated without the state of its tumours.
    """
    acquired = patient.acquired
    rng = acquired.streams.derive("anatomy")
    anatomy = build_anatomy(grid.shape, grid.step_mm, rng, acquired.anatomy.habitus, STUDY_CENTRE_MM)
    scanner = Scanner.SHIFTED if request.shifted else Scanner.STANDARD
    clinic = _Clinic(patient, anatomy, scanner, folder)
    if patient.baseline.state is None:
        raise TrainingDataError("the baseline of a simulated patient has no state")
    home = f"archive/{patient.patient_id}"
    uid = clinic.write(patient.baseline.state, clinic.baseline_day, Displacement(), f"{home}/baseline", "")
    rows = [_row(clinic, uid, clinic.baseline_day, "baseline") | _of_patient(row)]
    for regimen_id, months in patient.imaged:
        state = patient.state(regimen_id, months)
        observed = regimen_id == patient.regimen_id
        # Counterfactuals of one month lie alike: they differ by the treatment alone.
        where = draw_displacement(acquired.streams.derive("lies", months))
        name = f"{months:02.0f}"
        path = (
            f"{home}/follow_up_{name}"
            if observed
            else f"counterfactual/{patient.patient_id}/{regimen_id}_{name}"
        )
        uid = clinic.write(state, clinic.day(months), where, path, f"{regimen_id} {months:g}")
        if observed:
            left = float((state.viable + state.necrosis).sum()) * patient.course.disease.voxel_ml > _LEFT_ML
            follow_up = _row(clinic, uid, clinic.day(months), "follow-up")
            rows.append(follow_up | {"no_tumour_left": "" if left else "yes"})
    return rows


def _row(clinic: _Clinic, uid: str, when: dt.datetime, role: str) -> dict[str, object]:
    return {
        "patient_id": clinic.subject.patient_id,
        "study_instance_uid": uid,
        "study_date": when.date().isoformat(),
        "role": role,
        "regimen_id": clinic.patient.regimen_id,
        "treatment_start": clinic.treatment_day.date().isoformat(),
        "centre": clinic.patient.person.source,
    }


def _of_patient(row: Mapping[str, object]) -> dict[str, object]:
    """Return what the table says once of a patient."""
    fate = {name: row[name] for name in ("os_months", "os_event", "pfs_months", "pfs_event")}
    known = {column: row[name] for column, name in _CLINICAL.items() if row.get(name) is not None}
    return {**fate, **known}
