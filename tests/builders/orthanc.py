"""Orthanc as the PACS of the tests: a throw-away instance on loopback, ready in under a second."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.builders.waiting import until

PLUGINS = Path("/usr/share/orthanc/plugins")
ROUTE = """
function OnStableSeries(seriesId, tags, metadata)
  if tags['Manufacturer'] == 'Hepatocast' then return end
  local wanted = false
  for _, modality in ipairs({%(modalities)s}) do
    if tags['Modality'] == modality then wanted = true end
  end
  if wanted then
    RestApiPost('/modalities/%(node)s/store', '{"Resources": ["' .. seriesId .. '"], "Synchronous": false}')
  end
end
"""


NOT_EPHEMERAL = (20_000, 32_000)
"""Below the ports that Linux gives to outgoing connections, which could take one meanwhile."""


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    while True:
        port = random.randrange(*NOT_EPHEMERAL)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass
class Orthanc:
    """One Orthanc; use it as a context manager.

    Attributes
    ----------
    modalities : dict
        AE title to (host, port) of the nodes it knows.
    route_to : str or None
        AE title that stable series of `route_modalities` are sent to, the node's own excepted.
    """

    program: str
    modalities: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    ae_title: str = "ORTHANC"
    route_to: str | None = None
    route_modalities: tuple[str, ...] = ("CT", "MR", "SEG")
    options: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="orthanc-")))
    dicom_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def dicomweb_url(self) -> str:
        return f"{self.url}/dicom-web"

    @property
    def log(self) -> Path:
        return self.folder / "orthanc.log"

    def _configuration(self) -> dict[str, Any]:
        scripts = []
        if self.route_to is not None:
            script = self.folder / "route.lua"
            quoted = ", ".join(f"'{m}'" for m in self.route_modalities)
            script.write_text(ROUTE % {"modalities": quoted, "node": self.route_to}, encoding="ascii")
            scripts.append(str(script))
        return {
            "Name": "Test PACS",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "TemporaryDirectory": str(self.folder),
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomPort": self.dicom_port,
            "DicomAet": self.ae_title,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "UnknownSopClassAccepted": False,
            "StableAge": 1,
            "DicomAssociationCloseDelay": 0,
            "MaximumPduLength": 131072,
            "DicomModalities": {
                name: {
                    "AET": name,
                    "Host": host,
                    "Port": port,
                    "AllowEcho": True,
                    "AllowFind": True,
                    "AllowGet": True,
                    "AllowMove": True,
                    "AllowStore": True,
                    "AllowStorageCommitment": True,
                }
                for name, (host, port) in self.modalities.items()
            },
            "Plugins": [str(PLUGINS / "libOrthancDicomWeb.so")],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "LuaScripts": scripts,
            **self.options,
        }

    def start(self) -> Orthanc:
        """Start it, also again after `stop` with what it had stored."""
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "orthanc.json"
        configuration.write_text(json.dumps(self._configuration()), encoding="utf-8")
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [self.program, str(configuration)],
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env={**os.environ, "TCP_NODELAY": "1"},
            )
        until(self._is_ready, within_s=30)
        return self

    def _is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(self.log.read_text(errors="replace")[-3000:])
        try:
            with socket.create_connection(("127.0.0.1", self.dicom_port), 1.0):
                self.get("/system")
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """Stop it as an operator would."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)

    def __enter__(self) -> Orthanc:
        return self.start()

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()  # what it stored goes too, and an orderly end takes 3 s
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -------------------------------------------------------------- REST

    def file(self, path: str) -> bytes:
        """Return what a GET of a path gives."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return bytes(answer.read())

    def get(self, path: str) -> Any:
        """Return the JSON of a path."""
        return json.loads(self.file(path))

    def delete(self, path: str) -> None:
        """Delete a resource."""
        request = urllib.request.Request(self.url + path, method="DELETE")
        urllib.request.urlopen(request, timeout=60).close()

    def find(self, level: str, **tags: str) -> list[str]:
        """Return the Orthanc identifiers of what matches at a level (Study, Series, Instance)."""
        body = json.dumps({"Level": level, "Query": tags}).encode()
        request = urllib.request.Request(self.url + "/tools/find", data=body, method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.loads(answer.read())
        assert isinstance(found, list)
        return found

    def instances(self, study_instance_uid: str) -> dict[str, str]:
        """Return SOP Instance UID to Orthanc identifier of all instances of a study."""
        found = {}
        for study in self.find("Study", StudyInstanceUID=study_instance_uid):
            for one in self.get(f"/studies/{study}/instances"):
                found[one["MainDicomTags"]["SOPInstanceUID"]] = one["ID"]
        return found
