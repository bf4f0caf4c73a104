"""Orthanc as the demonstration's PACS: a throw-away instance on loopback."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dicom_node.errors import TransientError

START_WITHIN_S = 30.0
POLL_S = 0.05


def orthanc_program() -> str | None:
    """Return the path of Orthanc, or None where it is not installed."""
    return shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin") or shutil.which("Orthanc")


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _configuration(
    folder: Path, ae_title: str, dicom_port: int, nodes: Mapping[str, tuple[str, int]]
) -> dict[str, object]:
    modalities = {
        name: {"AET": name, "Host": host, "Port": port, "AllowStorageCommitment": True}
        for name, (host, port) in nodes.items()
    }
    return {
        "Name": "Hepatocast demonstration",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpServerEnabled": False,
        "DicomPort": dicom_port,
        "DicomAet": ae_title,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomModalities": modalities,
        "MaximumPduLength": 131072,
        "Plugins": [],
    }


@contextmanager
def orthanc_pacs(
    program: str, folder: Path, ae_title: str, nodes: Mapping[str, tuple[str, int]]
) -> Iterator[int]:
    """Run Orthanc on a free port of loopback; yields its DICOM port.

    Parameters
    ----------
    nodes : dict
        AE title to (host, port) of the nodes it knows.

    Raises
    ------
    TransientError
        Orthanc did not start in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    configuration = folder / "orthanc.json"
    configuration.write_text(json.dumps(_configuration(folder, ae_title, port, nodes)), encoding="utf-8")
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([program, str(configuration)], stdout=log, stderr=log, cwd=folder)
        try:
            _wait_until_listening(process, port)
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def _wait_until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 1.0):
                return
        except OSError:
            time.sleep(POLL_S)
    raise TransientError("Orthanc did not start; try again, or use --no-network")
