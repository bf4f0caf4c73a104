"""kill -9 and SIGSTOP of workers with several short jobs: none stranded, no result twice or lost."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dicom_node.clock import system_clock
from dicom_node.database import job, reading, result_object
from dicom_node.settings import AssemblySettings
from tests.builders.dicom_files import ct_slice
from tests.builders.light_worker import FILES, JOBS
from tests.builders.nodes import Node
from tests.builders.waiting import until

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]


def light_node(data_dir: Path, studies: int) -> Node:
    at_once = AssemblySettings(series_quiet_period_s=0, study_quiet_period_s=0)
    node = Node(data_dir, system_clock, assembly=at_once, jobs=JOBS)
    node.receive(ct_slice(f"1.2.9.{n}", f"1.2.9.{n}.1", rows=16) for n in range(1, studies + 1))
    node.assembler.step()
    assert node.states() == ["QUEUED"] * studies
    return node


@contextmanager
def _worker(node: Node, pause_s: float = 0.02) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.builders.light_worker", str(node.data_dir), str(pause_s)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def _attempts(node: Node) -> int:
    with reading(node.database) as connection:
        return sum(row.attempts for row in connection.execute(job.select()))


def _all_done(node: Node) -> bool:
    node.assembler.step()
    return set(node.states()) == {"DONE"} and _job_states(node) == {"done"}


def _job_states(node: Node) -> set[str]:
    with reading(node.database) as connection:
        return {row.state for row in connection.execute(job.select())}


def finish(node: Node) -> None:
    with _worker(node) as worker:
        until(lambda: _all_done(node), within_s=60)
        worker.terminate()
        worker.wait(30)


def check(node: Node) -> None:
    with reading(node.database) as connection:
        rows = connection.execute(result_object.select()).all()
    assert len(rows) == FILES * len(node.revisions())
    for row in rows:
        assert (node.data_dir / row.path).read_text() == row.sop_instance_uid
    for revision in node.revisions():
        folders = [p.name for p in (node.data_dir / "results" / str(revision.id)).iterdir()]
        assert folders == [str(revision.fence)]
        events = [h["event"] for h in node.ledger.history(revision.id)]
        assert events.count("job done") == 1


def _one_run(data_dir: Path, seed: int) -> int:
    """Kill a worker at a random point, let another finish; return how many attempts were lost."""
    chance = random.Random(seed)
    node = light_node(data_dir, 3)
    with _worker(node) as worker:
        until(lambda: _attempts(node) > 0)
        threading.Event().wait(chance.uniform(0, 3 * FILES * 0.03))
        worker.kill()
        worker.wait()
    finish(node)
    check(node)
    return _attempts(node) - 3


@pytest.mark.parametrize("seed", range(1))
def test_a_killed_worker_strands_nothing_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    _one_run(tmp_path, seed)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thirty_kills_of_a_light_worker(tmp_path: Path) -> None:
    lost = [_one_run(tmp_path / str(seed), seed) for seed in range(100, 130)]
    assert any(lost), "no kill fell inside a job"


def _stop_outside_a_transaction(node: Node, worker: subprocess.Popen[bytes]) -> bool:
    """Stop a process; one that holds the database's write lock goes on, and False is returned."""
    worker.send_signal(signal.SIGSTOP)
    with closing(sqlite3.connect(node.data_dir / "node.sqlite", timeout=0.05)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            worker.send_signal(signal.SIGCONT)
            return False
        connection.rollback()
    return True


def test_a_stalled_worker_that_wakes_up_late_changes_nothing(tmp_path: Path) -> None:
    node = light_node(tmp_path, 1)
    with _worker(node, pause_s=0.3) as stalled:
        until(lambda: node.states() == ["RUNNING"])
        until(lambda: _stop_outside_a_transaction(node, stalled))
        assert node.states() == ["RUNNING"]
        finish(node)
        accepted = node.revisions()[0].fence
        stalled.send_signal(signal.SIGCONT)
        stalled.terminate()
        assert stalled.wait(30) == 0
    check(node)
    assert node.revisions()[0].fence == accepted
