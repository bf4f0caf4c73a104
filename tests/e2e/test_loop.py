"""The whole loop: dcmsend -> Orthanc -> node -> Orthanc, on a real portal-venous CT."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset

from dicom_node.database import instance, open_database, reading, result_object
from dicom_node.demo.orthanc_peer import free_port
from inference.provenance import MANUFACTURER
from tests.builders.judges import dcentvfy, dciodvfy, dsrdump, sr_validator
from tests.builders.orthanc import Orthanc
from tests.builders.serving import ServingNode, serving
from tests.builders.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

REGIMENS = ("tace", "haic", "tace_systemic")
MONTHS = (1.0, 3.0, 6.0)
BAR_S = 90.0
"""For a whole study on two idle cores."""
CLINICAL = {"age": {"value": 61, "unit": "years"}, "child_pugh_class": "A", "portal_vein_thrombosis": "no"}


@dataclass(frozen=True)
class Loop:
    """One loop that has come to its end."""

    orthanc: Orthanc
    node: ServingNode
    study_uid: str
    source: Path
    seconds: float

    def returned(self) -> dict[str, Dataset]:
        """Objects of the node that Orthanc has, by SOP Instance UID."""
        found = {}
        for uid, identifier in self.orthanc.instances(self.study_uid).items():
            ds = pydicom.dcmread(BytesIO(self.orthanc.file(f"/instances/{identifier}/file")))
            if ds.get("Manufacturer") == MANUFACTURER:
                found[uid] = ds
        return found


def _send(dcmsend: str, orthanc: Orthanc, folder: Path) -> None:
    command = [dcmsend, "127.0.0.1", str(orthanc.dicom_port), "-aec", orthanc.ae_title, "+sd", "+r"]
    environment = {**os.environ, "TCP_NODELAY": "1"}
    subprocess.run([*command, str(folder)], check=True, env=environment, capture_output=True)


@pytest.fixture(scope="module")
def ircad(real_data: Path) -> Path:
    folder = real_data / "ircad17"
    if not folder.exists():
        pytest.skip("real data not found: ircad17")
    return folder


@pytest.fixture(scope="module")
def loop(ircad: Path, needs_judge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    dcmsend, program = needs_judge("dcmsend"), needs_judge("Orthanc")
    folder = tmp_path_factory.mktemp("loop")
    study_uid = str(pydicom.dcmread(ircad / "seg.dcm", stop_before_pixels=True).StudyInstanceUID)
    clinical = folder / "clinical.json"
    clinical.write_text(json.dumps([{"study_instance_uid": study_uid, **CLINICAL}]))
    source = folder / "send"
    (source / "ct").mkdir(parents=True)
    for path in (*(ircad / "ct").iterdir(), ircad / "seg.dcm"):
        (source / path.relative_to(ircad)).symlink_to(path)
    port = free_port()
    nodes = {"HEPATOCAST": ("127.0.0.1", port)}
    with Orthanc(program, nodes, route_to="HEPATOCAST", route_modalities=("CT", "SEG")) as orthanc:
        peer = {
            "name": "pacs",
            "ae_title": orthanc.ae_title,
            "host": "127.0.0.1",
            "port": orthanc.dicom_port,
            "dicomweb_url": orthanc.dicomweb_url,
        }
        rule = {"name": "all", "when": "true", "regimens": list(REGIMENS), "months": list(MONTHS)}
        with serving(
            folder,
            port,
            peers=[peer],
            rules=[rule],
            best_response=False,
            clinical_file=str(clinical),
            assembly={"series_quiet_period_s": 5, "study_quiet_period_s": 5},
        ) as node:
            _send(dcmsend, orthanc, source)
            node.until_state("DELIVERED", within_s=300)
            delivered = time.time()
            yield Loop(orthanc, node, study_uid, source, delivered - _last_input_at(node))


def _last_input_at(node: ServingNode) -> float:
    query = sa.select(sa.func.max(instance.c.received_at)).where(instance.c.made_here.is_(False))
    with reading(open_database(node.settings.data_dir)) as connection:
        return float(connection.execute(query).scalar_one())


@pytest.mark.benchmark
def test_the_loop_is_over_in_time(loop: Loop, record_property) -> None:
    """The clock runs from the last instance that the node received, quiet period included."""
    record_property("seconds", round(loop.seconds, 1))
    print(f"\nthe loop took {loop.seconds:.1f} s")  # noqa: T201 - the bar's figure
    assert loop.seconds <= BAR_S


def test_everything_is_back_committed_and_read_back(loop: Loop) -> None:
    with reading(open_database(loop.node.settings.data_dir)) as connection:
        rows = connection.execute(sa.select(result_object)).all()
    assert {row.state for row in rows} == {"VERIFIED"}
    assert set(loop.returned()) == {row.sop_instance_uid for row in rows}
    kinds = {row.kind for row in rows}
    assert kinds == {"virtual_series", "segmentation", "axes", "report", "charts", "pdf"}
    assert sum(row.kind == "virtual_series" for row in rows) == 119 * len(REGIMENS) * len(MONTHS)


def test_the_results_joined_the_study_and_carry_their_labels(loop: Loop) -> None:
    for ds in loop.returned().values():
        assert ds.StudyInstanceUID == loop.study_uid
        baseline_seg = ds.Modality == "SEG" and "SyntheticData" not in ds
        assert baseline_seg or ds.SyntheticData == "YES"


def test_stored_values_outside_liver_and_marker_are_the_baseline_s(loop: Loop) -> None:
    seg = pydicom.dcmread(loop.source / "seg.dcm")
    row0, col0, row1, col1 = json.loads(_result(loop).read_text())["study"]["marker_box"]
    liver: dict[float, np.ndarray] = {}
    for frame, groups in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        z = round(float(groups.PlanePositionSequence[0].ImagePositionPatient[2]), 3)
        liver[z] = liver.get(z, np.zeros(frame.shape, bool)) | (frame > 0)
    baseline = {}
    for path in (loop.source / "ct").iterdir():
        ds = pydicom.dcmread(path)
        baseline[str(ds.SOPInstanceUID)] = ds
    checked = 0
    for ds in loop.returned().values():
        if ds.Modality != "CT":
            continue
        source = baseline[str(ds.SourceImageSequence[0].ReferencedSOPInstanceUID)]
        changed = ds.pixel_array != source.pixel_array
        changed[row0:row1, col0:col1] = False
        z = round(float(source.ImagePositionPatient[2]), 3)
        assert not (changed & ~liver.get(z, np.zeros_like(changed))).any()
        assert (source.pixel_array[row0:row1, col0:col1] < -300).all()
        checked += 1
    assert checked == 119 * len(REGIMENS) * len(MONTHS)


def _result(loop: Loop) -> Path:
    (path,) = (loop.node.settings.data_dir / "results").rglob("result.json")
    return path


def test_every_object_is_clean_under_the_judges(loop: Loop, tmp_path: Path, needs_judge) -> None:
    paths = []
    for uid, ds in loop.returned().items():
        paths.append(tmp_path / f"{uid}.dcm")
        ds.save_as(paths[-1])
    with ThreadPoolExecutor(2) as pool:
        complaints = [
            c for found in pool.map(partial(dciodvfy, needs_judge("dciodvfy")), paths) for c in found
        ]
    complaints += dcentvfy(needs_judge("dcentvfy"), paths)
    reports = [p for p in paths if pydicom.dcmread(p, stop_before_pixels=True).Modality == "SR"]
    assert len(reports) == 2
    for report in reports:
        complaints += sr_validator(needs_judge("DicomSRValidator"), report)
        complaints += dsrdump(needs_judge("dsrdump"), report)
    assert complaints == []


def test_run_on_the_same_files_gives_the_same_bytes(loop: Loop, tmp_path: Path) -> None:
    (row,) = loop.node.revisions()
    at = datetime.fromtimestamp(row.job_time, UTC).isoformat()
    command = [sys.executable, "-m", "dicom_node.cli.main", "run", str(loop.source), "--out", str(tmp_path)]
    arguments = ["--at", at, "--config", str(loop.node.config)]
    arguments += ["--clinical", str(loop.node.settings.clinical_file)]
    arguments += [a for r in REGIMENS for a in ("--regimen", r)]
    arguments += [a for m in MONTHS for a in ("--month", str(m))]
    subprocess.run([*command, *arguments], check=True, capture_output=True)
    stored = _result(loop).parent
    made = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*.dcm"))
    assert made == sorted(p.relative_to(stored) for p in stored.rglob("*.dcm"))
    assert all((tmp_path / p).read_bytes() == (stored / p).read_bytes() for p in made)


def test_sent_again_nothing_new_comes(loop: Loop, needs_judge) -> None:
    """The same files arrive again, are recognised, and neither job nor object is made."""
    before = set(loop.returned())
    log_before = loop.node.log.read_text(errors="replace").count("job")
    inputs = [i for uid, i in loop.orthanc.instances(loop.study_uid).items() if uid not in before]
    body = json.dumps({"Resources": inputs}).encode()
    request = urllib.request.Request(f"{loop.orthanc.url}/modalities/HEPATOCAST/store", body, method="POST")
    with urllib.request.urlopen(request, timeout=120) as answer:
        assert json.loads(answer.read())["FailedInstancesCount"] == 0
    _send(needs_judge("dcmsend"), loop.orthanc, loop.source)
    quiet = time.monotonic() + 8.0
    until(lambda: time.monotonic() > quiet, within_s=20, every_s=0.5)
    assert [(r.number, str(r.state)) for r in loop.node.revisions()] == [(1, "DELIVERED")]
    assert set(loop.returned()) == before
    assert loop.node.log.read_text(errors="replace").count("job") == log_before
