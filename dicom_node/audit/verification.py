"""Whether the audit trail is whole, and whether the forecasts are those that it locked."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from xml.etree import ElementTree as ET

import sqlalchemy as sa

from dicom_node.audit.chain import Head, Record, Verification
from dicom_node.audit.forecasts import ForecastLock, Forecasts, forecast_digest
from dicom_node.audit.messages import PROCEDURE_RECORD
from dicom_node.audit.trail import EVENT, audit_files, read_position
from dicom_node.clock import Clock
from dicom_node.errors import ConfigurationError
from dicom_node.settings import NodeSettings

Key = tuple[int, int]
"""Revision and start of its job."""


def parsed_head(text: str) -> Head:
    """Return a head written as NUMBER:DIGEST."""
    number, _, digest = text.partition(":")
    if not number.isdecimal() or len(digest) != 64:
        raise ConfigurationError("a head is NUMBER:DIGEST, as `audit verify` prints it")
    return Head(int(number), digest)


def verify_trail(
    settings: NodeSettings, database: sa.Engine, clock: Clock, head: str | None = None
) -> Verification:
    """Check the chain, its end, and every locked forecast.

    Parameters
    ----------
    head : str, optional
        NUMBER:DIGEST noted elsewhere; without, only the head that the database names is looked for.
    """
    files = audit_files(settings)
    position = read_position(database)
    found = files.verify(position.head)
    problems = list(found.problems)
    if head is not None:
        noted = parsed_head(head)
        problems += [p for p in files.verify(noted).problems if p not in problems]
    locked = locked_digests(files.records())
    locks = Forecasts(database, clock).all()
    problems += list(_forecast_problems(locks, locked))
    return replace(found, problems=tuple(problems))


def locked_digests(records: Iterable[Record]) -> dict[Key, str]:
    """Return the digest of each forecast that the trail tells of."""
    found = {}
    for record in records:
        if record.source != EVENT or f'"{PROCEDURE_RECORD.value}"' not in record.message:
            continue
        details = _details(record.message)
        if "digest" in details:
            found[int(details["revision"]), int(details["fence"])] = details["digest"]
    return found


def _details(message: str) -> Mapping[str, str]:
    root = ET.fromstring(message)
    return {
        item.get("type", ""): base64.b64decode(item.get("value", "")).decode()
        for item in root.iter("ParticipantObjectDetail")
    }


def _forecast_problems(locks: Iterable[ForecastLock], locked: Mapping[Key, str]) -> Iterator[str]:
    known = set()
    for lock in locks:
        key = (lock.revision_id, lock.fence)
        known.add(key)
        name = f"the forecast of revision {lock.revision_id}, start {lock.fence},"
        if forecast_digest(lock.result_sha256, lock.objects) != lock.digest:
            yield f"{name} does not have the digest that stands beside it"
        elif key in locked and locked[key] != lock.digest:
            yield f"{name} is not the one that was locked"
    for revision, fence in sorted(set(locked) - known):
        yield f"the forecast of revision {revision}, start {fence}, was locked and is gone"
