"""Is the node ready: one line for each thing that must be so, with what was found."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.clock import Clock
from dicom_node.database import reading, revision
from dicom_node.intake.spool import FreeBytes, free_bytes
from dicom_node.observation.heartbeats import Heartbeats
from dicom_node.settings import NodeSettings

CONNECT_WITHIN_S = 2.0
NEEDED_ROLES = ("listener", "steward", "worker")
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that must be so; `detail` says what was found, and names no patient."""

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True)
class Health:
    """Looks at everything that the node needs."""

    settings: NodeSettings
    database: sa.Engine
    clock: Clock
    free: FreeBytes = free_bytes

    def conditions(self) -> tuple[Condition, ...]:
        """Return all conditions; nothing is raised."""
        database = self._database()
        if not database.holds:
            return (database, self._disk())
        return (database, self._disk(), *self._roles(), self._socket())

    def _database(self) -> Condition:
        try:
            with reading(self.database) as connection:
                connection.execute(sa.select(revision.c.id).limit(1)).scalar()
        except SQLAlchemyError as error:
            return Condition("database", False, f"it does not answer ({type(error).__name__})")
        return Condition("database", True, "answers")

    def _disk(self) -> Condition:
        needed = self.settings.listener.minimum_free_bytes
        try:
            free = self.free(self.settings.data_dir)
        except OSError as error:
            return Condition("disk", False, f"data_dir cannot be read: {error.strerror}")
        return Condition("disk", free > needed, f"{free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB kept free")

    def _roles(self) -> Iterator[Condition]:
        beats, now = Heartbeats(self.database, self.clock).all(), self.clock()
        for role in NEEDED_ROLES:
            alive = [b for b in beats if b.role == role and b.is_alive(now)]
            hosts = len({b.host for b in alive})
            found = f"{len(alive)} on {hosts} machines" if hosts > 1 else f"{len(alive)} alive"
            yield Condition(role, bool(alive), found if alive else "no sign of life")

    def _socket(self) -> Condition:
        """Connect to the listener of this machine; where it runs elsewhere its sign of life must do."""
        file = self.settings.data_dir / "listener.port"
        try:
            port = int(file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            elsewhere = bool(Heartbeats(self.database, self.clock).alive("listener"))
            return Condition("listener port", elsewhere, "no listener on this machine")
        host = self.settings.listener.host
        try:
            with socket.create_connection((ANY_ADDRESS.get(host, host), port), CONNECT_WITHIN_S):
                return Condition("listener port", True, f"{port} accepts connections")
        except OSError as error:
            return Condition("listener port", False, f"{port} does not answer ({type(error).__name__})")


@dataclass
class Remembered:
    """Looks at most every few seconds, however often it is asked."""

    look: Callable[[], tuple[Condition, ...]]
    clock: Clock
    for_s: float = 5.0
    _found: tuple[Condition, ...] = ()
    _at: float = -1e12

    def __call__(self) -> tuple[Condition, ...]:
        """Return what was found lately."""
        now = self.clock()
        if not 0 <= now - self._at < self.for_s:
            self._found, self._at = self.look(), now
        return self._found
