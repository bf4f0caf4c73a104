"""A site's folder of DICOM studies, and which of its studies the rows of the table mean.

Only headers are read here. Whatever does not match is a problem of its row, and all are found at once.
"""

from __future__ import annotations

import csv
import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from inference.errors import TrainingDataError
from inference.imaging.attributes import text
from inference.models.protocols import Progress
from inference.training.site_table import PatientRows, Problem, Role, StudyRow, TableRefused

_log = logging.getLogger(__name__)

DAYS_PER_MONTH = 30.4375

_TAGS = ("PatientID", "IssuerOfPatientID", "StudyInstanceUID", "StudyDate")

Key = tuple[str, str]
"""Issuer of Patient ID and Patient ID."""


@dataclass(frozen=True, slots=True)
class ArchiveStudy:
    """The files of one study; `patients` has more than one key where the files disagree."""

    study_instance_uid: str
    patients: frozenset[Key]
    dates: frozenset[str]
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Archive:
    """All studies of a folder, by Study Instance UID."""

    studies: Mapping[str, ArchiveStudy]


@dataclass(frozen=True, slots=True)
class MatchedStudy:
    """A row and its study.

    Attributes
    ----------
    months : float
        From the start of treatment to the study; not above 0 for a baseline.
    """

    row: StudyRow
    study: ArchiveStudy
    role: Role
    months: float


@dataclass(frozen=True, slots=True)
class MatchedPatient:
    """A patient with baseline and follow-ups, the follow-ups in the order of time.

    Attributes
    ----------
    key : issuer and Patient ID of the files
    unused : studies before the baseline
    """

    rows: PatientRows
    key: Key
    baseline: MatchedStudy
    follow_ups: tuple[MatchedStudy, ...]
    unused: tuple[MatchedStudy, ...]


def index_archive(folder: Path, progress: Progress) -> Archive:
    """Read the headers of all DICOM files of a folder; other files are passed over.

    Raises
    ------
    TrainingDataError
        There is no folder, or no DICOM file in it.
    """
    if not folder.is_dir():
        raise TrainingDataError("the folder of DICOM studies is not there")
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    patients: dict[str, set[Key]] = defaultdict(set)
    dates: dict[str, set[str]] = defaultdict(set)
    paths: dict[str, list[Path]] = defaultdict(list)
    for count, path in enumerate(files, start=1):
        progress("reading headers", count / len(files))
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
        except (InvalidDicomError, EOFError, OSError, ValueError):
            continue
        uid = text(header, "StudyInstanceUID").strip()
        if not uid:
            continue
        patients[uid].add((text(header, "IssuerOfPatientID").strip(), text(header, "PatientID").strip()))
        dates[uid].add(text(header, "StudyDate").strip())
        paths[uid].append(path)
    if not paths:
        raise TrainingDataError("no DICOM file was found in the folder of studies")
    _log.info("%d studies in %d files", len(paths), len(files))
    return Archive(
        {
            uid: ArchiveStudy(uid, frozenset(patients[uid]), frozenset(dates[uid]), tuple(paths[uid]))
            for uid in sorted(paths)
        }
    )


def read_keys(path: Path) -> Mapping[str, Key]:
    """Read a pseudonym table: CSV with the columns ``key``, ``patient_id`` and, optionally, ``issuer``.

    Raises
    ------
    TrainingDataError
        It cannot be read, lacks a column, or has a key twice.
    """
    keys: dict[str, Key] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream), start=2):
                key, patient = (row.get("key") or "").strip(), (row.get("patient_id") or "").strip()
                if not key or not patient:
                    raise TrainingDataError(f"the pseudonym table lacks key or patient_id in row {number}")
                if key in keys:
                    raise TrainingDataError(f"the key of row {number} is in the pseudonym table twice")
                keys[key] = ((row.get("issuer") or "").strip(), patient)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingDataError(f"the pseudonym table cannot be read: {type(error).__name__}") from error
    return keys


# ------------------------------------------------------------------ rows to studies


def match_studies(
    patients: Sequence[PatientRows], archive: Archive, keys: Mapping[str, Key] | None = None
) -> tuple[MatchedPatient, ...]:
    """Find the study of every row, and the role of every study.

    Parameters
    ----------
    keys : mapping, optional
        From the keys of the table to the patients of the files.

    Raises
    ------
    TableRefused
        With every row whose study is absent, ambiguous or another patient's, and every patient without
        exactly one baseline or without a follow-up.
    """
    problems: list[Problem] = []
    by_patient: dict[Key, list[ArchiveStudy]] = defaultdict(list)
    for study in archive.studies.values():
        for owner in study.patients:
            by_patient[owner].append(study)
    matched: list[MatchedPatient | None] = []
    for patient in patients:
        key = patient.key if keys is None else keys.get(patient.key[1])
        if key is None:
            row = patient.studies[0].row
            problems.append(Problem(row, "patient_id", "the key is not in the pseudonym table"))
            continue
        matched.append(_match(patient, key, archive, by_patient[key], problems))
    _studies_once(matched, problems)
    if problems:
        raise TableRefused(problems)
    return tuple(m for m in matched if m is not None)


