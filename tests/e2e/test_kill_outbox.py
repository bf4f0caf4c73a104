"""kill -9 of the outbox at random points: every object arrives, none under another UID."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from dicom_node.clock import system_clock
from dicom_node.network.scp import listening
from dicom_node.network.scu import part10, read_part10
from tests.builders.orthanc import Orthanc, free_port
from tests.builders.outboxes import OURS, STUDY, Delivery, orthanc_peer
from tests.builders.waiting import until

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
OBJECTS = 150


def _start(config: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.builders.outbox_process", str(config)]
    environment = {**os.environ, "TCP_NODELAY": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)


def _moved_on(delivery: Delivery, before: dict[str, int]) -> bool:
    return delivery.counts() != before


def _deliver_with_kills(delivery: Delivery, rng: random.Random, kills: int) -> int:
    """Kill the outbox some time after it began to work, then let it end; returns how often it was killed."""
    pause = threading.Event()
    killed = 0
    for _ in range(kills):
        before = delivery.counts()
        if before == {"VERIFIED": OBJECTS}:
            break
        process = _start(delivery.config)
        try:
            until(partial(_moved_on, delivery, before), 60, every_s=0.002)
            pause.wait(rng.uniform(0, 0.4))
            killed += delivery.counts() != {"VERIFIED": OBJECTS}
        finally:
            process.kill()
            process.wait()
    process = _start(delivery.config)
    try:
        until(lambda: delivery.states() == ["DELIVERED"], 90)
    finally:
        process.kill()
        process.wait()
    return killed


def _run(program: str, folder: Path, seed: int) -> int:
    rng = random.Random(seed)
    port = free_port()
    settings = {"backoff_s": [0.2, 1], "commitment_timeout_s": 2}
    with Orthanc(program, {OURS: ("127.0.0.1", port)}) as pacs:
        delivery = Delivery(folder, system_clock, [orthanc_peer(pacs)], port, settings)
        slices = delivery.add_slices(OBJECTS, rows=128)
        with listening(delivery.settings):
            killed = _deliver_with_kills(delivery, rng, kills=3)
        stored = pacs.instances(STUDY)
        assert set(stored) == {str(ds.SOPInstanceUID) for ds in slices}
        for row in delivery.objects():
            data_set = part10(pacs.file(f"/instances/{stored[row.sop_instance_uid]}/file")).data_set
            assert data_set == read_part10(delivery.data_dir / row.path).data_set
            assert delivery.events(row.sop_instance_uid)[-1] == "read back equal"
    return killed


def test_every_object_arrives_once_whenever_the_outbox_is_killed(tmp_path: Path, needs_judge) -> None:
    assert _run(needs_judge("Orthanc"), tmp_path / "0", seed=0) >= 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_thirty_runs(tmp_path: Path, needs_judge) -> None:
    killed = sum(_run(needs_judge("Orthanc"), tmp_path / str(seed), seed) for seed in range(100, 130))
    print(f"\noutbox killed {killed} times in 30 deliveries of {OBJECTS} objects")  # noqa: T201
    assert killed >= 30
