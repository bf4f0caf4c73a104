"""Retention: what has expired goes, what has not ended stays, and nothing that comes meanwhile is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.audit.events import AuditEvents, EventKind
from dicom_node.audit.tables import removal
from dicom_node.database import instance, reading, writing
from dicom_node.database import revision as table
from dicom_node.intake.index import Outcome
from dicom_node.jobs.states import ObjectEvent, Revision, RevisionEvent
from dicom_node.operation_settings import Removal, RetentionSettings
from dicom_node.outbox import Outbox
from dicom_node.retention import ASIDE_S, ENDED, Retention, overwrite
from dicom_node.storage.local import local_store
from tests.builders.dicom_files import ct_series, uid_of
from tests.builders.nodes import Node
from tests.builders.operated import OperatedNode
from tests.builders.pages import page_settings

DAY = 86400.0


@pytest.fixture
def operated(tmp_path, clock) -> OperatedNode:
    return OperatedNode(Node(tmp_path / "data", clock), clock)


def _retention(operated: OperatedNode, **settings) -> Retention:
    store = local_store(operated.node.data_dir)
    return Retention(operated.node.database, RetentionSettings(**settings), store, operated.clock)


def _files(operated: OperatedNode) -> list[Path]:
    return sorted((operated.node.data_dir / "spool").rglob("*.dcm"))


def _rows(operated: OperatedNode, revision: int) -> int:
    uid = operated.node.ledger.revision(revision).study_instance_uid
    query = sa.select(sa.func.count()).select_from(instance).where(instance.c.study_instance_uid == uid)
    with reading(operated.node.database) as connection:
        return int(connection.execute(query).scalar_one())


def _pass(operated: OperatedNode, retention: Retention, days: float) -> None:
    """Let days pass, a study come (rows of the newest are never removed), and retention do its work."""
    operated.clock.advance(days * DAY)
    operated.study(f"newest {operated.clock.now}")
    retention.step()
    operated.clock.advance(ASIDE_S)
    retention.finish()


@pytest.mark.parametrize("made", ["delivered", "refused"])
def test_expired_inputs_go_with_rows_and_files_and_it_is_told(operated, made):
    revision = getattr(operated, made)("a")
    retention = _retention(operated, delivered_inputs_days=30, refused_inputs_days=30)
    _pass(operated, retention, 29)
    assert _rows(operated, revision) == 3
    _pass(operated, retention, 2)
    uid = operated.node.ledger.revision(revision).study_instance_uid
    assert _rows(operated, revision) == 0
    assert not [f for f in _files(operated) if uid in str(f)]
    assert not list((operated.node.data_dir / "spool" / "expired").iterdir())
    with reading(operated.node.database) as connection:
        (row,) = connection.execute(sa.select(removal).where(removal.c.what == "inputs")).all()
    assert (row.files, row.study_instance_uid, row.how) == (3, uid, "overwrite")
    told = [e.event for e in AuditEvents(operated.node.database, operated.clock).of_study(uid)]
    assert [e.detail["files"] for e in told if e.kind is EventKind.DATA_REMOVED] == [3]


def test_null_keeps_for_ever(operated):
    revision = operated.delivered("a")
    _pass(operated, _retention(operated, delivered_inputs_days=None), 10_000)
    assert _rows(operated, revision) == 3


@pytest.mark.parametrize("state", [s for s in Revision if s not in ENDED])
def test_a_study_that_is_not_ended_is_never_removed(operated, state):
    revision = operated.delivered("a")
    with writing(operated.node.database) as connection:
        connection.execute(sa.update(table).where(table.c.id == revision).values(state=state))
    _pass(operated, _retention(operated, delivered_inputs_days=0), 10_000)
    assert _rows(operated, revision) == 3
    assert len([f for f in _files(operated) if f.exists()]) >= 3


def test_an_open_revision_keeps_the_study_of_an_ended_one(operated):
    revision = operated.delivered("a")
    uid = operated.node.ledger.revision(revision).study_instance_uid
    more = ct_series(4, uid, uid_of(uid, "series"), rows=16)
    operated.clock.advance(40 * DAY)
    operated.node.receive(more)
    operated.node.assembler.step()  # the revision is superseded, and a new one receives
    _pass(operated, _retention(operated, delivered_inputs_days=0), 0)
    assert _rows(operated, revision) == 4


def test_instances_that_nobody_has_looked_at_yet_stay(operated):
    """What came since the last look of the assembler has no revision of its own yet."""
    revision = operated.delivered("a")
    retention = _retention(operated, delivered_inputs_days=0)
    operated.clock.advance(DAY)
    uid = operated.node.ledger.revision(revision).study_instance_uid
    (fourth,) = ct_series(4, uid, uid_of(uid, "series"), rows=16)[3:]
    operated.node.receive([fourth])
    operated.study("newest")
    retention.step()
    assert _rows(operated, revision) == 4


def test_the_same_study_sent_again_later_is_received_again(operated):
    revision = operated.delivered("a")
    _pass(operated, _retention(operated, delivered_inputs_days=1), 2)
    uid = operated.node.ledger.revision(revision).study_instance_uid
    again = operated.node.receive(ct_series(3, uid, uid_of(uid, "series"), rows=16))
    assert again == [Outcome.STORED] * 3
    assert _rows(operated, revision) == 3


def test_an_object_that_comes_again_at_that_very_moment_is_not_lost(operated):
    """Its listener wrote the file, retention takes it for the expired one, and then the row is added."""
    revision = operated.delivered("a")
    uid = operated.node.ledger.revision(revision).study_instance_uid
    retention = _retention(operated, delivered_inputs_days=1)
    operated.clock.advance(2 * DAY)
    operated.study("newest")
    retention.step()
    data_sets = ct_series(3, uid, uid_of(uid, "series"), rows=16)
    assert operated.node.receive(data_sets) == [Outcome.STORED] * 3
    for path in [f for f in _files(operated) if uid in str(f)]:
        path.unlink()  # as if the file that was written again had been the one that was put aside
    operated.clock.advance(ASIDE_S)
    assert retention.finish() == 0
    assert len([f for f in _files(operated) if uid in str(f)]) == 3
    assert _rows(operated, revision) == 3


def test_killed_between_rows_and_files_the_next_one_finishes(operated, monkeypatch):
    operated.delivered("a")
    retention = _retention(operated, delivered_inputs_days=1)
    operated.clock.advance(2 * DAY)
    operated.study("newest")
    monkeypatch.setattr(Retention, "_put_aside", lambda *_arguments: None)  # the kill
    retention.step()
    monkeypatch.undo()
    assert len(_files(operated)) == 6
    again = _retention(operated, delivered_inputs_days=1)
    for _ in range(2):
        operated.clock.advance(ASIDE_S)
        again.finish()
    assert len(_files(operated)) == 3  # of the newest study


def test_results_of_what_was_never_delivered_expire(operated):
    revision = operated.forecast("a")
    operated.node.ledger.change_objects(operated.object_ids(revision), ObjectEvent.REVISION_SUPERSEDED)
    operated.node.ledger.change(revision, RevisionEvent.INPUT_CHANGED, "more images came")
    folder = operated.node.data_dir / "results" / str(revision)
    retention = _retention(operated, undelivered_results_days=5)
    _pass(operated, retention, 4)
    assert folder.is_dir()
    _pass(operated, retention, 2)
    assert not folder.exists()


def test_results_under_way_stay(operated):
    revision = operated.forecast("a")
    operated.node.ledger.change(revision, RevisionEvent.INPUT_CHANGED, "more images came")
    _pass(operated, _retention(operated, undelivered_results_days=0), 100)
    assert (operated.node.data_dir / "results" / str(revision)).is_dir()


def test_overwriting_leaves_nothing_of_the_bytes(tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(b"Test^Patient" * 200_000)
    link = tmp_path / "other name"
    link.hardlink_to(path)
    overwrite(path)
    assert link.read_bytes() == bytes(12 * 200_000)


def test_overwriting_follows_no_link(tmp_path):
    target = tmp_path / "precious"
    target.write_text("precious")
    link = tmp_path / "a.dcm"
    link.symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        overwrite(link)
    assert target.read_text() == "precious"


def test_unlinking_is_a_setting(operated, monkeypatch):
    operated.delivered("a")
    monkeypatch.setattr("dicom_node.retention.overwrite", lambda _path: pytest.fail("overwritten"))
    retention = _retention(operated, delivered_inputs_days=1, removal=Removal.UNLINK)
    _pass(operated, retention, 2)
    assert len(_files(operated)) == 3


def test_delivered_results_that_the_outbox_gives_up_are_overwritten_and_told(operated):
    revision = operated.delivered("a")
    node = operated.node
    settings = page_settings(node.data_dir)
    outbox = Outbox(settings, node.database, operated.clock, None, _retention(operated).remove_results)
    pdf = next((node.data_dir / "results" / str(revision)).rglob("pdf.dcm"))
    link = node.data_dir / "other name"
    link.hardlink_to(pdf)
    assert outbox.remove_delivered() == 0
    operated.clock.advance(8 * DAY)
    assert outbox.remove_delivered() == 1
    assert not pdf.exists()
    assert set(link.read_bytes()) == {0}
    uid = node.ledger.revision(revision).study_instance_uid
    told = [e.event for e in AuditEvents(node.database, operated.clock).of_study(uid)]
    assert [e.detail["what"] for e in told if e.kind is EventKind.DATA_REMOVED] == ["results"]
