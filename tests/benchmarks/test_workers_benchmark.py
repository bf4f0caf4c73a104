"""Two workers against one on a queue of jobs that need the processor; unit costs in core-seconds."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.clock import system_clock
from dicom_node.database import open_database
from dicom_node.jobs.engine import Engine, JobState
from dicom_node.jobs.opening import open_engine
from dicom_node.settings import JobSettings
from tests.builders.waiting import until

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
JOBS, WORK = 24, 10_000_000
"""Jobs of some tenths of a second each: the queue is not what takes the time, and not nothing either."""
BAR = 0.6


def _engine(database: sa.Engine) -> Engine:
    return open_engine(JobSettings(), database, system_clock, "benchmark")


def _seconds(folder: Path, url: str, round_: str, workers: int) -> float:
    """Return the wall time from the moment all workers are ready until the queue is done."""
    database = open_database(folder, url)
    engine = _engine(database)
    keys = [f"{round_}-{n}" for n in range(JOBS)]
    command = [sys.executable, "-m", "tests.builders.busy_worker", str(folder), url, str(WORK)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=environment) for _ in range(workers)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        begin = time.monotonic()
        for key in keys:
            engine.put(key, {}, 50)
        until(lambda: all(s.state is JobState.DONE for s in engine.status(keys)), within_s=900, every_s=0.1)
        return time.monotonic() - begin
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        database.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_two_workers_take_at_most_six_tenths_of_the_time_of_one(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, capsys
) -> None:
    url = request.getfixturevalue("database_url") if kind == "postgresql" else ""
    one, two = [], []
    for number in range(3):
        one.append(_seconds(tmp_path, url, f"one{number}", 1))
        two.append(_seconds(tmp_path, url, f"two{number}", 2))
    ratio = sorted(two)[1] / sorted(one)[1]
    with capsys.disabled():
        print(f"\n{platform.machine()}, {os.cpu_count()} cores, {JOBS} jobs on {kind}")
        print(f"one worker {[round(t, 1) for t in one]} s, two {[round(t, 1) for t in two]} s")
        print(f"ratio of medians {ratio:.2f} (bar {BAR})")
    assert ratio <= BAR
