"""Coded numbers of structured reports in the study (PS3.3 C.17.3, value type NUM).

A number counts when its concept name is a LOINC code of the table of variables and its unit a UCUM code that
is known here; other units are left out and said in the log, never guessed. Of several values of one variable
the latest observation up to the day of the study counts; two different ones of the same day are not used.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydicom import dcmread
from pydicom.dataset import Dataset

from inference.case import ClinicalRecord, ClinicalValue
from inference.clinical.checking import checked_value
from inference.clinical.files import KNOWN
from inference.clinical.sources.study import BROKEN_FILE, StudyKeys, StudyObject, date_of
from inference.clinical_settings import StructuredReportsSettings
from inference.imaging.attributes import number, text
from inference.provenance import is_made_here

_log = logging.getLogger(__name__)

BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
SR_CLASSES = frozenset(
    {
        BASIC_TEXT_SR,
        "1.2.840.10008.5.1.4.1.1.88.22",  # Enhanced SR
        "1.2.840.10008.5.1.4.1.1.88.33",  # Comprehensive SR
        "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D SR
    }
)
LOINC = frozenset({"LN", "LOINC", "2.16.840.1.113883.6.1"})
"""Coding Scheme Designators of LOINC (PS3.16 table 8-1; the others are seen in the field)."""

_MORE_LOINC: Mapping[str, str] = {
    "1975-2": "bilirubin",  # mass concentration; the table has the code of the molar one
    "2160-0": "creatinine",  # mass concentration, the same
    "34714-6": "inr",  # in whole blood
    "3141-9": "weight",  # measured
    "3137-7": "height",  # measured
}

BY_LOINC: Mapping[str, str] = {
    **{v.loinc: v.name for v in KNOWN.values() if v.loinc is not None},
    **_MORE_LOINC,
}
"""Name of the variable of each LOINC code."""

UCUM: Mapping[str, str] = {
    "a": "a",
    "s": "s",
    "mm": "mm",
    "cm": "cm",
    "m": "m",
    "kg": "kg",
    "g": "g",
    "g/L": "g/l",
    "g/dL": "g/dl",
    "mg/L": "mg/l",
    "mg/dL": "mg/dl",
    "umol/L": "umol/l",
    "ng/mL": "ng/ml",
    "ug/L": "ug/l",
    "U/L": "u/l",
    "[IU]/L": "iu/l",
    "[iU]/L": "iu/l",
    "ukat/L": "ukat/l",
    "[IU]/mL": "iu/ml",
    "[iU]/mL": "iu/ml",
    "k[IU]/L": "kiu/l",
    "k[iU]/L": "kiu/l",
    "10*9/L": "10*9/l",
    "10*3/uL": "10*3/ul",
    "/uL": "/ul",
    "1": "1",
    "{INR}": "1",
    "{ratio}": "1",
    "{score}": "1",
}
"""UCUM codes (case-sensitive) as units of the table of variables."""


@dataclass(frozen=True, slots=True)
class _Observed:
    value: ClinicalValue
    day: dt.date | None


class StructuredReports:
    """The structured reports among the objects of a study; those of this product are no source."""

    def __init__(self, settings: StructuredReportsSettings, objects: Sequence[StudyObject]) -> None:
        self._settings = settings
        self._objects = objects

    @property
    def name(self) -> str:
        """Name in the configuration."""
        return self._settings.name

    def record_for(self, keys: StudyKeys) -> ClinicalRecord:
        """Return the coded numbers of all reports.

        Raises
        ------
        inference.errors.ClinicalError
            A number is outside the plausible range of its variable.
        """
        found: dict[str, list[_Observed]] = defaultdict(list)
        for report in reports(self._objects):
            for observed in self._observed(report, keys.study_date):
                found[observed.value.name].append(observed)
        chosen = {name: _latest(observed, keys.study_date) for name, observed in found.items()}
        return ClinicalRecord({name: value for name, value in chosen.items() if value is not None})

    def _observed(self, report: Dataset, study_date: dt.date | None) -> Iterator[_Observed]:
        of_report = date_of(text(report, "ContentDate"))
        for item in numbers_of(report):
            name = BY_LOINC[_code(item, "ConceptNameCodeSequence")[0]]
            measured = _measured(item)
            if measured is None:
                _log.warning("a structured report gives %s without a number or in another unit", name)
                continue
            day = date_of(text(item, "ObservationDateTime")) or of_report
            if day is not None and study_date is not None and day > study_date:
                _log.info("a structured report gives %s of a day after the study; it is not used", name)
                continue
            where = f"Source '{self.name}'"
            yield _Observed(checked_value(KNOWN[name], *measured, where, self.name), day)


def reports(objects: Sequence[StudyObject]) -> Iterator[Dataset]:
    """Yield the structured reports that others made, whole; damaged ones are passed over."""
    for found in objects:
        if found.sop_class_uid not in SR_CLASSES or is_made_here(found.header):
            continue
        try:
            report = dcmread(found.path)
            report.walk(
                lambda _dataset, _element: None
            )  # Nested values are converted here, while they may fail.
        except BROKEN_FILE:
            _log.warning("a structured report of the study is damaged and was passed over")
            continue
        yield report


def items(parent: Dataset) -> Iterator[Dataset]:
    """Yield all content items below one, from top to bottom."""
    stack = list(reversed(parent.get("ContentSequence") or ()))
    while stack:
        item = stack.pop()
        yield item
        stack.extend(reversed(item.get("ContentSequence") or ()))


def numbers_of(report: Dataset) -> Iterator[Dataset]:
    """Yield the NUM items whose concept name is the LOINC code of a variable.

    What a NUM item has below itself describes it, such as its limits of normal, and is no value of the
    patient's own.
    """
    stack = list(reversed(report.get("ContentSequence") or ()))
    while stack:
        item = stack.pop()
        if text(item, "ValueType") != "NUM":
            stack.extend(reversed(item.get("ContentSequence") or ()))
            continue
        code, scheme = _code(item, "ConceptNameCodeSequence")
        if scheme in LOINC and code in BY_LOINC:
            yield item


def _code(dataset: Dataset, keyword: str) -> tuple[str, str]:
    for code in dataset.get(keyword) or ():
        return text(code, "CodeValue").strip(), text(code, "CodingSchemeDesignator").strip()
    return "", ""


def _measured(item: Dataset) -> tuple[float, str | None] | None:
    """Return number and unit, None where there is no number or a unit that is not known."""
    for measured in item.get("MeasuredValueSequence") or ():
        value = number(measured, "NumericValue")
        code, scheme = _code(measured, "MeasurementUnitsCodeSequence")
        unit = UCUM.get(code) if scheme == "UCUM" else None
        return None if value is None or unit is None else (value, unit)
    return None


def _latest(observed: Sequence[_Observed], study_date: dt.date | None) -> ClinicalValue | None:
    """Return the latest value, None where two differ on the latest day; no date is the day of the study."""
    by_day: dict[dt.date, list[ClinicalValue]] = defaultdict(list)
    for one in observed:
        by_day[one.day or study_date or dt.date.max].append(one.value)
    latest = by_day[max(by_day)]
    if any(value != latest[0] for value in latest):
        _log.warning("structured reports give %s twice with different values; none is used", latest[0].name)
        return None
    return latest[0]
