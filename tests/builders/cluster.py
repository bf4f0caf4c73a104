"""A node on several machines, each a data folder of this one: processes that a test starts and kills."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pynetdicom import AE, evt

from dicom_node.network.scp import port_file
from tests.builders.cluster_worker import RESULTS, ROWS
from tests.builders.dicom_files import CT
from tests.builders.waiting import until

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "HEPATOCAST_TEST_DATABASE"
QUICK_JOBS = {"lease_s": 6, "heartbeat_s": 1, "maximum_attempts": 50, "backoff_s": [0.2]}
COMMANDS: dict[str, tuple[str, ...]] = {
    "listener": ("-m", "dicom_node.network.scp", "--config", "{config}"),
    "steward": ("-m", "dicom_node.processes", "steward", "--config", "{config}"),
    "worker": ("-m", "tests.builders.cluster_worker", "{config}", "{pause_s}", "{results}", "{rows}"),
}
RULES = [{"name": "ct", "when": "true", "send_to": ["pacs"], "regimens": ["tace"]}]


@contextmanager
def counting_pacs() -> Iterator[tuple[int, Counter[str]]]:
    """Run a Storage SCP; yields its port and how often each SOP Instance UID came."""
    came: Counter[str] = Counter()
    lock = threading.Lock()

    def store(event: evt.Event) -> int:
        with lock:
            came[str(event.request.AffectedSOPInstanceUID)] += 1
        return 0x0000

    ae = AE("PACS")
    ae.add_supported_context(CT)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield server.server_address[1], came
    finally:
        server.shutdown()


@dataclass
class Cluster:
    """Machines on one database and one place of files.

    Attributes
    ----------
    url : str
        Of the PostgreSQL database; empty for a machine by itself, on SQLite and its own files.
    objects : str
        ``storage.objects`` of all machines.
    more : dict
        Further settings of ``storage``.
    work : dict
        Arguments of the workers.
    jobs : dict
        Settings of the job engine.
    """

    folder: Path
    url: str
    objects: str
    pacs_port: int
    more: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    work: dict[str, float] = field(default_factory=lambda: {"pause_s": 0.1, "results": RESULTS, "rows": ROWS})
    jobs: dict[str, Any] = field(default_factory=lambda: dict(QUICK_JOBS))
    running: dict[tuple[str, str], subprocess.Popen[bytes]] = field(default_factory=dict)

    def config(self, machine: str) -> Path:
        """Write the configuration of a machine; returns its file."""
        peer = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": self.pacs_port}
        content = {
            "data_dir": str(self.data_dir(machine)),
            "listener": {"port": 0, "minimum_free_bytes": 0, "allow_any_calling_ae_title": True},
            "peers": [{**peer, "storage_commitment": False}],
            "assembly": {"series_quiet_period_s": 1, "study_quiet_period_s": 2},
            "jobs": self.jobs,
            "outbox": {"read_back": False, "backoff_s": [0.5]},
            "rules": RULES,
        }
        if self.url:
            content["storage"] = {
                "node_name": machine,
                "database": {"url_environment": ADDRESS},
                "objects": self.objects,
                **self.more,
            }
        file = self.folder / f"{machine}.yaml"
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        return file

    def data_dir(self, machine: str) -> Path:
        return self.folder / machine

    def start(self, role: str, machine: str) -> subprocess.Popen[bytes]:
        """Start one process of a machine."""
        if role == "listener":
            port_file(self.data_dir(machine)).unlink(missing_ok=True)
        config = str(self.config(machine))
        command = [sys.executable, *(part.format(config=config, **self.work) for part in COMMANDS[role])]
        environment = {**os.environ, **self.environment, ADDRESS: self.url, "PYTHONPATH": str(ROOT)}
        with (self.folder / f"{machine}-{role}.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)
        self.running[role, machine] = process
        return process

    def kill(self, role: str, machine: str) -> None:
        """End a process as a power cut would."""
        process = self.running.pop((role, machine))
        process.kill()
        process.wait()

    def tend(self) -> None:
        """Start again what ended by itself, as a supervisor does."""
        for (role, machine), process in list(self.running.items()):
            if process.poll() is not None:
                self.start(role, machine)

    def stop(self, role: str, machine: str, within_s: float = 900.0) -> int:
        """End a process as an operator would; returns its exit code."""
        process = self.running.pop((role, machine))
        process.terminate()
        return process.wait(within_s)

    def port(self, machine: str, within_s: float = 900.0) -> int:
        """Return the port of a machine's listener, once it listens."""
        file = port_file(self.data_dir(machine))
        until(file.exists, within_s)
        return int(file.read_text())

    def logs(self) -> str:
        """Return the ends of all logs, for a test that failed."""
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(f"== {f.name}\n{f.read_text(errors='replace')[-2500:]}" for f in files)

    def end(self) -> None:
        """Stop what still runs."""
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def cluster(folder: Path, url: str, objects: str, **more: Any) -> Iterator[tuple[Cluster, Counter[str]]]:
    """Yield machines that are not started yet, and what the PACS gets."""
    with counting_pacs() as (port, came):
        machines = Cluster(folder, url, objects, port, **more)
        try:
            yield machines, came
        finally:
            machines.end()
