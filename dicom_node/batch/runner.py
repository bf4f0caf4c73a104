"""Works a batch through: retrieves its studies at the pace that is set, and follows them to their ends.

All state is in the database. A run that is killed is taken up by the next one where it was: the lease of
the killed run ends, its open retrievals begin again and fetch what is missing.
"""

from __future__ import annotations

import logging
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from sqlalchemy.exc import SQLAlchemyError

from dicom_node.batch.following import Follower
from dicom_node.batch.ledger import BatchLedger, BatchRow, BatchStudyRow
from dicom_node.batch.progress import Progress, progress_of
from dicom_node.batch.retrieval import ArchiveAway, NothingToRetrieve, RetrievalStopped, Retrieved
from dicom_node.batch.settings import BatchSettings
from dicom_node.batch.states import IN_FLIGHT, OPEN, BatchEvent, BatchStudy
from dicom_node.batch.throttle import Window, next_start
from dicom_node.clock import Clock
from dicom_node.errors import LeaseLost, NodeError, TransientError
from dicom_node.logs import frames

_log = logging.getLogger(__name__)

TICK_S = 0.5
FOLLOW_HELD_EVERY_S = 10.0
REPORT_EVERY_S = 2.0
FAILURES_IN_A_ROW = 10
"""After so many studies in a row that could not be retrieved, the batch pauses: something else is wrong."""
UNEXPECTED = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
    struct.error,
)
"""What reading a damaged object or answer may raise: the study fails, the others go on."""

Report = Callable[[Progress, str], None]
"""Says how far the batch is, and what the run does or waits for."""


class Retrieving(Protocol):
    """What fetches one study (`dicom_node.batch.retrieval.Retriever`)."""

    def retrieve(self, study: str) -> Retrieved:
        """Fetch what is missing of a study."""
        ...


@dataclass
class _Archive:
    """What the run knows of the archive's state: no study's matter, so not in the ledger."""

    away: int = 0
    away_until: float = 0.0
    failed_since_success: set[int] = field(default_factory=set)


