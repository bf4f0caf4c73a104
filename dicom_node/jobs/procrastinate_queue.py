"""Procrastinate's queue as this node sees it: its tables, its queries, and our row beside each job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from procrastinate.jobs import Status
from procrastinate.schema import SchemaManager
from procrastinate.sql import queries
from sqlalchemy.exc import DBAPIError

from dicom_node.database import Number, metadata, writing
from dicom_node.errors import TransientError
from dicom_node.jobs.engine import JobState, JobStatus

TASK = "revision"

queued_job = sa.Table(
    "queued_job",
    metadata,
    sa.Column("key", sa.String(128), primary_key=True, doc="deduplication key"),
    sa.Column("procrastinate_id", Number, index=True),
    sa.Column("payload", sa.Text, nullable=False, doc="JSON"),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("error", sa.Text, nullable=False, default=""),
    sa.Column("progress", sa.Float, nullable=False, default=0.0),
    sa.Column("progress_text", sa.Text, nullable=False, default=""),
)

their_jobs = sa.table(
    "procrastinate_jobs",
    sa.column("id", sa.BigInteger),
    sa.column("status", sa.String),
    sa.column("attempts", sa.Integer),
    sa.column("abort_requested", sa.Boolean),
    sa.column("worker_id", sa.BigInteger),
    sa.column("scheduled_at", sa.DateTime(timezone=True)),
)
their_workers = sa.table(
    "procrastinate_workers", sa.column("id", sa.BigInteger), sa.column("last_heartbeat", sa.DateTime(True))
)
their_status = sa.cast(their_jobs.c.status, sa.String)

_STATES = {
    Status.TODO: JobState.READY,
    Status.DOING: JobState.RUNNING,
    Status.SUCCEEDED: JobState.DONE,
    Status.FAILED: JobState.DEAD,
    Status.CANCELLED: JobState.CANCELLED,
    Status.ABORTED: JobState.CANCELLED,
}
OPEN_STATUS = (Status.TODO.value, Status.DOING.value)


def prepare(database: sa.Engine) -> None:
    """Make the tables of Procrastinate and of this engine where they are absent."""
    with writing(database) as connection:
        if connection.execute(sa.text("SELECT to_regclass('procrastinate_jobs')")).scalar() is None:
            driver(connection).execute(SchemaManager.get_schema())
        metadata.create_all(connection, tables=[queued_job])


def driver(connection: sa.Connection) -> Any:
    """Return the psycopg connection below, for what Procrastinate does itself in our transaction."""
    return connection.connection.driver_connection


def call(connection: sa.Connection, name: str, **arguments: object) -> sa.CursorResult[Any]:
    """Execute one of Procrastinate's own queries in our transaction."""
    return connection.exec_driver_sql(queries[name], arguments)


@contextmanager
def changing(database: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction on the queue; Procrastinate's row locks are enough, and others go on beside it.

    Raises
    ------
    TransientError
        The database cannot be reached now.
    """
    try:
        with database.begin() as connection:
            yield connection
    except DBAPIError as error:
        raise TransientError("the job queue cannot be used now") from error


def now_s() -> sa.ColumnElement[Any]:
    """Return the time of the transaction, by the database's clock."""
    return sa.extract("epoch", sa.func.now())


def job_status(row: sa.Row[Any]) -> JobStatus:
    """Return a row of `queued_job` with Procrastinate's columns as what is known of a job."""
    status = Status(row.status)
    running = status is Status.DOING
    return JobStatus(
        key=row.key,
        payload=json.loads(row.payload),
        state=JobState.CANCELLED if running and row.abort_requested else _STATES[status],
        priority=row.priority,
        attempts=row.attempts + 1 if running else row.attempts,
        run_at=row.scheduled_at.timestamp() if row.scheduled_at else row.created_at,
        error=row.error,
        progress=row.progress,
        progress_text=row.progress_text,
    )
