"""One steward at a time: assembly, delivery and housekeeping are done by one process, whoever it is.

On one machine it is the process that has a locked file; the kernel gives the lock to the next one when it
dies. On several it is the process that has a row of table ``lease``, renewed every few seconds by the
database's clock. A process that cannot renew ends itself before its lease does, so that two never work at
once; another one goes on within `LEASE_S`. One that stops properly gives its lease back, and another one
goes on within `LOOK_EVERY_S`: a rolling restart holds nobody up.
"""

from __future__ import annotations

import fcntl
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from dicom_node.database import is_postgresql, metadata, writing

_log = logging.getLogger(__name__)

LEASE_S = 15.0
RENEW_EVERY_S = 3.0
ENDS_BEFORE_S = 3.0
"""A leader that could not renew gives up this long before its lease ends."""
LOOK_EVERY_S = 1.0

lease = sa.Table(
    "lease",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("owner", sa.String(128), nullable=False),
    sa.Column("until", sa.Float, nullable=False, doc="by the database's clock"),
)


@dataclass(frozen=True)
class Lease:
    """The row of one name in a PostgreSQL database.

    Attributes
    ----------
    owner : str
        Name of this process, different from all others.
    """

    database: sa.Engine
    name: str
    owner: str

    def prepare(self) -> None:
        """Make the table where it is absent."""
        with writing(self.database) as connection:
            metadata.create_all(connection, tables=[lease])

    def take(self) -> bool:
        """Take or renew the lease; False where another process has it."""
        mine = lease.c.name == self.name
        with writing(self.database) as connection:
            now = _database_now(connection)
            row = connection.execute(sa.select(lease).where(mine)).first()
            if row is None:
                values = {"name": self.name, "owner": self.owner, "until": now + LEASE_S}
                connection.execute(sa.insert(lease).values(**values))
                return True
            if row.owner != self.owner and now < row.until:
                return False
            connection.execute(sa.update(lease).where(mine).values(owner=self.owner, until=now + LEASE_S))
        if row.owner != self.owner:
            _log.info("%s takes over from %s", self.owner, row.owner)
        return True

    def give_back(self) -> None:
        """End the lease now, if this process has it."""
        mine = sa.and_(lease.c.name == self.name, lease.c.owner == self.owner)
        with writing(self.database) as connection:
            connection.execute(sa.delete(lease).where(mine))


def _database_now(connection: sa.Connection) -> float:
    return float(connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())


@contextmanager
def leading(
    database: sa.Engine, data_dir: Path, owner: str, stop: threading.Event, lost: Callable[[], None]
) -> Iterator[bool]:
    """Wait until this process is the steward, and stay it until the block ends.

    Parameters
    ----------
    lost : callable
        Called, in a thread, when the lease could not be renewed in time. It must end the process.

    Yields
    ------
    bool
        False where `stop` was set before this process became the steward.
    """
    if is_postgresql(database):
        chosen = Lease(database, "steward", owner)
        chosen.prepare()
        with _by_lease(chosen, stop, lost) as leads:
            yield leads
    else:
        with (data_dir / ".steward.lock").open("w") as file:
            yield _by_file(file, stop)


def _by_file(file: Any, stop: threading.Event) -> bool:
    waited = False
    while not stop.is_set():
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waited:
                _log.info("another steward runs on this data folder; this one waits")
            waited = True
            stop.wait(LOOK_EVERY_S)
        else:
            return True
    return False


@contextmanager
def _by_lease(chosen: Lease, stop: threading.Event, lost: Callable[[], None]) -> Iterator[bool]:
    ends_at = _wait(chosen, stop)
    if ends_at is None:
        yield False
        return
    finished = threading.Event()
    keeper = threading.Thread(target=_keep, args=(chosen, ends_at, finished, lost), daemon=True)
    keeper.start()
    try:
        yield True
    finally:
        finished.set()
        keeper.join()
        _give_back(chosen)


def _give_back(chosen: Lease) -> None:
    try:
        chosen.give_back()
    except DBAPIError:
        _log.warning("the lease could not be given back; it ends by itself")


def _take(chosen: Lease) -> float | None:
    """Take or renew a lease; returns the `time.monotonic` at which it is over, None where it is not ours."""
    asked_at = time.monotonic()
    return asked_at + LEASE_S - ENDS_BEFORE_S if chosen.take() else None


def _wait(chosen: Lease, stop: threading.Event) -> float | None:
    waited = False
    while not stop.is_set():
        try:
            ends_at = _take(chosen)
        except DBAPIError:
            _log.warning("the database cannot be asked who the steward is")
            ends_at = None
        if ends_at is not None:
            _log.info("%s is the steward", chosen.owner)
            return ends_at
        if not waited:
            _log.info("another steward works; this one waits to take its place")
        waited = True
        stop.wait(LOOK_EVERY_S)
    return None


def _keep(chosen: Lease, ends_at: float, finished: threading.Event, lost: Callable[[], None]) -> None:
    """Renew the lease; the watch over its end is apart, because a renewal may wait for the database."""
    ends = [ends_at]
    watch = threading.Thread(target=_watch, args=(ends, finished, lost), daemon=True)
    watch.start()
    while not finished.wait(RENEW_EVERY_S):
        try:
            renewed = _take(chosen)
        except DBAPIError:
            _log.warning("the lease of the steward could not be renewed now")
            continue
        ends[0] = renewed if renewed is not None else time.monotonic()
    watch.join()


def _watch(ends: list[float], finished: threading.Event, lost: Callable[[], None]) -> None:
    while not finished.wait(0.2):
        if time.monotonic() >= ends[0]:
            _log.error("this process is the steward no more and ends")
            lost()
            return
