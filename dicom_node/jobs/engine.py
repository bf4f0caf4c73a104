"""The seam between the node and whatever runs its jobs.

A job is executed at least once: when its worker dies, its lease runs out and another worker takes
it. That its effect happens once is the ledger's business (`dicom_node.jobs.ledger`), not the
engine's. Every implementation passes ``tests/contract/test_engine_contract.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

DEFAULT_QUEUE = "default"


class JobState(StrEnum):
    """States of a job inside the engine."""

    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """One execution of a job.

    Attributes
    ----------
    attempt : int
        1 at the first execution.
    """

    key: str
    payload: Mapping[str, Any]
    attempt: int


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What is known of a job; times are seconds since the epoch, `progress` is 0 to 1."""

    key: str
    payload: Mapping[str, Any]
    state: JobState
    priority: int
    attempts: int
    run_at: float
    error: str
    progress: float
    progress_text: str


Report = Callable[[str, float], None]
"""Says how far the job is. Raises `LeaseLost` once the job was cancelled or passed to another worker."""

Handler = Callable[[Job, Report], None]
"""Executes a job.

`TransientError` makes the engine try again after a while; any other exception ends the job as dead
and goes on to the caller of `Engine.run_one`.
"""


class Engine(Protocol):
    """Runs jobs, each known by a key that is never used twice."""

    def put(self, key: str, payload: Mapping[str, Any], priority: int, queue: str = DEFAULT_QUEUE) -> bool:
        """Add a job; False (and nothing done) when the key is known. Higher priorities run first.

        Only workers that serve its queue run it (`JobSettings.queues`).
        """
        ...

    def run_one(self, handler: Handler) -> bool:
        """Execute the most urgent job that is due, keeping its lease alive; False when none is due."""
        ...

    def cancel(self, key: str) -> bool:
        """Cancel a job that is not ended; one that runs learns of it at its next report."""
        ...

    def status(self, keys: Sequence[str] = ()) -> tuple[JobStatus, ...]:
        """Return the jobs with these keys, or all that are not ended, the most urgent first."""
        ...

    def bury(self) -> tuple[JobStatus, ...]:
        """End jobs whose worker was lost too often, and return all dead jobs."""
        ...
