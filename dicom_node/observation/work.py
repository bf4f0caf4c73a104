"""What a worker counts: the time of each stage of a forecast, and what ended without one."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.errors import DamagedFile, PermanentError
from dicom_node.observation.counters import Key, write_counts
from dicom_node.observation.tables import prepare_observation
from inference.errors import (
    ClinicalError,
    GeometryError,
    ImplausibleSegmentation,
    ModelError,
    PixelsUnreadable,
    RejectedInput,
    SegmentationMissing,
    UnsupportedRegimen,
)
from reporting.errors import ReportingError

_log = logging.getLogger(__name__)

STAGE_SECONDS, STAGE_RUNS = "stage_seconds", "stage_runs"
STUDIES_ENDED = "studies_ended"

REASONS: tuple[tuple[type[Exception], str], ...] = (
    (GeometryError, "geometry"),
    (PixelsUnreadable, "pixels unreadable"),
    (SegmentationMissing, "segmentation missing"),
    (ImplausibleSegmentation, "segmentation implausible"),
    (ClinicalError, "clinical value"),
    (UnsupportedRegimen, "regimen not supported"),
    (RejectedInput, "input not suitable"),
    (ModelError, "model failed"),
    (ReportingError, "report failed"),
    (DamagedFile, "input damaged"),
    (PermanentError, "node failed"),
)
"""Class of an error to its label; the first match wins."""
INTERNAL_ERROR = "internal error"
LONGEST_LABEL = 64


def reason_class(error: Exception) -> str:
    """Return the class of reason that a job ended for."""
    return next((label for kind, label in REASONS if isinstance(error, kind)), INTERNAL_ERROR)


@dataclass(frozen=True)
class WorkCounts:
    """Adds to the counters of this machine; that it cannot never stops a job."""

    database: sa.Engine
    host: str = field(default_factory=socket.gethostname)

    def __post_init__(self) -> None:
        """Create the table where it is absent."""
        prepare_observation(self.database)

    def forecast(self, timings_s: Mapping[str, float]) -> None:
        """Count one forecast with the seconds of its stages."""
        counts: dict[Key, float] = {}
        for stage, seconds in timings_s.items():
            counts[STAGE_SECONDS, stage[:LONGEST_LABEL]] = seconds
            counts[STAGE_RUNS, stage[:LONGEST_LABEL]] = 1.0
        self._add(counts)

    def ended(self, error: Exception) -> None:
        """Count one job that ended without a forecast."""
        self._add({(STUDIES_ENDED, reason_class(error)): 1.0})

    def _add(self, counts: Mapping[Key, float]) -> None:
        try:
            write_counts(self.database, self.host, counts, {})
        except SQLAlchemyError:
            _log.warning("the counts of a job could not be written")