@dataclass
class Runner:
    """One run of one batch.

    Attributes
    ----------
    room : callable
        Whether the disk has room for more studies.
    """

    batch: BatchRow
    batches: BatchLedger
    follower: Follower
    retriever: Retrieving
    settings: BatchSettings
    room: Callable[[], bool]
    clock: Clock
    tick_s: float = TICK_S
    _archive: _Archive = field(default_factory=_Archive)
    _open: dict[Future[bool], BatchStudyRow] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _renewed_at: float = -1.0
    _held_at: float = -1.0
    _reported_at: float = -1.0
    _activity: str = ""
    _trouble: str = ""

    def __post_init__(self) -> None:
        self._window = Window.of(self.settings)

    def run(self, stop: threading.Event, report: Report) -> Progress:
        """Work until every study has ended, or waits for a person, or `stop` is set.

        Raises
        ------
        LeaseLost
            Another run has taken the batch over.
        TransientError
            The database cannot be written; the next run goes on.
        """
        try:
            if not self._acquired(stop, report):
                return self._progress()
            with ThreadPoolExecutor(self.settings.retrievals, "retrieval") as pool:
                try:
                    self._work(pool, stop, report)
                finally:
                    ended = not stop.is_set()
                    stop.set()
            self._collect()
            self.batches.release(self.batch.id, self.follower.runner, "" if ended else "stopped")
        except SQLAlchemyError as error:
            raise TransientError("the database cannot be written; run the batch again") from error
        progress = self._progress()
        report(progress, "ended" if ended else "stopped; run it again to go on")
        return progress

    def _acquired(self, stop: threading.Event, report: Report) -> bool:
        """Become the runner; wait for the lease of one that may have been killed."""
        while not self.batches.acquire(self.batch.id, self.follower.runner, self.settings.lease_s):
            report(self._progress(), "another run has this batch; waits for its end")
            if stop.wait(self.tick_s):
                return False
        return True

    def _work(self, pool: ThreadPoolExecutor, stop: threading.Event, report: Report) -> None:
        while not stop.is_set():
            self._collect()
            self._follow()
            counts = self.batches.counts(self.batch.id)
            if not any(counts.get(state) for state in OPEN):
                return
            in_flight = sum(counts.get(state, 0) for state in IN_FLIGHT)
            self._say(self._begin(pool, in_flight))
            if self.clock() - self._reported_at >= REPORT_EVERY_S:
                self._reported_at = self.clock()
                report(self._progress(), self._activity)
            stop.wait(self.tick_s)

    def _progress(self) -> Progress:
        return progress_of(self.batches, self.batch, self.settings, self.clock())

    def _say(self, activity: str) -> None:
        """Renew the lease when it is time, and when the activity has changed."""
        now = self.clock()
        if activity == self._activity and now - self._renewed_at < self.settings.lease_s / 3:
            return
        self.batches.renew(self.batch.id, self.follower.runner, self.settings.lease_s, activity)
        self._activity, self._renewed_at = activity, now

    # -------------------------------------------------------------- beginning retrievals

    def _begin(self, pool: ThreadPoolExecutor, in_flight: int) -> str:
        """Begin the retrievals that are due; returns what the run does or waits for."""
        while True:
            if len(self._open) >= self.settings.retrievals:
                return "retrieves"
            if in_flight >= self.settings.studies_in_flight:
                return "waits for the node to process what was retrieved"
            if reason := self._waits_for():
                return reason
            row = self.batches.claim(self.batch.id, self.follower.runner)
            if row is None:
                return "retrieves" if self._open else self._nothing_due()
            self._open[pool.submit(self._retrieve, row)] = row
            in_flight += 1

    def _nothing_due(self) -> str:
        if self.batches.counts(self.batch.id).get(BatchStudy.PLANNED):
            return "waits to try studies again that did not come"
        return "waits for the node to process what was retrieved"

    def _waits_for(self) -> str:
        """Return why no retrieval may begin now, or nothing."""
        now = self.clock()
        if self.batches.batch(self.batch.name).paused:
            return self._trouble or "paused; `hepatocast batch resume` lets it go on"
        self._trouble = ""
        if not self._window.is_open(now):
            return f"waits for the window, which opens at {self._local(self._window.next_change(now))}"
        if not self.room():
            return "waits for room on the disk (batch.minimum_free_bytes)"
        if now < self._archive.away_until:
            return f"the archive does not answer; asks again at {self._local(self._archive.away_until)}"
        if self.follower.live_work_waits():
            return "lets live studies go first"
        if now < next_start(self.batches.last_start(self.batch.id), self.settings.studies_per_hour):
            return "keeps to batch.studies_per_hour"
        return ""

    def _local(self, at: float | None) -> str:
        zone = ZoneInfo(self.settings.time_zone)
        return datetime.fromtimestamp(at or 0.0, zone).strftime("%H:%M")

    # -------------------------------------------------------------- one retrieval, in a thread of the pool

    def _retrieve(self, row: BatchStudyRow) -> bool:
        """Retrieve one study and note how it went; returns whether the archive did its part."""
        uid = row.study_instance_uid
        try:
            retrieved = self.retriever.retrieve(uid)
        except RetrievalStopped:
            self._back(row, BatchEvent.RETRIEVAL_BROKEN_OFF, "")
        except ArchiveAway as error:
            self._away(row, str(error))
        except NothingToRetrieve as error:
            self.batches.change(row, self.follower.runner, BatchEvent.RETRIEVAL_POINTLESS, str(error))
        except LeaseLost:
            raise
        except NodeError as error:
            self._failed(row, str(error))
            return False
        except UNEXPECTED as error:
            _log.error("a retrieval failed: %s", frames(error))
            self._failed(row, f"an unexpected {type(error).__name__}, see the log of the run")
            return False
        else:
            self._archive.away = 0
            self.follower.received(row, retrieved)
        return True

    def _back(self, row: BatchStudyRow, event: BatchEvent, reason: str, at: float = 0.0) -> None:
        """Plan a study again whose attempt does not count."""
        before = {"attempts": row.attempts - 1, "next_attempt_at": at}
        self.batches.change(row, self.follower.runner, event, reason, **before)

    def _away(self, row: BatchStudyRow, reason: str) -> None:
        """Leave the archive alone for a while; the study is not to blame."""
        _log.warning("the archive does not answer: %s", reason)
        with self._lock:
            wait = self._backoff(self._archive.away)
            self._archive.away += 1
            self._archive.away_until = self.clock() + wait
        self._back(row, BatchEvent.RETRIEVAL_POSTPONED, reason)

    def _failed(self, row: BatchStudyRow, reason: str) -> None:
        runner = self.follower.runner
        if row.attempts >= self.settings.maximum_attempts:
            self.batches.change(row, runner, BatchEvent.RETRIEVAL_FAILED, reason)
            return
        at = self.clock() + self._backoff(row.attempts - 1)
        self.batches.change(row, runner, BatchEvent.RETRIEVAL_POSTPONED, reason, next_attempt_at=at)

    def _backoff(self, failures: int) -> float:
        return self.settings.backoff_s[min(failures, len(self.settings.backoff_s) - 1)]

    # -------------------------------------------------------------- what became of them

    def _collect(self) -> None:
        """Look at the retrievals that have ended; raises what ended one unexpectedly."""
        for future in [f for f in self._open if f.done()]:
            row = self._open.pop(future)
            failed = self._archive.failed_since_success
            if future.result():
                failed.clear()
                continue
            failed.add(row.id)
            if len(failed) >= FAILURES_IN_A_ROW:
                failed.clear()
                self._trouble = (
                    f"paused, because {FAILURES_IN_A_ROW} studies in a row could not be retrieved; "
                    "see `hepatocast batch status`"
                )
                self.batches.pause(self.batch.name)

    def _follow(self) -> None:
        now = self.clock()
        states = [BatchStudy.RECEIVED]
        if now - self._held_at >= FOLLOW_HELD_EVERY_S:
            self._held_at = now
            states.append(BatchStudy.HELD)
        for row in self.batches.studies(self.batch.id, states):
            self.follower.follow(row)
