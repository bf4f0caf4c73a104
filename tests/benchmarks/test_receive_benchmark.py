"""Receive throughput beside Orthanc's, with one sender, in alternating rounds; and memory."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy import func, select

from dicom_node.database import instance, open_database, reading
from tests.builders.dicom_files import ct_series
from tests.builders.listeners import listener_config, listener_process
from tests.builders.waiting import until

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]

OBJECTS = 500
ROWS = 512
"""512 x 512 x 16 bit: 0.5 MB an object."""
ROUNDS = 3
MEMORY_BAR_MB = 120
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


def write_series(folder: Path, name: int) -> Path:
    """Write 500 objects of 0.5 MB with UIDs of their own."""
    folder.mkdir(parents=True)
    for ds in ct_series(OBJECTS, f"1.2.7.{name}", f"1.2.7.{name}.1", rows=ROWS):
        ds.save_as(folder / f"{ds.InstanceNumber}.dcm", enforce_file_format=True)
    return folder


def seconds_to_send(storescu: str, folder: Path, port: int) -> float:
    """Send a folder over one association; return the wall time."""
    command = [storescu, "-aet", "STORESCU", "-aec", "HEPATOCAST", "--max-pdu", "131072", "+sd"]
    started = time.monotonic()
    result = subprocess.run(
        [*command, "127.0.0.1", str(port), str(folder)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    elapsed = time.monotonic() - started
    assert result.returncode == 0, result.stderr[-2000:]
    return elapsed


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def orthanc(program: str, folder: Path) -> Iterator[tuple[int, str]]:
    """Run an Orthanc that syncs its storage; yields DICOM port and URL."""
    folder.mkdir()
    dicom, http = _free_port(), _free_port()
    configuration = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "DicomPort": dicom,
        "HttpPort": http,
        "DicomAet": "HEPATOCAST",
        "DicomAlwaysAllowStore": True,
        "SyncStorageArea": True,
        "MaximumPduLength": 131072,
        "StableAge": 600,
        "Plugins": [],
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(configuration))
    url = f"http://127.0.0.1:{http}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, str(file)], stdout=log, stderr=log, env=ENVIRONMENT)
        try:
            until(lambda: _answers(url), within_s=30)
            yield dicom, url
        finally:
            process.terminate()
            process.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/system", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _stored_by_orthanc(url: str) -> int:
    with urllib.request.urlopen(url + "/statistics", timeout=30) as answer:
        return int(json.load(answer)["CountInstances"])


def test_throughput_and_memory(tmp_path: Path, needs_judge, capsys) -> None:
    storescu, program = needs_judge("storescu"), needs_judge("Orthanc")
    data_dir = tmp_path / "data"
    ours: list[float] = []
    theirs: list[float] = []
    with (
        listener_process(listener_config(data_dir), data_dir) as listener,
        orthanc(program, tmp_path / "orthanc") as (their_port, url),
    ):
        process = psutil.Process(listener.process.pid)
        idle_mb = process.memory_info().rss / 1e6
        for number in range(ROUNDS + 1):  # the first round warms both up and is not counted
            folder = write_series(tmp_path / f"series{number}", number)
            order = [(ours, listener.port), (theirs, their_port)]
            for times, port in order if number % 2 else reversed(order):
                elapsed = seconds_to_send(storescu, folder, port)
                if number:
                    times.append(elapsed)
            shutil.rmtree(folder)
        busy_mb = process.memory_info().rss / 1e6
        assert _stored_by_orthanc(url) == OBJECTS * (ROUNDS + 1)
    engine = open_database(data_dir)
    with reading(engine) as connection:
        assert connection.execute(select(func.count()).select_from(instance)).scalar_one() == OBJECTS * (
            ROUNDS + 1
        )
    engine.dispose()
    rate, their_rate = (OBJECTS / statistics.median(times) for times in (ours, theirs))
    with capsys.disabled():
        print(f"\n{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {OBJECTS} x 0.5 MB")
        print(f"listener  {rate:7.1f} objects/s  rounds {[round(t, 2) for t in ours]} s")
        print(f"Orthanc   {their_rate:7.1f} objects/s  rounds {[round(t, 2) for t in theirs]} s")
        print(f"ratio     {rate / their_rate:7.2f}")
        print(
            f"listener's resident memory {idle_mb:.0f} MB idle, {busy_mb:.0f} MB after {OBJECTS * 4} objects"
        )
    assert busy_mb < MEMORY_BAR_MB


def test_memory_with_many_associations(tmp_path: Path, needs_judge, capsys) -> None:
    storescu = needs_judge("storescu")
    data_dir = tmp_path / "data"
    folders = []
    for number in range(8):
        folder = tmp_path / f"series{number}"
        folder.mkdir()
        for ds in ct_series(40, f"1.2.6.{number}", f"1.2.6.{number}.1", rows=ROWS):
            ds.save_as(folder / f"{ds.InstanceNumber}.dcm", enforce_file_format=True)
        folders.append(folder)
    with listener_process(listener_config(data_dir), data_dir) as listener:
        command = [storescu, "-aet", "STORESCU", "-aec", "HEPATOCAST", "+sd", "127.0.0.1", str(listener.port)]
        senders = [subprocess.Popen([*command, str(folder)], env=ENVIRONMENT) for folder in folders]
        assert [sender.wait(200) for sender in senders] == [0] * len(folders)
        used_mb = psutil.Process(listener.process.pid).memory_info().rss / 1e6
    with capsys.disabled():
        print(f"\nlistener's resident memory {used_mb:.0f} MB after 8 associations at once")
    assert used_mb < MEMORY_BAR_MB
