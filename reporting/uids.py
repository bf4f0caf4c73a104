"""Deterministic UIDs: ``2.25.<uuid5>`` of everything that changes bytes (PS3.5 B.2)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from pydicom.uid import UID

NAMESPACE = uuid.UUID("0d6f8b55-7a8e-5f0c-9f3e-6c3a5a1e4b77")
"""Namespace of all UIDs of this product; fixed for ever."""

SCHEMA_VERSION = "1"
"""Version of what the builders write; raised whenever bytes change for the same input."""


def uid_of(*parts: str | int | float) -> UID:
    """Return the UID of a name path; the same parts give the same UID on every machine."""
    text = "\x1f".join(str(p) for p in parts)
    return UID(f"2.25.{uuid.uuid5(NAMESPACE, text).int}")


IMPLEMENTATION_CLASS_UID = uid_of("implementation")


@dataclass(frozen=True, slots=True)
class Uids:
    """Derives the UIDs of one job from its key (a digest of everything that changes bytes)."""

    key: str

    def derive(self, *parts: str | int | float) -> UID:
        """Return the UID of one object or series of this job."""
        return uid_of(SCHEMA_VERSION, self.key, *parts)
