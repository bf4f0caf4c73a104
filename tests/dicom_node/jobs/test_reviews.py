"""Doubtful outlines: held with the reason, proposed, then corrected, released or rejected by a person."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from dicom_node.bundles.activation import ModelsInForce
from dicom_node.cli import jobs
from dicom_node.errors import IllegalTransition
from dicom_node.jobs.engine import Report
from dicom_node.jobs.ledger import PROPOSAL, ResultRow
from dicom_node.jobs.reviews import Reviews
from dicom_node.jobs.states import Revision
from dicom_node.worker import HeldForReview, JobOrder, ModelChoice, Worker, proposal_folder
from inference.bundle_store import BundleKind
from tests.builders.dicom_files import ct_series
from tests.builders.nodes import Node

STUDY, SERIES = "1.2.826.1", "1.2.826.1.1"
REASON = "The outlines are uncertain."


@pytest.fixture
def node(tmp_path: Path, clock) -> Node:
    node = Node(tmp_path / "data", clock)
    node.receive(ct_series(3, STUDY, SERIES, rows=16))
    _assembled(node, clock)
    assert node.states() == ["QUEUED"]
    return node


def _assembled(node: Node, clock) -> None:
    node.assembler.step()
    clock.advance(11)
    node.assembler.step()


def _row(order: JobOrder, folder: Path, kind: str) -> ResultRow:
    uid = f"2.25.{order.revision.id}{order.revision.fence}{len(kind)}"
    path = str((folder / f"{kind}.dcm").relative_to(order.folder.parents[2]))
    return ResultRow("pacs", kind, "1.2", uid, STUDY, "2.25.8", path, "0" * 64)


def _doubting(order: JobOrder, _report: Report) -> list[ResultRow]:
    """Hold every study until its outlines are released."""
    kind = "segmentation" if order.released else PROPOSAL
    (order.folder / f"{kind}.dcm").write_bytes(b"outlines")
    if order.released:
        return [_row(order, order.folder, kind)]
    raise HeldForReview(REASON, [_row(order, proposal_folder(order.folder), kind)])


def _worker(node: Node, models: str = "a") -> Worker:
    choice = ModelChoice(lambda: ModelsInForce({}, {BundleKind.SEGMENTER: models}), lambda _: models)
    return Worker(node.engine, node.ledger, _doubting, node.data_dir, choice)


def _proposal_file(node: Node) -> Path:
    return node.data_dir / "results" / "1" / "proposal-1" / "proposal.dcm"


def test_a_doubtful_study_waits_with_its_reason_and_a_proposal(node: Node, clock) -> None:
    assert _worker(node).step()
    (row,) = node.revisions()
    assert (row.state, row.reason) == (Revision.REVIEW, REASON)
    (pending,) = Reviews(node.ledger).pending()
    assert (pending.revision.id, pending.reason, pending.held_at) == (1, REASON, clock.now)
    assert pending.proposals == (("pacs", "READY"),)
    assert _proposal_file(node).read_bytes() == b"outlines"
    assert node.ledger.object_counts(1) == {}, "a proposal is no result"
    clock.advance(10_000)
    node.assembler.step()
    assert not _worker(node).step()
    assert node.states() == ["REVIEW"]


def test_released_outlines_are_forecast(node: Node) -> None:
    _worker(node).step()
    assert Reviews(node.ledger).release(1) is Revision.QUEUED
    node.assembler.step()
    assert _worker(node).step()
    assert node.states() == ["DONE"]
    assert node.ledger.object_counts(1) == {("pacs", "READY"): 1}
    assert _proposal_file(node).exists(), "a proposal that is not sent yet needs its file"
    assert Reviews(node.ledger).pending() == ()
    events = [h["event"] for h in node.ledger.history(1)]
    assert events[-4:] == ["outlines doubtful", "released in review", "job started", "job done"]


def test_a_release_holds_for_the_outlines_that_were_looked_at(node: Node) -> None:
    """Other models draw other outlines: they are looked at anew."""
    _worker(node, "a").step()
    Reviews(node.ledger).release(1)
    node.assembler.step()
    _worker(node, "b").step()
    assert node.states() == ["REVIEW"]
    Reviews(node.ledger).release(1)
    node.assembler.step()
    _worker(node, "b").step()
    assert node.states() == ["DONE"]


def test_rejected_outlines_are_refused_and_can_be_tried_again(node: Node) -> None:
    _worker(node).step()
    assert Reviews(node.ledger).reject(1) is Revision.REFUSED
    (row,) = node.revisions()
    assert "rejected in review" in row.reason
    assert node.ledger.retry(1) is Revision.COMPLETE
    for _ in range(2):
        node.assembler.step()
    _worker(node).step()
    assert node.states() == ["REVIEW"]


def test_a_corrected_segmentation_takes_the_place_of_the_review(node: Node, clock) -> None:
    """What a person sends is a new revision by the normal way; the proposal is not sent any more."""
    _worker(node).step()
    node.receive(ct_series(1, STUDY, "1.2.826.1.2", rows=16))
    node.assembler.step()
    assert node.states() == ["SUPERSEDED", "RECEIVING"]
    assert Reviews(node.ledger).proposals(1) == (("pacs", "WITHDRAWN"),)
    assert Reviews(node.ledger).pending() == ()
    clock.advance(11)
    node.assembler.step()
    assert node.states() == ["SUPERSEDED", "QUEUED"]


def test_only_what_waits_can_be_released(node: Node) -> None:
    with pytest.raises(IllegalTransition, match="QUEUED"):
        Reviews(node.ledger).release(1)
    with pytest.raises(IllegalTransition, match="QUEUED"):
        Reviews(node.ledger).reject(1)


def test_a_rejected_proposal_does_not_fail_the_delivery(node: Node) -> None:
    """A PACS that takes no proposals still gets the results."""
    from dicom_node.jobs.states import ObjectEvent

    _worker(node).step()
    node.ledger.change_objects([1], ObjectEvent.REJECTED_BY_PEER)
    Reviews(node.ledger).release(1)
    node.assembler.step()
    _worker(node).step()
    assert node.ledger.object_counts(1) == {("pacs", "READY"): 1}
    node.ledger.change_objects([2], ObjectEvent.STORED_BY_PEER)
    node.ledger.change_objects([2], ObjectEvent.COMMITTED_BY_PEER)
    node.ledger.change_objects([2], ObjectEvent.READ_BACK_EQUAL)
    assert node.ledger.delivered(1)


def test_the_commands(node: Node, tmp_path: Path) -> None:
    _worker(node).step()
    config = tmp_path / "site.yaml"
    config.write_text(yaml.safe_dump({"data_dir": str(node.data_dir)}), encoding="utf-8")

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(jobs.app, [*arguments, "--config", str(config)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    (row,) = json.loads(run("review", "--json"))
    assert (row["revision"], row["reason"]) == (1, REASON)
    assert row["proposals"] == [{"peer": "pacs", "state": "READY"}]
    assert "uncertain" in run("review")
    assert json.loads(run("show", "1", "--json"))["bundles"] == {"segmenter": "a"}
    assert "QUEUED" in run("release", "1")
    assert "no study waits" in run("review")
    node.assembler.step()
    _worker(node, "b").step()
    assert "REFUSED" in run("reject", "1", "--reason", "spleen")
    assert node.revisions()[0].reason == "the outlines were rejected in review: spleen"
