"""An archive of many small CT studies in a real Orthanc, and a node beside it that runs no model."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml
from pydicom.dataset import Dataset

from dicom_node.batch.opening import Batches
from dicom_node.cli.main import invoke
from dicom_node.clock import system_clock
from dicom_node.network.scp import listening
from dicom_node.processes import run_steward
from dicom_node.settings import NodeSettings, load_settings
from tests.builders.batch_worker import run_light_worker
from tests.builders.dicom_files import ct_series
from tests.builders.orthanc import Orthanc

ROOT = Path(__file__).resolve().parents[2]
OURS = "HEPATOCAST"
SLICES = 3


def study_uid(number: int) -> str:
    """Return the Study Instance UID of an archived study, from 1 on."""
    return f"1.2.826.0.77.{number}"


def archived_study(number: int, **attributes: Any) -> list[Dataset]:
    """Return the CT slices of one archived study, 16 x 16; attributes are set in each."""
    uid = study_uid(number)
    slices = ct_series(SLICES, uid, f"{uid}.1", rows=16)
    values = {
        "AccessionNumber": f"A/{number:04}",
        "StudyDate": f"2019{1 + number % 12:02}15",
        "StudyDescription": "LIVER CT",
        "SeriesDescription": "portal venous",
        "BodyPartExamined": "LIVER",
        **attributes,
    }
    for ds in slices:
        for keyword, value in values.items():
            setattr(ds, keyword, value)
    return slices


def upload(orthanc: Orthanc, data_sets: Sequence[Dataset]) -> None:
    """Put objects into an Orthanc over its own interface."""
    for ds in data_sets:
        buffer = BytesIO()
        ds.save_as(buffer, enforce_file_format=True)
        request = urllib.request.Request(f"{orthanc.url}/instances", buffer.getvalue(), method="POST")
        urllib.request.urlopen(request, timeout=60).close()


def archive_config(folder: Path, orthanc: Orthanc, port: int, **batch: Any) -> Path:
    """Write the configuration of a node beside an archive; further arguments are batch settings."""
    peer = {
        "name": "archive",
        "ae_title": orthanc.ae_title,
        "host": "127.0.0.1",
        "port": orthanc.dicom_port,
        "query": True,
        "retrieve": True,
        "dicomweb_url": orthanc.dicomweb_url,
        "orthanc_url": orthanc.url,
    }
    content = {
        "data_dir": str(folder / "data"),
        "listener": {"port": port, "minimum_free_bytes": 0},
        "peers": [peer],
        "assembly": {"series_quiet_period_s": 0, "study_quiet_period_s": 0},
        "rules": [{"name": "ct", "when": 'series.exists(s, s.modality == "CT")'}],
        "outbox": {"backoff_s": [0.2], "commitment_timeout_s": 10},
        "batch": {
            "studies_per_hour": None,
            "maximum_bytes_per_s": None,
            "studies_in_flight": 8,
            "retrievals": 2,
            "minimum_free_bytes": 0,
            "backoff_s": [0.2],
            "lease_s": 2.0,
            **batch,
        },
    }
    config = folder / "site.yaml"
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    return config


@dataclass(frozen=True)
class ArchiveNode:
    """A running node without models beside an archive, and its batches."""

    config: Path
    settings: NodeSettings
    batches: Batches
    log: Path

    def command(self, *arguments: str) -> str:
        """Run ``hepatocast batch`` with these arguments; return what it prints. It must succeed."""
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            code = invoke(["batch", *arguments, "--config", str(self.config)])
        assert code == 0, errors.getvalue()
        return output.getvalue()

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start ``hepatocast batch`` with these arguments in a process of its own."""
        command = [sys.executable, "-m", "dicom_node.cli.main", "batch", *arguments]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*command, "--config", str(self.config)], cwd=ROOT, stdout=log, stderr=log
            )


@contextmanager
def archive_node(folder: Path, config: Path) -> Iterator[ArchiveNode]:
    """Run listener, steward, and a worker without models in threads of this process."""
    settings = load_settings([config])
    batches = Batches.open(settings, system_clock)
    stop = threading.Event()
    threads = [
        threading.Thread(target=run_steward, args=(settings, stop), name="steward"),
        threading.Thread(target=run_light_worker, args=(settings, stop), name="worker"),
    ]
    with listening(settings):
        for thread in threads:
            thread.start()
        try:
            yield ArchiveNode(config, settings, batches, folder / "run.log")
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
            batches.database.dispose()
