"""The ledger of batches: a row for each study, its state changes, and who may make them.

A change and its row in the audit trail are one transaction. A batch has one runner at a time, by a lease
that it renews; every change of a runner is refused once the lease is another's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dicom_node.batch.states import ENDED, IN_FLIGHT, BatchEvent, BatchStudy, batch_transition
from dicom_node.batch.tables import batch, batch_study, create_batch_tables
from dicom_node.batch.ways import FindBy, RetrieveBy
from dicom_node.clock import Clock
from dicom_node.database import audit, reading, writing
from dicom_node.errors import ConfigurationError, LeaseLost


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One batch, as it stands."""

    id: int
    name: str
    peer: str
    find_by: FindBy
    retrieve_by: RetrieveBy
    created_at: float
    paused: bool
    runner: str
    runner_until: float
    activity: str


@dataclass(frozen=True, slots=True)
class BatchStudyRow:
    """One study of a batch, as it stands; times in seconds since the epoch."""

    id: int
    batch_id: int
    study_instance_uid: str
    state: BatchStudy
    reason: str
    forecast: str
    instances: int
    attempts: int
    next_attempt_at: float
    fetched_instances: int
    fetched_bytes: int
    revision_id: int | None
    started_at: float | None
    received_at: float | None
    ended_at: float | None
    changed_at: float


@dataclass(frozen=True, slots=True)
class PlannedStudy:
    """One study to be written into a plan; with a reason to skip it, it is SKIPPED from the beginning."""

    study_instance_uid: str
    instances: int
    forecast: str
    skip: str = ""


@dataclass(frozen=True, slots=True)
class NewBatch:
    """What a batch is called, and where its studies are."""

    name: str
    peer: str
    find_by: FindBy
    retrieve_by: RetrieveBy


def _batch_row(row: sa.Row[Any]) -> BatchRow:
    facts = dict(row._mapping)
    enums = {"find_by": FindBy(facts["find_by"]), "retrieve_by": RetrieveBy(facts["retrieve_by"])}
    return BatchRow(**{**facts, **enums, "paused": bool(facts["paused"])})


def _study_row(row: sa.Row[Any]) -> BatchStudyRow:
    facts = dict(row._mapping)
    return BatchStudyRow(**{**facts, "state": BatchStudy(facts["state"])})


