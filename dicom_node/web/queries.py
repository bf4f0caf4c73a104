"""What the operator's page shows of studies: page by page, without patient data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dicom_node.audit.decisions import Decision, Decisions
from dicom_node.audit.events import AuditEvents, RecordedEvent
from dicom_node.audit.forecasts import ForecastLock, Forecasts
from dicom_node.audit.tables import removal
from dicom_node.bundles.record import recorded_models
from dicom_node.database import reading, result_object, revision
from dicom_node.errors import ConfigurationError
from dicom_node.jobs.engine import Engine
from dicom_node.jobs.ledger import Ledger, RevisionRow
from dicom_node.jobs.states import Revision

OBJECTS_SHOWN = 200
UID_PART = re.compile(r"[0-9.]{1,64}")

_R = Revision
GROUPS: Mapping[str, tuple[Revision, ...]] = {
    "attention": (_R.REVIEW, _R.HELD, _R.FAILED, _R.REFUSED),
    "work": (_R.RECEIVING, _R.COMPLETE, _R.QUEUED, _R.RUNNING, _R.DONE, _R.DELIVERING),
    "ended": (_R.DELIVERED, _R.IGNORED, _R.CANCELLED, _R.SUPERSEDED),
}
"""States as people ask for them: what waits for a person, what goes on by itself, what is over."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which studies are listed."""

    states: tuple[Revision, ...] = ()
    uid_part: str = ""
    page: int = 1

    @classmethod
    def of(cls, group: str, state: str, uid_part: str, page: str) -> Filter:
        """Read a filter from a request; what makes no sense is left out."""
        states = GROUPS.get(group, ())
        if state in Revision.__members__:
            states = (Revision[state],)
        part = uid_part.strip()
        return cls(
            states,
            part if UID_PART.fullmatch(part) else "",
            max(1, int(page)) if page.isdecimal() and len(page) < 9 else 1,
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the job of a revision is, as a share of 1."""

    share: float
    text: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of the list; `delivered` is (peer, verified, all)."""

    row: RevisionRow
    progress: Progress | None
    delivered: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the list."""

    lines: tuple[Listed, ...]
    number: int
    pages: int
    total: int


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of a study's history."""

    at: float
    who: str
    what: str
    state: str
    detail: str


@dataclass(frozen=True, slots=True)
class ObjectLine:
    """One result object as the page shows it."""

    peer: str
    kind: str
    state: str
    sop_instance_uid: str
    attempts: int
    detail: str
    changed_at: float


@dataclass(frozen=True, slots=True)
class StudyView:
    """Everything about one revision."""

    listed: Listed
    plan: Mapping[str, Any]
    bundles: Mapping[str, str]
    objects: tuple[ObjectLine, ...]
    objects_total: int
    history: tuple[Moment, ...]
    revisions: tuple[RevisionRow, ...]
    forecast: ForecastLock | None
    decisions: tuple[Decision, ...]
    removed_at: float | None


@dataclass(frozen=True)
class Queries:
    """Reads for the page."""

    ledger: Ledger
    engine: Engine

    def counts(self) -> Mapping[str, int]:
        """Return how many revisions are in each state."""
        query = sa.select(revision.c.state, sa.func.count()).group_by(revision.c.state)
        with reading(self.ledger.database) as connection:
            return {str(state): int(count) for state, count in connection.execute(query)}

    def page(self, wanted: Filter, per_page: int) -> Page:
        """Return one page of revisions, the newest first."""
        where: list[sa.ColumnElement[bool]] = []
        if wanted.states:
            where.append(revision.c.state.in_(wanted.states))
        if wanted.uid_part:
            where.append(revision.c.study_instance_uid.contains(wanted.uid_part, autoescape=True))
        chosen = sa.and_(sa.true(), *where)
        count = sa.select(sa.func.count()).select_from(revision).where(chosen)
        with reading(self.ledger.database) as connection:
            total = int(connection.execute(count).scalar_one())
            pages = max(1, -(-total // per_page))
            number = min(wanted.page, pages)
            query = (
                sa.select(revision)
                .where(chosen)
                .order_by(revision.c.id.desc())
                .offset((number - 1) * per_page)
                .limit(per_page)
            )
            rows = [_row(r) for r in connection.execute(query)]
            lines = self._listed(connection, rows)
        return Page(lines, number, pages, total)

    def _listed(self, connection: sa.Connection, rows: Sequence[RevisionRow]) -> tuple[Listed, ...]:
        ids, keys = [r.id for r in rows], [r.job_key for r in rows]
        columns = (result_object.c.revision_id, result_object.c.peer)
        verified = sa.func.sum(sa.case((result_object.c.state == "VERIFIED", 1), else_=0))
        sums = (
            sa.select(*columns, verified, sa.func.count())
            .where(result_object.c.revision_id.in_(ids), result_object.c.kind != "proposal")
            .group_by(*columns)
            .order_by(*columns)
        )
        delivered: dict[int, list[tuple[str, int, int]]] = {}
        for revision_id, peer, done, count in connection.execute(sums):
            delivered.setdefault(int(revision_id), []).append((peer, int(done), int(count)))
        jobs = self.engine.status(keys) if keys else ()
        progress = {j.key: Progress(j.progress, j.progress_text, j.attempts) for j in jobs}
        return tuple(Listed(r, progress.get(r.job_key), tuple(delivered.get(r.id, ()))) for r in rows)

    def study(self, revision_id: int) -> StudyView:
        """Return everything about a revision; raise `ConfigurationError` if there is none."""
        row = self.ledger.revision(revision_id)
        uid = row.study_instance_uid
        database, clock = self.ledger.database, self.ledger.clock
        with reading(database) as connection:
            listed = self._listed(connection, [row])[0]
            objects, total = self._objects(connection, revision_id)
            gone = sa.select(sa.func.max(removal.c.at)).where(
                removal.c.study_instance_uid == uid, removal.c.what == "inputs"
            )
            removed_at = connection.execute(gone).scalar()
        models = recorded_models(database, revision_id)
        events = AuditEvents(database, clock).of_study(uid)
        return StudyView(
            listed=listed,
            plan=json.loads(row.plan),
            bundles=dict(models.bundles) if models else {},
            objects=objects,
            objects_total=total,
            history=self._history(row, events),
            revisions=self.ledger.revisions(study_instance_uid=uid),
            forecast=self._forecast(revision_id),
            decisions=Decisions(database, clock).all(revision_id),
            removed_at=None if removed_at is None else float(removed_at),
        )

    def _forecast(self, revision_id: int) -> ForecastLock | None:
        try:
            return Forecasts(self.ledger.database, self.ledger.clock).of_revision(revision_id)
        except ConfigurationError:
            return None

    def outbox(self, peers: Sequence[str]) -> tuple[tuple[str, Mapping[str, int]], ...]:
        """Return for each peer how many result objects are in which state."""
        columns = (result_object.c.peer, result_object.c.state)
        query = sa.select(*columns, sa.func.count()).group_by(*columns)
        found: dict[str, dict[str, int]] = {name: {} for name in peers}
        with reading(self.ledger.database) as connection:
            for peer, state, count in connection.execute(query):
                found.setdefault(peer, {})[str(state)] = int(count)
        return tuple(sorted(found.items()))

    def _objects(self, connection: sa.Connection, revision_id: int) -> tuple[tuple[ObjectLine, ...], int]:
        mine = result_object.c.revision_id == revision_id
        count = sa.select(sa.func.count()).select_from(result_object).where(mine)
        query = (
            sa.select(result_object)
            .where(mine)
            .order_by(result_object.c.peer, result_object.c.kind, result_object.c.id)
            .limit(OBJECTS_SHOWN)
        )
        lines = tuple(
            ObjectLine(r.peer, r.kind, r.state, r.sop_instance_uid, r.attempts, r.detail, float(r.changed_at))
            for r in connection.execute(query)
        )
        return lines, int(connection.execute(count).scalar_one())

    def _history(self, row: RevisionRow, events: Sequence[RecordedEvent]) -> tuple[Moment, ...]:
        changes = [
            Moment(float(h["at"]), "", str(h["event"]), str(h["state_after"]), str(h["detail"]))
            for h in self.ledger.history(row.id)
        ]
        told = [
            Moment(e.at, e.event.user, str(e.event.kind), "", _words(e))
            for e in events
            if e.event.detail.get("revision", e.event.detail.get("revision_id", row.id)) == row.id
        ]
        return tuple(sorted([*changes, *told], key=lambda moment: moment.at))


def _row(row: sa.Row[Any]) -> RevisionRow:
    facts = dict(row._mapping)
    return RevisionRow(**{**facts, "state": Revision(facts["state"])})


def _words(recorded: RecordedEvent) -> str:
    hidden = ("revision", "revision_id", "fence", "number")
    parts = [f"{k.replace('_', ' ')}: {v}" for k, v in recorded.event.detail.items() if k not in hidden and v]
    return "; ".join([recorded.event.failed, *parts] if recorded.event.failed else parts)
