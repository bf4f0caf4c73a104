"""One run of a batch, with a retriever that fails as archives do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.batch.following import Follower
from dicom_node.batch.ledger import BatchLedger, BatchStudyRow
from dicom_node.batch.progress import Progress
from dicom_node.batch.reprocessing import BatchStudies
from dicom_node.batch.retrieval import ArchiveAway, NothingToRetrieve, RetrievalStopped, Retrieved
from dicom_node.batch.runner import FAILURES_IN_A_ROW, Runner
from dicom_node.batch.settings import BatchSettings
from dicom_node.batch.states import BatchStudy
from dicom_node.clock import system_clock
from dicom_node.database import revision, writing
from dicom_node.errors import LeaseLost, TransientError
from dicom_node.jobs.states import Revision
from dicom_node.settings import AssemblySettings
from tests.builders.dicom_files import ct_series
from tests.builders.nodes import Node
from tests.builders.waiting import until
from tests.dicom_node.batch.batch_rows import plan

SETTINGS = BatchSettings(
    studies_per_hour=None,
    maximum_bytes_per_s=None,
    studies_in_flight=3,
    retrievals=2,
    minimum_free_bytes=0,
    maximum_attempts=3,
    backoff_s=(0.01,),
    lease_s=5.0,
)
AT_ONCE = AssemblySettings(series_quiet_period_s=0, study_quiet_period_s=0)
Fault = Callable[[int], None]
"""Called with the number of the attempt before a study comes."""


@dataclass
class Retriever:
    """Puts three slices of a study into the node, unless the study has a fault."""

    node: Node
    faults: dict[str, Fault] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def retrieve(self, study: str) -> Retrieved:
        with self.lock:
            self.asked.append(study)
            attempt = self.asked.count(study)
        if study in self.faults:
            self.faults[study](attempt)
        self.node.receive(ct_series(3, study, f"{study}.1", rows=8))
        return Retrieved(3, 1000)


@dataclass
class Scene:
    """A node whose jobs end as `outcomes` say, and the runner of a batch."""

    node: Node
    batches: BatchLedger
    retriever: Retriever
    outcomes: dict[str, tuple[Revision, str]] = field(default_factory=dict)
    activities: list[str] = field(default_factory=list)

    def runner(self, settings: BatchSettings = SETTINGS, name: str = "run") -> Runner:
        batch = self.batches.batch("b")
        follower = Follower(self.batches, self.node.ledger, name)
        return Runner(
            batch,
            self.batches,
            follower,
            self.retriever,
            settings,
            room=lambda: True,
            clock=system_clock,
            tick_s=0.01,
        )

    def note(self, _progress: Progress, activity: str) -> None:
        self.activities.append(activity)

    def run(self, settings: BatchSettings = SETTINGS) -> Progress:
        with self.processing():
            return self.runner(settings).run(threading.Event(), self.note)

    @contextmanager
    def processing(self) -> Iterator[None]:
        """Assemble and process what comes, in a thread."""
        stop = threading.Event()

        def work() -> None:
            while not stop.wait(0.01):
                self.node.assembler.step()
                self._process()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _process(self) -> None:
        for row in self.node.ledger.revisions([Revision.QUEUED]):
            state, reason = self.outcomes.get(row.study_instance_uid, (Revision.DELIVERED, ""))
            with writing(self.node.database) as connection:
                connection.execute(
                    sa.update(revision).where(revision.c.id == row.id).values(state=state, reason=reason)
                )

    def rows(self) -> dict[str, BatchStudyRow]:
        return {r.study_instance_uid: r for r in self.batches.studies(self.batches.batch("b").id)}

    def outcome(self, uid: str) -> tuple[BatchStudy, str]:
        row = self.rows()[uid]
        return row.state, row.reason


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    node = Node(tmp_path, system_clock, assembly=AT_ONCE)
    batches = BatchLedger(node.database, system_clock)
    node.assembler.reprocessing = BatchStudies(node.database, SETTINGS, AT_ONCE.maximum_wait_s)
    return Scene(node, batches, Retriever(node))


def failing(times: int, error: Exception) -> Fault:
    def fault(attempt: int) -> None:
        if attempt <= times:
            raise error

    return fault


def test_every_study_ends_and_each_says_how(scene: Scene) -> None:
    uids = [f"1.2.3.{n}" for n in range(1, 9)]
    plan(scene.batches, *uids)
    scene.retriever.faults = {
        uids[0]: failing(99, TransientError("2 of 3 instances did not come")),
        uids[1]: failing(2, TransientError("the association was aborted")),
        uids[2]: failing(99, NothingToRetrieve("nothing that can be input")),
        uids[3]: failing(99, ValueError("a damaged answer with a name in it")),
    }
    scene.outcomes = {
        uids[4]: (Revision.REFUSED, "no portal venous phase"),
        uids[5]: (Revision.FAILED, "the job ran out of time"),
        uids[6]: (Revision.IGNORED, "rule"),
    }
    progress = scene.run()
    assert {uid: scene.outcome(uid) for uid in uids} == {
        uids[0]: (BatchStudy.FAILED, "2 of 3 instances did not come"),
        uids[1]: (BatchStudy.DONE, ""),
        uids[2]: (BatchStudy.SKIPPED, "nothing that can be input"),
        uids[3]: (BatchStudy.FAILED, "an unexpected ValueError, see the log of the run"),
        uids[4]: (BatchStudy.REFUSED, "no portal venous phase"),
        uids[5]: (BatchStudy.FAILED, "the job ran out of time"),
        uids[6]: (BatchStudy.SKIPPED, "ignored: rule"),
        uids[7]: (BatchStudy.DONE, ""),
    }
    assert scene.retriever.asked.count(uids[0]) == SETTINGS.maximum_attempts
    assert scene.retriever.asked.count(uids[1]) == 3
    assert (progress.total, progress.ended, progress.left, progress.share) == (8, 8, 0, 1.0)
    assert scene.activities[-1] == "ended"
    assert scene.batches.batch("b").runner == ""


def test_the_archive_being_away_is_no_study_s_fault(scene: Scene) -> None:
    plan(scene.batches, "1.2.1", "1.2.2")
    times = 2 * SETTINGS.maximum_attempts
    scene.retriever.faults = {"1.2.1": failing(times, ArchiveAway("archive cannot be reached"))}
    scene.run()
    row = scene.rows()["1.2.1"]
    assert (row.state, row.attempts) == (BatchStudy.DONE, 1)
    assert scene.retriever.asked.count("1.2.1") == times + 1


def test_many_failures_in_a_row_pause_the_batch(scene: Scene) -> None:
    uids = [f"1.2.{n}" for n in range(FAILURES_IN_A_ROW + 2)]
    plan(scene.batches, *uids)
    scene.retriever.faults = {uid: failing(1, TransientError("cannot move to us")) for uid in uids}
    stop = threading.Event()
    runner = scene.runner()
    thread = threading.Thread(target=runner.run, args=(stop, scene.note))
    with scene.processing():
        thread.start()
        try:
            until(lambda: scene.batches.batch("b").paused)
            until(lambda: "10 studies in a row" in scene.batches.batch("b").activity)
            assert set(scene.batches.counts(scene.batches.batch("b").id)) <= {
                BatchStudy.PLANNED,
                BatchStudy.RETRIEVING,
            }
            scene.batches.resume("b")
            thread.join(240)
            assert not thread.is_alive()
        finally:
            stop.set()
            thread.join()
    assert {row.state for row in scene.rows().values()} == {BatchStudy.DONE}


def test_no_more_studies_are_in_flight_than_allowed(scene: Scene) -> None:
    uids = [f"1.2.{n}" for n in range(8)]
    plan(scene.batches, *uids)
    stop = threading.Event()
    thread = threading.Thread(target=scene.runner().run, args=(stop, scene.note))
    thread.start()
    try:
        batch = scene.batches.batch("b")
        until(lambda: scene.batches.counts(batch.id).get(BatchStudy.RECEIVED) == SETTINGS.studies_in_flight)
        until(lambda: "process what was retrieved" in scene.batches.batch("b").activity)
        assert len(scene.retriever.asked) == SETTINGS.studies_in_flight
        with scene.processing():
            thread.join(240)
        assert not thread.is_alive()
    finally:
        stop.set()
        thread.join()
    assert sorted(scene.retriever.asked) == uids


def test_a_run_that_is_stopped_gives_its_studies_back(scene: Scene) -> None:
    plan(scene.batches, "1.2.1", "1.2.2")
    stop = threading.Event()

    def stopped(_attempt: int) -> None:
        stop.set()
        raise RetrievalStopped("the run is to end")

    scene.retriever.faults = {"1.2.1": stopped}
    with scene.processing():
        scene.runner().run(stop, scene.note)
    first = scene.rows()["1.2.1"]
    assert (first.state, first.attempts) == (BatchStudy.PLANNED, 0)
    assert scene.activities[-1] == "stopped; run it again to go on"
    scene.retriever.faults = {}
    scene.run()
    assert {row.state for row in scene.rows().values()} == {BatchStudy.DONE}
    assert scene.retriever.asked.count("1.2.2") == 1


def test_a_run_that_lost_its_lease_ends(scene: Scene) -> None:
    plan(scene.batches, "1.2.1")
    batch = scene.batches.batch("b")
    expired = SETTINGS.model_copy(update={"lease_s": 0.001})

    def taken_over(_attempt: int) -> None:
        until(lambda: scene.batches.acquire(batch.id, "another", 60.0))

    scene.retriever.faults = {"1.2.1": taken_over}
    with scene.processing(), pytest.raises(LeaseLost):
        scene.runner(expired).run(threading.Event(), scene.note)
    assert scene.batches.batch("b").runner == "another"
    assert scene.outcome("1.2.1") == (BatchStudy.PLANNED, "")


def test_a_study_that_is_here_already_is_not_stored_twice(scene: Scene) -> None:
    plan(scene.batches, "1.2.1")
    scene.node.receive(ct_series(3, "1.2.1", "1.2.1.1", rows=8))
    scene.run()
    assert scene.outcome("1.2.1") == (BatchStudy.DONE, "")
    assert len(scene.node.revisions()) == 1


@pytest.mark.parametrize(
    ("change", "activity"),
    [
        ({"studies_per_hour": 60.0}, "keeps to batch.studies_per_hour"),
        ({"minimum_free_bytes": 1}, "waits for room on the disk"),
    ],
)
def test_what_the_run_waits_for_is_said(scene: Scene, change: dict[str, object], activity: str) -> None:
    plan(scene.batches, "1.2.1", "1.2.2")
    stop = threading.Event()
    runner = scene.runner(SETTINGS.model_copy(update=change))
    if "minimum_free_bytes" in change:
        runner.room = lambda: False
    thread = threading.Thread(target=runner.run, args=(stop, scene.note))
    thread.start()
    try:
        until(lambda: activity in scene.batches.batch("b").activity)
    finally:
        stop.set()
        thread.join()
    assert len(scene.retriever.asked) == (1 if "studies_per_hour" in change else 0)


def test_live_studies_go_first(scene: Scene) -> None:
    scene.node.receive(ct_series(1, "1.2.99", "1.2.99.1", rows=8))
    scene.node.assembler.step()
    assert scene.node.states() == ["QUEUED"]
    plan(scene.batches, "1.2.1")
    stop = threading.Event()
    thread = threading.Thread(target=scene.runner().run, args=(stop, scene.note))
    thread.start()
    try:
        until(lambda: scene.batches.batch("b").activity == "lets live studies go first")
        assert scene.retriever.asked == []
        with scene.processing():
            thread.join(240)
    finally:
        stop.set()
        thread.join()
    assert scene.outcome("1.2.1") == (BatchStudy.DONE, "")
