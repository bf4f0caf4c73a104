"""Laboratory values over time from a CSV file: one row for each value.

Columns: ``study_instance_uid``, or ``patient_id`` with ``issuer``; ``date`` (YYYY-MM-DD); ``variable``, with
its unit in brackets: ``albumin [g/L]``; ``value``. Dates are counted from the day of the study. Values after
that day are kept apart and never used for a prediction.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from inference.case import ClinicalRecord, DatedValue
from inference.clinical.checking import checked_value, known_variable
from inference.clinical.longitudinal import as_date, is_laboratory, one_a_day, with_last_values
from inference.clinical.rows import ISSUER, PATIENT, STUDY, column, csv_cells, read_text
from inference.clinical.sources.study import StudyKeys
from inference.clinical.variables import VARIABLES
from inference.clinical_settings import LaboratoryFileSettings
from inference.errors import ClinicalError

COLUMNS = ("date", "variable", "value")


@dataclass(frozen=True, slots=True)
class _Measured:
    """One row: whose, when, what."""

    keys: Mapping[str, str]
    date: dt.date
    name: str
    value: float


class LaboratoryFile:
    """A file of dated values; those of the study count, and those of its patient."""

    def __init__(self, settings: LaboratoryFileSettings) -> None:
        self._settings = settings
        self._read: tuple[_Measured, ...] | None = None

    @property
    def name(self) -> str:
        """Name in the configuration."""
        return self._settings.name

    def record_for(self, keys: StudyKeys) -> ClinicalRecord:
        """Return the dated values, and of each variable the last one up to the day of the study.

        Every row of the file is checked, so that a wrong one is found on the first study; the file is read
        once.

        Raises
        ------
        ClinicalError
            A row is refused, or the study has no date although the file has values of its patient.
        """
        if self._read is None:
            self._read = tuple(self._rows())
        found = [row for row in self._read if _is_of(row, keys)]
        if not found:
            return ClinicalRecord()
        if keys.study_date is None:
            raise ClinicalError(
                f"Source '{self.name}': the study has no date from which the days could be counted."
            )
        dated = (DatedValue(row.name, (row.date - keys.study_date).days, row.value) for row in found)
        record = ClinicalRecord(dated=one_a_day(dated, f"Source '{self.name}'"))
        filled = with_last_values(record, self._settings.maximum_age_days)
        named = {name: replace(value, source=self.name) for name, value in filled.values.items()}
        return replace(filled, values=named)

    def _rows(self) -> Iterator[_Measured]:
        for number, cells in csv_cells(read_text(self._settings.path)):
            where = f"Source '{self.name}', row {number}"
            given = {name: cell for name, _, cell in cells}
            if missing := [name for name in COLUMNS if not given.get(name)]:
                raise ClinicalError(f"{where}: {missing[0]} is not given.")
            if not (given.get(STUDY) or given.get(PATIENT)):
                raise ClinicalError(f"{where}: give {STUDY} or {PATIENT}.")
            name, unit = column(given["variable"])
            variable = known_variable(name, where, VARIABLES)
            if not is_laboratory(name):
                raise ClinicalError(f"{where}: '{name}' is no laboratory value.")
            value = checked_value(variable, given["value"], unit, where).value
            yield _Measured(given, as_date(given["date"], where), name, float(value))


def _is_of(row: _Measured, keys: StudyKeys) -> bool:
    """Tell whether a row is of the study or its patient; an empty key never matches."""
    study, patient = row.keys.get(STUDY, ""), row.keys.get(PATIENT, "")
    if study:
        return study == keys.study_instance_uid
    return bool(patient) and (row.keys.get(ISSUER, ""), patient) == (keys.issuer, keys.patient_id)