def _studies_once(matched: Sequence[MatchedPatient | None], problems: list[Problem]) -> None:
    """Find studies that two rows name, one by its date and one by its UID."""
    seen: dict[str, int] = {}
    for patient in matched:
        if patient is None:
            continue
        for item in (patient.baseline, *patient.follow_ups, *patient.unused):
            first = seen.setdefault(item.study.study_instance_uid, item.row.row)
            if first != item.row.row:
                problems.append(Problem(item.row.row, "study_date", f"is the study of row {first}"))


def _match(
    patient: PatientRows,
    key: Key,
    archive: Archive,
    candidates: Sequence[ArchiveStudy],
    problems: list[Problem],
) -> MatchedPatient | None:
    before = len(problems)
    found: list[MatchedStudy] = []
    for row in patient.studies:
        study = _find(row, key, archive, candidates, problems)
        date = None if study is None else _date_of(row, study, problems)
        if study is None or date is None:
            continue
        role = _role(row, date, patient.treatment_start, problems)
        if role is not None:
            months = (date - patient.treatment_start).days / DAYS_PER_MONTH
            found.append(MatchedStudy(row, study, role, months))
    if len(problems) > before:
        return None
    return _arranged(patient, key, found, problems)


def _find(
    row: StudyRow, key: Key, archive: Archive, candidates: Sequence[ArchiveStudy], problems: list[Problem]
) -> ArchiveStudy | None:
    if row.study_instance_uid is None:
        return _find_by_date(row, candidates, problems)
    study = archive.studies.get(row.study_instance_uid)
    if study is None:
        problems.append(Problem(row.row, "study_instance_uid", "the study is not in the folder"))
    elif study.patients != frozenset([key]):
        reason = "the files of the study carry another Patient ID or issuer than the row"
        problems.append(Problem(row.row, "patient_id", reason))
    else:
        return study
    return None


def _find_by_date(
    row: StudyRow, candidates: Sequence[ArchiveStudy], problems: list[Problem]
) -> ArchiveStudy | None:
    wanted = "" if row.study_date is None else row.study_date.strftime("%Y%m%d")
    fit = [s for s in candidates if s.dates == frozenset([wanted])]
    if len(fit) == 1 and len(fit[0].patients) == 1:
        return fit[0]
    if not candidates:
        problems.append(
            Problem(row.row, "patient_id", "no study of this Patient ID and issuer is in the folder")
        )
    elif not fit:
        problems.append(Problem(row.row, "study_date", "the patient has no study of this date in the folder"))
    elif len(fit) > 1:
        reason = f"the patient has {len(fit)} studies of this date; give study_instance_uid"
        problems.append(Problem(row.row, "study_date", reason))
    else:
        reason = "the files of the study carry several Patient IDs or issuers"
        problems.append(Problem(row.row, "patient_id", reason))
    return None


def _date_of(row: StudyRow, study: ArchiveStudy, problems: list[Problem]) -> dt.date | None:
    """Return Study Date; the table's date must agree, and stands in where the files have none."""
    written = {d for d in study.dates if d}
    try:
        dates = {dt.datetime.strptime(d, "%Y%m%d").date() for d in written}  # noqa: DTZ007 - a date has no zone
    except ValueError:
        problems.append(Problem(row.row, "study_date", "the Study Date in the files is no date"))
        return None
    if row.study_date is not None:
        dates.add(row.study_date)
    if len(dates) == 1:
        return dates.pop()
    reason = (
        "the Study Date of the files and that of the table differ, or the files have several"
        if dates
        else "neither the table nor the files give the date of the study"
    )
    problems.append(Problem(row.row, "study_date", reason))
    return None


def _role(row: StudyRow, date: dt.date, start: dt.date, problems: list[Problem]) -> Role | None:
    if row.role is None and date == start:
        reason = "the study is of the day on which treatment began; say whether it was before or after"
        problems.append(Problem(row.row, "role", reason))
        return None
    if row.role is None:
        return Role.BASELINE if date < start else Role.FOLLOW_UP
    if row.role is Role.BASELINE and date > start:
        problems.append(Problem(row.row, "role", "a baseline cannot be after the start of treatment"))
    elif row.role is Role.FOLLOW_UP and date <= start:
        problems.append(
            Problem(row.row, "role", "a follow-up must be after the day on which treatment began")
        )
    else:
        return row.role
    return None


def _arranged(
    patient: PatientRows, key: Key, found: Sequence[MatchedStudy], problems: list[Problem]
) -> MatchedPatient | None:
    before = sorted((m for m in found if m.role is Role.BASELINE), key=lambda m: m.months)
    after = sorted((m for m in found if m.role is Role.FOLLOW_UP), key=lambda m: m.months)
    row = patient.studies[0].row
    said = [m for m in before if m.row.role is Role.BASELINE]
    if len(said) > 1:
        problems += [Problem(m.row.row, "role", "the patient has another baseline") for m in said[1:]]
        return None
    if not before:
        problems.append(Problem(row, "role", "the patient has no baseline study"))
        return None
    if not after:
        problems.append(Problem(row, "role", "the patient has no follow-up study"))
        return None
    days = [m.months for m in (*before, *after)]
    if len(set(days)) < len(days):
        problems.append(
            Problem(row, "study_date", "two studies of the patient are of one day; keep one of them")
        )
        return None
    baseline = said[0] if said else before[-1]
    unused = tuple(m for m in before if m is not baseline)
    return MatchedPatient(patient, key, baseline, tuple(after), unused)
