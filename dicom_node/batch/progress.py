"""How far a batch is, how fast it goes, and when it will be through.

The rate is the median over blocks of the studies that ended last, each timed over the hours in which the
window was open: one night's pause, one hung study or several that end in one moment do not move it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from dicom_node.batch.ledger import BatchLedger, BatchRow
from dicom_node.batch.settings import BatchSettings
from dicom_node.batch.states import ENDED, OPEN, BatchStudy
from dicom_node.batch.tables import batch_study
from dicom_node.batch.throttle import SECONDS_PER_HOUR, Window
from dicom_node.database import reading

LAST_ENDS = 101
"""How many ends of studies are looked at."""
SMALLEST_BLOCK = 5
BLOCKS_FOR_RANGE = 4
"""From so many blocks on the spread between them says something."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Studies per hour of open window: the median over blocks, and its quartiles where there are enough."""

    studies_per_hour: float
    slow: float | None = None
    fast: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is; times in seconds since the epoch.

    Attributes
    ----------
    pace : Pace or None
        None: too few studies have ended to say.
    ends_at : float or None
        When the last study ends if it goes on like this, the window considered; None: cannot be said, or
        nothing is left to do.
    ends_between : (float, float) or None
        The same for the upper and the lower quartile of the pace.
    """

    total: int
    counts: Mapping[BatchStudy, int]
    pace: Pace | None
    ends_at: float | None
    ends_between: tuple[float, float] | None

    @property
    def ended(self) -> int:
        """How many studies have come to an end."""
        return sum(self.counts.get(s, 0) for s in ENDED)

    @property
    def left(self) -> int:
        """How many studies a run still has something to do for."""
        return sum(self.counts.get(s, 0) for s in OPEN)

    @property
    def share(self) -> float:
        """Share of the studies that have ended, 0 to 1."""
        return self.ended / self.total if self.total else 1.0


def pace_of(ends: Sequence[float], block: int, window: Window) -> Pace | None:
    """Return the pace from the times at which studies ended.

    Parameters
    ----------
    ends : sequence of float
        In ascending order.
    block : int
        Studies per block; more than end in one moment.
    """
    newest_first = range(len(ends) - 1, block - 1, -block)
    spans = [window.open_between(ends[i - block], ends[i]) for i in newest_first]
    rates = [block * SECONDS_PER_HOUR / span for span in spans if span > 0]
    if not rates:
        return None
    median = statistics.median(rates)
    if len(rates) < BLOCKS_FOR_RANGE:
        return Pace(median)
    slow, _, fast = statistics.quantiles(rates, n=4, method="inclusive")
    return Pace(median, slow, fast)


def progress_of(ledger: BatchLedger, batch: BatchRow, settings: BatchSettings, now: float) -> Progress:
    """Return how far a batch is."""
    counts = ledger.counts(batch.id)
    window = Window.of(settings)
    block = max(SMALLEST_BLOCK, 2 * settings.studies_in_flight)
    pace = pace_of(_last_ends(ledger, batch.id), block, window)
    left = sum(counts.get(s, 0) for s in OPEN)
    total = sum(counts.values())
    if pace is None or not left:
        return Progress(total, counts, pace, None, None)
    ends_at = _end(now, left, pace.studies_per_hour, window)
    between = None
    if pace.slow is not None and pace.fast is not None:
        between = (_end(now, left, pace.fast, window), _end(now, left, pace.slow, window))
    return Progress(total, counts, pace, ends_at, between)


def _end(now: float, left: int, studies_per_hour: float, window: Window) -> float:
    return window.after(now, left * SECONDS_PER_HOUR / studies_per_hour)


def _last_ends(ledger: BatchLedger, batch_id: int) -> list[float]:
    """Return when the studies ended that ended last; those skipped by the plan cost no time."""
    query = (
        sa.select(batch_study.c.ended_at)
        .where(
            batch_study.c.batch_id == batch_id,
            batch_study.c.state.in_(ENDED),
            batch_study.c.started_at.is_not(None),
        )
        .order_by(batch_study.c.ended_at.desc())
        .limit(LAST_ENDS)
    )
    with reading(ledger.database) as connection:
        return sorted(float(at) for at in connection.execute(query).scalars())
