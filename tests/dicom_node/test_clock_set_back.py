"""A clock that jumps: nothing lost, nothing twice, and nothing waits for the time to come again."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.clock_set_back import ClockWatch
from dicom_node.errors import TransientError
from dicom_node.jobs.engine import Report
from dicom_node.jobs.ledger import ResultRow
from dicom_node.settings import JobSettings, load_settings
from dicom_node.worker import JobOrder, Worker
from tests.builders.dicom_files import ct_series
from tests.builders.nodes import Node
from tests.conftest import DrivenClock

STUDY, SERIES = "1.2.826.1", "1.2.826.1.1"
HOUR_S = 3600.0
JOBS = JobSettings(backoff_s=(30.0,))


class Elapsed(DrivenClock):
    """A clock that is never set back."""


@pytest.fixture
def elapsed() -> Elapsed:
    return Elapsed(1000.0)


def _nothing(_order: JobOrder, _report: Report) -> list[ResultRow]:
    return []


def _watch(node: Node, clock: DrivenClock, elapsed: Elapsed) -> ClockWatch:
    settings = load_settings([]).model_copy(update={"jobs": JOBS})
    watch = ClockWatch(node.database, settings, clock, elapsed)
    watch.step()
    return watch


def _pass(seconds: float, *clocks: DrivenClock) -> None:
    for one in clocks:
        one.advance(seconds)


def _queued(tmp_path: Path, clock: DrivenClock, elapsed: Elapsed) -> tuple[Node, ClockWatch]:
    """Return a node with one queued study, and what watches its clock."""
    node = Node(tmp_path, clock, jobs=JOBS)
    watch = _watch(node, clock, elapsed)
    node.receive(ct_series(3, STUDY, SERIES, rows=16))
    node.assembler.step()
    _pass(11, clock, elapsed)
    node.assembler.step()
    return node, watch


@pytest.mark.parametrize("jump_s", [-HOUR_S, -10.0, HOUR_S])
def test_a_study_of_which_half_came_before_the_jump(
    tmp_path: Path, clock: DrivenClock, elapsed: Elapsed, jump_s: float
) -> None:
    """One revision, one job, and it begins when the study has been quiet, not when the old time is back."""
    node = Node(tmp_path, clock, jobs=JOBS)
    watch = _watch(node, clock, elapsed)
    slices = ct_series(6, STUDY, SERIES, rows=16)
    node.receive(slices[:3])
    node.assembler.step()
    clock.advance(jump_s)
    watch.step()
    node.receive(slices[3:])
    node.assembler.step()
    assert node.states() == ["RECEIVING"]
    for _ in range(4):
        _pass(4, clock, elapsed)
        watch.step()
        node.assembler.step()
    assert node.states() == ["QUEUED"]
    Worker(node.engine, node.ledger, _nothing, node.data_dir).step()
    assert node.states() == ["DONE"]
    assert len(node.ledger.inputs(STUDY)) == 6


def test_a_job_that_waits_for_its_next_attempt(tmp_path: Path, clock: DrivenClock, elapsed: Elapsed) -> None:
    """It is tried again after its wait, and no sooner."""
    node, watch = _queued(tmp_path, clock, elapsed)

    def away(_order: JobOrder, _report: Report) -> list[ResultRow]:
        raise TransientError("a peer is away")

    Worker(node.engine, node.ledger, away, node.data_dir).step()
    assert node.states() == ["QUEUED"]
    clock.advance(-HOUR_S)
    watch.step()
    worker = Worker(node.engine, node.ledger, _nothing, node.data_dir)
    assert not worker.step()
    _pass(31, clock, elapsed)
    assert worker.step()
    assert node.states() == ["DONE"]


def test_a_worker_that_was_lost_before_the_jump(tmp_path: Path, clock: DrivenClock, elapsed: Elapsed) -> None:
    """Its job is taken over when its lease would have ended."""
    node, watch = _queued(tmp_path, clock, elapsed)

    def killed(_order: JobOrder, _report: Report) -> list[ResultRow]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Worker(node.engine, node.ledger, killed, node.data_dir).step()
    clock.advance(-HOUR_S)
    watch.step()
    worker = Worker(node.engine, node.ledger, _nothing, node.data_dir)
    assert not worker.step()
    _pass(JOBS.lease_s + 1, clock, elapsed)
    assert worker.step()
    assert node.states() == ["DONE"]


def test_a_node_that_starts_with_a_clock_that_is_behind(
    tmp_path: Path, clock: DrivenClock, elapsed: Elapsed
) -> None:
    node = Node(tmp_path, clock, jobs=JOBS)
    node.receive(ct_series(3, STUDY, SERIES, rows=16))
    node.assembler.step()
    clock.advance(-HOUR_S)
    node.restart()
    _watch(node, clock, elapsed)
    clock.advance(11)
    node.assembler.step()
    assert node.states() == ["QUEUED"]


def test_a_clock_that_runs_a_little_slow_is_not_set_back(
    tmp_path: Path, clock: DrivenClock, elapsed: Elapsed, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(tmp_path, clock, jobs=JOBS)
    watch = _watch(node, clock, elapsed)
    for _ in range(100):
        clock.advance(0.999)
        elapsed.advance(1.0)
        watch.step()
    assert "set back" not in caplog.text
