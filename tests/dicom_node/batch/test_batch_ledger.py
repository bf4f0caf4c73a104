"""Rows of batches: plans, claims, and the lease of the one runner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.batch.ledger import BatchLedger
from dicom_node.batch.states import BatchEvent, BatchStudy
from dicom_node.database import audit, reading
from dicom_node.errors import ConfigurationError, IllegalTransition, LeaseLost
from tests.conftest import DrivenClock
from tests.dicom_node.batch.batch_rows import LEASE_S, ledger_in, plan


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path, clock: DrivenClock) -> Iterator[BatchLedger]:
    url = request.getfixturevalue("database_url") if request.param == "postgresql" else ""
    found = ledger_in(tmp_path, clock, url)
    yield found
    found.database.dispose()


def test_a_plan_is_written_whole_or_not_at_all(ledger: BatchLedger) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        plan(ledger, "1.2.3", "1.2.3")
    assert ledger.batches() == ()


def test_a_name_is_used_once(ledger: BatchLedger) -> None:
    plan(ledger, "1.2.3")
    with pytest.raises(ConfigurationError, match="there is a batch 'b' already"):
        plan(ledger, "1.2.4")


def test_an_unknown_batch_is_named_with_the_known_ones(ledger: BatchLedger) -> None:
    plan(ledger, "1.2.3", name="first")
    with pytest.raises(ConfigurationError, match="no batch 'x'; batches are: first"):
        ledger.batch("x")


def test_studies_are_claimed_in_order_and_those_tried_before_last(
    ledger: BatchLedger, clock: DrivenClock
) -> None:
    batch = plan(ledger, "1.1", "1.2", "1.3")
    assert ledger.acquire(batch.id, "me", LEASE_S)
    first = ledger.claim(batch.id, "me")
    assert first is not None
    assert (first.study_instance_uid, first.state, first.attempts) == ("1.1", BatchStudy.RETRIEVING, 1)
    later = clock.now + 60
    ledger.change(first, "me", BatchEvent.RETRIEVAL_POSTPONED, "did not come", next_attempt_at=later)
    uids = [row.study_instance_uid for _ in range(2) if (row := ledger.claim(batch.id, "me"))]
    assert uids == ["1.2", "1.3"]
    assert ledger.claim(batch.id, "me") is None
    clock.advance(60)
    again = ledger.claim(batch.id, "me")
    assert again is not None
    assert (again.study_instance_uid, again.attempts) == ("1.1", 2)


def test_a_study_that_another_batch_has_in_flight_is_left_for_later(ledger: BatchLedger) -> None:
    one, two = plan(ledger, "1.1", name="one"), plan(ledger, "1.1", "1.2", name="two")
    assert ledger.acquire(one.id, "a", LEASE_S)
    assert ledger.acquire(two.id, "b", LEASE_S)
    mine = ledger.claim(one.id, "a")
    theirs = ledger.claim(two.id, "b")
    assert mine is not None
    assert theirs is not None
    assert (mine.study_instance_uid, theirs.study_instance_uid) == ("1.1", "1.2")
    assert ledger.claim(two.id, "b") is None
    ledger.change(mine, "a", BatchEvent.RETRIEVAL_FAILED, "gone")
    last = ledger.claim(two.id, "b")
    assert last is not None
    assert last.study_instance_uid == "1.1"


def test_a_second_run_waits_for_the_lease_and_takes_open_retrievals_up(
    ledger: BatchLedger, clock: DrivenClock
) -> None:
    batch = plan(ledger, "1.1", "1.2")
    assert ledger.acquire(batch.id, "killed", LEASE_S)
    killed = ledger.claim(batch.id, "killed")
    assert killed is not None
    clock.advance(LEASE_S - 1)
    assert not ledger.acquire(batch.id, "next", LEASE_S)
    clock.advance(1)
    assert ledger.acquire(batch.id, "next", LEASE_S)
    assert ledger.counts(batch.id) == {BatchStudy.PLANNED: 2}
    again = ledger.claim(batch.id, "next")
    assert again is not None
    assert (again.id, again.attempts) == (killed.id, 1)  # the kill does not count as an attempt


def test_a_run_that_wakes_up_late_changes_nothing(ledger: BatchLedger, clock: DrivenClock) -> None:
    batch = plan(ledger, "1.1")
    assert ledger.acquire(batch.id, "stalled", LEASE_S)
    row = ledger.claim(batch.id, "stalled")
    assert row is not None
    clock.advance(LEASE_S)
    assert ledger.acquire(batch.id, "next", LEASE_S)
    with pytest.raises(LeaseLost):
        ledger.change(row, "stalled", BatchEvent.ALL_RECEIVED)
    with pytest.raises(LeaseLost):
        ledger.claim(batch.id, "stalled")
    with pytest.raises(LeaseLost):
        ledger.renew(batch.id, "stalled", LEASE_S, "")
    ledger.release(batch.id, "stalled", "")
    assert ledger.batch("b").runner == "next"
    assert ledger.counts(batch.id) == {BatchStudy.PLANNED: 1}


def test_a_lease_that_ran_out_and_that_nobody_took_is_renewed(
    ledger: BatchLedger, clock: DrivenClock
) -> None:
    batch = plan(ledger, "1.1")
    assert ledger.acquire(batch.id, "me", LEASE_S)
    clock.advance(10 * LEASE_S)
    row = ledger.renew(batch.id, "me", LEASE_S, "retrieves")
    assert (row.runner_until, row.activity) == (clock.now + LEASE_S, "retrieves")


def test_each_change_has_its_row_in_the_audit_trail(ledger: BatchLedger) -> None:
    batch = plan(ledger, "1.1")
    assert ledger.acquire(batch.id, "me", LEASE_S)
    row = ledger.claim(batch.id, "me")
    assert row is not None
    ledger.change(row, "me", BatchEvent.RETRIEVAL_FAILED, "2 of 3 instances did not come")
    with reading(ledger.database) as connection:
        rows = connection.execute(sa.select(audit).where(audit.c.entity == "batch study")).all()
    assert [(r.key, r.state_before, r.state_after, r.event, r.detail) for r in rows] == [
        (str(row.id), "PLANNED", "RETRIEVING", "retrieval started", ""),
        (str(row.id), "RETRIEVING", "FAILED", "retrieval failed", "2 of 3 instances did not come"),
    ]


def test_failed_studies_are_planned_again_as_new(ledger: BatchLedger, clock: DrivenClock) -> None:
    batch = plan(ledger, "1.1", "1.2")
    assert ledger.acquire(batch.id, "me", LEASE_S)
    row = ledger.claim(batch.id, "me")
    assert row is not None
    row = ledger.change(row, "me", BatchEvent.RETRIEVAL_FAILED, "gone")
    assert row.ended_at == clock.now
    assert ledger.retry_failed(batch.id) == 1
    (again,) = [s for s in ledger.studies(batch.id) if s.id == row.id]
    assert (again.state, again.attempts, again.ended_at, again.reason) == (BatchStudy.PLANNED, 0, None, "")


def test_a_skipped_study_has_ended_from_the_beginning(ledger: BatchLedger) -> None:
    batch = plan(ledger, "1.1", skip="already processed")
    assert ledger.counts(batch.id) == {BatchStudy.SKIPPED: 1}
    assert ledger.acquire(batch.id, "me", LEASE_S)
    assert ledger.claim(batch.id, "me") is None
    (row,) = ledger.studies(batch.id)
    with pytest.raises(IllegalTransition):
        ledger.change(row, "me", BatchEvent.RETRIEVAL_STARTED)


def test_pausing_is_seen_by_the_runner_and_kept_over_its_lease(ledger: BatchLedger) -> None:
    batch = plan(ledger, "1.1")
    ledger.pause("b")
    assert ledger.acquire(batch.id, "me", LEASE_S)
    assert ledger.renew(batch.id, "me", LEASE_S, "").paused
    assert not ledger.resume("b").paused
