"""Receive throughput beside Orthanc's and storescp's, over one association and four.

Before each turn all that was written is flushed, so that no receiver waits for another one's files. Nothing
is deleted between the rounds: for some minutes after it, ext4 looks through all deleted inodes of a folder's
group whenever it makes a file there, which takes longer than to flush it.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from sqlalchemy import func, select

from dicom_node.database import instance, open_database, reading
from tests.builders.dicom_files import ct_series
from tests.builders.listeners import listener_config, listener_process
from tests.builders.orthanc import free_port
from tests.builders.waiting import until

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]

OBJECTS = 500
ROWS = 512
"""512 x 512 x 16 bit: 0.5 MB an object."""
ROUNDS = 3
MEMORY_BAR_MB = 120
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


def write_series(folder: Path, name: int, parts: int) -> list[Path]:
    """Write 500 objects of 0.5 MB with UIDs of their own, as series in folders of their own."""
    folders = [folder / str(part) for part in range(parts)]
    for part, target in enumerate(folders):
        target.mkdir(parents=True)
        for ds in ct_series(OBJECTS // parts, f"1.2.7.{name}", f"1.2.7.{name}.{part + 1}", rows=ROWS):
            ds.save_as(target / f"{ds.InstanceNumber}.dcm", enforce_file_format=True)
    return folders


def seconds_to_send(storescu: str, folders: Sequence[Path], port: int) -> float:
    """Send folders at one time, each over one association; return the wall time of all."""
    command = [storescu, "-aet", "STORESCU", "-aec", "HEPATOCAST", "--max-pdu", "131072", "+sd"]
    os.sync()
    started = time.monotonic()
    senders = [
        subprocess.Popen([*command, "127.0.0.1", str(port), str(folder)], env=ENVIRONMENT)
        for folder in folders
    ]
    codes = [sender.wait(600) for sender in senders]
    elapsed = time.monotonic() - started
    assert codes == [0] * len(folders)
    return elapsed


@contextmanager
def orthanc(program: str, folder: Path) -> Iterator[tuple[int, str]]:
    """Run an Orthanc that syncs its storage; yields DICOM port and URL."""
    folder.mkdir()
    dicom, http = free_port(), free_port()
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


@contextmanager
def storescp(program: str, folder: Path) -> Iterator[int]:
    """Run DCMTK's SCP, which keeps files and flushes nothing; yields its port."""
    folder.mkdir()
    port = free_port()
    command = [program, "-od", str(folder), "-aet", "HEPATOCAST", "--fork", "-pdu", "131072", str(port)]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL) as process:
        try:
            until(lambda: _listens(port))
            yield port
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def cpu_seconds(pid: int) -> float:
    """Return what a process has used of the processors, user and system."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


@dataclass
class Measured:
    """Wall times of the rounds of one receiver."""

    port: int
    seconds: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return OBJECTS / statistics.median(self.seconds)


@pytest.mark.parametrize("associations", [1, 4])
def test_throughput_and_memory(tmp_path: Path, needs_judge, capsys, associations: int) -> None:
    """500 objects over one association, or as four series over four; the bar is 1.5 times Orthanc."""
    storescu, program = needs_judge("storescu"), needs_judge("Orthanc")
    data_dir = tmp_path / "data"
    with (
        listener_process(listener_config(data_dir), data_dir) as listener,
        orthanc(program, tmp_path / "orthanc") as (their_port, url),
        storescp(needs_judge("storescp"), tmp_path / "storescp") as plain_port,
    ):
        process = psutil.Process(listener.process.pid)
        idle_mb, used_s = process.memory_info().rss / 1e6, cpu_seconds(listener.process.pid)
        receivers = {
            "listener": Measured(listener.port),
            "Orthanc": Measured(their_port),
            "storescp": Measured(plain_port),
        }
        for number in range(ROUNDS + 1):  # the first round warms all up and is not counted
            folders = write_series(tmp_path / f"series{number}", number, associations)
            order = list(receivers.values())
            for receiver in order if number % 2 else order[::-1]:
                elapsed = seconds_to_send(storescu, folders, receiver.port)
                if number:
                    receiver.seconds.append(elapsed)
        busy_mb = process.memory_info().rss / 1e6
        used_s = cpu_seconds(listener.process.pid) - used_s
        assert _stored_by_orthanc(url) == OBJECTS * (ROUNDS + 1)
    engine = open_database(data_dir)
    with reading(engine) as connection:
        assert connection.execute(select(func.count()).select_from(instance)).scalar_one() == OBJECTS * (
            ROUNDS + 1
        )
    engine.dispose()
    ours = receivers["listener"].rate
    with capsys.disabled():
        print(
            f"\n{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {OBJECTS} x 0.5 MB, "
            f"{associations} association(s)"
        )
        for name, receiver in receivers.items():
            rounds = [round(t, 2) for t in receiver.seconds]
            print(f"{name:9} {receiver.rate:7.1f} objects/s  rounds {rounds} s")
            print(f"{'':9} the listener's rate is {ours / receiver.rate:.2f} times that")
        print(f"listener's processor time {used_s / OBJECTS / (ROUNDS + 1) * 1000:.2f} ms an object")
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
