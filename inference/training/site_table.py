"""A site's table: which studies belong to whom, when treatment began, with what, and what came of it.

One row for each study. What is said of the patient (treatment, centre, survival, clinical values) may
stand on one of the patient's rows or on all, but never differently. Nothing is guessed, and all problems
of a table are found before any image is read.
"""

from __future__ import annotations

import csv
import datetime as dt
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from inference.case import ClinicalRecord, ClinicalValue
from inference.clinical.files import clinical_value
from inference.clinical.variables import VARIABLES
from inference.errors import ClinicalError, TrainingDataError

PATIENT_LEVEL: Mapping[str, str] = {
    "treatment_start": "date of the first session or dose, YYYY-MM-DD",
    "regimen_id": "id of a regimen of regimens.yaml",
    "centre": "hospital, as it shall be named in the cohort",
    "os_months": "months from the start of treatment to death or last contact",
    "os_event": "1 for death, 0 for alive at last contact",
    "pfs_months": "months to progression, death or last assessment",
    "pfs_event": "1 for progression or death, 0 for neither",
}
STUDY_LEVEL: Mapping[str, str] = {
    "patient_id": "Patient ID (0010,0020) as in the DICOM files, or the key of the pseudonym table",
    "issuer": "Issuer of Patient ID (0010,0021); empty when the files have none",
    "study_instance_uid": "Study Instance UID; may be empty when study_date names one study",
    "study_date": "date of the study, YYYY-MM-DD; may be empty when study_instance_uid is given",
    "role": "baseline or follow-up; may be empty when the date tells it",
    "no_tumour_left": "yes when a follow-up's segmentation has no tumour because none was seen",
}
_NEEDED = ("patient_id", "treatment_start", "regimen_id", "centre")
_HEADER = re.compile(r"^\s*([^\[\]]+?)\s*(?:\[([^\[\]]*)\])?\s*$")
_CENTRE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,39}")
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")


