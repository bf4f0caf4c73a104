"""Forecasts locked when they are made, so that they can be held later against what came.

In the transaction that accepts a forecast its digests go into table ``forecast_lock`` and into the audit
trail, whose file is a chain of digests: afterwards no number of it can be changed without a trace.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dicom_node.audit.events import AuditEvent, EventKind, add_event
from dicom_node.audit.tables import forecast_lock, prepare_audit
from dicom_node.clock import Clock
from dicom_node.database import reading, revision
from dicom_node.errors import ConfigurationError

SURVIVAL_KEYS = ("p12", "p24", "p36", "median")


@dataclass(frozen=True, slots=True)
class RegimenSummary:
    """Survival of one regimen: probabilities at 12, 24 and 36 months, and the median in months.

    A value is None where it was not assessed or the curve does not reach it.
    """

    regimen: str
    p12: float | None
    p24: float | None
    p36: float | None
    median: float | None


@dataclass(frozen=True, slots=True)
class ForecastLock:
    """The digests of one forecast and what is needed to judge it by outcomes.

    Attributes
    ----------
    digest : str
        sha256 over the sha256 of result.json and, by SOP Instance UID, those of all objects.
    """

    revision_id: int
    fence: int
    at: float
    study_instance_uid: str
    number: int
    digest: str
    result_sha256: str
    objects: Mapping[str, str]
    summary: tuple[RegimenSummary, ...]
    recommended: str


def forecast_digest(result_sha256: str, objects: Mapping[str, str]) -> str:
    """Return the digest of a forecast: of its result.json and of its objects by SOP Instance UID."""
    lines = [f"result.json {result_sha256}\n", *(f"{uid} {objects[uid]}\n" for uid in sorted(objects))]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def survival_summary(document: Mapping[str, Any]) -> tuple[RegimenSummary, ...]:
    """Return overall survival of each regimen of a result.json."""
    found = []
    for regimen in document.get("regimens", ()):
        survival = regimen.get("os") or {}
        numbers = {k: v if isinstance(v := survival.get(k), int | float) else None for k in SURVIVAL_KEYS}
        found.append(RegimenSummary(str(regimen["id"]), **numbers))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class MadeForecast:
    """A forecast as it lies in its folder, before it is accepted."""

    result_sha256: str
    objects: Mapping[str, str]
    summary: tuple[RegimenSummary, ...]
    recommended: str
    timings_s: Mapping[str, float]


def made_forecast(folder: Path, objects: Iterable[tuple[str, str]]) -> MadeForecast:
    """Read a forecast's result.json.

    Parameters
    ----------
    objects : iterable of (SOP Instance UID, sha256)
        The objects of the forecast; one that goes to several peers may occur several times.
    """
    path = folder / "result.json"
    content = path.read_bytes() if path.is_file() else b""
    document: Mapping[str, Any] = json.loads(content) if content else {}
    comparison = document.get("comparison") or {}
    return MadeForecast(
        result_sha256=hashlib.sha256(content).hexdigest(),
        objects=dict(objects),
        summary=survival_summary(document),
        recommended=str(comparison.get("recommended") or ""),
        timings_s={str(k): float(v) for k, v in (document.get("timings_s") or {}).items()},
    )


def lock_forecast(
    connection: sa.Connection, clock: Clock, revision_id: int, fence: int, made: MadeForecast
) -> None:
    """Lock a forecast, in the transaction that accepts it."""
    row = connection.execute(sa.select(revision).where(revision.c.id == revision_id)).one()
    digest = forecast_digest(made.result_sha256, made.objects)
    connection.execute(
        sa.insert(forecast_lock).values(
            revision_id=revision_id,
            fence=fence,
            at=clock(),
            study_instance_uid=row.study_instance_uid,
            number=row.number,
            digest=digest,
            result_sha256=made.result_sha256,
            objects=json.dumps(dict(made.objects), sort_keys=True),
            summary=json.dumps([_numbers(s) for s in made.summary]),
            recommended=made.recommended,
        )
    )
    detail = {
        "revision": revision_id,
        "number": row.number,
        "fence": fence,
        "digest": digest,
        "objects": len(made.objects),
    }
    add_event(
        connection,
        clock,
        AuditEvent(
            EventKind.FORECAST_LOCKED, "worker", study_instance_uid=row.study_instance_uid, detail=detail
        ),
    )


@dataclass(frozen=True)
class Forecasts:
    """Table ``forecast_lock``."""

    database: sa.Engine
    clock: Clock

    def __post_init__(self) -> None:
        """Create the tables where they are absent."""
        prepare_audit(self.database)

    def all(self) -> tuple[ForecastLock, ...]:
        """Return all forecasts in the order in which they were made."""
        query = sa.select(forecast_lock).order_by(forecast_lock.c.at, forecast_lock.c.revision_id)
        return self._read(query)

    def of_revision(self, revision_id: int) -> ForecastLock:
        """Return the forecast of a revision, the last one where it was made several times.

        Raises
        ------
        ConfigurationError
            There is none.
        """
        query = (
            sa.select(forecast_lock)
            .where(forecast_lock.c.revision_id == revision_id)
            .order_by(forecast_lock.c.fence)
        )
        found = self._read(query)
        if not found:
            raise ConfigurationError(f"revision {revision_id} has no forecast")
        return found[-1]

    def _read(self, query: sa.Select[Any]) -> tuple[ForecastLock, ...]:
        with reading(self.database) as connection:
            return tuple(_lock(row) for row in connection.execute(query))


def _numbers(summary: RegimenSummary) -> Mapping[str, Any]:
    return {"regimen": summary.regimen, **{key: getattr(summary, key) for key in SURVIVAL_KEYS}}


def _lock(row: sa.Row[Any]) -> ForecastLock:
    facts = dict(row._mapping)
    facts["objects"] = json.loads(facts["objects"])
    facts["summary"] = tuple(RegimenSummary(**s) for s in json.loads(facts["summary"]))
    return ForecastLock(**facts)


CSV_COLUMNS = (
    "study_instance_uid",
    "revision",
    "regimen",
    "p12",
    "p24",
    "p36",
    "median",
    "recommended",
    "digest",
    "forecast_at",
)


def csv_rows(locks: Sequence[ForecastLock]) -> list[dict[str, Any]]:
    """Return one row for each forecast and regimen, with the columns `CSV_COLUMNS`; times are UTC."""
    return [
        {
            "study_instance_uid": lock.study_instance_uid,
            "revision": lock.number,
            **{k: "" if v is None else v for k, v in _numbers(summary).items()},
            "recommended": "yes" if summary.regimen == lock.recommended else "",
            "digest": lock.digest,
            "forecast_at": datetime.fromtimestamp(lock.at, UTC).isoformat(timespec="seconds"),
        }
        for lock in locks
        for summary in lock.summary
    ]
