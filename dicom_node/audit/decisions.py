"""What clinicians decided on forecasts: the regimen chosen, agreed or overridden, and why.

A decision is stored with the digest of the forecast that it concerns, and never changed; who changes
their mind adds another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from dicom_node.audit.events import AuditEvent, EventKind, add_event
from dicom_node.audit.forecasts import Forecasts
from dicom_node.audit.tables import decision, prepare_audit
from dicom_node.clock import Clock
from dicom_node.database import reading, writing
from dicom_node.errors import ConfigurationError

LONGEST_REASON = 2000
SHORTEST_REASON = 3


class Verdict(StrEnum):
    """How a decision stands to the forecast."""

    AGREE = "agree"
    OVERRIDE = "override"


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision; `recommended` is what the forecast said, empty where it recommended nothing."""

    id: int
    at: float
    revision_id: int
    study_instance_uid: str
    forecast_digest: str
    user: str
    verdict: Verdict
    regimen: str
    recommended: str
    reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What a person decides; `reason` names no patient."""

    user: str
    verdict: Verdict
    regimen: str
    reason: str


@dataclass(frozen=True)
class Decisions:
    """Table ``decision``."""

    database: sa.Engine
    clock: Clock

    def __post_init__(self) -> None:
        """Create the tables where they are absent."""
        prepare_audit(self.database)

    def add(self, revision_id: int, choice: Choice) -> Decision:
        """Record a decision on the forecast of a revision, and tell the audit trail.

        Raises
        ------
        ConfigurationError
            There is no forecast, the regimen is none of it, or the reason is missing.
        """
        lock = Forecasts(self.database, self.clock).of_revision(revision_id)
        known = [s.regimen for s in lock.summary]
        if choice.regimen not in known and choice.verdict is Verdict.AGREE:
            raise ConfigurationError(
                f"regimen {choice.regimen!r} is not in the forecast; it has {', '.join(known) or 'none'}"
            )
        if not choice.regimen.strip() or len(choice.regimen) > 64:
            raise ConfigurationError("name the regimen that was chosen, in at most 64 characters")
        reason = choice.reason.strip()
        if not SHORTEST_REASON <= len(reason) <= LONGEST_REASON:
            raise ConfigurationError(f"a reason has {SHORTEST_REASON} to {LONGEST_REASON} characters")
        values = {
            "at": self.clock(),
            "revision_id": revision_id,
            "study_instance_uid": lock.study_instance_uid,
            "forecast_digest": lock.digest,
            "user": choice.user,
            "verdict": str(choice.verdict),
            "regimen": choice.regimen.strip(),
            "recommended": lock.recommended,
            "reason": reason,
        }
        with writing(self.database) as connection:
            added = connection.execute(sa.insert(decision).values(values))
            detail = {k: v for k, v in values.items() if k not in ("at", "user", "study_instance_uid")}
            add_event(
                connection,
                self.clock,
                AuditEvent(
                    EventKind.DECISION,
                    choice.user,
                    study_instance_uid=lock.study_instance_uid,
                    detail=detail,
                ),
            )
            key: Any = added.inserted_primary_key
            number = int(key[0])
        return _decision({"id": number, **values})

    def all(self, revision_id: int | None = None) -> tuple[Decision, ...]:
        """Return the decisions on one revision, or on all, oldest first."""
        query = sa.select(decision).order_by(decision.c.id)
        if revision_id is not None:
            query = query.where(decision.c.revision_id == revision_id)
        with reading(self.database) as connection:
            return tuple(_decision(dict(row._mapping)) for row in connection.execute(query))


def _decision(facts: dict[str, Any]) -> Decision:
    return Decision(**{**facts, "verdict": Verdict(facts["verdict"])})
