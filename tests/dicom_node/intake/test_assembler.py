from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pytest

from dicom_node.database import result_object, writing
from dicom_node.errors import TransientError
from dicom_node.intake.assembly import PacsSeries
from dicom_node.jobs.ledger import Plan, ResultRow
from dicom_node.jobs.states import Revision, RevisionEvent
from dicom_node.settings import AssemblySettings
from inference.provenance import MANUFACTURER
from tests.builders.dicom_files import ct_series, ct_slice, mr_slice
from tests.builders.nodes import Node

STUDY, SERIES = "1.2.826.1", "1.2.826.1.1"


@pytest.fixture
def node(tmp_path: Path, clock) -> Node:
    return Node(tmp_path, clock)


def _quiet(node: Node, clock) -> None:
    clock.advance(11)
    node.assembler.step()


def test_a_quiet_study_is_routed_and_queued_once(node: Node, clock) -> None:
    node.receive(ct_series(4, STUDY, SERIES, rows=16))
    node.assembler.step()
    assert node.states() == ["RECEIVING"]
    _quiet(node, clock)
    _quiet(node, clock)
    (row,) = node.revisions()
    assert row.state is Revision.QUEUED
    assert Plan.from_json(row.plan).send_to == ("pacs",)
    assert row.job_time == int(row.changed_at)
    (job,) = node.engine.status()
    assert dict(job.payload) == {"revision_id": row.id}


def test_several_associations_and_out_of_order_arrival_are_one_study(node: Node, clock) -> None:
    slices = ct_series(6, STUDY, SERIES, rows=16)
    node.receive(slices[3:])
    node.assembler.step()
    clock.advance(9)
    node.receive(slices[:3][::-1])
    node.assembler.step()
    clock.advance(9)
    node.assembler.step()
    assert node.states() == ["RECEIVING"]
    _quiet(node, clock)
    assert node.states() == ["QUEUED"]
    assert len(node.ledger.inputs(STUDY)) == 6


def test_the_same_again_changes_nothing(node: Node, clock) -> None:
    slices = ct_series(3, STUDY, SERIES, rows=16)
    node.receive(slices)
    _quiet(node, clock)
    _quiet(node, clock)
    node.receive(slices)
    _quiet(node, clock)
    assert node.states() == ["QUEUED"]


def test_a_late_instance_supersedes_and_cancels_the_job(node: Node, clock) -> None:
    slices = ct_series(4, STUDY, SERIES, rows=16)
    node.receive(slices[:3])
    _quiet(node, clock)
    _quiet(node, clock)
    node.receive(slices[3:])
    node.assembler.step()
    assert node.states() == ["SUPERSEDED", "RECEIVING"]
    assert node.engine.status() == ()
    _quiet(node, clock)
    assert node.states() == ["SUPERSEDED", "QUEUED"]


def _deliverable(node: Node) -> ResultRow:
    return ResultRow("pacs", "report", "1.2", "2.25.9", STUDY, "2.25.8", "results/1/1/a.dcm", "0" * 64)


def test_what_was_not_sent_of_a_superseded_revision_is_withdrawn(node: Node, clock) -> None:
    slices = ct_series(4, STUDY, SERIES, rows=16)
    node.receive(slices[:3])
    _quiet(node, clock)
    started = node.ledger.start(1)
    node.ledger.accept_results(1, started.fence, [_deliverable(node)])
    node.receive(slices[3:])
    node.assembler.step()
    assert node.ledger.object_counts(1) == {("pacs", "WITHDRAWN"): 1}


def test_own_results_that_come_back_are_no_input_and_open_nothing(node: Node, clock) -> None:
    node.receive(ct_series(3, STUDY, SERIES, rows=16))
    _quiet(node, clock)
    _quiet(node, clock)
    own = ct_slice(STUDY, "2.25.77", 99, rows=16)
    own.Manufacturer = MANUFACTURER
    node.receive([own])
    _quiet(node, clock)
    node.restart()
    _quiet(node, clock)
    assert node.states() == ["QUEUED"]
    assert len(node.ledger.inputs(STUDY)) == 3


