"""One steward at a time, on one machine and on several."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node import leadership
from dicom_node.database import open_database, writing
from dicom_node.leadership import LEASE_S, Lease, leading, lease
from tests.builders.waiting import until


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    url = request.getfixturevalue("database_url") if request.param == "postgresql" else ""
    engine = open_database(tmp_path, url)
    yield engine
    engine.dispose()


class Steward:
    """A process that wants to lead, in a thread."""

    def __init__(self, database: sa.Engine, data_dir: Path, name: str) -> None:
        self.leads, self.stop, self.lost = threading.Event(), threading.Event(), threading.Event()
        arguments = (database, data_dir, name)
        self.thread = threading.Thread(target=self._run, args=arguments)
        self.thread.start()

    def _run(self, database: sa.Engine, data_dir: Path, name: str) -> None:
        with leading(database, data_dir, name, self.stop, self.lost.set) as leads:
            if leads:
                self.leads.set()
                self.stop.wait(120)
        self.leads.clear()

    def end(self) -> None:
        self.stop.set()
        self.thread.join(60)
        assert not self.thread.is_alive()


@contextmanager
def _two(database: sa.Engine, data_dir: Path) -> Iterator[tuple[Steward, Steward]]:
    one = Steward(database, data_dir, "one:1")
    until(one.leads.is_set, within_s=60)
    two = Steward(database, data_dir, "two:1")
    try:
        yield one, two
    finally:
        one.end()
        two.end()


def test_one_leads_and_the_other_follows_when_it_stops(database: sa.Engine, tmp_path: Path) -> None:
    with _two(database, tmp_path) as (one, two):
        assert not two.leads.wait(2 * leadership.LOOK_EVERY_S)
        one.end()
        until(two.leads.is_set, within_s=60)
        assert not two.lost.is_set()


def test_one_that_waits_can_be_stopped(database: sa.Engine, tmp_path: Path) -> None:
    with _two(database, tmp_path) as (one, two):
        two.end()
        assert one.leads.is_set()
        assert not two.leads.is_set()


def _make_older(database: sa.Engine, seconds: float) -> None:
    with writing(database) as connection:
        connection.execute(sa.update(lease).values(until=lease.c.until - seconds))


def test_a_lease_passes_on_when_it_is_over_and_not_before(tmp_path: Path, database_url: str) -> None:
    database = open_database(tmp_path, database_url)
    one, two = Lease(database, "steward", "one"), Lease(database, "steward", "two")
    one.prepare()
    assert one.take()
    assert not two.take()
    _make_older(database, LEASE_S)
    assert two.take()
    assert not one.take(), "the one before notices that it was replaced"
    one.give_back()
    assert not one.take(), "and cannot give back what is another's"
    two.give_back()
    assert one.take()
    database.dispose()


def test_one_that_was_replaced_ends_itself(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leadership, "RENEW_EVERY_S", 0.2)
    database = open_database(tmp_path, database_url)
    steward = Steward(database, tmp_path, "one:1")
    until(steward.leads.is_set, within_s=60)
    with writing(database) as connection:
        connection.execute(sa.update(lease).values(owner="two:1"))
    assert steward.lost.wait(30)
    steward.end()
    database.dispose()


def test_one_that_cannot_renew_ends_itself_before_its_lease_does(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leadership, "LEASE_S", leadership.ENDS_BEFORE_S + 1.0)
    monkeypatch.setattr(leadership, "RENEW_EVERY_S", 0.2)
    database = open_database(tmp_path, database_url)
    steward = Steward(database, tmp_path, "one:1")
    until(steward.leads.is_set, within_s=60)
    with writing(database) as connection:  # the database answers nobody
        assert steward.lost.wait(30)
        until_s = connection.execute(sa.select(lease.c.until)).scalar_one()
        now_s = connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
        assert float(now_s) < until_s
    steward.end()
    database.dispose()
