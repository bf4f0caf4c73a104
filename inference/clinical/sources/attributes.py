"""Clinical values in the attributes of the study's objects (PS3.3 C.7.2.2, patient study module)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from pydicom.dataset import Dataset

from inference.case import ClinicalRecord, ClinicalValue
from inference.clinical.checking import checked_value
from inference.clinical.files import KNOWN
from inference.clinical.sources.study import StudyKeys, StudyObject, date_of
from inference.clinical_settings import DicomAttributesSettings
from inference.imaging.attributes import number, text

_AGE = re.compile(r"(\d{3})([DWMY])")
_DAYS: Mapping[str, float] = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}
_DAYS_PER_YEAR = 365.25


def _age(header: Dataset) -> tuple[object, str | None] | None:
    """Return Patient's Age, else the age of the birth date on the day of the study, in whole years."""
    match = _AGE.fullmatch(text(header, "PatientAge").strip())
    if match is not None:
        days = int(match.group(1)) * _DAYS[match.group(2)]
        return float(int(days / _DAYS_PER_YEAR + 1e-9)), "years"
    birth, study = date_of(text(header, "PatientBirthDate")), date_of(text(header, "StudyDate"))
    if birth is None or study is None or study < birth:
        return None
    return float(study.year - birth.year - ((study.month, study.day) < (birth.month, birth.day))), "years"


def _sex(header: Dataset) -> tuple[object, str | None] | None:
    """Return Patient's Sex where it is F or M; O is neither in any score."""
    sex = text(header, "PatientSex").strip()
    return (sex, None) if sex in ("F", "M") else None


def _weight(header: Dataset) -> tuple[object, str | None] | None:
    return _above_zero(header, "PatientWeight", "kg")


def _size(header: Dataset) -> tuple[object, str | None] | None:
    return _above_zero(header, "PatientSize", "m")


def _above_zero(header: Dataset, keyword: str, unit: str) -> tuple[object, str | None] | None:
    """Return a number; scanners write 0 for a patient who was not weighed or measured."""
    value = number(header, keyword)
    return None if value is None or value == 0 else (value, unit)


ATTRIBUTES: Mapping[str, Callable[[Dataset], tuple[object, str | None] | None]] = {
    "age": _age,
    "sex": _sex,
    "weight": _weight,
    "height": _size,
}
"""How each variable is read: value and unit, or None."""


class DicomAttributes:
    """Age, sex, weight and height of the study's objects; the first object that has one counts."""

    def __init__(self, settings: DicomAttributesSettings, objects: Sequence[StudyObject]) -> None:
        self._settings = settings
        self._objects = objects

    @property
    def name(self) -> str:
        """Name in the configuration."""
        return self._settings.name

    def record_for(self, keys: StudyKeys) -> ClinicalRecord:
        """Return what the attributes say; `keys` are those of the objects already.

        Raises
        ------
        inference.errors.ClinicalError
            A value is outside the plausible range of its variable.
        """
        return ClinicalRecord({value.name: value for value in self._values()})

    def _values(self) -> Iterator[ClinicalValue]:
        for name, read in ATTRIBUTES.items():
            given = next((g for g in (read(o.header) for o in self._objects) if g is not None), None)
            if given is not None:
                yield checked_value(KNOWN[name], given[0], given[1], f"Source '{self.name}'", self.name)