def test_own_results_are_known_by_their_uid_where_a_sender_rewrote_the_manufacturer(
    node: Node, clock
) -> None:
    node.receive(ct_series(3, STUDY, SERIES, rows=16))
    _quiet(node, clock)
    own = ct_slice(STUDY, "2.25.77", 99, rows=16)
    with writing(node.database) as connection:
        row = {**asdict(_deliverable(node)), "sop_instance_uid": str(own.SOPInstanceUID)}
        connection.execute(
            result_object.insert().values(revision_id=1, state="SENT", changed_at=clock(), **row)
        )
    node.receive([own])
    _quiet(node, clock)
    assert node.states() == ["QUEUED"]
    assert len(node.ledger.inputs(STUDY)) == 3


def test_only_own_results_never_become_a_study(node: Node, clock) -> None:
    own = ct_slice(STUDY, "2.25.77", 99, rows=16)
    own.Manufacturer = MANUFACTURER
    node.receive([own])
    _quiet(node, clock)
    assert node.states() == []


def test_a_conflict_holds_the_study_with_the_reason(node: Node, clock) -> None:
    first, second = ct_slice(STUDY, SERIES, 1, rows=16), ct_slice(STUDY, SERIES, 1, rows=16)
    second.StudyDescription = "other"
    node.receive([first, second])
    node.assembler.step()
    (row,) = node.revisions()
    assert row.state is Revision.HELD
    assert "same SOP Instance UID" in row.reason


def test_a_held_study_can_be_retried_by_a_person(node: Node, clock) -> None:
    first, second = ct_slice(STUDY, SERIES, 1, rows=16), ct_slice(STUDY, SERIES, 1, rows=16)
    second.StudyDescription = "other"
    node.receive([first, second])
    node.assembler.step()
    node.ledger.retry(1)
    node.assembler.step()
    assert node.states() == ["QUEUED"]
    assert node.revisions()[0].inputs_sha256


def test_a_study_that_no_rule_wants_is_ignored_with_the_reason(node: Node, clock) -> None:
    node.receive([mr_slice(STUDY, SERIES, n, rows=16) for n in range(3)])
    _quiet(node, clock)
    (row,) = node.revisions()
    assert (row.state, row.rule, row.reason) == (Revision.IGNORED, "rest", "no CT")


def test_an_unknown_sender_is_held(node: Node, clock) -> None:
    node.receive(ct_series(3, STUDY, SERIES, rows=16), sender="SCANNER")
    _quiet(node, clock)
    assert "SCANNER" in node.revisions()[0].reason


def test_a_restart_at_any_point_goes_on(node: Node, clock) -> None:
    other = "1.2.826.2"
    for number in range(3):
        node.receive(
            [ct_slice(STUDY, SERIES, number, rows=16), ct_slice(other, "1.2.826.2.1", number, rows=16)]
        )
        node.restart()
        node.assembler.step()
    _quiet(node, clock)
    node.restart()
    _quiet(node, clock)
    assert node.states() == ["QUEUED", "QUEUED"]
    assert [len(node.ledger.inputs(s)) for s in (STUDY, other)] == [3, 3]


def test_a_job_that_is_given_up_fails_the_study_and_a_retry_gets_a_job_of_its_own(node: Node, clock) -> None:
    node.receive(ct_series(3, STUDY, SERIES, rows=16))
    _quiet(node, clock)
    with pytest.raises(ZeroDivisionError):
        node.engine.run_one(lambda _job, _report: 1 / 0)
    node.assembler.step()
    (row,) = node.revisions()
    assert (row.state, row.reason) == (Revision.FAILED, "ZeroDivisionError")
    node.ledger.retry(row.id)
    node.assembler.step()
    node.assembler.step()
    again = node.revisions()[0]
    assert again.state is Revision.QUEUED
    assert again.job_time == row.job_time
    assert [j.key for j in node.engine.status()] == [again.job_key]


def test_the_same_images_after_their_delivery_are_recognised(node: Node, clock) -> None:
    slices = ct_series(3, STUDY, SERIES, rows=16)
    node.receive(slices[:2])
    _quiet(node, clock)
    first = node.revisions()[0]
    with writing(node.database) as connection:
        connection.exec_driver_sql("UPDATE revision SET state = 'DELIVERED'")
        connection.execute(
            result_object.insert().values(
                revision_id=first.id,
                state="VERIFIED",
                changed_at=clock(),
                **asdict(_deliverable(node)),
            )
        )
        # The received images were removed after delivery, and the PACS sends them again.
        connection.exec_driver_sql("DELETE FROM instance")
    node.restart()
    node.receive(slices[:2])
    with writing(node.database) as connection:
        connection.exec_driver_sql("UPDATE instance SET id = id + 100")
    _quiet(node, clock)
    _quiet(node, clock)
    last = node.revisions()[-1]
    assert (last.state, last.inputs_sha256) == (Revision.IGNORED, first.inputs_sha256)
    assert "already processed" in last.reason


