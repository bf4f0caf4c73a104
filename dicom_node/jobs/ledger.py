"""The ledger: every state change of study revisions and result objects, in one place.

A change and its row in the audit trail are one transaction. The ledger also fences: each start of a
job raises the revision's fence, and results are accepted only with the fence that is in force, so
that a worker that was given up, and is late, changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from dicom_node.clock import Clock
from dicom_node.database import audit, instance, reading, result_object, revision, study, writing
from dicom_node.errors import ConfigurationError, LeaseLost
from dicom_node.jobs.engine import DEFAULT_QUEUE
from dicom_node.jobs.states import (
    OBJECT_TRANSITIONS,
    ObjectEvent,
    ResultObject,
    Revision,
    RevisionEvent,
    object_transition,
    revision_transition,
)

PROPOSAL = "proposal"
"""Kind of outlines that were sent for review: no result, and no part of a delivery."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a routing rule decided for one revision; empty lists mean the configured defaults."""

    rule: str
    regimens: tuple[str, ...] = ()
    months: tuple[float, ...] = ()
    outputs: tuple[str, ...] = ()
    send_to: tuple[str, ...] = ()
    priority: int = 50
    queue: str = DEFAULT_QUEUE

    def to_json(self) -> str:
        """Return the plan as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what `to_json` wrote."""
        return _PLANS.validate_json(text)


_PLANS = TypeAdapter(Plan)


@dataclass(frozen=True, slots=True)
class RevisionRow:
    """One revision of a study, as it stands."""

    id: int
    study_instance_uid: str
    number: int
    state: Revision
    reason: str
    rule: str
    inputs_sha256: str
    plan: str
    job_time: float | None
    priority: int
    rounds: int
    fence: int
    created_at: float
    changed_at: float

    @property
    def job_key(self) -> str:
        """Key of the revision's job: another one each time it is queued."""
        return f"revision-{self.id}-{self.rounds}"


