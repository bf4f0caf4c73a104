"""Questions to a PACS, told to the audit trail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from dicom_node.audit.events import AuditEvent, AuditEvents, EventKind
from dicom_node.errors import NodeError

T = TypeVar("T", covariant=True)


class AskedPacs(Protocol[T]):
    """What is asked of a PACS, as the assembler asks it; `T` is what it says of a series."""

    def series(self, study_instance_uid: str) -> Mapping[str, T]:
        """Return what the PACS has of a study."""
        ...

    def fetch(self, study_instance_uid: str, series_instance_uid: str, have: frozenset[str]) -> int:
        """Fetch what is missing of a series."""
        ...


@dataclass(frozen=True)
class RecordedPacs(AskedPacs[T]):
    """A PACS each question to which is an event."""

    pacs: AskedPacs[T]
    peer: str
    events: AuditEvents

    def series(self, study_instance_uid: str) -> Mapping[str, T]:
        """Ask, and record it whether it was answered or not."""
        try:
            found = self.pacs.series(study_instance_uid)
        except NodeError as error:
            self._record(study_instance_uid, str(error))
            raise
        self._record(study_instance_uid, "")
        return found

    def _record(self, study_instance_uid: str, failed: str) -> None:
        self.events.record(
            AuditEvent(
                EventKind.QUERY,
                "steward",
                self.peer,
                study_instance_uid=study_instance_uid,
                failed=failed,
            )
        )

    def fetch(self, study_instance_uid: str, series_instance_uid: str, have: frozenset[str]) -> int:
        """Fetch; what comes is told of as received instances."""
        return self.pacs.fetch(study_instance_uid, series_instance_uid, have)
