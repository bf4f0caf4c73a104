"""What is done when the clock of the machine is set back: times of the node that lie ahead are brought back.

Everything that waits, waits until a time in the database. A clock that is set back by an hour would make
all of it wait for an hour more. A clock that is set forward makes waits end early, which costs nothing but
an attempt.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa

from dicom_node.clock import Clock
from dicom_node.database import (
    commitment,
    inbound_commitment,
    instance,
    job,
    result_object,
    revision,
    study,
    writing,
)
from dicom_node.settings import NodeSettings

_log = logging.getLogger(__name__)

TOLERANCE_S = 2.0
"""Machines of one node differ by less, and so do two clocks of one machine between two looks."""
LOOK_EVERY_S = 1.0

Lead = tuple[sa.Column[float], float]
"""A column of times, and how far ahead of now its times may lie."""


def leads(settings: NodeSettings) -> tuple[Lead, ...]:
    """Return the times that something waits for."""
    job_wait, wait = max(settings.jobs.backoff_s), max(settings.outbox.backoff_s)
    return (
        (instance.c.received_at, 0.0),
        (study.c.last_instance_at, 0.0),
        (revision.c.created_at, 0.0),
        (revision.c.changed_at, 0.0),
        (job.c.run_at, job_wait),
        (job.c.lease_until, settings.jobs.lease_s),
        (result_object.c.next_attempt_at, wait),
        (commitment.c.requested_at, 0.0),
        (inbound_commitment.c.next_attempt_at, wait),
    )


def bring_back(database: sa.Engine, settings: NodeSettings, now: float) -> int:
    """Bring back the times that lie further ahead than any wait; return how many."""
    changed = 0
    with writing(database) as connection:
        for column, lead in leads(settings):
            latest = now + lead
            done = connection.execute(
                sa.update(column.table).where(column > latest + TOLERANCE_S).values({column.name: latest})
            )
            changed += done.rowcount
    return changed


@dataclass
class ClockWatch:
    """Notices that the clock was set back, by one that cannot be.

    Attributes
    ----------
    elapsed : callable
        Seconds since some moment; never goes back.
    """

    database: sa.Engine
    settings: NodeSettings
    clock: Clock
    elapsed: Callable[[], float] = time.monotonic
    _offset: float | None = field(default=None, repr=False)

    def step(self) -> None:
        """Look at both clocks; the first time, times are brought back in any case."""
        now = self.clock()
        before, self._offset = self._offset, now - self.elapsed()
        if before is not None and self._offset >= before - TOLERANCE_S:
            return
        changed = bring_back(self.database, self.settings, now)
        if before is not None or changed:
            _log.warning("the clock was set back; %d times that lay ahead are brought back", changed)