class BatchLedger:
    """Batches and their studies."""

    def __init__(self, database: sa.Engine, clock: Clock) -> None:
        create_batch_tables(database)
        self.database = database
        self.clock = clock

    # -------------------------------------------------------------- planning

    def plan(self, new: NewBatch, studies: Sequence[PlannedStudy]) -> BatchRow:
        """Write a batch with all of its studies, or nothing.

        Raises
        ------
        ConfigurationError
            A batch has this name already.
        """
        now = self.clock()
        with writing(self.database) as connection:
            if connection.execute(sa.select(batch.c.id).where(batch.c.name == new.name)).first():
                raise ConfigurationError(f"there is a batch {new.name!r} already; choose another name")
            added = connection.execute(
                sa.insert(batch).values(
                    name=new.name,
                    peer=new.peer,
                    find_by=str(new.find_by),
                    retrieve_by=str(new.retrieve_by),
                    created_at=now,
                )
            )
            (batch_id,) = added.inserted_primary_key or (0,)
            rows = [_planned(int(batch_id), study, now) for study in studies]
            if rows:
                connection.execute(sa.insert(batch_study), rows)
        return self.batch(new.name)

    # -------------------------------------------------------------- reading

    def batch(self, name: str) -> BatchRow:
        """Return one batch; raise `ConfigurationError` if none has this name."""
        with reading(self.database) as connection:
            row = connection.execute(sa.select(batch).where(batch.c.name == name)).first()
        if row is None:
            known = ", ".join(b.name for b in self.batches()) or "none"
            raise ConfigurationError(f"there is no batch {name!r}; batches are: {known}")
        return _batch_row(row)

    def batches(self) -> tuple[BatchRow, ...]:
        """Return all batches, oldest first."""
        with reading(self.database) as connection:
            return tuple(_batch_row(row) for row in connection.execute(sa.select(batch).order_by(batch.c.id)))

    def studies(self, batch_id: int, states: Sequence[BatchStudy] = ()) -> tuple[BatchStudyRow, ...]:
        """Return the studies of a batch in the order of the plan; all states when none are named."""
        query = sa.select(batch_study).where(batch_study.c.batch_id == batch_id).order_by(batch_study.c.id)
        if states:
            query = query.where(batch_study.c.state.in_(states))
        with reading(self.database) as connection:
            return tuple(_study_row(row) for row in connection.execute(query))

    def counts(self, batch_id: int) -> Mapping[BatchStudy, int]:
        """Return how many studies of a batch are in each state, without empty states."""
        query = (
            sa.select(batch_study.c.state, sa.func.count())
            .where(batch_study.c.batch_id == batch_id)
            .group_by(batch_study.c.state)
        )
        with reading(self.database) as connection:
            return {BatchStudy(state): count for state, count in connection.execute(query)}

    def last_start(self, batch_id: int) -> float | None:
        """Return when the last retrieval of a batch began."""
        query = sa.select(sa.func.max(batch_study.c.started_at)).where(batch_study.c.batch_id == batch_id)
        with reading(self.database) as connection:
            return connection.execute(query).scalar()

    # -------------------------------------------------------------- pausing

    def pause(self, name: str) -> BatchRow:
        """Let a batch begin no more retrievals until `resume`."""
        return self._set_paused(name, paused=True)

    def resume(self, name: str) -> BatchRow:
        """Let a paused batch go on."""
        return self._set_paused(name, paused=False)

    def _set_paused(self, name: str, *, paused: bool) -> BatchRow:
        row = self.batch(name)
        with writing(self.database) as connection:
            connection.execute(sa.update(batch).where(batch.c.id == row.id).values(paused=paused))
        return self.batch(name)

    # -------------------------------------------------------------- the runner's lease

    def acquire(self, batch_id: int, runner: str, lease_s: float) -> bool:
        """Become the runner of a batch; False while another one's lease lasts.

        Retrievals that a runner before left behind are broken off, to be begun again.
        """
        now = self.clock()
        free = sa.or_(batch.c.runner.in_(("", runner)), batch.c.runner_until <= now)
        mine = sa.update(batch).where(batch.c.id == batch_id, free)
        with writing(self.database) as connection:
            taken = connection.execute(mine.values(runner=runner, runner_until=now + lease_s))
            if taken.rowcount == 0:
                return False
            query = sa.select(batch_study).where(
                batch_study.c.batch_id == batch_id, batch_study.c.state == BatchStudy.RETRIEVING
            )
            for row in map(_study_row, connection.execute(query).all()):
                self._apply(connection, row, BatchEvent.RETRIEVAL_BROKEN_OFF, "", attempts=row.attempts - 1)
        return True

    def renew(self, batch_id: int, runner: str, lease_s: float, activity: str) -> BatchRow:
        """Keep the lease and say what the runner does; returns the batch as it is now.

        Raises
        ------
        LeaseLost
            Another runner has the batch.
        """
        with writing(self.database) as connection:
            self._check_runner(connection, batch_id, runner)
            until = self.clock() + lease_s
            connection.execute(
                sa.update(batch).where(batch.c.id == batch_id).values(runner_until=until, activity=activity)
            )
            row = connection.execute(sa.select(batch).where(batch.c.id == batch_id)).one()
        return _batch_row(row)

    def release(self, batch_id: int, runner: str, activity: str) -> None:
        """Give the lease back, if it is still this runner's."""
        mine = sa.and_(batch.c.id == batch_id, batch.c.runner == runner)
        with writing(self.database) as connection:
            connection.execute(
                sa.update(batch).where(mine).values(runner="", runner_until=0.0, activity=activity)
            )

    def _check_runner(self, connection: sa.Connection, batch_id: int, runner: str) -> None:
        query = sa.select(batch.c.runner).where(batch.c.id == batch_id)
        if connection.execute(query).scalar_one() != runner:
            raise LeaseLost("another run has taken the batch over")

    # -------------------------------------------------------------- changing

    def claim(self, batch_id: int, runner: str) -> BatchStudyRow | None:
        """Begin the retrieval of the next study that is due; None where none is.

        Studies never tried come first, in the order of the plan. One that another batch has in flight
        is left for later.

        Raises
        ------
        LeaseLost
            Another runner has the batch.
        """
        now = self.clock()
        other = batch_study.alias("other")
        elsewhere = sa.select(other.c.study_instance_uid).where(
            other.c.batch_id != batch_id, other.c.state.in_(IN_FLIGHT)
        )
        due = (
            sa.select(batch_study)
            .where(
                batch_study.c.batch_id == batch_id,
                batch_study.c.state == BatchStudy.PLANNED,
                batch_study.c.next_attempt_at <= now,
                batch_study.c.study_instance_uid.not_in(elsewhere),
            )
            .order_by(batch_study.c.attempts, batch_study.c.id)
            .limit(1)
        )
        with writing(self.database) as connection:
            self._check_runner(connection, batch_id, runner)
            row = connection.execute(due).first()
            if row is None:
                return None
            study = _study_row(row)
            started = {"attempts": study.attempts + 1, "started_at": now}
            return self._apply(connection, study, BatchEvent.RETRIEVAL_STARTED, "", **started)

    def change(
        self, study: BatchStudyRow, runner: str, event: BatchEvent, reason: str = "", **values: object
    ) -> BatchStudyRow:
        """Change a study's state by the table; `values` are further columns of its row.

        Raises
        ------
        LeaseLost
            Another runner has the batch.
        IllegalTransition
            The table has no such change.
        """
        with writing(self.database) as connection:
            return self.apply(connection, study, runner, event, reason, **values)

    def apply(
        self,
        connection: sa.Connection,
        study: BatchStudyRow,
        runner: str,
        event: BatchEvent,
        reason: str = "",
        **values: object,
    ) -> BatchStudyRow:
        """Do `change` inside a transaction of the caller's."""
        self._check_runner(connection, study.batch_id, runner)
        row = connection.execute(sa.select(batch_study).where(batch_study.c.id == study.id)).one()
        return self._apply(connection, _study_row(row), event, reason, **values)

    def _apply(
        self,
        connection: sa.Connection,
        study: BatchStudyRow,
        event: BatchEvent,
        reason: str,
        **values: object,
    ) -> BatchStudyRow:
        after, now = batch_transition(study.state, event), self.clock()
        ended = {"ended_at": now} if after in ENDED else {}
        mine = batch_study.c.id == study.id
        connection.execute(
            sa.update(batch_study)
            .where(mine)
            .values(state=after, reason=reason, changed_at=now, **ended, **values)
        )
        connection.execute(
            sa.insert(audit).values(
                at=now,
                entity="batch study",
                key=str(study.id),
                state_before=str(study.state),
                state_after=str(after),
                event=str(event),
                detail=reason,
            )
        )
        return _study_row(connection.execute(sa.select(batch_study).where(mine)).one())

    def retry_failed(self, batch_id: int) -> int:
        """Plan the failed studies of a batch again on a person's request; returns how many."""
        with writing(self.database) as connection:
            query = sa.select(batch_study).where(
                batch_study.c.batch_id == batch_id, batch_study.c.state == BatchStudy.FAILED
            )
            rows = [_study_row(row) for row in connection.execute(query)]
            for row in rows:
                never = dict.fromkeys(("received_at", "ended_at", "revision_id"))
                again = {"attempts": 0, "next_attempt_at": 0.0, **never}
                self._apply(connection, row, BatchEvent.RETRY, "", **again)
        return len(rows)


def _planned(batch_id: int, study: PlannedStudy, now: float) -> dict[str, object]:
    return {
        "batch_id": batch_id,
        "study_instance_uid": study.study_instance_uid,
        "state": BatchStudy.SKIPPED if study.skip else BatchStudy.PLANNED,
        "reason": study.skip,
        "forecast": study.forecast,
        "instances": study.instances,
        "ended_at": now if study.skip else None,
        "changed_at": now,
    }
