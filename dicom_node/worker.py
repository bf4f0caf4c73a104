"""The worker: takes jobs one by one, has each executed, and hands the results to the ledger.

A forecast is executed in a folder of its own attempt, so that a worker that was given up and is still
writing never touches what its successor makes. What was executed counts once the ledger has accepted
it, in one transaction.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.audit.forecasts import lock_forecast, made_forecast
from dicom_node.bundles.activation import NO_MODELS, ModelsInForce
from dicom_node.bundles.record import note_models
from dicom_node.errors import DamagedFile, LeaseLost, PermanentError, TransientError
from dicom_node.intake.damaged import SEND_AGAIN, put_damaged_aside
from dicom_node.jobs.engine import Engine, Job, Report
from dicom_node.jobs.ledger import InputFile, Ledger, ResultRow, RevisionRow
from dicom_node.jobs.reviews import Reviews
from dicom_node.jobs.states import RevisionEvent
from dicom_node.logs import frames, log_keys
from dicom_node.observation.work import WorkCounts
from dicom_node.storage.local import local_store
from dicom_node.storage.store import Store
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
    files : mapping
        The file on this machine of each input, by its path.
    """

    revision: RevisionRow
    inputs: tuple[InputFile, ...]
    folder: Path
    models: ModelsInForce = NO_MODELS
    released: bool = False
    files: Mapping[str, Path] = field(default_factory=dict)

    def key(self, file: Path) -> str:
        """Return the path that rows say of a file in the folder of this or of the proposals."""
        return file.relative_to(self.folder.parents[2]).as_posix()


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


def results_prefix(revision_id: int) -> str:
    """Return where a revision's results are in the store; each attempt has a folder of its own below it."""
    return f"results/{revision_id}"


def results_folder(data_dir: Path, revision_id: int) -> Path:
    """Return the folder of a revision's results; each attempt has one of its own below it."""
    return data_dir / "results" / str(revision_id)


@dataclass(frozen=True)
class Worker:
    """Executes jobs, one at a time.

    Attributes
    ----------
    data_dir : Path
        Where inputs and results are, if not in a store that is `elsewhere`.
    """

    engine: Engine
    ledger: Ledger
    execute: Execute
    data_dir: Path
    choice: ModelChoice = NO_CHOICE
    elsewhere: Store | None = None
    counts: WorkCounts | None = None

    @property
    def store(self) -> Store:
        """Where inputs and results are."""
        return self.elsewhere or local_store(self.data_dir)

    def run(self, stop: threading.Event) -> None:
        """Execute jobs until `stop` is set. The job that runs then is executed to its end."""
        while not stop.is_set():
            if not self.step():
                stop.wait(IDLE_S)

    def step(self) -> bool:
        """Execute one job if one is due; whatever it raises ends with the job."""
        try:
            return self.engine.run_one(self._handle)
        except TransientError as error:
            _log.warning("%s", error)
            return False
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
        with log_keys(job=job.key, study=row.study_instance_uid):
            self._execute(row, report)

    def _execute(self, row: RevisionRow, report: Report) -> None:
        try:
            self._make(row, report)
        except RejectedInput as error:
            self._end(row, RevisionEvent.INPUT_REFUSED, str(error))
            self._count(error)
        except DamagedFile as error:
            self._end(row, RevisionEvent.INPUT_DAMAGED, str(error))
            self._count(error)
        except TransientError as error:
            self._end(row, RevisionEvent.JOB_RELEASED, str(error))
            raise
        except LeaseLost:
            self._discard(row)
            raise
        except Exception as error:
            self._end(row, RevisionEvent.JOB_FAILED, failure_reason(error))
            self._count(error)
            raise

    def _count(self, error: Exception) -> None:
        if self.counts is not None:
            self.counts.ended(error)

    def _discard(self, row: RevisionRow) -> None:
        """Remove what a given up attempt made."""
        try:
            self.store.remove(_attempt(row))
        except TransientError as error:
            _log.warning("what a given up attempt made is not removed: %s", error)

    def _make(self, row: RevisionRow, report: Report) -> None:
        remove_earlier(self.store, results_prefix(row.id), row.fence)
        folder = self.store.folder(_attempt(row))
        folder.mkdir(parents=True)
        models = self.choice.in_force()
        key = self.choice.key(models)
        digests = {str(kind): sha256 for kind, sha256 in models.digests.items()}
        note_models(self.ledger.database, row.id, row.fence, key, digests)
        released = Reviews(self.ledger).released(row.id, key)
        inputs = self.ledger.inputs(row.study_instance_uid)
        _log.info("revision %d starts, attempt folder %d", row.id, row.fence)
        with self._here([f.path for f in inputs]) as files:
            if put_damaged_aside(self.store, inputs, files):
                raise DamagedFile(SEND_AGAIN)
            order = JobOrder(row, inputs, folder, models, released, files)
            try:
                rows = self.execute(order, lambda text, share: report(text, SHARE_OF_WORK * share))
            except HeldForReview as held:
                self._hold(row, folder, key, held)
                return
        report("making results durable", SHARE_OF_WORK)
        made = made_forecast(folder, [(r.sop_instance_uid, r.sha256) for r in rows])
        self.store.keep(_attempt(row))
        self.ledger.accept_results(
            row.id,
            row.fence,
            rows,
            also=lambda connection: lock_forecast(connection, self.ledger.clock, row.id, row.fence, made),
        )
        if self.counts is not None:
            self.counts.forecast(made.timings_s)
        _log.info("revision %d has %d result objects", row.id, len(rows))

    @contextmanager
    def _here(self, paths: Sequence[str]) -> Iterator[Mapping[str, Path]]:
        """Have files on this machine for the time of one job."""
        try:
            yield self.store.local(paths)
        finally:
            self.store.forget(paths)

    def _hold(self, row: RevisionRow, folder: Path, key: str, held: HeldForReview) -> None:
        """Put a revision in review; its proposals stay when it is executed again."""
        kept = proposal_folder(folder)
        if folder.is_dir() and held.proposals:
            folder.rename(kept)
            self.store.keep(f"{results_prefix(row.id)}/{kept.name}")
        Reviews(self.ledger).hold(row.id, row.fence, str(held), key, held.proposals)
        _log.warning("revision %d waits for review: %s", row.id, held)

    def _end(self, row: RevisionRow, event: RevisionEvent, reason: str) -> None:
        _log.warning("revision %d: %s: %s", row.id, event, reason)
        self.ledger.end(row.id, row.fence, event, reason)


def proposal_folder(attempt: Path) -> Path:
    """Return where the proposals of an attempt are kept, apart from the folders of attempts."""
    return attempt.with_name(f"proposal-{attempt.name}")


def _attempt(row: RevisionRow) -> str:
    return f"{results_prefix(row.id)}/{row.fence}"


def remove_earlier(store: Store, prefix: str, fence: int) -> None:
    """Remove the folders of earlier attempts beside the one of this, and none of later ones.

    A worker that stalled right after its start may come here when its successor's results have long
    been accepted.
    """
    for name in store.listing(prefix).folders:
        if name.isdecimal() and int(name) < fence:
            store.remove(f"{prefix}/{name}")


def failure_reason(error: Exception) -> str:
    """Return what people are told of a failure; texts of foreign errors may hold patient data."""
    if isinstance(error, (InferenceError, ReportingError, PermanentError)):
        return str(error)
    return f"an internal error ({type(error).__name__}); the log has the details"
