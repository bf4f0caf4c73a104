"""Listeners for tests: settings, one in this process, one in its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dicom_node.network.scp import port_file
from dicom_node.settings import NodeSettings, load_settings
from tests.builders.waiting import until

ROOT = Path(__file__).resolve().parents[2]


def listener_config(data_dir: Path, peers: tuple[dict[str, Any], ...] = (), **listener: Any) -> Path:
    """Write a configuration of a listener on a free port of loopback; returns its file."""
    values: dict[str, Any] = {
        "port": 0,
        "allowed_calling_ae_titles": ["SENDER", "DCMSEND", "STORESCU"],
        "minimum_free_bytes": 0,
        **listener,
    }
    file = data_dir.with_suffix(".yaml")
    content = {"data_dir": str(data_dir), "listener": values, "peers": list(peers)}
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


def listener_settings(
    data_dir: Path, peers: tuple[dict[str, Any], ...] = (), **listener: Any
) -> NodeSettings:
    """Return the settings of such a listener."""
    return load_settings([listener_config(data_dir, peers, **listener)])


@dataclass
class ListenerProcess:
    """A listener in its own process."""

    data_dir: Path
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def port(self) -> int:
        return int(port_file(self.data_dir).read_text())

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it as an operator would; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


LISTENER = ("dicom_node.network.scp",)


def start_listener(
    config: Path, data_dir: Path, before: tuple[str, ...] = (), module: tuple[str, ...] = LISTENER
) -> ListenerProcess:
    """Start a listener process and wait until it listens.

    Parameters
    ----------
    before : tuple of str
        A program to run it under, with its arguments.
    module : tuple of str
        What is run as a program, with arguments before the configuration.
    """
    port_file(data_dir).unlink(missing_ok=True)
    log = data_dir.with_suffix(".log")
    command = [*before, sys.executable, "-m", *module, "--config", str(config)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TCP_NODELAY": "1"}
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, env=environment)
    listener = ListenerProcess(data_dir, process, log)
    until(lambda: port_file(data_dir).exists() or process.poll() is not None, within_s=300)
    if process.poll() is not None:
        raise AssertionError(log.read_text()[-4000:])
    return listener


@contextmanager
def listener_process(
    config: Path, data_dir: Path, before: tuple[str, ...] = (), module: tuple[str, ...] = LISTENER
) -> Iterator[ListenerProcess]:
    """Run a listener process for a block; the parameters are those of `start_listener`."""
    listener = start_listener(config, data_dir, before, module)
    try:
        yield listener
    finally:
        if listener.process.poll() is None:
            listener.stop()
