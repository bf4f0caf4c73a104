"""The job engine of one machine: a table of leases in the node's SQLite database.

Taking a job is one write transaction, so no two workers have it. A worker renews its lease in a
thread while the job runs; when it dies, the lease runs out and the job is due again.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from dicom_node.clock import Clock
from dicom_node.database import job, reading, writing
from dicom_node.errors import LeaseLost, TransientError
from dicom_node.jobs.attempt import Renewal, renewed
from dicom_node.jobs.engine import DEFAULT_QUEUE, Handler, Job, JobState, JobStatus, Report
from dicom_node.settings import JobSettings

_log = logging.getLogger(__name__)

OPEN = (JobState.READY, JobState.RUNNING)
LOST_TOO_OFTEN = "its worker was lost or ran out of time at every attempt"


def backoff_s(settings: JobSettings, attempts: int) -> float:
    """Return the wait before the next attempt, after so many attempts; the last value repeats."""
    return settings.backoff_s[min(attempts, len(settings.backoff_s)) - 1]


@dataclass(slots=True)
class _Lease:
    """One attempt's hold on one job; `lost` is set by the thread that renews it."""

    job_id: int
    attempt: int
    until: float
    ends_at: float
    lost: threading.Event = field(default_factory=threading.Event)


def _due(now: float) -> sa.ColumnElement[bool]:
    waiting = sa.and_(job.c.state == JobState.READY, job.c.run_at <= now)
    abandoned = sa.and_(job.c.state == JobState.RUNNING, job.c.lease_until < now)
    return sa.or_(waiting, abandoned)


def _status(row: sa.Row[Any]) -> JobStatus:
    return JobStatus(
        key=row.key,
        payload=json.loads(row.payload),
        state=JobState(row.state),
        priority=row.priority,
        attempts=row.attempts,
        run_at=row.run_at,
        error=row.error,
        progress=row.progress,
        progress_text=row.progress_text,
    )


