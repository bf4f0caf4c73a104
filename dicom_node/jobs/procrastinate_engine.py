"""The job engine of several machines: Procrastinate's queue in the node's PostgreSQL database.

Procrastinate keeps jobs, workers and heartbeats in its own tables, and changes them by functions in the
database; this engine calls them in transactions of its own, because three things are added there:

- A key is never used twice: the row of table ``queued_job`` stays, also when its job has ended.
- Each attempt is a worker of Procrastinate, so that the worker's number is the attempt's fence: an
  attempt that was given up, and is late, can neither report nor end the job that another one runs.
- Procrastinate lists stalled jobs and leaves them alone. Here every look for a job, and every `bury`
  (twice a second), goes over its list and gives them to others, or ends them after the last attempt.

All waits are measured by the database's clock, so that the clocks of the machines need not agree.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from procrastinate import App, SyncPsycopgConnector
from procrastinate.jobs import Status
from sqlalchemy.dialects import postgresql

from dicom_node.clock import Clock
from dicom_node.database import reading
from dicom_node.errors import LeaseLost, TransientError
from dicom_node.jobs.attempt import Renewal, renewed
from dicom_node.jobs.engine import DEFAULT_QUEUE, Handler, Job, JobStatus, Report
from dicom_node.jobs.procrastinate_queue import (
    OPEN_STATUS,
    TASK,
    call,
    changing,
    driver,
    job_status,
    now_s,
    queued_job,
    their_jobs,
    their_status,
    their_workers,
)
from dicom_node.jobs.sqlite_engine import LOST_TOO_OFTEN, backoff_s
from dicom_node.settings import JobSettings

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Lease:
    """One attempt's hold on one job: a worker of Procrastinate; `lost` is set by the renewing thread."""

    job_id: int
    worker_id: int
    key: str
    attempt: int
    ends_at: float
    lost: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class ProcrastinateEngine:
    """`Engine` on Procrastinate.

    Attributes
    ----------
    clock : callable
        Only for the time limit of a job; nothing that two machines compare depends on it.
    owner : str
        Name of this worker in the log.
    overtime : callable
        Called when a job runs past its time limit and nothing else can stop it; a worker process
        ends itself here, so that the job passes to another.
    """

    database: sa.Engine
    settings: JobSettings
    clock: Clock
    owner: str
    overtime: Callable[[], None] = lambda: None
    _app: App = field(default_factory=lambda: App(connector=SyncPsycopgConnector()), repr=False)

    # -------------------------------------------------------------- the queue

    def put(self, key: str, payload: Mapping[str, Any], priority: int, queue: str = DEFAULT_QUEUE) -> bool:
        """Add a job unless its key is known: our row and Procrastinate's are one transaction."""
        row = {"key": key, "payload": json.dumps(payload, sort_keys=True), "priority": priority}
        add = postgresql.insert(queued_job).values(created_at=now_s(), **row).on_conflict_do_nothing()
        with changing(self.database) as connection:
            if connection.execute(add.returning(queued_job.c.key)).first() is None:
                return False
            task = self._app.configure_task(
                TASK, queue=queue, priority=priority, connection=driver(connection)
            )
            connection.execute(
                sa.update(queued_job)
                .where(queued_job.c.key == key)
                .values(procrastinate_id=task.defer(key=key))
            )
        return True

    def cancel(self, key: str) -> bool:
        """Cancel a job that is ready or running."""
        mine = sa.select(queued_job.c.procrastinate_id).where(queued_job.c.key == key).scalar_subquery()
        query = (
            sa.select(their_jobs.c.id)
            .where(
                their_jobs.c.id == mine,
                their_status.in_(OPEN_STATUS),
                their_jobs.c.abort_requested.is_(False),
            )
            .with_for_update()
        )
        with changing(self.database) as connection:
            job_id = connection.execute(query).scalar()
            if job_id is None:
                return False
            call(connection, "cancel_job", job_id=job_id, abort=True, delete_job=False)
        return True

    def status(self, keys: Sequence[str] = ()) -> tuple[JobStatus, ...]:
        """Return the named jobs, or all that are not ended."""
        is_open = sa.and_(their_status.in_(OPEN_STATUS), their_jobs.c.abort_requested.is_(False))
        return self._jobs(queued_job.c.key.in_(keys) if keys else is_open)

    def bury(self) -> tuple[JobStatus, ...]:
        """End jobs whose worker was lost too often, pass on other lost ones; return all dead jobs."""
        self._recover()
        return self._jobs(their_status == Status.FAILED.value)

    def _jobs(self, wanted: sa.ColumnElement[bool]) -> tuple[JobStatus, ...]:
        columns = (their_status.label("status"), their_jobs.c.attempts, their_jobs.c.abort_requested)
        query = (
            sa.select(queued_job, *columns, their_jobs.c.scheduled_at)
            .join(their_jobs, their_jobs.c.id == queued_job.c.procrastinate_id)
            .where(wanted)
            .order_by(queued_job.c.priority.desc(), their_jobs.c.id)
        )
        with reading(self.database) as connection:
            return tuple(job_status(row) for row in connection.execute(query))

    # -------------------------------------------------------------- execution

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
            self._end_cancelled(lease)
        except TransientError as error:
            self._put_back(lease, str(error))
        except Exception as error:
            self._end(lease, Status.FAILED, type(error).__name__)
            raise
        else:
            self._end(lease, Status.SUCCEEDED, "")
        return True

    def _take(self) -> tuple[_Lease, Job] | None:
        self._recover()
        with changing(self.database) as connection:
            worker_id = call(connection, "register_worker").scalar_one()
            row = call(
                connection, "fetch_job", queues=list(self.settings.queues) or None, worker_id=worker_id
            ).one()
            if row.id is None:
                connection.rollback()  # and with it the worker
                return None
            record = connection.execute(
                sa.update(queued_job)
                .where(queued_job.c.procrastinate_id == row.id)
                .values(progress=0.0, progress_text="")
                .returning(queued_job.c.key, queued_job.c.payload)
            ).one()
        attempt = row.attempts + 1
        lease = _Lease(row.id, worker_id, record.key, attempt, self.clock() + self.settings.time_limit_s)
        return lease, Job(record.key, json.loads(record.payload), attempt)

    def _held(self, connection: sa.Connection, lease: _Lease) -> sa.Row[Any] | None:
        """Lock the row of a job that this attempt still has; None when it has not."""
        query = (
            sa.select(their_jobs.c.abort_requested)
            .where(
                their_jobs.c.id == lease.job_id,
                their_jobs.c.worker_id == lease.worker_id,
                their_status == Status.DOING.value,
            )
            .with_for_update()
        )
        return connection.execute(query).first()

    def _renewal(self, lease: _Lease) -> Renewal:
        return Renewal(lambda: self._beat(lease), TransientError, lease.ends_at, lease.lost, self.overtime)

    def _beat(self, lease: _Lease) -> bool:
        # The job's row is locked first, as where lost jobs are passed on: a beat comes before or after.
        with changing(self.database) as connection:
            held = self._held(connection, lease)
            if held is None or held.abort_requested:
                return False
            call(connection, "update_heartbeat", worker_id=lease.worker_id)
        return True

    def _report(self, lease: _Lease) -> Report:
        def report(text: str, share: float) -> None:
            with changing(self.database) as connection:
                held = self._held(connection, lease)
                if lease.lost.is_set() or held is None or held.abort_requested:
                    raise LeaseLost("the job was cancelled or taken over by another worker")
                self._note(connection, lease, progress=share, progress_text=text)

        return report

    def _note(self, connection: sa.Connection, lease: _Lease, **values: object) -> None:
        connection.execute(sa.update(queued_job).where(queued_job.c.key == lease.key).values(**values))

    # -------------------------------------------------------------- ends of an attempt

    def _end(self, lease: _Lease, status: Status, error: str) -> None:
        """End a job that this attempt still has; one that was cancelled meanwhile ends as cancelled."""
        done = {"progress": 1.0} if status is Status.SUCCEEDED else {}
        with changing(self.database) as connection:
            held = self._held(connection, lease)
            if held is None:
                return
            status = Status.ABORTED if held.abort_requested else status
            call(connection, "finish_job", job_id=lease.job_id, status=status.value, delete_job=False)
            self._note(connection, lease, error=error, **done)
            call(connection, "unregister_worker", worker_id=lease.worker_id)

    def _end_cancelled(self, lease: _Lease) -> None:
        """End a job that was cancelled; one that was lost in another way is left to the stalled list."""
        with changing(self.database) as connection:
            held = self._held(connection, lease)
            if held is not None and held.abort_requested:
                aborted = Status.ABORTED.value
                call(connection, "finish_job", job_id=lease.job_id, status=aborted, delete_job=False)
                call(connection, "unregister_worker", worker_id=lease.worker_id)

    def _put_back(self, lease: _Lease, error: str) -> None:
        if lease.attempt >= self.settings.maximum_attempts:
            self._end(lease, Status.FAILED, error)
            return
        wait = backoff_s(self.settings, lease.attempt)
        with changing(self.database) as connection:
            held = self._held(connection, lease)
            if held is None:
                return
            if held.abort_requested:
                aborted = Status.ABORTED.value
                call(connection, "finish_job", job_id=lease.job_id, status=aborted, delete_job=False)
            else:
                self._retry(connection, lease.job_id, wait)
            self._note(connection, lease, error=error)
            call(connection, "unregister_worker", worker_id=lease.worker_id)
        _log.warning("job %s is tried again in %.0f s: %s", lease.key, wait, error)

    def _retry(self, connection: sa.Connection, job_id: int, wait_s: float) -> None:
        now: datetime = connection.execute(sa.select(sa.func.now())).scalar_one()
        unchanged = {"new_priority": None, "new_queue_name": None, "new_lock": None}
        retry_at = now.astimezone(UTC) + timedelta(seconds=wait_s)
        call(connection, "retry_job", job_id=job_id, retry_at=retry_at, **unchanged)

    # -------------------------------------------------------------- lost workers

    def _recover(self) -> None:
        """Pass on the jobs on Procrastinate's list of stalled ones, or end them after the last attempt."""
        stale = {"seconds_since_heartbeat": self.settings.lease_s, "queue": None, "task_name": None}
        with changing(self.database) as connection:
            stalled = call(connection, "select_stalled_jobs_by_heartbeat", **stale).all()
        for row in stalled:
            with changing(self.database) as connection:
                self._recover_one(connection, row.id, row.worker_id)

    def _recover_one(self, connection: sa.Connection, job_id: int, worker_id: int | None) -> None:
        same = their_jobs.c.worker_id.is_(None) if worker_id is None else their_jobs.c.worker_id == worker_id
        lost = (
            sa.select(their_jobs.c.attempts, their_jobs.c.abort_requested)
            .where(their_jobs.c.id == job_id, same, their_status == Status.DOING.value)
            .with_for_update(skip_locked=True)  # another one has just begun with it
        )
        row = connection.execute(lost).first()
        if row is None or self._is_alive(connection, worker_id):
            return
        if row.abort_requested:
            aborted = Status.ABORTED.value
            call(connection, "finish_job", job_id=job_id, status=aborted, delete_job=False)
        elif row.attempts + 1 >= self.settings.maximum_attempts:
            failed = Status.FAILED.value
            call(connection, "finish_job", job_id=job_id, status=failed, delete_job=False)
            mine = queued_job.c.procrastinate_id == job_id
            connection.execute(sa.update(queued_job).where(mine).values(error=LOST_TOO_OFTEN))
        else:
            self._retry(connection, job_id, 0.0)
            _log.warning("a worker was lost; its job is passed on, after attempt %d", row.attempts + 1)
        if worker_id is not None:
            call(connection, "unregister_worker", worker_id=worker_id)

    def _is_alive(self, connection: sa.Connection, worker_id: int | None) -> bool:
        """Whether a worker's heart beat after all, since the list was made."""
        lease = timedelta(seconds=self.settings.lease_s)
        query = sa.select(their_workers.c.id).where(
            their_workers.c.id == worker_id, their_workers.c.last_heartbeat >= sa.func.now() - lease
        )
        return connection.execute(query).first() is not None
