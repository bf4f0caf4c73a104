"""One attempt at a job: while it runs, a thread renews its hold on the job."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dicom_node.clock import Clock
from dicom_node.settings import JobSettings

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Renewal:
    """How the hold on a job is renewed.

    Attributes
    ----------
    beat : callable
        Renews it; False where the job belongs to another attempt or was cancelled.
    trouble : type of exception
        What `beat` raises when it should be tried again.
    ends_at : float
        When the job has run too long, by `clock`.
    lost : Event
        Set where the hold is lost.
    overtime : callable
        Called when the job runs past `ends_at`.
    """

    beat: Callable[[], bool]
    trouble: type[Exception]
    ends_at: float
    lost: threading.Event
    overtime: Callable[[], None]


@contextmanager
def renewed(renewal: Renewal, settings: JobSettings, clock: Clock) -> Iterator[None]:
    """Renew the hold on a job until the block ends."""
    finished = threading.Event()
    thread = threading.Thread(target=_renew, args=(renewal, settings, clock, finished), daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def _renew(renewal: Renewal, settings: JobSettings, clock: Clock, finished: threading.Event) -> None:
    while not finished.wait(settings.heartbeat_s):
        if clock() > renewal.ends_at:
            _log.error("a job ran longer than %.0f s and is given up", settings.time_limit_s)
            renewal.lost.set()
            renewal.overtime()
            return
        try:
            held = renewal.beat()
        except renewal.trouble:
            _log.warning("a lease could not be renewed now", exc_info=True)
            continue
        if not held:
            renewal.lost.set()
            return
