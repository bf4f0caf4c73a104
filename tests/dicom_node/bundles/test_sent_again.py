"""A study that is sent again: recognised with the same models, a new revision with others."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.bundles.activation import ModelsInForce
from dicom_node.bundles.record import note_models
from dicom_node.database import reading, repeat
from dicom_node.intake.index import NOTE_REPEATS_EVERY_S, Outcome
from dicom_node.jobs.ledger import ResultRow
from dicom_node.jobs.states import ObjectEvent
from dicom_node.worker import ModelChoice, Worker
from inference.bundle_store import BundleKind
from inference.errors import SegmentationMissing
from tests.builders.dicom_files import ct_series
from tests.builders.nodes import Node

STUDY, SERIES = "1.2.826.1", "1.2.826.1.1"


class Site:
    """A node whose models a test changes."""

    def __init__(self, data_dir: Path, clock) -> None:
        self.models = "a"
        self.clock = clock
        self.node = Node(data_dir, clock)
        self.node.assembler.models = lambda: self.models
        self.images = list(ct_series(3, STUDY, SERIES, rows=16))
        self.refusing = False

    def execute(self, order, _report) -> list[ResultRow]:
        if self.refusing:
            raise SegmentationMissing("there is no liver segmentation in the study")
        path = order.folder / "a.dcm"
        path.write_bytes(b"result")
        relative = str(path.relative_to(order.folder.parents[2]))
        digest = next(iter(order.models.digests.values()))
        uid = f"2.25.{order.revision.id}{ord(digest)}"
        return [ResultRow("pacs", "report", "1.2", uid, STUDY, "2.25.8", relative, "0" * 64)]

    def work(self) -> None:
        choice = ModelChoice(
            lambda: ModelsInForce({}, {BundleKind.GENERATOR: self.models}), lambda _: self.models
        )
        Worker(self.node.engine, self.node.ledger, self.execute, self.node.data_dir, choice).step()

    def send(self) -> None:
        self.clock.advance(2 * NOTE_REPEATS_EVERY_S)
        self.node.receive(self.images)
        for _ in range(2):
            self.node.assembler.step()
            self.clock.advance(11)
        self.node.assembler.step()

    def deliver(self) -> None:
        ids = [1, 2, 3]
        for event in (
            ObjectEvent.STORED_BY_PEER,
            ObjectEvent.COMMITTED_BY_PEER,
            ObjectEvent.READ_BACK_EQUAL,
        ):
            self.node.ledger.change_objects(ids, event)


@pytest.fixture
def site(tmp_path: Path, clock) -> Site:
    site = Site(tmp_path, clock)
    site.send()
    site.work()
    assert site.node.states() == ["DONE"]
    return site


def test_the_same_again_is_recognised(site: Site) -> None:
    site.send()
    assert site.node.states() == ["DONE"]
    site.deliver()
    site.send()
    assert site.node.states() == ["DONE"]


def test_the_same_with_other_models_is_a_new_revision_with_its_own_time(site: Site) -> None:
    site.deliver()
    site.models = "b"
    site.send()
    assert site.node.states() == ["SUPERSEDED", "QUEUED"]
    first, second = site.node.revisions()
    assert first.reason == "sent again, and other models are in force"
    assert second.inputs_sha256 == first.inputs_sha256
    assert second.job_time > first.job_time
    site.work()
    assert site.node.states() == ["SUPERSEDED", "DONE"]
    site.send()
    assert site.node.states() == ["SUPERSEDED", "DONE"]


def test_activating_alone_changes_nothing_that_is_done(site: Site) -> None:
    site.send()
    site.models = "b"
    site.node.restart()
    site.node.assembler.models = lambda: site.models
    site.node.assembler.step()
    assert site.node.states() == ["DONE"]


def test_a_refused_study_is_tried_again_when_it_comes_again_with_other_models(tmp_path: Path, clock) -> None:
    site = Site(tmp_path, clock)
    site.refusing = True
    site.send()
    site.work()
    assert site.node.states() == ["REFUSED"]
    site.send()
    assert site.node.states() == ["REFUSED"]
    site.models, site.refusing = "b", False
    site.send()
    site.work()
    assert site.node.states() == ["SUPERSEDED", "DONE"]


def test_a_job_that_runs_is_not_disturbed_and_looked_at_afterwards(tmp_path: Path, clock) -> None:
    site = Site(tmp_path, clock)
    site.send()
    row = site.node.ledger.start(1)
    note_models(site.node.database, 1, row.fence, "a", {})
    site.models = "b"
    site.send()
    assert site.node.states() == ["RUNNING"]
    site.node.ledger.accept_results(1, row.fence, [])
    assert site.node.states() == ["DONE"]
    site.node.assembler.step()
    assert site.node.states() == ["SUPERSEDED", "QUEUED"], "its images came long ago: nothing to wait for"


def test_a_study_of_many_objects_is_noted_once(site: Site) -> None:
    site.clock.advance(100)
    assert site.node.receive(site.images) == [Outcome.DUPLICATE] * 3
    with reading(site.node.database) as connection:
        assert len(connection.execute(repeat.select()).all()) == 1
