"""The worker: takes jobs one by one, has each executed, and hands the results to the ledger.

A forecast is executed in a folder of its own attempt, so that a worker that was given up and is still
writing never touches what its successor makes. What was executed counts once the ledger has accepted
it, in one transaction.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.bundles.activation import NO_MODELS, ModelsInForce
from dicom_node.bundles.record import note_models
from dicom_node.durable import make_durable
from dicom_node.errors import LeaseLost, PermanentError, TransientError
from dicom_node.jobs.engine import Engine, Job, Report
from dicom_node.jobs.ledger import InputFile, Ledger, ResultRow, RevisionRow
from dicom_node.jobs.reviews import Reviews
from dicom_node.jobs.states import RevisionEvent
from dicom_node.logs import frames
from inference.errors import InferenceError, RejectedInput
from reporting.errors import ReportingError

_log = logging.getLogger(__name__)

IDLE_S = 0.5
"""Between two looks for a job when there was none."""
SHARE_OF_WORK = 0.95
"""Of the progress bar; the rest is making the results durable."""


@dataclass(frozen=True, slots=True)
class JobOrder:
    """What a worker is to execute: a revision, its inputs, and the folder for what it makes.

    Attributes
    ----------
    models : ModelsInForce
        The bundles in force when the job began; what is activated meanwhile is for the next job.
    released : bool
        A person released the outlines that these bundles draw.
    """

    revision: RevisionRow
    inputs: tuple[InputFile, ...]
    folder: Path
    models: ModelsInForce = NO_MODELS
    released: bool = False


Execute = Callable[[JobOrder, Report], Sequence[ResultRow]]
"""Makes the results of one revision in the order's folder and returns a row for each object and peer."""


class HeldForReview(Exception):
    """The outlines are doubtful: a person has to look before anything is forecast.

    Attributes
    ----------
    proposals : sequence of ResultRow
        The outlines, for people to correct.
    """

    def __init__(self, reason: str, proposals: Sequence[ResultRow]) -> None:
        super().__init__(reason)
        self.proposals = proposals


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """How a worker learns which bundles a job is made with, and what names them all."""

    in_force: Callable[[], ModelsInForce]
    key: Callable[[ModelsInForce], str]


NO_CHOICE = ModelChoice(lambda: NO_MODELS, lambda _models: "")
"""For workers that make their results without models."""


def results_folder(data_dir: Path, revision_id: int) -> Path:
    """Return the folder of a revision's results; each attempt has one of its own below it."""
    return data_dir / "results" / str(revision_id)


@dataclass(frozen=True)
class Worker:
    """Executes jobs, one at a time."""

    engine: Engine
    ledger: Ledger
    execute: Execute
    data_dir: Path
    choice: ModelChoice = NO_CHOICE

    def run(self, stop: threading.Event) -> None:
        """Execute jobs until `stop` is set. The job that runs then is executed to its end."""
        while not stop.is_set():
            if not self.step():
                stop.wait(IDLE_S)

    def step(self) -> bool:
        """Execute one job if one is due; whatever it raises ends with the job."""
        try:
            return self.engine.run_one(self._handle)
        except Exception as error:  # noqa: BLE001 - boundary: one job never stops the worker
            _log.error("a job failed with %s", frames(error))
            return True

    def _handle(self, job: Job, report: Report) -> None:
        revision_id = int(job.payload["revision_id"])
        try:
            row = self.ledger.start(revision_id)
        except LeaseLost as error:
            _log.info("revision %d needs no job any more: %s", revision_id, error)
            return
        folder = results_folder(self.data_dir, revision_id) / str(row.fence)
        try:
            self._make(row, folder, report)
        except RejectedInput as error:
            self._end(row, RevisionEvent.INPUT_REFUSED, str(error))
        except TransientError as error:
            self._end(row, RevisionEvent.JOB_RELEASED, str(error))
            raise
        except LeaseLost:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        except Exception as error:
            self._end(row, RevisionEvent.JOB_FAILED, failure_reason(error))
            raise

    def _make(self, row: RevisionRow, folder: Path, report: Report) -> None:
        remove_earlier_attempts(folder)
        folder.mkdir(parents=True)
        models = self.choice.in_force()
        key = self.choice.key(models)
        digests = {str(kind): sha256 for kind, sha256 in models.digests.items()}
        note_models(self.ledger.database, row.id, row.fence, key, digests)
        released = Reviews(self.ledger).released(row.id, key)
        order = JobOrder(row, self.ledger.inputs(row.study_instance_uid), folder, models, released)
        _log.info("revision %d starts, attempt folder %d", row.id, row.fence)
        try:
            rows = self.execute(order, lambda text, share: report(text, SHARE_OF_WORK * share))
        except HeldForReview as held:
            self._hold(row, folder, key, held)
            return
        report("making results durable", SHARE_OF_WORK)
        make_durable(folder)
        self.ledger.accept_results(row.id, row.fence, rows)
        _log.info("revision %d has %d result objects", row.id, len(rows))

    def _hold(self, row: RevisionRow, folder: Path, key: str, held: HeldForReview) -> None:
        """Put a revision in review; its proposals stay when it is executed again."""
        kept = proposal_folder(folder)
        if folder.is_dir() and held.proposals:
            folder.rename(kept)
            make_durable(kept)
        Reviews(self.ledger).hold(row.id, row.fence, str(held), key, held.proposals)
        _log.warning("revision %d waits for review: %s", row.id, held)

    def _end(self, row: RevisionRow, event: RevisionEvent, reason: str) -> None:
        _log.warning("revision %d: %s: %s", row.id, event, reason)
        self.ledger.end(row.id, row.fence, event, reason)


def proposal_folder(attempt: Path) -> Path:
    """Return where the proposals of an attempt are kept, apart from the folders of attempts."""
    return attempt.with_name(f"proposal-{attempt.name}")


def remove_earlier_attempts(folder: Path) -> None:
    """Remove the folders of earlier attempts beside the folder of this one, and none of later ones.

    A worker that stalled right after its start may come here when its successor's results have long
    been accepted.
    """
    if not folder.parent.is_dir():
        return
    for other in folder.parent.iterdir():
        if other.name.isdecimal() and int(other.name) < int(folder.name):
            shutil.rmtree(other, ignore_errors=True)


def failure_reason(error: Exception) -> str:
    """Return what people are told of a failure; texts of foreign errors may hold patient data."""
    if isinstance(error, (InferenceError, ReportingError, PermanentError)):
        return str(error)
    return f"an internal error ({type(error).__name__}); the log has the details"