class Role(StrEnum):
    """What a study is to its patient."""

    BASELINE = "baseline"
    FOLLOW_UP = "follow-up"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one row; `row` counts from 1 for the header, 0 is the table."""

    row: int
    column: str
    reason: str


class TableRefused(TrainingDataError):
    """The table has problems; all of them are in `problems`, none names a patient."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.row, p.column, p.reason)))
        first = self.problems[0]
        where = f"row {first.row}" if first.row else "the table"
        super().__init__(
            f"the table has {len(self.problems)} problem(s); the first, in {where}: {first.reason}"
        )


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One study as the table gives it; None where a cell is empty."""

    row: int
    study_instance_uid: str | None
    study_date: dt.date | None
    role: Role | None
    no_tumour_left: bool


@dataclass(frozen=True, slots=True)
class PatientRows:
    """One patient as the table gives it.

    Attributes
    ----------
    key : (issuer, patient id)
        Never written or logged.
    os, pfs : (months, event), or None
    """

    key: tuple[str, str]
    studies: tuple[StudyRow, ...]
    treatment_start: dt.date
    regimen_id: str
    centre: str
    clinical: ClinicalRecord
    os: tuple[float, int] | None
    pfs: tuple[float, int] | None


# ------------------------------------------------------------------ reading


class _Problems:
    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, row: int, column: str, reason: str) -> None:
        self.found.append(Problem(row, column, reason))


_Cells = dict[str, str]


@dataclass(frozen=True, slots=True)
class _Raw:
    row: int
    cells: _Cells


@dataclass(frozen=True, slots=True)
class _Table:
    rows: tuple[_Raw, ...]
    units: Mapping[str, str | None]


def read_site_table(path: Path, regimen_ids: Sequence[str]) -> tuple[PatientRows, ...]:
    """Read and check a site's table.

    Returns
    -------
    tuple of PatientRows
        In the order of their first rows.

    Raises
    ------
    TableRefused
        With every problem of every row.
    """
    problems = _Problems()
    table = _read(path, problems)
    by_patient: dict[tuple[str, str], list[_Raw]] = defaultdict(list)
    for raw in table.rows:
        if raw.cells.get("patient_id"):
            by_patient[raw.cells.get("issuer", ""), raw.cells["patient_id"]].append(raw)
        else:
            problems.add(raw.row, "patient_id", "the patient is not named")
    patients = [_patient(key, raws, table.units, regimen_ids, problems) for key, raws in by_patient.items()]
    _unique_studies(table.rows, problems)
    if problems.found:
        raise TableRefused(problems.found)
    if not patients:
        raise TableRefused([Problem(0, "", "the table has no patient")])
    return tuple(p for p in patients if p is not None)


def _read(path: Path, problems: _Problems) -> _Table:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = f"the table cannot be read as UTF-8 text ({type(error).__name__})"
        raise TableRefused([Problem(0, "", reason)]) from error
    lines = list(csv.reader(text.splitlines()))
    names, units = _columns(lines[0] if lines else [])
    rows = []
    for number, cells in enumerate(lines[1:], start=2):
        if not any(c.strip() for c in cells):
            continue
        if len(cells) != len(names):
            problems.add(number, "", f"the row has {len(cells)} cells instead of {len(names)}")
            continue
        rows.append(_Raw(number, {n: c.strip() for n, c in zip(names, cells, strict=True)}))
    return _Table(tuple(rows), units)


def _columns(header: Sequence[str]) -> tuple[list[str], dict[str, str | None]]:
    if len(header) == 1 and ";" in header[0]:
        raise TableRefused([Problem(1, "", "the columns are separated by semicolons; save it with commas")])
    names: list[str] = []
    units: dict[str, str | None] = {}
    problems: list[Problem] = []
    for position, cell in enumerate(header, start=1):
        match = _HEADER.match(cell)
        if match is None:
            problems.append(Problem(1, f"column {position}", "the column has no name"))
            continue
        name = match.group(1).strip().lower()
        names.append(name)
        units[name] = match.group(2)
        if name not in PATIENT_LEVEL and name not in STUDY_LEVEL and name not in VARIABLES:
            shown = name if re.fullmatch(r"[a-z][\w -]{0,40}", name) else f"column {position}"
            problems.append(Problem(1, shown, "the column is neither of the table nor a clinical variable"))
    problems += [
        Problem(1, n, "the column appears twice") for n in sorted({n for n in names if names.count(n) > 1})
    ]
    problems += [Problem(1, n, "the column is missing") for n in _NEEDED if n not in names]
    if not {"study_instance_uid", "study_date"} & set(names):
        problems.append(Problem(1, "study_instance_uid", "give study_instance_uid or study_date"))
    if problems:
        raise TableRefused(problems)
    return names, units


def _unique_studies(rows: Sequence[_Raw], problems: _Problems) -> None:
    seen: dict[str, int] = {}
    for raw in rows:
        uid = raw.cells.get("study_instance_uid", "")
        if uid and seen.setdefault(uid, raw.row) != raw.row:
            problems.add(raw.row, "study_instance_uid", f"the study is in row {seen[uid]} already")


# ------------------------------------------------------------------ one patient


def _patient(
    key: tuple[str, str],
    raws: Sequence[_Raw],
    units: Mapping[str, str | None],
    regimen_ids: Sequence[str],
    problems: _Problems,
) -> PatientRows | None:
    before = len(problems.found)
    said = _said_once(raws, units, problems)
    first = raws[0].row
    start = _date(said, "treatment_start", first, problems)
    regimen = said.get("regimen_id", (first, ""))
    if start is None and "treatment_start" not in said:
        problems.add(
            first, "treatment_start", "the start of treatment is not given on any row of the patient"
        )
    if not regimen[1]:
        problems.add(first, "regimen_id", "the regimen is not given on any row of the patient")
    elif regimen[1] not in regimen_ids:
        problems.add(*regimen[:1], "regimen_id", f"no such regimen; one of {', '.join(regimen_ids)}")
    centre = said.get("centre", (first, ""))
    if not _CENTRE.fullmatch(centre[1]):
        problems.add(
            centre[0], "centre", "give a name of letters, digits, spaces, dots and dashes, at most 40"
        )
    survival = {end: _survival(said, end, problems) for end in ("os", "pfs")}
    _survival_agrees(survival, first, problems)
    clinical = _clinical(said, units, problems)
    studies = tuple(_study(raw, problems) for raw in raws)
    if start is None or len(problems.found) > before:
        return None
    return PatientRows(key, studies, start, regimen[1], centre[1], clinical, survival["os"], survival["pfs"])


_Said = dict[str, tuple[int, str]]


def _said_once(raws: Sequence[_Raw], units: Mapping[str, str | None], problems: _Problems) -> _Said:
    """Return what is said of a patient, with the row that says it first."""
    said: _Said = {}
    for raw in raws:
        for name in units:
            cell = raw.cells[name]
            if not cell or name in STUDY_LEVEL:
                continue
            row, first = said.setdefault(name, (raw.row, cell))
            if first != cell:
                problems.add(raw.row, name, f"differs from row {row} of the same patient")
    return said


def _parse_date(text: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else None
    except ValueError:
        return None


def _date(said: _Said, name: str, row: int, problems: _Problems) -> dt.date | None:
    where, text = said.get(name, (row, ""))
    found = _parse_date(text)
    if text and found is None:
        problems.add(where, name, "is no date; write YYYY-MM-DD")
    return found


def _study(raw: _Raw, problems: _Problems) -> StudyRow:
    uid, date = raw.cells.get("study_instance_uid", ""), raw.cells.get("study_date", "")
    parsed = _parse_date(date)
    if not uid and not date:
        problems.add(raw.row, "study_instance_uid", "the study is named neither by its UID nor by its date")
    if uid and not (_UID.fullmatch(uid) and len(uid) <= 64):
        problems.add(raw.row, "study_instance_uid", "is no UID")
    if date and parsed is None:
        problems.add(raw.row, "study_date", "is no date; write YYYY-MM-DD")
    role = raw.cells.get("role", "").lower()
    if role and role not in {r.value for r in Role}:
        problems.add(raw.row, "role", "must be baseline, follow-up or empty")
        role = ""
    gone = {"": False, "no": False, "yes": True}.get(raw.cells.get("no_tumour_left", "").lower())
    if gone is None:
        problems.add(raw.row, "no_tumour_left", "must be yes, no or empty")
    return StudyRow(raw.row, uid or None, parsed, Role(role) if role else None, bool(gone))


def _survival(said: _Said, end: str, problems: _Problems) -> tuple[float, int] | None:
    months, event = said.get(f"{end}_months"), said.get(f"{end}_event")
    if months is None and event is None:
        return None
    if months is None or event is None:
        row = (months or event or (0, ""))[0]
        problems.add(row, f"{end}_months", f"give both {end}_months and {end}_event, or neither")
        return None
    if event[1] not in ("0", "1"):
        problems.add(event[0], f"{end}_event", "must be 0 or 1")
        return None
    try:
        value = float(months[1])
    except ValueError:
        value = math.nan
    if not 0.0 < value <= 600.0:
        problems.add(months[0], f"{end}_months", "must be a number of months above 0, at most 600")
        return None
    return value, int(event[1])


def _survival_agrees(survival: Mapping[str, tuple[float, int] | None], row: int, problems: _Problems) -> None:
    os, pfs = survival["os"], survival["pfs"]
    if os is None or pfs is None:
        return
    if pfs[0] > os[0] + 1e-9:
        problems.add(row, "pfs_months", "is later than death or last contact (os_months)")
    elif os[1] == 1 and pfs[1] == 0 and pfs[0] >= os[0] - 1e-9:
        problems.add(row, "pfs_event", "is 0 at the time of death; progression-free survival ends with death")


def _clinical(said: _Said, units: Mapping[str, str | None], problems: _Problems) -> ClinicalRecord:
    values: dict[str, ClinicalValue] = {}
    for name, (row, cell) in said.items():
        if name not in VARIABLES:
            continue
        try:
            values[name] = clinical_value(name, cell, units[name], f"row {row}")
        except ClinicalError as error:
            problems.add(row, name, str(error).split(": ", 1)[-1])
    return ClinicalRecord(values)


# ------------------------------------------------------------------ the template


def template() -> str:
    """Return an empty table with two rows of an invented patient, as CSV."""
    variables = [
        "age [years]",
        "sex",
        "ecog",
        "child_pugh_class",
        "afp [ng/mL]",
        "albumin [g/L]",
        "bilirubin [umol/L]",
    ]
    header = [*STUDY_LEVEL, *PATIENT_LEVEL, *variables]
    study = {"patient_id": "EXAMPLE-1", "study_date": "2024-02-20", "role": "baseline"}
    patient = {
        "treatment_start": "2024-03-01", "regimen_id": "tace", "centre": "Hospital A",
        "os_months": "21.5", "os_event": "1", "pfs_months": "7.0", "pfs_event": "1",
    }  # fmt: skip
    values = dict(zip(variables, ["61", "M", "0", "A", "120", "38", "15"], strict=True))
    later = {"patient_id": "EXAMPLE-1", "study_date": "2024-04-12", "role": "follow-up"}
    lines = [header, *([row.get(n, "") for n in header] for row in ({**study, **patient, **values}, later))]
    return "".join(",".join(line) + "\n" for line in lines)


def guide() -> str:
    """Return what each column means, for people who fill the table."""
    lines = ["One row for each study. Columns:"]
    lines += [f"  {name}: {meaning}" for name, meaning in STUDY_LEVEL.items()]
    lines.append("Of the patient, on one of the patient's rows or the same on all:")
    lines += [f"  {name}: {meaning}" for name, meaning in PATIENT_LEVEL.items()]
    lines.append(
        "Every further column is a clinical variable at baseline with its unit in brackets, such as "
        "'albumin [g/L]'; an empty cell is a missing value."
    )
    lines.append(
        "An empty role: the last study before the start of treatment is the baseline, studies after it are "
        "follow-ups. On the day of the start itself the role must be given."
    )
    return "\n".join(lines) + "\n"
