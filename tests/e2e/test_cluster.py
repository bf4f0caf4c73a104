"""Processes killed and restarted, on one machine and on two with PostgreSQL: nothing lost, nothing twice."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.clock import system_clock
from dicom_node.database import instance, open_database, reading, result_object
from dicom_node.jobs.ledger import Ledger
from dicom_node.leadership import LEASE_S, lease
from tests.builders.cluster import Cluster, cluster
from tests.builders.cluster_worker import RESULTS
from tests.builders.dicom_files import ct_series
from tests.builders.object_storage import BUCKET, KEYS, s3_service
from tests.builders.raw_peers import statuses
from tests.builders.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(3600)]

SLICES = 3
MACHINES = ("one", "two")
PATIENCE_S = 900.0
"""For what is no bar, on a machine that does other work."""


def _studies(first: int, count: int) -> list[str]:
    return [f"1.2.77.{n}" for n in range(first, first + count)]


def _send(machines: Cluster, uid: str, names: tuple[str, ...] = MACHINES) -> None:
    """Send a study slice by slice, each to a listener in turn, and again until it is acknowledged."""

    def acknowledged(number: int, ds) -> bool:
        listener = names[number % len(names)]
        try:
            return statuses(machines.port(listener, 1.0), [ds]) == [0]
        except (AssertionError, OSError, ValueError):
            return False

    for number, ds in enumerate(ct_series(SLICES, uid, f"{uid}.1", rows=16)):
        tries = iter(range(number, 10_000))
        until(lambda ds=ds, tries=tries: acknowledged(next(tries), ds), within_s=PATIENCE_S, every_s=0.2)


def _started(machines: Cluster, names: tuple[str, ...] = MACHINES) -> None:
    for role in ("listener", "steward", "worker"):
        for machine in names:
            machines.start(role, machine)


def _leader(database: sa.Engine) -> str | None:
    """Return the machine of the steward that works."""
    if not sa.inspect(database).has_table(lease.name):
        return None
    with reading(database) as connection:
        owner = connection.execute(sa.select(lease.c.owner)).scalar()
    return None if owner is None else str(owner).partition(":")[0]


def _delivered(ledger: Ledger, studies: list[str]) -> bool:
    done = {r.study_instance_uid for r in ledger.revisions() if r.state == "DELIVERED"}
    return done >= set(studies)


def _check(ledger: Ledger, studies: list[str], came: Counter[str]) -> None:
    with reading(ledger.database) as connection:
        received = connection.execute(sa.select(instance)).all()
        results = connection.execute(sa.select(result_object)).all()
    assert len(received) == len(studies) * SLICES
    assert not any(row.conflicts for row in received)
    newest = {r.study_instance_uid: r for r in ledger.revisions()}
    assert sorted(newest) == sorted(studies)
    assert len(results) == len(studies) * RESULTS == len({row.sop_instance_uid for row in results})
    assert set(came) == {row.sop_instance_uid for row in results}, "the PACS has each result"
    for row in newest.values():
        events = Counter(h["event"] for h in ledger.history(row.id))
        assert events["job done"] == events["all objects verified"] == events["study complete"] == 1


def _ended(machines: Cluster, ledger: Ledger, studies: list[str], within_s: float = PATIENCE_S) -> None:
    try:
        until(lambda: machines.tend() or _delivered(ledger, studies), within_s, every_s=0.5)
    except AssertionError:
        states = Counter(str(r.state) for r in ledger.revisions())
        raise AssertionError(f"{states}\n{machines.logs()}") from None


def test_kills_of_each_process_lose_nothing_and_double_nothing(tmp_path: Path, database_url: str) -> None:
    _killed(tmp_path, database_url, studies=_studies(1, 9), kills_of_each=1)


@pytest.mark.timeout(4 * 3600)
def test_two_hundred_kills_over_a_live_load_of_fifty_studies(tmp_path: Path, database_url: str) -> None:
    _killed(tmp_path, database_url, studies=_studies(1, 51), kills_of_each=4)


def test_kills_of_each_process_of_one_machine(tmp_path: Path) -> None:
    _killed(tmp_path, "", studies=_studies(1, 9), kills_of_each=1, names=MACHINES[:1])


@pytest.mark.timeout(4 * 3600)
def test_two_hundred_kills_of_one_machine_over_a_live_load_of_fifty_studies(tmp_path: Path) -> None:
    _killed(tmp_path, "", studies=_studies(1, 51), kills_of_each=4, names=MACHINES[:1])


def _killed(
    tmp_path: Path, url: str, studies: list[str], kills_of_each: int, names: tuple[str, ...] = MACHINES
) -> None:
    """Kill processes at random while each study but the first is sent; the roles take turns."""
    chance = random.Random(len(studies))
    data_dir = tmp_path / ("look" if url else names[0])
    ledger = Ledger(open_database(data_dir, url), system_clock)
    with cluster(tmp_path, url, str(tmp_path / "mounted")) as (machines, came):
        _started(machines, names)
        _send(machines, studies[0], names)
        until(lambda: not url or _leader(ledger.database), within_s=PATIENCE_S)
        roles = itertools.cycle(("worker", "steward", "listener", "worker"))
        for uid in studies[1:]:
            sender = threading.Thread(target=_send, args=(machines, uid, names))
            sender.start()
            for _ in range(kills_of_each):
                threading.Event().wait(chance.uniform(0, 2))
                _kill_one(machines, ledger.database, next(roles), chance.choice(names))
            sender.join(PATIENCE_S)
            assert not sender.is_alive()
            machines.tend()
        _ended(machines, ledger, studies)
        _check(ledger, studies, came)
    ledger.database.dispose()


def _kill_one(machines: Cluster, database: sa.Engine, role: str, machine: str) -> None:
    """Kill a listener, a worker, or the steward that works, and start it again."""
    if role == "steward":
        machine = _leader(database) or machine
    machines.kill(role, machine)
    machines.start(role, machine)


def test_a_lost_steward_and_a_lost_worker_are_replaced_within_a_minute(
    tmp_path: Path, database_url: str
) -> None:
    ledger = Ledger(open_database(tmp_path / "look", database_url), system_clock)
    with cluster(tmp_path, database_url, str(tmp_path / "mounted")) as (machines, _came):
        _started(machines)
        first = until(lambda: _leader(ledger.database), within_s=PATIENCE_S)
        machines.kill("steward", first)
        machines.kill("worker", first)
        until(lambda: _leader(ledger.database) not in (first, None), within_s=LEASE_S + 45)
        _send(machines, "1.2.77.1")
        _ended(machines, ledger, ["1.2.77.1"])
    ledger.database.dispose()


def test_a_job_whose_worker_is_lost_is_taken_over_within_a_minute(tmp_path: Path, database_url: str) -> None:
    """With the product's own lease; the second worker is there before the first is killed."""
    ledger = Ledger(open_database(tmp_path / "look", database_url), system_clock)
    slow = {"pause_s": 40.0, "results": RESULTS, "rows": 16}
    with cluster(tmp_path, database_url, str(tmp_path / "mounted"), work=slow, jobs={}) as (machines, came):
        for role in ("listener", "steward", "worker"):
            machines.start(role, MACHINES[0])
        _send_all(machines, "1.2.77.1")
        until(lambda: [r.state for r in ledger.revisions()] == ["RUNNING"], within_s=PATIENCE_S)
        machines.work["pause_s"] = 0.1
        machines.start("worker", MACHINES[1])
        until(lambda: "fsync" in (tmp_path / f"{MACHINES[1]}-worker.log").read_text(), within_s=PATIENCE_S)
        machines.kill("worker", MACHINES[0])
        until(lambda: ledger.revisions()[0].fence == 2, within_s=60.0)
        _ended(machines, ledger, ["1.2.77.1"])
        _check(ledger, ["1.2.77.1"], came)
    ledger.database.dispose()