@dataclass(frozen=True)
class SqliteEngine:
    """`Engine` on the table ``job``.

    Attributes
    ----------
    owner : str
        Name of this worker, different from all others.
    overtime : callable
        Called when a job runs past its time limit and nothing else can stop it; a worker process
        ends itself here, so that the job passes to another.
    """

    database: sa.Engine
    settings: JobSettings
    clock: Clock
    owner: str
    overtime: Callable[[], None] = lambda: None

    def put(self, key: str, payload: Mapping[str, Any], priority: int, queue: str = DEFAULT_QUEUE) -> bool:
        """Add a job unless its key is known."""
        row = {
            "key": key,
            "payload": json.dumps(payload, sort_keys=True),
            "priority": priority,
            "queue": queue,
            "state": JobState.READY,
            "run_at": self.clock(),
        }
        try:
            with writing(self.database) as connection:
                connection.execute(sa.insert(job).values(row))
        except IntegrityError:
            return False
        return True

    def run_one(self, handler: Handler) -> bool:
        """Execute the most urgent due job, if there is one."""
        taken = self._take()
        if taken is None:
            return False
        lease, current = taken
        try:
            with renewed(self._renewal(lease), self.settings, self.clock):
                handler(current, self._report(lease))
        except LeaseLost:
            _log.warning("job %s was cancelled or taken over by another worker", current.key)
        except TransientError as error:
            self._put_back(lease, current, str(error))
        except Exception as error:
            self._end(lease, JobState.DEAD, type(error).__name__)
            raise
        else:
            self._end(lease, JobState.DONE, "")
        return True

    def cancel(self, key: str) -> bool:
        """Cancel a job that is ready or running."""
        with writing(self.database) as connection:
            changed = connection.execute(
                sa.update(job)
                .where(job.c.key == key, job.c.state.in_(OPEN))
                .values(state=JobState.CANCELLED, lease_owner=None, lease_until=None)
            )
        return changed.rowcount == 1

    def status(self, keys: Sequence[str] = ()) -> tuple[JobStatus, ...]:
        """Return the named jobs, or all that are not ended."""
        wanted = job.c.key.in_(keys) if keys else job.c.state.in_(OPEN)
        query = sa.select(job).where(wanted).order_by(job.c.priority.desc(), job.c.id)
        with reading(self.database) as connection:
            return tuple(_status(row) for row in connection.execute(query))

    def bury(self) -> tuple[JobStatus, ...]:
        """End jobs whose worker was lost too often, and return all dead jobs."""
        now = self.clock()
        with writing(self.database) as connection:
            connection.execute(
                sa.update(job)
                .where(
                    job.c.state == JobState.RUNNING,
                    job.c.lease_until < now,
                    job.c.attempts >= self.settings.maximum_attempts,
                )
                .values(state=JobState.DEAD, error=LOST_TOO_OFTEN)
            )
            dead = connection.execute(sa.select(job).where(job.c.state == JobState.DEAD))
            return tuple(_status(row) for row in dead)

    def _served(self) -> sa.ColumnElement[bool]:
        queues = self.settings.queues
        return job.c.queue.in_(queues) if queues else sa.true()

    def _take(self) -> tuple[_Lease, Job] | None:
        now = self.clock()
        query = (
            sa.select(job)
            .where(_due(now), self._served(), job.c.attempts < self.settings.maximum_attempts)
            .order_by(job.c.priority.desc(), job.c.id)
            .limit(1)
        )
        with writing(self.database) as connection:
            row = connection.execute(query).first()
            if row is None:
                return None
            until = now + self.settings.lease_s
            connection.execute(
                sa.update(job)
                .where(job.c.id == row.id)
                .values(
                    state=JobState.RUNNING,
                    attempts=row.attempts + 1,
                    lease_owner=self.owner,
                    lease_until=until,
                    progress=0.0,
                    progress_text="",
                )
            )
        lease = _Lease(row.id, row.attempts + 1, until, now + self.settings.time_limit_s)
        return lease, Job(row.key, json.loads(row.payload), row.attempts + 1)

    def _held(self, lease: _Lease) -> sa.ColumnElement[bool]:
        return sa.and_(
            job.c.id == lease.job_id,
            job.c.state == JobState.RUNNING,
            job.c.lease_owner == self.owner,
            job.c.attempts == lease.attempt,
        )

    def _update(self, lease: _Lease, **values: object) -> bool:
        """Change the row of a job that this worker still holds; False when it does not."""
        with writing(self.database) as connection:
            changed = connection.execute(sa.update(job).where(self._held(lease)).values(**values))
        return changed.rowcount == 1

    def _renewal(self, lease: _Lease) -> Renewal:
        def beat() -> bool:
            return self._update(lease, lease_until=self.clock() + self.settings.lease_s)

        return Renewal(beat, SQLAlchemyError, lease.ends_at, lease.lost, self.overtime)

    def _report(self, lease: _Lease) -> Report:
        def report(text: str, share: float) -> None:
            if lease.lost.is_set() or not self._update(lease, progress=share, progress_text=text):
                raise LeaseLost("the job was cancelled or taken over by another worker")

        return report

    def _put_back(self, lease: _Lease, current: Job, error: str) -> None:
        if current.attempt >= self.settings.maximum_attempts:
            self._end(lease, JobState.DEAD, error)
            return
        run_at = self.clock() + backoff_s(self.settings, current.attempt)
        _log.warning("job %s is tried again in %.0f s: %s", current.key, run_at - self.clock(), error)
        self._update(
            lease, state=JobState.READY, run_at=run_at, error=error, lease_owner=None, lease_until=None
        )

    def _end(self, lease: _Lease, state: JobState, error: str) -> None:
        progress = {"progress": 1.0} if state is JobState.DONE else {}
        self._update(lease, state=state, error=error, lease_owner=None, lease_until=None, **progress)
