"""Signs of life of the node's processes, on whatever machine they run."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.clock import Clock
from dicom_node.database import reading, writing
from dicom_node.observation.tables import heartbeat, prepare_observation
from dicom_node.repeating import repeated

_log = logging.getLogger(__name__)

BEAT_EVERY_S = 5.0
ALIVE_WITHIN_S = 30.0
"""Without a beat for this long a process counts as gone."""
FORGOTTEN_AFTER_S = 7 * 86400.0
"""Then a process that vanished, and that nothing replaced, is spoken of no more."""


@dataclass(frozen=True, slots=True)
class Beat:
    """One process as it last said that it lives; times in seconds since the epoch."""

    owner: str
    role: str
    host: str
    started_at: float
    beat_at: float

    def is_alive(self, now: float, within_s: float = ALIVE_WITHIN_S) -> bool:
        """Whether the process gave a sign of life lately."""
        return now - self.beat_at <= within_s


@dataclass(frozen=True)
class Heartbeats:
    """Table ``heartbeat``."""

    database: sa.Engine
    clock: Clock

    def __post_init__(self) -> None:
        """Create the table where it is absent."""
        prepare_observation(self.database)

    def beat(self, role: str, host: str, process: int) -> None:
        """Say that a process lives."""
        owner, now = _owner(role, host, process), self.clock()
        with writing(self.database) as connection:
            known = connection.execute(
                sa.update(heartbeat).where(heartbeat.c.owner == owner).values(beat_at=now)
            )
            if known.rowcount == 0:
                connection.execute(
                    sa.insert(heartbeat).values(
                        owner=owner, role=role, host=host, started_at=now, beat_at=now
                    )
                )

    def stop(self, role: str, host: str, process: int) -> None:
        """Say that a process ends in order."""
        with writing(self.database) as connection:
            connection.execute(sa.delete(heartbeat).where(heartbeat.c.owner == _owner(role, host, process)))

    def all(self) -> tuple[Beat, ...]:
        """Return all processes, by role."""
        query = sa.select(heartbeat).order_by(heartbeat.c.role, heartbeat.c.started_at)
        with reading(self.database) as connection:
            return tuple(Beat(**row._mapping) for row in connection.execute(query))

    def alive(self, role: str) -> tuple[Beat, ...]:
        """Return the processes of a role that live."""
        now = self.clock()
        return tuple(b for b in self.all() if b.role == role and b.is_alive(now))

    def lost(self, after_s: float) -> tuple[Beat, ...]:
        """Return the processes that vanished and were not replaced on their machine; forget the others.

        One is replaced when another process of its role started on its machine after its last beat.
        """
        now, beats = self.clock(), self.all()
        lost: list[Beat] = []
        past: list[Beat] = []
        for beat in beats:
            if beat.is_alive(now, after_s):
                continue
            replaced = any(
                b.role == beat.role and b.host == beat.host and b.started_at >= beat.beat_at and b != beat
                for b in beats
            )
            forgotten = replaced or now - beat.beat_at > FORGOTTEN_AFTER_S
            (past if forgotten else lost).append(beat)
        if past:
            with writing(self.database) as connection:
                connection.execute(sa.delete(heartbeat).where(heartbeat.c.owner.in_([b.owner for b in past])))
        return tuple(lost)


def _owner(role: str, host: str, process: int) -> str:
    return f"{role}@{host}:{process}"


@contextmanager
def signs_of_life(database: sa.Engine, clock: Clock, role: str) -> Iterator[None]:
    """Give a sign of life every few seconds until the block ends, in a thread of its own."""
    beats, host, process = Heartbeats(database, clock), socket.gethostname(), os.getpid()

    def beat() -> None:
        try:
            beats.beat(role, host, process)
        except SQLAlchemyError:
            _log.warning("no sign of life could be written")

    beat()
    try:
        with repeated("signs of life", beat, BEAT_EVERY_S):
            yield
    finally:
        try:
            beats.stop(role, host, process)
        except SQLAlchemyError:
            _log.warning("the end of this process could not be written")
