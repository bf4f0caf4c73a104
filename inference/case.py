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


class SeriesRole(StrEnum):
    """What a series is to a forecast."""

    IMAGE = "image"
    SEGMENTATION = "segmentation"
    DSA = "dsa"
    REPORT = "report"
    OTHER = "other"


_ROLES: Mapping[str, SeriesRole] = {
    "CT": SeriesRole.IMAGE,
    "MR": SeriesRole.IMAGE,
    "SEG": SeriesRole.SEGMENTATION,
    "XA": SeriesRole.DSA,
    "SR": SeriesRole.REPORT,
    "DOC": SeriesRole.REPORT,
}
"""By Modality (PS3.3 C.7.3.1.1.1); angiographies are XA, subtracted or not."""


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

    @property
    def role(self) -> SeriesRole:
        """What the series is to a forecast, by its modality."""
        return _ROLES.get(self.modality, SeriesRole.OTHER)


@dataclass(frozen=True, slots=True)
class ClinicalValue:
    """One clinical variable in the unit of the variable table.

    `source` is the name of the configured source that gave it, and no part of what is compared.
    """

    name: str
    value: float | str | bool
    unit: str = ""
    source: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class DatedValue:
    """A laboratory value in the unit of the variable table, `days` after the study, or before it (< 0)."""

    name: str
    days: int
    value: float


@dataclass(frozen=True, slots=True)
class TextToken:
    """A report as a vector; its words are not kept.

    Attributes
    ----------
    source : str
        Where the text stood, such as 'structured report'.
    encoder : str
        Name of what made the vector; vectors of different encoders cannot be compared.
    """

    source: str
    encoder: str
    vector: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ClinicalRecord:
    """Clinical values of one patient, by variable name; what is absent is missing, never a default.

    Attributes
    ----------
    dated : tuple of DatedValue
        Laboratory values over time; see `inference.clinical.longitudinal`.
    texts : tuple of TextToken
    """

    values: Mapping[str, ClinicalValue] = field(default_factory=dict)
    dated: tuple[DatedValue, ...] = ()
    texts: tuple[TextToken, ...] = ()


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

    def with_role(self, role: SeriesRole) -> tuple[Series, ...]:
        """Return the series of one role, such as the angiographies of the study."""
        return tuple(series for series in self.series if series.role is role)