@dataclass(frozen=True, slots=True)
class InputFile:
    """One input instance of a study; `path` is relative to the data folder."""

    sop_instance_uid: str
    sha256: str
    path: str


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One result object to be delivered to one peer; `path` is relative to the data folder."""

    peer: str
    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    path: str
    sha256: str


def _row(row: sa.Row[Any]) -> RevisionRow:
    facts = dict(row._mapping)
    return RevisionRow(**{**facts, "state": Revision(facts["state"])})


@dataclass(frozen=True)
class Ledger:
    """State changes of revisions and result objects."""

    database: sa.Engine
    clock: Clock

    # -------------------------------------------------------------- reading

    def revision(self, revision_id: int) -> RevisionRow:
        """Return one revision.

        Raises
        ------
        ConfigurationError
            There is none with this number.
        """
        with reading(self.database) as connection:
            row = connection.execute(sa.select(revision).where(revision.c.id == revision_id)).first()
        if row is None:
            raise ConfigurationError(f"there is no revision {revision_id}; `hepatocast jobs list` shows them")
        return _row(row)

    def revisions(
        self, states: Sequence[Revision] = (), study_instance_uid: str | None = None
    ) -> tuple[RevisionRow, ...]:
        """Return revisions in the order they were opened; all states and studies when none are named."""
        query = sa.select(revision).order_by(revision.c.id)
        if states:
            query = query.where(revision.c.state.in_(states))
        if study_instance_uid is not None:
            query = query.where(revision.c.study_instance_uid == study_instance_uid)
        with reading(self.database) as connection:
            return tuple(_row(row) for row in connection.execute(query))

    def latest(self, connection: sa.Connection, study_instance_uid: str) -> RevisionRow | None:
        """Return the newest revision of a study."""
        query = (
            sa.select(revision)
            .where(revision.c.study_instance_uid == study_instance_uid)
            .order_by(revision.c.number.desc())
            .limit(1)
        )
        row = connection.execute(query).first()
        return None if row is None else _row(row)

    def inputs(self, study_instance_uid: str) -> tuple[InputFile, ...]:
        """Return a study's input instances by SOP Instance UID; of a conflict, the one that came first."""
        query = (
            sa.select(instance.c.sop_instance_uid, instance.c.sha256, instance.c.path)
            .where(instance.c.study_instance_uid == study_instance_uid, instance.c.made_here.is_(False))
            .order_by(instance.c.id.desc())
        )
        with reading(self.database) as connection:
            first = {row.sop_instance_uid: InputFile(*row) for row in connection.execute(query)}
        return tuple(first[uid] for uid in sorted(first))

    def sender(self, study_instance_uid: str) -> str:
        """Return the calling AE title that a study came from last."""
        query = sa.select(study.c.calling_ae_title).where(study.c.study_instance_uid == study_instance_uid)
        with reading(self.database) as connection:
            return str(connection.execute(query).scalar() or "")

    def history(self, revision_id: int) -> tuple[Mapping[str, Any], ...]:
        """Return the audit rows of one revision, oldest first."""
        query = (
            sa.select(audit)
            .where(audit.c.entity == "revision", audit.c.key == str(revision_id))
            .order_by(audit.c.id)
        )
        with reading(self.database) as connection:
            return tuple(dict(row._mapping) for row in connection.execute(query))

    def delivered(self, revision_id: int) -> bool:
        """Whether a revision has result objects and every one was verified."""
        states = {state for _, state in self.object_counts(revision_id)}
        return states == {ResultObject.VERIFIED}

    def object_counts(self, revision_id: int) -> Mapping[tuple[str, str], int]:
        """Return how many results of a revision are in which state, by (peer, state); no proposals."""
        columns = (result_object.c.peer, result_object.c.state)
        query = (
            sa.select(*columns, sa.func.count())
            .where(result_object.c.revision_id == revision_id, result_object.c.kind != PROPOSAL)
            .group_by(*columns)
        )
        with reading(self.database) as connection:
            return {(peer, state): count for peer, state, count in connection.execute(query)}

    # -------------------------------------------------------------- changing

    def open_revision(self, connection: sa.Connection, study_instance_uid: str) -> int:
        """Add the next revision of a study, RECEIVING; returns its id."""
        latest = sa.select(sa.func.max(revision.c.number)).where(
            revision.c.study_instance_uid == study_instance_uid
        )
        number = (connection.execute(latest).scalar() or 0) + 1
        now = self.clock()
        added = sa.insert(revision).values(
            study_instance_uid=study_instance_uid,
            number=number,
            state=Revision.RECEIVING,
            created_at=now,
            changed_at=now,
        )
        revision_id = int(connection.execute(added.returning(revision.c.id)).scalar_one())
        self._record(connection, "revision", str(revision_id), "", Revision.RECEIVING, "opened", "")
        return revision_id

    def apply(
        self,
        connection: sa.Connection,
        revision_id: int,
        event: RevisionEvent,
        reason: str = "",
        **values: object,
    ) -> Revision:
        """Change the state of a revision by the table; `values` are further columns of its row.

        Raises
        ------
        IllegalTransition
            The table has no such change.
        """
        query = sa.select(revision.c.state).where(revision.c.id == revision_id)
        before = Revision(connection.execute(query).scalar_one())
        after = revision_transition(before, event)
        connection.execute(
            sa.update(revision)
            .where(revision.c.id == revision_id)
            .values(state=after, reason=reason, changed_at=self.clock(), **values)
        )
        self._record(connection, "revision", str(revision_id), before, after, event, reason)
        return after

    def change(self, revision_id: int, event: RevisionEvent, reason: str = "", **values: object) -> Revision:
        """Do `apply` in a transaction of its own."""
        with writing(self.database) as connection:
            return self.apply(connection, revision_id, event, reason, **values)

    def start(self, revision_id: int) -> RevisionRow:
        """Begin (or begin again) the job of a revision: RUNNING, with a new fence.

        Raises
        ------
        LeaseLost
            The revision was superseded, cancelled or ended meanwhile; there is nothing to do.
        """
        with writing(self.database) as connection:
            row = connection.execute(sa.select(revision).where(revision.c.id == revision_id)).one()
            if row.state not in (Revision.QUEUED, Revision.RUNNING):
                raise LeaseLost(f"the revision is {row.state}")
            self.apply(connection, revision_id, RevisionEvent.JOB_STARTED, fence=row.fence + 1)
        return self.revision(revision_id)

    def check_fence(self, connection: sa.Connection, revision_id: int, fence: int) -> None:
        """Raise `LeaseLost` unless the job runs that has this fence."""
        row = connection.execute(sa.select(revision).where(revision.c.id == revision_id)).one()
        if row.state != Revision.RUNNING or row.fence != fence:
            raise LeaseLost(f"the revision is {row.state} and its job was started again or ended")

    def end(self, revision_id: int, fence: int, event: RevisionEvent, reason: str) -> None:
        """End or release a running job: refused, failed or back to the queue.

        Raises
        ------
        LeaseLost
            Another worker has the job.
        """
        with writing(self.database) as connection:
            self.check_fence(connection, revision_id, fence)
            self.apply(connection, revision_id, event, reason)

    def accept_results(
        self,
        revision_id: int,
        fence: int,
        rows: Iterable[ResultRow],
        also: Callable[[sa.Connection], None] = lambda _connection: None,
    ) -> None:
        """Accept the results of a job once: its objects become READY and the revision DONE.

        An object that an earlier revision already delivered (same UID, same peer) is not sent again.

        Parameters
        ----------
        also : callable
            Done in the same transaction: what has to be known of the results as soon as they are.

        Raises
        ------
        LeaseLost
            Another worker has the job, or the revision was superseded.
        """
        with writing(self.database) as connection:
            self.check_fence(connection, revision_id, fence)
            for row in rows:
                self.add_object(connection, revision_id, row)
            self.apply(connection, revision_id, RevisionEvent.JOB_DONE)
            also(connection)

    def add_object(self, connection: sa.Connection, revision_id: int, row: ResultRow) -> None:
        """Add an object to the outbox; one that an earlier revision did not deliver is taken over."""
        mine = sa.and_(
            result_object.c.sop_instance_uid == row.sop_instance_uid, result_object.c.peer == row.peer
        )
        known = connection.execute(sa.select(result_object.c.state).where(mine)).scalar()
        values = {**asdict(row), "revision_id": revision_id, "changed_at": self.clock()}
        if known is None:
            connection.execute(sa.insert(result_object).values(state=ResultObject.READY, **values))
        elif known in (ResultObject.WITHDRAWN, ResultObject.REJECTED):
            before = ResultObject(known)
            after = object_transition(before, ObjectEvent.RETRY)
            connection.execute(
                sa.update(result_object)
                .where(mine)
                .values(state=after, next_attempt_at=0.0, attempts=0, **values)
            )
            self._record(
                connection, "object", row.sop_instance_uid, before, after, ObjectEvent.RETRY, "made again"
            )

    def supersede(
        self, connection: sa.Connection, revision_id: int, reason: str = "more or other images came"
    ) -> None:
        """End a revision that another one takes the place of; what was not sent yet is withdrawn."""
        self.apply(connection, revision_id, RevisionEvent.INPUT_CHANGED, reason)
        mine = result_object.c.revision_id == revision_id
        self._change_objects(connection, mine, ResultObject.READY, ObjectEvent.REVISION_SUPERSEDED)

    def cancel(self, revision_id: int) -> RevisionRow:
        """Cancel a revision on a person's request; returns it as it was before."""
        row = self.revision(revision_id)
        self.change(revision_id, RevisionEvent.CANCEL, "cancelled by a person")
        return row

    def retry(self, revision_id: int) -> Revision:
        """Try a revision again on a person's request.

        Objects that a peer rejected are sent again; without any the study is routed again.
        """
        with writing(self.database) as connection:
            mine = sa.and_(result_object.c.revision_id == revision_id, result_object.c.kind != PROPOSAL)
            count = self._change_objects(
                connection, mine, ResultObject.REJECTED, ObjectEvent.RETRY, next_attempt_at=0.0, attempts=0
            )
            event = RevisionEvent.DELIVERY_RETRIED if count else RevisionEvent.RETRY
            return self.apply(connection, revision_id, event)

    def change_objects(self, ids: Sequence[int], event: ObjectEvent, detail: str = "") -> int:
        """Change the states of result objects, all in one transaction; returns how many changed.

        Objects whose state has no such change any more (a revision was superseded meanwhile) stay as
        they are.
        """
        if not ids:
            return 0
        with writing(self.database) as connection:
            changed = 0
            for state in ResultObject:
                if (state, event) in OBJECT_TRANSITIONS:
                    chosen = result_object.c.id.in_(ids)
                    changed += self._change_objects(connection, chosen, state, event, detail)
            return changed

    def _change_objects(
        self,
        connection: sa.Connection,
        chosen: sa.ColumnElement[bool],
        state: ResultObject,
        event: ObjectEvent,
        detail: str = "",
        **values: object,
    ) -> int:
        after = object_transition(state, event)
        mine = sa.and_(chosen, result_object.c.state == state)
        uids = connection.execute(sa.select(result_object.c.sop_instance_uid).where(mine)).scalars().all()
        now = self.clock()
        connection.execute(
            sa.update(result_object).where(mine).values(state=after, changed_at=now, detail=detail, **values)
        )
        for uid in uids:
            self._record(connection, "object", uid, state, after, event, detail)
        return len(uids)

    def _record(
        self,
        connection: sa.Connection,
        entity: str,
        key: str,
        before: str,
        after: str,
        event: str,
        detail: str,
    ) -> None:
        connection.execute(
            sa.insert(audit).values(
                at=self.clock(),
                entity=entity,
                key=key,
                state_before=str(before),
                state_after=str(after),
                event=str(event),
                detail=detail,
            )
        )
