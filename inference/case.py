"""What enters the pipeline: the files of one study, grouped into series, and clinical values.

Nothing here decodes pixels. Headers are pydicom data sets read up to Pixel Data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pydicom.dataset import Dataset


class Phase(StrEnum):
    """Contrast phase of a CT series, or sequence of an MR series (keys of ``result.json``)."""

    NATIVE = "native"
    ARTERIAL = "arterial"
    PORTAL_VENOUS = "portal_venous"
    DELAYED = "delayed"
    T1 = "t1"
    T1_ARTERIAL = "t1_arterial"
    T1_PORTAL_VENOUS = "t1_portal_venous"
    T2 = "t2"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Instance:
    """One stored file: its path and its header, without Pixel Data."""

    path: Path
    header: Dataset

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID (0008,0018)."""
        return str(self.header.SOPInstanceUID)


@dataclass(frozen=True, slots=True)
class Series:
    """The instances of one series, in the order of their SOP Instance UIDs."""

    series_instance_uid: str
    modality: str
    instances: tuple[Instance, ...]

    @property
    def description(self) -> str:
        """Series Description (0008,103E), or an empty string."""
        return str(self.instances[0].header.get("SeriesDescription", "") or "")


@dataclass(frozen=True, slots=True)
class ClinicalValue:
    """One clinical variable in the unit of the variable table."""

    name: str
    value: float | str | bool
    unit: str = ""


@dataclass(frozen=True, slots=True)
class ClinicalRecord:
    """Clinical values of one patient, by variable name; what is absent is missing, never a default."""

    values: Mapping[str, ClinicalValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A DICOM file that is no part of the case, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Case:
    """One study, as received."""

    study_instance_uid: str
    series: tuple[Series, ...]
    clinical: ClinicalRecord = field(default_factory=ClinicalRecord)
    left_out: tuple[LeftOut, ...] = ()
