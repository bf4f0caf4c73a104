"""A running node seen from outside: metrics, readiness, log, alerts and audit trail of real processes."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pynetdicom import AE

from dicom_node.audit.trail import audit_files
from dicom_node.audit.verification import verify_trail
from dicom_node.clock import system_clock
from dicom_node.database import node_database
from dicom_node.web.server import page_port_file
from tests.builders.dicom_files import Called, ct_series, send
from tests.builders.serving import serving
from tests.builders.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def _metrics(url: str) -> dict[tuple[str, ...], float]:
    status, text = _get(f"{url}/metrics")
    assert status == 200, text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def hook() -> Any:
    """A webhook that keeps what it gets."""
    got: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", got
    server.shutdown()
    server.server_close()


def _refused_association(port: int) -> None:
    ae = AE(ae_title="STRANGER")
    ae.add_requested_context("1.2.840.10008.1.1")
    association = ae.associate("127.0.0.1", port, ae_title="HEPATOCAST")
    assert association.is_rejected


def test_running_node_tells_of_itself(tmp_path, hook):
    url, told = hook
    settings = {
        "web": {"port": 0},
        "log": {"format": "json"},
        "alerts": {"webhook": {"url": url}, "free_bytes": 2**62, "check_every_s": 1},
        "peers": [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1}],
        "assembly": {"series_quiet_period_s": 0.5, "study_quiet_period_s": 1},
        "rules": [{"name": "none", "when": "true", "action": "ignore", "reason": "only received"}],
    }
    with serving(tmp_path, 0, **settings) as node:
        data_dir = node.settings.data_dir
        port = int((data_dir / "listener.port").read_text())
        until(page_port_file(data_dir).exists, within_s=120)
        page = f"http://127.0.0.1:{int(page_port_file(data_dir).read_text())}"
        send(ct_series(3, "1.2.826.1", "1.2.826.1.1", rows=16), Called(port, calling="PACS"))
        _refused_association(port)
        node.until_state("IGNORED")
        until(lambda: _get(f"{page}/readyz")[0] == 200, within_s=120, every_s=1)
        found = until(
            lambda: m if (m := _metrics(page)).get(("hepatocast_instances_received_total",)) == 3 else None,
            within_s=60,
            every_s=0.5,
        )
        until(lambda: told, within_s=60)
    assert found[("hepatocast_received_bytes_total",)] > 3 * 512
    assert found["hepatocast_associations_refused_total", "calling AE title not recognised"] == 1
    assert found[("hepatocast_associations_opened_total",)] >= 1
    assert found["hepatocast_study_revisions", "IGNORED"] == 1
    assert [found["hepatocast_processes_alive", r] for r in ("listener", "steward", "worker", "page")] == [
        1
    ] * 4
    assert [n["condition"] for n in told[0]["raised"]] == ["disk"]
    _check_log(node.log.read_text())
    _check_trail(node.settings)


def _check_log(text: str) -> None:
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert {line["role"] for line in lines} >= {"listener", "page"}
    assert "Test^Patient" not in text


def _check_trail(settings: Any) -> None:
    database = node_database(settings)
    found = verify_trail(settings, database, system_clock)
    database.dispose()
    assert found.problems == ()
    messages = [ET.fromstring(r.message) for r in audit_files(settings).records()]
    kinds = [m.find("EventIdentification/EventID").get("originalText") for m in messages]
    assert {"Application Activity", "DICOM Instances Transferred", "Security Alert"} <= set(kinds)
    starts = [m for m in messages if m.find(".//EventTypeCode[@csd-code='110120']") is not None]
    names = {m.find("ActiveParticipant").get("UserID") for m in starts}
    assert names == {f"hepatocast {role}" for role in ("listener", "steward", "worker", "page")}
