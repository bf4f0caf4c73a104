"""How fast: bytes per second from the archive, studies per hour, hours of the night."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

from dicom_node.batch.settings import BatchSettings, NightlyWindow
from dicom_node.clock import Clock

SECONDS_PER_HOUR = 3600.0

Pause = Callable[[float], object]
"""Waits for some seconds, or less when the run is to end."""


@dataclass
class Throttle:
    """Keeps the mean rate of all retrievals together below a limit; for use by several threads.

    Attributes
    ----------
    bytes_per_s : float or None
        None: no limit.
    """

    bytes_per_s: float | None
    clock: Clock
    pause: Pause
    _free_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def used(self, size_bytes: int) -> None:
        """Wait as long as these bytes should have taken."""
        if self.bytes_per_s is None:
            return
        with self._lock:
            now = self.clock()
            self._free_at = max(now, self._free_at) + size_bytes / self.bytes_per_s
            wait = self._free_at - now
        self.pause(wait)


def next_start(last_start: float | None, studies_per_hour: float | None) -> float:
    """Return when the next retrieval may begin, from when the last one did."""
    if last_start is None or studies_per_hour is None:
        return 0.0
    return last_start + SECONDS_PER_HOUR / studies_per_hour


@dataclass(frozen=True)
class Window:
    """The nightly window in local time, summer time included; without one it is always open."""

    opens: CronTrigger | None
    closes: CronTrigger | None

    @classmethod
    def of(cls, settings: BatchSettings) -> Window:
        """Return the window of the settings."""
        if settings.window is None:
            return cls(None, None)
        return cls.nightly(settings.window, ZoneInfo(settings.time_zone))

    @classmethod
    def nightly(cls, hours: NightlyWindow, zone: ZoneInfo) -> Window:
        """Return the window of these local hours."""
        triggers = (
            CronTrigger(hour=t.hour, minute=t.minute, second=t.second, timezone=zone)
            for t in (hours.start, hours.end)
        )
        return cls(*triggers)

    def is_open(self, now: float) -> bool:
        """Whether a retrieval may begin."""
        if self.opens is None or self.closes is None:
            return True
        return _next(self.closes, now) < _next(self.opens, now)

    def next_change(self, now: float) -> float | None:
        """Return when it opens or closes next; None where it never does."""
        if self.opens is None or self.closes is None:
            return None
        return min(_next(self.opens, now), _next(self.closes, now))

    def after(self, now: float, open_s: float) -> float:
        """Return the time by which the window will have been open for `open_s` seconds."""
        left = open_s
        while (change := self.next_change(now)) is not None:
            span = change - now if self.is_open(now) else 0.0
            if span >= left:
                break
            left -= span
            now = change
        return now + left

    def open_between(self, start: float, end: float) -> float:
        """Return for how many seconds of a span the window was open."""
        total, now = 0.0, start
        while now < end:
            change = self.next_change(now)
            until = end if change is None else min(change, end)
            total += until - now if self.is_open(now) else 0.0
            now = until
        return total


def _next(trigger: CronTrigger, now: float) -> float:
    """Return the next time of a trigger that is after `now`."""
    moment = datetime.fromtimestamp(now + 0.001, UTC)
    found = trigger.get_next_fire_time(None, moment)
    return float(found.timestamp())
