"""Alerts: conditions that people are told of once, and again only after they have cleared.

A table says what is looked at. What holds is a row of table ``alert``, so that a restart tells nobody
twice; what began and ended since the last look goes out as one message, and at most so many an hour.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from dicom_node.clock import Clock, still_waits
from dicom_node.database import audit, reading, writing
from dicom_node.errors import NodeError, TransientError
from dicom_node.intake.spool import FreeBytes, free_bytes
from dicom_node.jobs.states import RevisionEvent
from dicom_node.observation.channels import Channel, Message, Notice
from dicom_node.observation.heartbeats import Heartbeats
from dicom_node.observation.metrics import queued_since, undelivered_since
from dicom_node.observation.tables import alert, prepare_observation
from dicom_node.settings import NodeSettings, PeerSettings

_log = logging.getLogger(__name__)

HOUR_S = 3600.0
AFTER_FAILURE_S = 60.0
"""Before a message that no channel took is tried again."""
ECHO_EVERY_S = 60.0
JOB_ENDS = (
    RevisionEvent.JOB_DONE,
    RevisionEvent.JOB_FAILED,
    RevisionEvent.INPUT_REFUSED,
    RevisionEvent.INPUT_DAMAGED,
)

Found = Iterable[tuple[str, str]]
"""Subject and text of what holds; one condition may hold for several subjects."""


@dataclass
class PeerWatch:
    """Asks each peer by C-ECHO from time to time, and remembers since when it does not answer."""

    settings: NodeSettings
    clock: Clock
    echo: Callable[[PeerSettings, str], None]
    _asked_at: dict[str, float] = field(default_factory=dict)
    _away_since: dict[str, float] = field(default_factory=dict)

    def away(self) -> Mapping[str, float]:
        """Return the peers that do not answer, and since when."""
        for peer in self.settings.peers:
            now = self.clock()
            if now - self._asked_at.get(peer.name, -ECHO_EVERY_S) < ECHO_EVERY_S:
                continue
            self._asked_at[peer.name] = now
            try:
                self.echo(peer, self.settings.listener.ae_title)
            except NodeError:
                self._away_since.setdefault(peer.name, now)
            else:
                self._away_since.pop(peer.name, None)
        return self._away_since


@dataclass(frozen=True)
class Looked:
    """What conditions are judged by."""

    settings: NodeSettings
    database: sa.Engine
    clock: Clock
    watch: PeerWatch
    free: FreeBytes = free_bytes


def _disk(looked: Looked) -> Found:
    settings = looked.settings
    limit = settings.alerts.free_bytes
    limit = 2 * settings.listener.minimum_free_bytes if limit is None else limit
    free = looked.free(settings.data_dir)
    if free < limit:
        yield "", f"only {free / 1e9:.1f} GB are free; below {limit / 1e9:.1f} GB make room"


def _listener(looked: Looked) -> Found:
    beats, now = Heartbeats(looked.database, looked.clock).all(), looked.clock()
    within = looked.settings.alerts.role_lost_s
    if not any(b.role == "listener" and b.is_alive(now, within) for b in beats):
        yield "", f"no listener has given a sign of life for {within:.0f} s; nothing is received"


def _workers(looked: Looked) -> Found:
    heartbeats, within = Heartbeats(looked.database, looked.clock), looked.settings.alerts.role_lost_s
    for beat in heartbeats.lost(within):
        if beat.role == "worker":
            yield beat.owner, f"{beat.owner} vanished and was not replaced; its job goes to another"
    now = looked.clock()
    if not any(b.role == "worker" and b.is_alive(now, within) for b in heartbeats.all()):
        yield "all", "no worker is alive; nothing is forecast"


def _peers(looked: Looked) -> Found:
    now = looked.clock()
    for name, since in looked.watch.away().items():
        if now - since >= looked.settings.alerts.peer_away_s:
            yield name, f"peer {name} has not answered C-ECHO for {(now - since) / 60:.0f} minutes"


def _outbox(looked: Looked) -> Found:
    now = looked.clock()
    for peer, since in undelivered_since(looked.database).items():
        if now - since >= looked.settings.alerts.outbox_age_s:
            yield peer, f"results for {peer} have waited for {(now - since) / 60:.0f} minutes"


def _queue(looked: Looked) -> Found:
    since = queued_since(looked.database)
    if since is not None and looked.clock() - since >= looked.settings.alerts.job_age_s:
        minutes = (looked.clock() - since) / 60
        yield "", f"a study has been queued for {minutes:.0f} minutes; add workers, or see why they stand"


def _failures(looked: Looked) -> Found:
    count = looked.settings.alerts.failures_in_a_row
    query = (
        sa.select(audit.c.event)
        .where(audit.c.entity == "revision", audit.c.event.in_([str(e) for e in JOB_ENDS]))
        .order_by(audit.c.id.desc())
        .limit(count)
    )
    with reading(looked.database) as connection:
        last = connection.execute(query).scalars().all()
    if len(last) == count and set(last) == {str(RevisionEvent.JOB_FAILED)}:
        yield "", f"the last {count} jobs failed; see their reasons on the page or in `jobs list`"


CONDITIONS: tuple[tuple[str, Callable[[Looked], Found]], ...] = (
    ("disk", _disk),
    ("listener", _listener),
    ("worker", _workers),
    ("peer", _peers),
    ("outbox", _outbox),
    ("queue", _queue),
    ("failures", _failures),
)
"""Name of a condition, and what finds it."""


@dataclass(frozen=True)
class Alerts:
    """Table ``alert``."""

    database: sa.Engine
    clock: Clock

    def __post_init__(self) -> None:
        """Create the table where it is absent."""
        prepare_observation(self.database)

    def standing(self) -> tuple[Notice, ...]:
        """Return what holds now, the oldest first."""
        return self._read(alert.c.cleared_at.is_(None))

    def update(self, condition: str, holds: Mapping[str, str]) -> None:
        """Note for which subjects a condition holds, and with what text; all others are cleared."""
        now = self.clock()
        with writing(self.database) as connection:
            known = {
                r.subject: r
                for r in connection.execute(sa.select(alert).where(alert.c.condition == condition))
            }
            for subject, text in holds.items():
                mine = sa.and_(alert.c.condition == condition, alert.c.subject == subject)
                row = known.get(subject)
                fresh = {"since": now, "told_at": None, "cleared_at": None, "clearance_told_at": None}
                if row is None:
                    connection.execute(
                        sa.insert(alert).values(condition=condition, subject=subject, text=text, **fresh)
                    )
                elif row.cleared_at is not None:
                    connection.execute(sa.update(alert).where(mine).values(text=text, **fresh))
                else:
                    connection.execute(sa.update(alert).where(mine).values(text=text))
            over = [s for s, r in known.items() if s not in holds and r.cleared_at is None]
            if over:
                gone = sa.and_(alert.c.condition == condition, alert.c.subject.in_(over))
                connection.execute(sa.update(alert).where(gone).values(cleared_at=now))

    def untold(self, node: str) -> Message:
        """Return what people were not told yet."""
        raised = sa.and_(alert.c.cleared_at.is_(None), alert.c.told_at.is_(None))
        cleared = sa.and_(
            alert.c.cleared_at.is_not(None), alert.c.told_at.is_not(None), alert.c.clearance_told_at.is_(None)
        )
        return Message(node, self._read(raised), self._read(cleared))

    def told(self, message: Message) -> None:
        """Note that people were told."""
        now = self.clock()
        with writing(self.database) as connection:
            for notices, values in (
                (message.raised, {"told_at": now}),
                (message.cleared, {"clearance_told_at": now}),
            ):
                for n in notices:
                    mine = sa.and_(
                        alert.c.condition == n.condition,
                        alert.c.subject == n.subject,
                        alert.c.since == n.since,
                    )
                    connection.execute(sa.update(alert).where(mine).values(**values))

    def _read(self, where: sa.ColumnElement[bool]) -> tuple[Notice, ...]:
        query = sa.select(alert).where(where).order_by(alert.c.since)
        with reading(self.database) as connection:
            return tuple(
                Notice(r.condition, r.subject, r.text, float(r.since), r.cleared_at)
                for r in connection.execute(query)
            )


@dataclass
class AlertService:
    """Looks at all conditions and tells people; one runs for each node."""

    looked: Looked
    channels: Sequence[Channel]
    _sent_at: deque[float] = field(default_factory=deque)
    _not_before: float = 0.0

    def step(self) -> None:
        """Look once, and tell what is new."""
        alerts = Alerts(self.looked.database, self.looked.clock)
        for name, find in CONDITIONS:
            try:
                holds = dict(find(self.looked))
            except OSError as error:
                _log.warning("condition %s cannot be judged (%s)", name, type(error).__name__)
                continue
            alerts.update(name, holds)
        message = alerts.untold(self.looked.settings.audit.source_id)
        if (message.raised or message.cleared) and self._may_send():
            self._tell(alerts, message)

    def _may_send(self) -> bool:
        """Whether the limit of an hour leaves room; what waits goes out together later."""
        now = self.looked.clock()
        while self._sent_at and now - self._sent_at[0] >= HOUR_S:
            self._sent_at.popleft()
        waits = still_waits(self._not_before, now, AFTER_FAILURE_S)
        return not waits and len(self._sent_at) < self.looked.settings.alerts.maximum_per_hour

    def _tell(self, alerts: Alerts, message: Message) -> None:
        for notice in message.raised:
            _log.warning("alert %s: %s", notice.condition, notice.text)
        taken = not self.channels  # without a channel the log and the page have told it
        for channel in self.channels:
            try:
                channel.send(message)
                taken = True
            except TransientError as error:
                _log.error("an alert did not go out by %s: %s", channel.name, error)
        if taken:
            alerts.told(message)
            self._sent_at.append(self.looked.clock())
        else:
            self._not_before = self.looked.clock() + AFTER_FAILURE_S
