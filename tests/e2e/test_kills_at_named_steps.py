"""kill -9 at each named step, from the first byte of an object to its read-back: what must hold at each."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
import yaml

from dicom_node.clock import system_clock
from dicom_node.database import reading, result_object
from dicom_node.network.scp import listening
from dicom_node.network.scu import part10, read_part10
from dicom_node.settings import AssemblySettings, JobSettings, Rule
from inference.case import Phase
from inference.simulation.dicom_study import write_study
from inference.simulation.patient import PatientSpec, simulate_patient
from tests.builders.dicom_files import ct_series
from tests.builders.dying import STAGES
from tests.builders.listeners import LISTENER, listener_config, start_listener
from tests.builders.nodes import Node
from tests.builders.orthanc import Orthanc, free_port
from tests.builders.outboxes import OURS, STUDY, Delivery, orthanc_peer
from tests.builders.waiting import until
from tests.conftest import DrivenClock
from tests.e2e.test_kill_light_worker import check as check_light
from tests.e2e.test_kill_light_worker import finish as finish_light
from tests.e2e.test_kill_light_worker import light_node
from tests.e2e.test_kill_listener import Sender, check, expected

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]


def dying(step: str, time: int, *program: str) -> tuple[str, ...]:
    """Return what is run instead of a program, which dies at a step."""
    return ("tests.builders.dying", step, str(time), *program)


def run_to_its_death(step: str, time: int, program: Sequence[str]) -> None:
    """Run a program that kills itself at a step; fail where it never came there."""
    command = [sys.executable, "-m", *dying(step, time, *program)]
    ended = subprocess.run(command, cwd=ROOT, check=False, stderr=subprocess.DEVNULL, timeout=120)
    assert ended.returncode == -signal.SIGKILL, f"{step!r} was not reached"


# --- receiving ----------------------------------------------------------------------------------

OBJECTS = 10
FIFTH_OBJECT = {
    "mid-PDU": (41, 0),
    "before the file is written": (5, 0),
    "before rename": (6, 0),
    "after rename": (6, 1),
    "before the index row": (5, 1),
    "before the row is committed": (5, 1),
    "after the index row": (5, 1),
    "before the response": (5, 1),
}
"""At which passing the listener dies, and how many objects are kept that were not acknowledged.

