"""Counters of the listener: counted in memory, added to the database every few seconds.

The listener must answer fast and hold little, and its counts are read by another process, perhaps on
another machine. So a count costs an addition in memory; every `FLUSH_EVERY_S` one transaction adds what
is new to table ``counter``. Totals go on over restarts; a kill loses the counts of a few seconds, and
never an object. Names and labels are of fixed lists: whatever a peer sends makes no new row.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.database import reading, writing
from dicom_node.observation.tables import counter, prepare_observation
from dicom_node.repeating import repeated

_log = logging.getLogger(__name__)

FLUSH_EVERY_S = 2.0
Key = tuple[str, str]
"""Name and label."""


@dataclass
class Tally:
    """Counts of this process that are not in the database yet."""

    _counts: dict[Key, float] = field(default_factory=dict)
    _gauges: dict[Key, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, label: str = "", amount: float = 1.0) -> None:
        """Count."""
        with self._lock:
            self._counts[name, label] = self._counts.get((name, label), 0.0) + amount

    def set(self, name: str, value: float) -> None:
        """Note what something is now; it replaces what was noted before."""
        with self._lock:
            self._gauges[name, ""] = value

    def take(self) -> tuple[Mapping[Key, float], Mapping[Key, float]]:
        """Return counts and notes since the last time, and begin anew."""
        with self._lock:
            counts, gauges = dict(self._counts), dict(self._gauges)
            self._counts.clear()
            self._gauges.clear()
        return counts, gauges

    def give_back(self, counts: Mapping[Key, float]) -> None:
        """Count again what could not be written."""
        for (name, label), amount in counts.items():
            self.add(name, label, amount)


def write_counts(
    database: sa.Engine, host: str, counts: Mapping[Key, float], gauges: Mapping[Key, float]
) -> None:
    """Add counts to the totals of a machine, and replace its notes."""
    with writing(database) as connection:
        for (name, label), amount in counts.items():
            _upsert(connection, host, name, label, counter.c.value + amount, amount)
        for (name, label), value in gauges.items():
            _upsert(connection, host, name, label, value, value)


def _upsert(
    connection: sa.Connection, host: str, name: str, label: str, changed: object, first: float
) -> None:
    mine = sa.and_(counter.c.host == host, counter.c.name == name, counter.c.label == label)
    if connection.execute(sa.update(counter).where(mine).values(value=changed)).rowcount == 0:
        connection.execute(sa.insert(counter).values(host=host, name=name, label=label, value=first))


def read_counts(database: sa.Engine) -> dict[Key, float]:
    """Return the totals of all machines."""
    query = sa.select(counter.c.name, counter.c.label, sa.func.sum(counter.c.value)).group_by(
        counter.c.name, counter.c.label
    )
    with reading(database) as connection:
        return {(name, label): float(value) for name, label, value in connection.execute(query)}


@contextmanager
def flushing(
    tally: Tally,
    database: sa.Engine,
    host: str,
    before: Callable[[], None] = lambda: None,
    every_s: float = FLUSH_EVERY_S,
) -> Iterator[None]:
    """Write a tally to the database every few seconds and at the end of the block.

    Parameters
    ----------
    before : callable
        Called before each writing: notes what is so at the moment.
    """
    prepare_observation(database)

    def flush() -> None:
        before()
        counts, gauges = tally.take()
        if not counts and not gauges:
            return
        try:
            write_counts(database, host, counts, gauges)
        except SQLAlchemyError:
            tally.give_back(counts)
            _log.warning("counts could not be written now")

    try:
        with repeated("counters", flush, every_s):
            yield
    finally:
        flush()
