"""The assembly of studies that a batch brings: not before all is here, and behind the live work."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.batch.following import Follower
from dicom_node.batch.ledger import BatchLedger, BatchStudyRow
from dicom_node.batch.reprocessing import BROKEN_OFF, STILL_COMES_S, BatchStudies
from dicom_node.batch.retrieval import Retrieved
from dicom_node.batch.settings import BatchSettings
from dicom_node.batch.states import BatchEvent, BatchStudy
from dicom_node.bundles.record import note_models
from dicom_node.database import revision, writing
from dicom_node.jobs.states import Revision
from dicom_node.settings import AssemblySettings
from tests.builders.dicom_files import ct_series, ct_slice
from tests.builders.nodes import Node
from tests.conftest import DrivenClock
from tests.dicom_node.batch.batch_rows import LEASE_S, plan

STUDY, SERIES = "1.2.826.1", "1.2.826.1.1"
SLICES = ct_series(3, STUDY, SERIES, rows=16)
AT_ONCE = AssemblySettings(series_quiet_period_s=0, study_quiet_period_s=0, maximum_wait_s=100.0)
PRIORITY = BatchSettings().priority


class Scene:
    """A node and a batch of one study whose retrieval has begun."""

    def __init__(self, folder: Path, clock: DrivenClock) -> None:
        self.clock = clock
        self.node = Node(folder, clock, assembly=AT_ONCE)
        self.batches = BatchLedger(self.node.database, clock)
        studies = BatchStudies(self.node.database, BatchSettings(), AT_ONCE.maximum_wait_s)
        self.node.assembler.reprocessing = studies
        self.batch = plan(self.batches, STUDY)
        assert self.batches.acquire(self.batch.id, "me", LEASE_S)
        self.row = self.claimed()
        self.follower = Follower(self.batches, self.node.ledger, "me")

    def claimed(self) -> BatchStudyRow:
        row = self.batches.claim(self.batch.id, "me")
        assert row is not None
        return row

    def step(self, seconds: float = 1.0) -> list[str]:
        self.clock.advance(seconds)
        self.node.assembler.step()
        return self.node.states()

    def renew(self) -> None:
        self.batches.renew(self.batch.id, "me", LEASE_S, "")

    def received(self) -> None:
        self.row = self.follower.received(self.row, Retrieved(3, 3000))

    def followed(self) -> tuple[BatchStudy, str]:
        (row,) = self.batches.studies(self.batch.id)
        self.follower.follow(row)
        (row,) = self.batches.studies(self.batch.id)
        return row.state, row.reason


def test_a_study_is_not_complete_before_its_retrieval_is(tmp_path: Path, clock: DrivenClock) -> None:
    scene = Scene(tmp_path, clock)
    for ds in SLICES:
        scene.node.receive([ds])
        for _ in range(20):
            scene.renew()
            assert scene.step(LEASE_S / 2) == ["RECEIVING"]
    scene.received()
    assert scene.step() == ["QUEUED"]


def test_the_job_of_a_batch_goes_behind_all_live_jobs(tmp_path: Path, clock: DrivenClock) -> None:
    scene = Scene(tmp_path, clock)
    scene.node.receive(SLICES)
    scene.received()
    scene.node.receive([ct_slice("1.2.7", "1.2.7.1", rows=16)])
    assert scene.step() == ["QUEUED", "QUEUED"]
    priorities = {r.study_instance_uid: r.priority for r in scene.node.revisions()}
    assert priorities == {STUDY: PRIORITY, "1.2.7": 50}
    jobs = scene.node.engine.status()
    assert [j.priority for j in jobs] == [50, PRIORITY]
    assert scene.follower.live_work_waits()


def test_a_waiting_job_of_a_batch_is_no_live_work(tmp_path: Path, clock: DrivenClock) -> None:
    scene = Scene(tmp_path, clock)
    scene.node.receive(SLICES)
    scene.received()
    assert scene.step() == ["QUEUED"]
    assert not scene.follower.live_work_waits()


def test_a_retrieval_that_breaks_off_and_goes_on_gives_one_revision(
    tmp_path: Path, clock: DrivenClock
) -> None:
    scene = Scene(tmp_path, clock)
    scene.node.receive(SLICES[:1])
    clock.advance(LEASE_S)  # the run was killed
    assert scene.step(50) == ["RECEIVING"]
    assert scene.batches.acquire(scene.batch.id, "me", LEASE_S)
    scene.row = scene.claimed()
    scene.node.receive(SLICES[1:])
    scene.received()
    assert scene.step() == ["QUEUED"]
    assert len(scene.node.revisions()) == 1


def test_a_part_of_a_study_is_held_and_never_processed(tmp_path: Path, clock: DrivenClock) -> None:
    scene = Scene(tmp_path, clock)
    scene.node.receive(SLICES[:1])
    assert scene.step() == ["RECEIVING"]
    assert scene.step(AT_ONCE.maximum_wait_s + LEASE_S) == ["HELD"]
    assert scene.node.revisions()[0].reason == BROKEN_OFF


def test_a_part_of_a_study_whose_retrieval_failed_is_held_at_once(tmp_path: Path, clock: DrivenClock) -> None:
    scene = Scene(tmp_path, clock)
    scene.node.receive(SLICES[:1])
    assert scene.step() == ["RECEIVING"]
    scene.batches.change(scene.row, "me", BatchEvent.RETRIEVAL_FAILED, "2 of 3 did not come")
    assert scene.step() == ["HELD"]
    # Sent to the node by a person, it is a live study like any other.
    clock.advance(STILL_COMES_S)
    scene.node.receive(SLICES[1:])
    assert scene.step() == ["SUPERSEDED", "QUEUED"]
    assert scene.node.revisions()[1].priority == 50


def test_the_rest_that_comes_after_all_supersedes_what_was_held(tmp_path: Path, clock: DrivenClock) -> None:
    scene = Scene(tmp_path, clock)
    scene.node.receive(SLICES[:1])
    assert scene.step(AT_ONCE.maximum_wait_s + LEASE_S) == ["HELD"]
    assert scene.batches.acquire(scene.batch.id, "me", LEASE_S)
    scene.row = scene.claimed()
    scene.node.receive(SLICES[1:])
    scene.received()
    assert scene.step() == ["SUPERSEDED", "QUEUED"]


def test_a_held_study_of_which_nothing_was_missing_is_released(tmp_path: Path, clock: DrivenClock) -> None:
    """The run was killed after the last object came, and before that was noted."""
    scene = Scene(tmp_path, clock)
    scene.node.receive(SLICES)
    assert scene.step() == ["RECEIVING"]
    assert scene.step(AT_ONCE.maximum_wait_s + LEASE_S) == ["HELD"]
    assert scene.batches.acquire(scene.batch.id, "me", LEASE_S)
    scene.row = scene.claimed()
    scene.received()
    assert scene.step() == ["QUEUED"]
    assert len(scene.node.revisions()) == 1


def test_a_batch_that_was_given_up_does_not_hold_live_studies(tmp_path: Path, clock: DrivenClock) -> None:
    scene = Scene(tmp_path, clock)
    clock.advance(AT_ONCE.maximum_wait_s + LEASE_S + 1)
    scene.node.receive(SLICES)
    assert scene.step() == ["QUEUED"]
    assert scene.node.revisions()[0].priority == 50


def test_a_received_study_is_followed_once_the_assembly_has_seen_it(
    tmp_path: Path, clock: DrivenClock
) -> None:
    """An older revision that has ended says nothing of what has just come."""
    scene = Scene(tmp_path, clock)
    scene.node.receive([ct_slice(STUDY, "1.2.826.1.9", rows=16)])
    with_part = scene.step()
    assert with_part == ["RECEIVING"]
    scene.received()
    assert scene.followed()[0] is BatchStudy.RECEIVED
    assert scene.step() == ["QUEUED"]
    assert scene.followed()[0] is BatchStudy.RECEIVED
    scene.node.ledger.cancel(scene.node.revisions()[0].id)
    assert scene.followed() == (BatchStudy.SKIPPED, "cancelled: cancelled by a person")


def test_a_study_that_a_person_has_to_look_at_is_held_and_goes_on_after(
    tmp_path: Path, clock: DrivenClock
) -> None:
    scene = Scene(tmp_path, clock)
    conflicting = ct_slice(STUDY, SERIES, 1, rows=16)
    conflicting.KVP = 100
    scene.node.receive([*SLICES, conflicting])
    scene.received()
    assert scene.step() == ["HELD"]
    state, reason = scene.followed()
    assert state is BatchStudy.HELD
    assert reason.startswith("held: two different objects")
    assert scene.followed()[0] is BatchStudy.HELD
    scene.node.ledger.retry(scene.node.revisions()[0].id)
    assert scene.followed()[0] is BatchStudy.RECEIVED


@pytest.mark.parametrize(("models", "states"), [("new", ["SUPERSEDED", "QUEUED"]), ("old", ["DELIVERED"])])
def test_a_study_that_is_here_is_processed_again_only_with_other_models(
    tmp_path: Path, clock: DrivenClock, models: str, states: list[str]
) -> None:
    """Nothing is missing, so that nothing comes; the batch itself says that the study is sent again."""
    scene = Scene(tmp_path, clock)
    scene.node.receive(SLICES)
    scene.received()
    assert scene.step() == ["QUEUED"]
    (first,) = scene.node.revisions()
    note_models(scene.node.database, first.id, 1, "old", {})
    with writing(scene.node.database) as connection:
        connection.execute(sa.update(revision).values(state=Revision.DELIVERED))
    assert scene.followed()[0] is BatchStudy.DONE
    scene.node.assembler.models = lambda: models
    again = plan(scene.batches, STUDY, name="again")
    assert scene.batches.acquire(again.id, "me", LEASE_S)
    scene.batch, row = again, scene.batches.claim(again.id, "me")
    assert row is not None
    scene.row = row
    scene.follower.received(row, Retrieved(0, 0))
    assert scene.followed()[0] is BatchStudy.RECEIVED  # the revision before says nothing of it
    assert scene.step() == states
    latest = scene.node.revisions()[-1]
    assert latest.priority == PRIORITY
    assert scene.followed()[0] is (BatchStudy.RECEIVED if models == "new" else BatchStudy.DONE)
