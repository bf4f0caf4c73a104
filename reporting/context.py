"""What the builders are given besides results: time, identity of the node, and UIDs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from reporting.uids import Uids


class Qualification(StrEnum):
    """Content Qualification (0018,9004); PRODUCT only where a site's configuration says so."""

    RESEARCH = "RESEARCH"
    PRODUCT = "PRODUCT"


@dataclass(frozen=True, slots=True)
class Equipment:
    """The node as equipment (PS3.3 C.7.5.1). DICOM strings, so at most 64 characters each."""

    manufacturer: str
    model_name: str
    software_version: str
    device_serial_number: str


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that changes bytes besides the results.

    Attributes
    ----------
    job_time : datetime
        Time of the job, time zone aware; every date in every object is this one.
    uids : Uids
        Derives all UIDs of this job; its key covers inputs, bundles, settings, time and back end.
    """

    job_time: datetime
    uids: Uids
    equipment: Equipment
    qualification: Qualification = Qualification.RESEARCH