class ScriptedPacs:
    """A PACS that says what a test wants; it stands for one that is away or slow, not for its protocol."""

    def __init__(self) -> None:
        self.has: dict[str, PacsSeries] = {}
        self.away = False
        self.asked = 0
        self.fetched: list[str] = []
        self.on_fetch = lambda: None

    def series(self, study_instance_uid: str) -> Mapping[str, PacsSeries]:
        self.asked += 1
        if self.away:
            raise TransientError("no route to the PACS")
        return self.has

    def fetch(self, study_instance_uid: str, series_instance_uid: str, have: frozenset[str]) -> int:
        self.fetched.append(series_instance_uid)
        self.on_fetch()
        return 1


@pytest.fixture
def confirmed(tmp_path: Path, clock) -> Node:
    settings = AssemblySettings(
        series_quiet_period_s=5, study_quiet_period_s=10, maximum_wait_s=100, confirm_with="pacs"
    )
    return Node(tmp_path, clock, assembly=settings, pacs=ScriptedPacs())


def test_counts_that_agree_complete_the_study_own_results_aside(confirmed: Node, clock) -> None:
    pacs = confirmed.pacs
    own = ct_slice(STUDY, "2.25.77", 99, rows=16)
    own.Manufacturer = MANUFACTURER
    confirmed.receive([*ct_series(3, STUDY, SERIES, rows=16), own])
    pacs.has = {SERIES: PacsSeries("CT", 3), "2.25.77": PacsSeries("CT", 60)}
    _quiet(confirmed, clock)
    assert confirmed.states() == ["QUEUED"]


def test_missing_instances_are_fetched_and_the_study_waits_for_quiet_again(confirmed: Node, clock) -> None:
    pacs = confirmed.pacs
    slices = ct_series(3, STUDY, SERIES, rows=16)
    confirmed.receive(slices[:2])
    pacs.has = {SERIES: PacsSeries("CT", 3)}
    pacs.on_fetch = lambda: confirmed.receive(slices[2:])
    _quiet(confirmed, clock)
    assert pacs.fetched == [SERIES]
    assert confirmed.states() == ["RECEIVING"]
    _quiet(confirmed, clock)
    assert confirmed.states() == ["QUEUED"]
    assert len(confirmed.ledger.inputs(STUDY)) == 3


def test_a_pacs_that_is_away_is_asked_again_and_at_last_the_study_is_held(confirmed: Node, clock) -> None:
    pacs = confirmed.pacs
    confirmed.receive(ct_series(3, STUDY, SERIES, rows=16))
    confirmed.assembler.step()
    pacs.away = True
    _quiet(confirmed, clock)
    confirmed.assembler.step()
    assert (confirmed.states(), pacs.asked) == (["RECEIVING"], 1)
    for _ in range(9):
        _quiet(confirmed, clock)
    (row,) = confirmed.revisions()
    assert row.state is Revision.HELD
    assert "could not be asked" in row.reason


def test_a_series_that_stays_incomplete_is_held(confirmed: Node, clock) -> None:
    pacs = confirmed.pacs
    confirmed.receive(ct_series(3, STUDY, SERIES, rows=16))
    confirmed.assembler.step()
    pacs.has = {SERIES: PacsSeries("CT", 9)}
    for _ in range(10):
        _quiet(confirmed, clock)
    (row,) = confirmed.revisions()
    assert row.state is Revision.HELD
    assert "not complete" in row.reason


def test_every_change_is_in_the_audit_trail(node: Node, clock) -> None:
    node.receive(ct_series(3, STUDY, SERIES, rows=16))
    _quiet(node, clock)
    events = [h["event"] for h in node.ledger.history(1)]
    assert events == ["opened", str(RevisionEvent.STUDY_COMPLETE), str(RevisionEvent.RULE_FORECASTS)]
