"""Bundles are exchanged while a worker process forecasts: nothing is lost, and results say what made them."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
import yaml

from dicom_node.bundles.activation import Activations, models_key
from dicom_node.bundles.record import recorded_models
from dicom_node.bundles.store import install
from dicom_node.clock import system_clock
from dicom_node.database import job, reading
from dicom_node.settings import AssemblySettings, JobSettings, Rule
from inference.bundle_store import BundleKind
from inference.case import Phase
from inference.model_settings import ModelSettings
from inference.simulation.dicom_study import write_study
from inference.simulation.patient import PatientSpec, simulate_patient
from tests.builders.model_bundles import variant
from tests.builders.nodes import Node
from tests.builders.waiting import until

pytestmark = pytest.mark.e2e

STUDIES = 4
LEASES = {"lease_s": 30.0, "heartbeat_s": 5.0, "maximum_attempts": 5, "backoff_s": [0.1]}
GENERATOR = BundleKind.GENERATOR


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> list[pydicom.Dataset]:
    """Return the data sets of a small simulated study."""
    folder = tmp_path_factory.mktemp("simulated")
    spec = PatientSpec((20, 224, 224), (9.0, 2.0, 2.0), (Phase.PORTAL_VENOUS,), (60.0,))
    write_study(simulate_patient(3, spec), folder, datetime(2026, 1, 15, tzinfo=UTC))
    return [pydicom.dcmread(p) for p in sorted(folder.rglob("*.dcm"))]


def _renamed(study: list[pydicom.Dataset], number: int) -> list[pydicom.Dataset]:
    """Return the same images as another study, with references that still fit."""
    old = {str(v) for ds in study for v in (ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)}
    made = []
    for ds in study:
        copy = pydicom.dcmread(ds.filename)
        for element in copy.iterall():
            if element.VR == "UI" and str(element.value) in old:
                element.value = f"{element.value}.{number}"
        made.append(copy)
    return made


class Site:
    """A node's data folder, its configuration, and its activations."""

    def __init__(self, folder: Path) -> None:
        self.node = Node(
            folder / "data",
            system_clock,
            assembly=AssemblySettings(series_quiet_period_s=0, study_quiet_period_s=0),
            rules=(Rule(name="all", when="true", regimens=("tace",), months=(3.0,)),),
            jobs=JobSettings(**LEASES),
        )
        self.activations = Activations(self.node.database, self.node.data_dir, system_clock)
        self.node.assembler.models = lambda: models_key(self.activations.named_in_force(), ModelSettings())
        self.config = folder / "node.yaml"
        peer = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
        content = {"data_dir": str(self.node.data_dir), "peers": [peer], "jobs": LEASES}
        self.config.write_text(yaml.safe_dump(content), encoding="utf-8")

    def document(self, revision_id: int) -> dict[str, object]:
        (path,) = (self.node.data_dir / "results" / str(revision_id)).glob("*/result.json")
        return json.loads(path.read_text())

    def made_with(self, revision_id: int) -> str:
        return str(self.document(revision_id)["bundles"]["generator"]["sha256"])

    def progress(self, revision_id: int) -> float:
        with reading(self.node.database) as connection:
            row = connection.execute(job.select().where(job.c.key == f"revision-{revision_id}-1")).first()
        return 0.0 if row is None or row.state != "running" else float(row.progress)

    def state(self, revision_id: int) -> str:
        self.node.assembler.step()
        return str(self.node.ledger.revision(revision_id).state)


@pytest.mark.timeout(900)
def test_bundles_are_exchanged_while_jobs_run(study: list[pydicom.Dataset], tmp_path: Path) -> None:
    site = Site(tmp_path)
    shipped = site.activations.in_force().digests[GENERATOR]
    retrained = install(variant(tmp_path / "retrained"), site.node.data_dir).info.sha256
    for number in range(1, STUDIES + 1):
        site.node.receive(_renamed(study, number))
    site.node.assembler.step()
    assert site.node.states() == ["QUEUED"] * STUDIES
    command = [sys.executable, "-m", "dicom_node.processes", "worker", "--config", str(site.config)]
    with (tmp_path / "worker.log").open("wb") as log, subprocess.Popen(command, stderr=log) as worker:
        try:
            until(lambda: site.progress(1) > 0.1, within_s=300)
            assert site.state(1) == "RUNNING"
            site.activations.activate(retrained)
            still_running = site.state(1) == "RUNNING"
            until(lambda: site.progress(3) > 0.1, within_s=300)
            site.activations.roll_back(GENERATOR)
            until(lambda: all(site.state(n) == "DONE" for n in range(1, STUDIES + 1)), within_s=300)
            assert worker.poll() is None, "the worker was never started again"
        finally:
            worker.terminate()
            assert worker.wait(120) == 0
    assert still_running, "the exchange did not fall inside the first job"
    expected = {1: shipped, 2: retrained, 3: retrained, 4: shipped}
    assert {n: site.made_with(n) for n in expected} == expected
    for revision_id, sha256 in expected.items():
        recorded = recorded_models(site.node.database, revision_id)
        assert recorded is not None
        assert recorded.bundles["generator"] == sha256
        events = [h["event"] for h in site.node.ledger.history(revision_id)]
        assert events.count("job started") == events.count("job done") == 1

    uids = [r["series_instance_uid"] for n in (1, 2) for r in site.document(n)["objects"]]
    assert len(set(uids)) == len(uids)
