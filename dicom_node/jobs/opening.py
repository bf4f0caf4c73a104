"""Which engine runs the jobs: that of one machine on SQLite, that of several on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from dicom_node.clock import Clock
from dicom_node.database import is_postgresql
from dicom_node.jobs.engine import Engine
from dicom_node.jobs.sqlite_engine import SqliteEngine
from dicom_node.settings import JobSettings


def _nothing() -> None:
    return


def open_engine(
    settings: JobSettings,
    database: sa.Engine,
    clock: Clock,
    owner: str,
    overtime: Callable[[], None] = _nothing,
) -> Engine:
    """Return the engine of a database; `owner` names this worker and is different from all others.

    Parameters
    ----------
    overtime : callable
        Called when a job runs past its time limit and nothing else can stop it.
    """
    if not is_postgresql(database):
        return SqliteEngine(database, settings, clock, owner, overtime)
    # Procrastinate is installed only where there are several machines.
    from dicom_node.jobs.procrastinate_engine import ProcrastinateEngine
    from dicom_node.jobs.procrastinate_queue import prepare

    prepare(database)
    return ProcrastinateEngine(database, settings, clock, owner, overtime)
