from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.errors import LeaseLost, TransientError
from dicom_node.jobs.engine import Report
from dicom_node.jobs.ledger import ResultRow
from dicom_node.jobs.states import Revision, RevisionEvent
from dicom_node.storage.local import local_store
from dicom_node.worker import JobOrder, Worker, remove_earlier
from inference.errors import ModelError, SegmentationMissing
from tests.builders.dicom_files import ct_series
from tests.builders.nodes import Node

STUDY, SERIES = "1.2.826.1", "1.2.826.1.1"


@pytest.fixture
def node(tmp_path: Path, clock) -> Node:
    node = Node(tmp_path, clock)
    node.receive(ct_series(3, STUDY, SERIES, rows=16))
    node.assembler.step()
    clock.advance(11)
    node.assembler.step()
    assert node.states() == ["QUEUED"]
    return node


def _worker(node: Node, execute) -> Worker:
    return Worker(node.engine, node.ledger, execute, node.data_dir)


def _write_one(order: JobOrder, report: Report) -> list[ResultRow]:
    report("writing", 0.5)
    path = order.folder / "a.dcm"
    path.write_bytes(b"result")
    relative = str(path.relative_to(order.folder.parents[2]))
    return [ResultRow("pacs", "report", "1.2", "2.25.9", STUDY, "2.25.8", relative, "0" * 64)]


def test_results_are_accepted_and_the_revision_is_done(node: Node) -> None:
    worker = _worker(node, _write_one)
    assert worker.step()
    assert not worker.step()
    assert node.states() == ["DONE"]
    assert node.ledger.object_counts(1) == {("pacs", "READY"): 1}
    assert (node.data_dir / "results" / "1" / "1" / "a.dcm").read_bytes() == b"result"


def test_the_order_names_the_inputs(node: Node) -> None:
    orders: list[JobOrder] = []

    def execute(order: JobOrder, _report: Report) -> list[ResultRow]:
        orders.append(order)
        return []

    _worker(node, execute).step()
    assert len(orders[0].inputs) == 3
    assert all((node.data_dir / i.path).is_file() for i in orders[0].inputs)


def _raising(error: Exception):
    def execute(_order: JobOrder, _report: Report) -> list[ResultRow]:
        raise error

    return execute


def test_a_refusal_ends_with_its_reason_and_is_not_tried_again(node: Node, clock) -> None:
    worker = _worker(node, _raising(SegmentationMissing("no liver segmentation in the study")))
    worker.step()
    (row,) = node.revisions()
    assert (row.state, row.reason) == (Revision.REFUSED, "no liver segmentation in the study")
    clock.advance(10_000)
    assert not worker.step()


def test_a_transient_error_goes_back_to_the_queue_and_then_fails(node: Node, clock) -> None:
    worker = _worker(node, _raising(TransientError("the disk is full")))
    for _ in range(node.jobs.maximum_attempts):
        assert node.states() == ["QUEUED"]
        assert worker.step()
        node.assembler.step()
        clock.advance(10_000)
    node.assembler.step()
    (row,) = node.revisions()
    assert (row.state, row.reason) == (Revision.FAILED, "the disk is full")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ModelError("the bundle is damaged"), "the bundle is damaged"),
        (ValueError("Doe^John cannot be parsed"), "an internal error (ValueError); the log has the details"),
    ],
)
def test_a_failure_is_visible_and_foreign_texts_are_not_shown(
    node: Node, error: Exception, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker = _worker(node, _raising(error))
    worker.step()
    (row,) = node.revisions()
    assert (row.state, row.reason) == (Revision.FAILED, reason)
    assert type(error).__name__ in caplog.text
    assert "Doe" not in caplog.text


def test_a_late_worker_changes_nothing(node: Node, clock) -> None:
    """Two executions of one job: the first is given up, the second commits, the first comes back."""
    first = node.ledger.start(1)
    clock.advance(100)
    second = node.ledger.start(1)
    row = ResultRow("pacs", "report", "1.2", "2.25.9", STUDY, "2.25.8", "results/1/2/a.dcm", "0" * 64)
    node.ledger.accept_results(1, second.fence, [row])
    with pytest.raises(LeaseLost):
        node.ledger.accept_results(1, first.fence, [row])
    with pytest.raises(LeaseLost):
        node.ledger.end(1, first.fence, RevisionEvent.JOB_FAILED, "late")
    assert node.states() == ["DONE"]
    assert node.ledger.object_counts(1) == {("pacs", "READY"): 1}


def test_a_job_whose_revision_was_superseded_does_nothing(node: Node) -> None:
    node.receive(ct_series(4, STUDY, SERIES, rows=16))
    node.assembler.step()
    executed: list[JobOrder] = []
    _worker(node, lambda order, _report: executed.append(order) or []).step()
    assert executed == []
    assert node.states() == ["SUPERSEDED", "RECEIVING"]


def test_cancelling_a_running_job_keeps_its_results_out(node: Node) -> None:
    def execute(order: JobOrder, report: Report) -> list[ResultRow]:
        row = node.ledger.cancel(1)
        node.engine.cancel(row.job_key)
        return _write_one(order, report)

    _worker(node, execute).step()
    assert node.states() == ["CANCELLED"]
    assert node.ledger.object_counts(1) == {}


def test_a_worker_that_stalled_at_its_start_removes_nothing_of_its_successor(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "7"
    for fence in ("1", "2", "3", "proposal-1"):
        (folder / fence).mkdir(parents=True)
    remove_earlier(local_store(tmp_path), "results/7", 2)
    assert sorted(p.name for p in folder.iterdir()) == ["2", "3", "proposal-1"]
    remove_earlier(local_store(tmp_path), "results/absent", 1)


def test_an_interrupted_worker_leaves_its_job_to_the_next(node: Node, clock) -> None:
    def interrupted(_order: JobOrder, _report: Report) -> list[ResultRow]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _worker(node, interrupted).step()
    node.assembler.step()
    assert node.states() == ["RUNNING"]
    clock.advance(node.jobs.lease_s + 1)
    assert _worker(node, _write_one).step()
    assert node.states() == ["DONE"]
