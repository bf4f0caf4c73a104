"""Clinical values from a JSON or CSV file, keyed by study or by patient.

CSV: one row for each study or patient. The columns ``study_instance_uid``, ``issuer`` and
``patient_id`` are keys; every other column is one of `KNOWN` with its unit in brackets:
``albumin [g/L]``. An empty cell is a missing value.

JSON: a list of objects, or ``{"units": {"albumin": "g/L"}, "patients": [...]}``. A value is a number
or a word, or ``{"value": 38, "unit": "g/L"}``; null is missing.

Units are converted, never guessed: a unit may be left out only where the table of variables accepts
no more than one. Errors name the variable and the row, never the patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inference.case import ClinicalRecord
from inference.clinical.checking import checked_value, clinical_value, known_variable
from inference.clinical.eligibility import QUESTIONS
from inference.clinical.rows import ISSUER, PATIENT, STUDY, Row, read_rows
from inference.clinical.variables import BODY, VARIABLES, Variable
from inference.errors import ClinicalError

__all__ = ["KNOWN", "ClinicalTable", "clinical_value", "lookup", "read_clinical_file", "row_record"]

KNOWN: Mapping[str, Variable] = {**VARIABLES, **QUESTIONS, **BODY}
"""What a record may hold: the variables, the protocol's questions, and height and weight."""


@dataclass(frozen=True, slots=True)
class ClinicalTable:
    """Clinical records by study, and by (issuer of Patient ID, Patient ID)."""

    by_study: Mapping[str, ClinicalRecord] = field(default_factory=dict)
    by_patient: Mapping[tuple[str, str], ClinicalRecord] = field(default_factory=dict)


def read_clinical_file(path: Path, source: str = "") -> ClinicalTable:
    """Read a clinical file.

    Parameters
    ----------
    source : str
        Name of the source, kept with the values.

    Raises
    ------
    ClinicalError
        The file cannot be read, names an unknown variable or unit, has an implausible value, a row
        without a key, or two rows with the same key.
    """
    by_study: dict[str, ClinicalRecord] = {}
    by_patient: dict[tuple[str, str], ClinicalRecord] = {}
    for row in read_rows(path):
        record = row_record(row, KNOWN, source)
        study, patient = row.keys.get(STUDY, ""), row.keys.get(PATIENT, "")
        if study:
            _put(by_study, study, record, row.place)
        elif patient:
            _put(by_patient, (row.keys.get(ISSUER, ""), patient), record, row.place)
        else:
            raise ClinicalError(f"Clinical file, {row.place}: give {STUDY} or {PATIENT}.")
    return ClinicalTable(by_study, by_patient)


def row_record(row: Row, known: Mapping[str, Variable], source: str = "") -> ClinicalRecord:
    """Return the checked values of one row.

    Raises
    ------
    ClinicalError
        See `inference.clinical.checking.checked_value`.
    """
    where = f"Clinical file, {row.place}"
    return ClinicalRecord(
        {
            name: checked_value(known_variable(name, where, known), given.value, given.unit, where, source)
            for name, given in row.values.items()
        }
    )


def lookup(table: ClinicalTable, study_instance_uid: str, issuer: str, patient_id: str) -> ClinicalRecord:
    """Return the record of a study, else of its patient, else an empty one.

    The issuer must be the same, an absent one included; an empty Patient ID never matches.
    """
    if study_instance_uid and study_instance_uid in table.by_study:
        return table.by_study[study_instance_uid]
    if patient_id.strip():
        return table.by_patient.get((issuer.strip(), patient_id.strip()), ClinicalRecord())
    return ClinicalRecord()


def _put(records: dict[Any, ClinicalRecord], key: object, record: ClinicalRecord, place: str) -> None:
    if key in records:
        raise ClinicalError(f"Clinical file, {place}: another row has the same key; keep one of them.")
    records[key] = record
