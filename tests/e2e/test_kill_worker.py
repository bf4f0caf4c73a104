"""kill -9 of the worker at random points: no study stranded, no result twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
import yaml

from dicom_node.clock import system_clock
from dicom_node.database import reading, result_object
from dicom_node.settings import AssemblySettings, JobSettings, Rule
from inference.case import Phase
from inference.simulation.dicom_study import write_study
from inference.simulation.patient import PatientSpec, simulate_patient
from tests.builders.nodes import Node
from tests.builders.waiting import until

pytestmark = pytest.mark.e2e

LEASES = {"lease_s": 1.0, "heartbeat_s": 0.2, "maximum_attempts": 50, "backoff_s": [0.1]}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small simulated study."""
    folder = tmp_path_factory.mktemp("simulated")
    spec = PatientSpec((20, 224, 224), (9.0, 2.0, 2.0), (Phase.PORTAL_VENOUS,), (60.0,))
    write_study(simulate_patient(3, spec), folder, datetime(2026, 1, 15, tzinfo=UTC))
    return folder


def _queued(study: Path, tmp_path: Path, clock) -> tuple[Node, Path]:
    """Return a node with one queued study, and its configuration."""
    clock.now = system_clock() - 60  # the worker's own clock must find the job due
    node = Node(
        tmp_path / "data",
        clock,
        assembly=AssemblySettings(series_quiet_period_s=1, study_quiet_period_s=1),
        rules=(Rule(name="all", when="true", regimens=("tace",), months=(3.0,)),),
        jobs=JobSettings(**LEASES),
    )
    node.receive(pydicom.dcmread(p) for p in sorted(study.rglob("*.dcm")))
    node.assembler.step()
    clock.advance(2)
    node.assembler.step()
    assert node.states() == ["QUEUED"]
    config = tmp_path / "node.yaml"
    peer = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    config.write_text(yaml.safe_dump({"data_dir": str(node.data_dir), "peers": [peer], "jobs": LEASES}))
    return node, config


def _start(config: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dicom_node.processes", "worker", "--config", str(config)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def _job_row(node: Node):
    with reading(node.database) as connection:
        return connection.exec_driver_sql("SELECT state, attempts, progress FROM job").one()


def _kill_at(node: Node, config: Path, progress: float) -> None:
    """Start a worker, and kill it when its job has come so far."""
    attempts = _job_row(node).attempts
    worker = _start(config)
    try:
        until(
            lambda: (
                node.states() == ["DONE"]
                or (_job_row(node).attempts > attempts and _job_row(node).progress >= progress)
            ),
            within_s=60,
            every_s=0.002,
        )
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()


def _finish(node: Node, config: Path) -> None:
    if node.states() == ["DONE"]:
        return
    worker = _start(config)
    try:
        until(lambda: node.states() == ["DONE"], within_s=60)
    finally:
        worker.terminate()
        assert worker.wait(60) == 0


def _check(node: Node) -> None:
    """Every object of result.json is in the outbox once, with its file; one attempt's folder is left."""
    with reading(node.database) as connection:
        rows = connection.execute(result_object.select()).all()
    uids = [row.sop_instance_uid for row in rows]
    assert len(uids) == len(set(uids)) > 0
    assert all((node.data_dir / row.path).is_file() for row in rows)
    (folder,) = (node.data_dir / "results" / "1").iterdir()
    document = json.loads((folder / "result.json").read_text())
    assert sum(o["instances"] for o in document["objects"]) == len(rows)
    events = [h["event"] for h in node.ledger.history(1)]
    assert events.count("job done") == 1


def _run_once(study: Path, tmp_path: Path, clock, seed: int) -> None:
    node, config = _queued(study, tmp_path, clock)
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 2)):
        _kill_at(node, config, chance.choice([0.0, chance.random(), 0.95]))
    _finish(node, config)
    _check(node)


@pytest.mark.parametrize("seed", range(1))
def test_a_killed_worker_leaves_no_study_stranded_and_no_result_twice(
    study: Path, tmp_path: Path, clock, seed: int
) -> None:
    _run_once(study, tmp_path, clock, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
def test_thirty_kills_of_the_worker(study: Path, tmp_path: Path, clock, seed: int) -> None:
    _run_once(study, tmp_path, clock, seed)