The first rename fails for want of a folder and is repeated; a file that has its name has its row after the
next start.
"""


@pytest.mark.parametrize("step", FIFTH_OBJECT)
def test_an_object_whose_keeping_is_cut_off(tmp_path: Path, step: str) -> None:
    """What was acknowledged is there; of the object in hand all is there, or nothing."""
    time, kept_besides = FIFTH_OBJECT[step]
    data_dir = tmp_path / "data"
    config = listener_config(data_dir)
    series = [ct_series(OBJECTS, "1.2.9.1", "1.2.9.1.1", rows=128)]
    sent = expected(series)
    listener = start_listener(config, data_dir, module=dying(step, time, *LISTENER))
    sender = Sender(listener.port, series[0], threading.Semaphore(0))
    sender.start()
    sender.join()
    assert listener.process.wait(30) == -signal.SIGKILL
    assert 3 <= len(sender.acknowledged) < OBJECTS
    again = start_listener(config, data_dir)
    try:
        assert check(data_dir, set(sender.acknowledged), sent) == len(sender.acknowledged) + kept_besides
        repeated = Sender(again.port, series[0], threading.Semaphore(0))
        repeated.start()
        repeated.join()
        assert len(repeated.acknowledged) == OBJECTS
        assert check(data_dir, set(sent), sent) == OBJECTS
    finally:
        assert again.stop() == 0


# --- making results -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [
        "before results are durable",
        "after results are durable",
        "before results are accepted",
        "inside the transaction that accepts",
        "after results are accepted",
    ],
)
def test_results_whose_acceptance_is_cut_off(tmp_path: Path, step: str) -> None:
    """A study has its results once, whether or not the one that was killed had handed them in."""
    node = light_node(tmp_path, 2)
    run_to_its_death(step, 1, ["tests.builders.light_worker", str(node.data_dir), "0.01"])
    finish_light(node)
    check_light(node)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_forecast_that_is_killed_in_every_stage(tmp_path: Path, clock: DrivenClock) -> None:
    """Nothing of nine cut off forecasts is left but their attempts, and the tenth is whole."""
    clock.now = system_clock() - 60  # the worker's own clock must find the job due
    leases = {"lease_s": 1.0, "heartbeat_s": 0.2, "maximum_attempts": 50, "backoff_s": [0.1]}
    quiet = AssemblySettings(series_quiet_period_s=1, study_quiet_period_s=1)
    rules = (Rule(name="all", when="true", regimens=("tace",), months=(3.0,)),)
    node = Node(
        tmp_path / "data", clock, assembly=quiet, rules=rules, jobs=JobSettings.model_validate(leases)
    )
    spec = PatientSpec((20, 224, 224), (9.0, 2.0, 2.0), (Phase.PORTAL_VENOUS,), (60.0,))
    study = tmp_path / "study"
    write_study(simulate_patient(3, spec), study, datetime(2026, 1, 15, tzinfo=UTC))
    node.receive(pydicom.dcmread(p) for p in sorted(study.rglob("*.dcm")))
    node.assembler.step()
    clock.advance(2)
    node.assembler.step()
    peer = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    config = tmp_path / "node.yaml"
    config.write_text(yaml.safe_dump({"data_dir": str(node.data_dir), "peers": [peer], "jobs": leases}))
    worker = ["dicom_node.processes", "worker", "--config", str(config)]
    for stage in STAGES:
        run_to_its_death(f"before stage {stage}", 1, worker)
        assert node.states() == ["RUNNING"]
    with subprocess.Popen([sys.executable, "-m", *worker], stderr=subprocess.DEVNULL) as process:
        until(lambda: node.states() == ["DONE"], within_s=120)
        process.terminate()
        assert process.wait(60) == 0
    with reading(node.database) as connection:
        rows = connection.execute(result_object.select()).all()
    assert rows
    assert all((node.data_dir / row.path).is_file() for row in rows)
    assert len({row.sop_instance_uid for row in rows}) == len(rows)
    (folder,) = (node.data_dir / "results" / "1").iterdir()
    assert folder.name == str(len(STAGES) + 1)


# --- delivering ---------------------------------------------------------------------------------

SLICES = 4
DELIVERY = {
    "before an object is sent": 3,
    "after an object is sent": 3,
    "sending is noted": 1,
    "between send and commitment": 1,
    "between request and its answer": 1,
    "commitment is noted": 2,
    "between commitment and read-back": 1,
    "read-back is noted": 3,
}
"""At which passing the outbox dies; a change is noted three times on the way of a batch."""


@pytest.mark.parametrize("step", DELIVERY)
def test_a_delivery_that_is_cut_off(tmp_path: Path, needs_judge, step: str) -> None:
    """Every object arrives, each is counted once, and each was read back."""
    port = free_port()
    settings = {"backoff_s": [0.2, 1], "commitment_timeout_s": 2}
    with Orthanc(needs_judge("Orthanc"), {OURS: ("127.0.0.1", port)}) as pacs:
        delivery = Delivery(tmp_path / "data", system_clock, [orthanc_peer(pacs)], port, settings)
        slices = delivery.add_slices(SLICES)
        with listening(delivery.settings):
            outbox = ["tests.builders.outbox_process", str(delivery.config)]
            named = "before a change is noted" if step.endswith("is noted") else step
            run_to_its_death(named, DELIVERY[step], outbox)
            assert delivery.counts() != {"VERIFIED": SLICES}
            with subprocess.Popen(
                [sys.executable, "-m", *outbox], cwd=ROOT, stderr=subprocess.DEVNULL
            ) as process:
                until(lambda: delivery.states() == ["DELIVERED"], 60)
                process.kill()
        stored = pacs.instances(STUDY)
        assert set(stored) == {str(ds.SOPInstanceUID) for ds in slices}
        for row in delivery.objects():
            data_set = part10(pacs.file(f"/instances/{stored[row.sop_instance_uid]}/file")).data_set
            assert data_set == read_part10(delivery.data_dir / row.path).data_set
            events = Counter(delivery.events(row.sop_instance_uid))
            assert events["stored by peer"] == events["read back equal"] == 1
