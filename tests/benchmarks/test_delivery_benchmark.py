"""Sending to Orthanc against dcmsend in one run, and the whole way until objects are read back."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from pathlib import Path

import pytest

from dicom_node.clock import system_clock
from dicom_node.demo.orthanc_peer import free_port
from dicom_node.network.scp import listening
from dicom_node.network.scu import read_part10, store_session
from tests.builders.dicom_files import ct_series
from tests.builders.orthanc import Orthanc
from tests.builders.outboxes import OURS, Delivery, orthanc_peer

pytestmark = pytest.mark.benchmark
COUNT = 500
ROWS = 512
ROUNDS = 3


def _write(folder: Path) -> list[Path]:
    folder.mkdir()
    paths = []
    for number, ds in enumerate(ct_series(COUNT, "1.2.826.9", "1.2.826.9.1", rows=ROWS)):
        paths.append(folder / f"{number:04d}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def _seconds_of_dcmsend(dcmsend: str, orthanc: Orthanc, folder: Path) -> float:
    command = [dcmsend, "127.0.0.1", str(orthanc.dicom_port), "-aec", orthanc.ae_title, "+sd", str(folder)]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "TCP_NODELAY": "1"})
    return time.perf_counter() - started


def _seconds_of_ours(delivery: Delivery, paths: list[Path]) -> float:
    started = time.perf_counter()
    first = read_part10(paths[0])
    kinds = [(first.sop_class_uid, first.transfer_syntax_uid)]
    with store_session(delivery.settings.peer("pacs"), OURS, kinds) as session:
        for path in paths:
            session.store(read_part10(path))
    return time.perf_counter() - started


def test_sending_against_dcmsend(tmp_path: Path, needs_judge) -> None:
    """Each sender gets a fresh Orthanc in each round; medians of alternating rounds."""
    paths = _write(tmp_path / "files")
    program, dcmsend = needs_judge("Orthanc"), needs_judge("dcmsend")
    ours, theirs = [], []
    for number in range(ROUNDS):
        with Orthanc(program) as orthanc:
            delivery = Delivery(tmp_path / f"data{number}", system_clock, [orthanc_peer(orthanc)])
            ours.append(_seconds_of_ours(delivery, paths))
        with Orthanc(program) as orthanc:
            theirs.append(_seconds_of_dcmsend(dcmsend, orthanc, tmp_path / "files"))
    mine, other = COUNT / statistics.median(ours), COUNT / statistics.median(theirs)
    print(f"\nsending {COUNT} x 0.5 MB: {mine:.0f}/s, dcmsend {other:.0f}/s, ratio {mine / other:.2f}")


@pytest.mark.parametrize("way", ["C-GET", "WADO-RS"])
def test_until_everything_is_read_back(tmp_path: Path, needs_judge, way: str) -> None:
    port = free_port()
    with Orthanc(needs_judge("Orthanc"), {OURS: ("127.0.0.1", port)}) as orthanc:
        web = {} if way == "WADO-RS" else {"dicomweb_url": None}
        delivery = Delivery(tmp_path / "data", system_clock, [orthanc_peer(orthanc, **web)], port)
        delivery.add_slices(COUNT, rows=ROWS)
        with listening(delivery.settings):
            started = time.perf_counter()
            delivery.until_counts(within_s=300, VERIFIED=COUNT)
            total = time.perf_counter() - started
    print(f"\n{COUNT} x 0.5 MB sent, committed and read back by {way}: {total:.1f} s")
