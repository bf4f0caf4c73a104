"""Stable UIDs for what a study lacks: the same input gives the same UID on every machine."""

from __future__ import annotations

import uuid

_NAMESPACE = uuid.UUID("5c0b8d7e-3f7b-5a46-9a56-0d6b4f1e2c11")


def stand_in_frame_of_reference(series_instance_uid: str) -> str:
    """Return the Frame of Reference UID given to a series that has none (``2.25.<uuid5>``, PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, 'frame of reference ' + series_instance_uid).int}"
