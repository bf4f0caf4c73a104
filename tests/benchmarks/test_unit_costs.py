"""What one object costs in core-seconds: the numbers of the capacity model in docker/README.md.

Processor time is measured, not wall time, so that another program on the machine changes little.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

from dicom_node.clock import system_clock
from dicom_node.database import open_database
from dicom_node.jobs.ledger import Ledger
from tests.builders.cluster import cluster
from tests.builders.cluster_worker import RESULTS
from tests.builders.dicom_files import Called, ct_series, send
from tests.builders.waiting import until

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

STUDIES, SLICES, ROWS = 4, 50, 512
"""512 x 512 x 16 bit: 0.5 MB an object."""
DELIVERED = 300
PATIENCE_S = 1500.0


def _core_seconds(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        times = process.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _servers(folder: str) -> list[psutil.Process]:
    """Return PostgreSQL's processes, by its data folder."""
    parents = [
        p
        for p in psutil.process_iter(["cmdline"])
        if folder in " ".join(p.info["cmdline"] or []) and "postgres" in " ".join(p.info["cmdline"] or [])
    ]
    return [q for p in parents for q in (p, *p.children(recursive=True))]


def test_core_seconds_of_a_study(tmp_path: Path, database_url: str, capsys) -> None:
    ledger = Ledger(open_database(tmp_path / "look", database_url), system_clock)
    studies = [f"1.2.88.{n}" for n in range(STUDIES + 1)]
    with cluster(tmp_path, database_url, str(tmp_path / "mounted")) as (machines, _came):
        running = {role: machines.start(role, "one") for role in ("listener", "steward", "worker")}
        watched = {role: [psutil.Process(p.pid)] for role, p in running.items()}
        port = machines.port("one", PATIENCE_S)
        _deliver(ledger, studies[0], 2, port)  # warms everything up and is not counted
        host = database_url.partition("host=")[2]
        read: Callable[[], dict[str, float]] = lambda: {  # noqa: E731
            **{role: _core_seconds(p) for role, p in watched.items()},
            "PostgreSQL": _core_seconds(_servers(host)),
        }
        before = read()
        for uid in studies[1:]:
            _deliver(ledger, uid, SLICES, port)
        spent = {role: after - before[role] for role, after in read().items()}
    ledger.database.dispose()
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "listener, core-seconds an object of 0.5 MB": spent["listener"] / (STUDIES * SLICES),
        f"steward, core-seconds a study with {RESULTS} results": spent["steward"] / STUDIES,
        "PostgreSQL, core-seconds an object, everything": spent["PostgreSQL"] / (STUDIES * SLICES),
    }
    with capsys.disabled():
        print("\n" + yaml.safe_dump(report, sort_keys=False))
    assert 0 < spent["listener"] / (STUDIES * SLICES) < 0.1


def test_core_seconds_of_a_result(tmp_path: Path, database_url: str, capsys) -> None:
    ledger = Ledger(open_database(tmp_path / "look", database_url), system_clock)
    work = {"pause_s": 0.0, "results": DELIVERED, "rows": ROWS}
    with cluster(tmp_path, database_url, str(tmp_path / "mounted"), work=work) as (machines, _came):
        running = {role: machines.start(role, "one") for role in ("listener", "steward", "worker")}
        steward = [psutil.Process(running["steward"].pid)]
        port = machines.port("one", PATIENCE_S)
        _deliver(ledger, "1.2.89.1", 2, port)
        before = _core_seconds(steward)
        _deliver(ledger, "1.2.89.2", 2, port)
        spent = (_core_seconds(steward) - before) / DELIVERED
    ledger.database.dispose()
    with capsys.disabled():
        print(f"\nsteward, core-seconds a delivered object of 0.5 MB: {spent:.4f}")
    assert 0 < spent < 0.1


def _deliver(ledger: Ledger, uid: str, slices: int, port: int) -> None:
    """Send a study, and wait until its results are delivered."""
    statuses = send(ct_series(slices, uid, f"{uid}.1", rows=ROWS), Called(port))
    assert set(statuses) == {0}
    until(
        lambda: any(r.study_instance_uid == uid and r.state == "DELIVERED" for r in ledger.revisions()),
        within_s=PATIENCE_S,
        every_s=0.5,
    )