def _send_all(machines: Cluster, uid: str) -> None:
    port = machines.port(MACHINES[0])
    assert statuses(port, ct_series(SLICES, uid, f"{uid}.1", rows=16)) == [0] * SLICES


def test_a_rolling_restart_loses_nothing(tmp_path: Path, database_url: str) -> None:
    studies = _studies(1, 6)
    ledger = Ledger(open_database(tmp_path / "look", database_url), system_clock)
    with cluster(tmp_path, database_url, str(tmp_path / "mounted")) as (machines, came):
        _started(machines)
        for machine in MACHINES:
            machines.port(machine)
        until(lambda: _leader(ledger.database), within_s=PATIENCE_S)
        sender = threading.Thread(target=lambda: [_send(machines, uid) for uid in studies])
        sender.start()
        for machine in MACHINES:
            for role in ("worker", "steward", "listener"):
                # -15: it was asked to stop before it had begun with anything.
                assert machines.stop(role, machine) in (0, -15), machines.logs()
                machines.start(role, machine)
            machines.port(machine)
        sender.join(PATIENCE_S)
        _ended(machines, ledger, studies)
        _check(ledger, studies, came)
        assert sum(came.values()) == len(came), "nothing was sent twice"
    ledger.database.dispose()


def test_files_in_object_storage(tmp_path: Path, database_url: str, needs_judge) -> None:
    studies = _studies(1, 3)
    ledger = Ledger(open_database(tmp_path / "look", database_url), system_clock)
    with s3_service(needs_judge("moto_server")) as url:
        where = {"more": {"s3_endpoint_url": url}, "environment": KEYS}
        with cluster(tmp_path, database_url, f"s3://{BUCKET}/node", **where) as (machines, came):
            _started(machines)
            for uid in studies:
                _send(machines, uid)
            machines.kill("worker", MACHINES[0])
            _ended(machines, ledger, studies)
            _check(ledger, studies, came)
            left = [p for m in MACHINES for p in machines.data_dir(m).rglob("*.dcm")]
            assert left == [], "nothing is left on the machines"
    ledger.database.dispose()
