"""Each complaint of users of other DICOM nodes, by name, as a test of what must hold here instead."""

from __future__ import annotations

import gc
import shutil
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import JPEGExtended12Bit
from pynetdicom import AE
from pynetdicom.presentation import build_context
from sqlalchemy import select

from dicom_node.clock import system_clock
from dicom_node.database import instance, job, reading
from dicom_node.intake.assembly import PacsSeries
from dicom_node.intake.index import Outcome
from dicom_node.network.contexts import VERIFICATION, readable_transfer_syntaxes
from dicom_node.network.scp import listening
from dicom_node.settings import AssemblySettings
from inference.case import Phase
from inference.errors import PixelsUnreadable
from inference.imaging.pixels import stored_values
from inference.imaging.reading import read_case
from inference.stages.load import load
from inference.stages.selection import select as selected
from reporting.outputs import build
from reporting.segmentation import build as build_segmentations
from tests.builders.dicom_files import CT, Called, ct_series, ct_slice, send
from tests.builders.light_worker import FILES, JOBS
from tests.builders.listeners import listener_settings
from tests.builders.nodes import Node
from tests.builders.outboxes import Delivery
from tests.builders.raw_peers import associate_rq, c_store_rq, connected, p_data, read_one_pdu
from tests.builders.results import PHANTOM, context, results
from tests.builders.storing_peers import storing_peer
from tests.builders.studies import Phantom, SeriesSpec, image, uid, write, write_series
from tests.builders.waiting import until

STUDY, SERIES = "1.2.826.1", "1.2.826.1.1"
ROOT = Path(__file__).resolve().parents[2]


def step_after(node: Node, clock, seconds: float) -> None:
    clock.advance(seconds)
    node.assembler.step()


def test_a_study_fires_while_a_large_series_is_still_arriving(tmp_path: Path, clock) -> None:
    """However long it takes: no quiet period, no study."""
    node = Node(tmp_path, clock)  # 5 s of quiet for a series, 10 s for the study
    slices = ct_series(60, STUDY, SERIES, rows=8)
    for ds in slices:
        node.receive([ds])
        step_after(node, clock, 4.0)
        assert node.states() == ["RECEIVING"]
    step_after(node, clock, 11.0)
    assert node.states() == ["QUEUED"]
    assert len(node.ledger.inputs(STUDY)) == 60


@dataclass
class CountingPacs:
    """A PACS that knows how many instances there are, and has nothing to fetch yet."""

    has: dict[str, PacsSeries] = field(default_factory=dict)

    def series(self, study_instance_uid: str) -> Mapping[str, PacsSeries]:
        return self.has

    def fetch(self, study_instance_uid: str, series_instance_uid: str, have: frozenset[str]) -> int:
        return 1


def test_a_gap_between_images_longer_than_the_timeout(tmp_path: Path, clock) -> None:
    """Where the PACS can be asked the gap is waited out."""
    settings = AssemblySettings(
        series_quiet_period_s=5, study_quiet_period_s=10, maximum_wait_s=3600, confirm_with="pacs"
    )
    node = Node(tmp_path, clock, assembly=settings, pacs=CountingPacs({SERIES: PacsSeries("CT", 6)}))
    slices = ct_series(6, STUDY, SERIES, rows=8)
    node.receive(slices[:3])
    node.assembler.step()
    for _ in range(20):  # 5 minutes
        step_after(node, clock, 15.0)
        assert node.states() == ["RECEIVING"]
    node.receive(slices[3:])
    step_after(node, clock, 11.0)
    step_after(node, clock, 11.0)
    assert node.states() == ["QUEUED"]
    assert len(node.ledger.inputs(STUDY)) == 6


def test_a_gap_longer_than_the_timeout_where_no_pacs_can_be_asked(tmp_path: Path, clock) -> None:
    """What was made of the first part is superseded, and the whole study is forecast once."""
    node = Node(tmp_path, clock)
    slices = ct_series(6, STUDY, SERIES, rows=8)
    node.receive(slices[:3])
    node.assembler.step()
    step_after(node, clock, 60.0)
    assert node.states() == ["QUEUED"]
    node.receive(slices[3:])
    step_after(node, clock, 11.0)
    step_after(node, clock, 11.0)
    assert node.states() == ["SUPERSEDED", "QUEUED"]
    assert len(node.ledger.inputs(STUDY)) == 6


def test_one_failed_upload_kept_in_memory_for_ever(tmp_path: Path) -> None:
    """Uploads that break off, and uploads that are refused, leave nothing behind in memory."""
    megabyte = p_data(0, struct.pack("<HHL", 9, 0x10, 99_992) + bytes(99_992)) * 10
    with listening(listener_settings(tmp_path / "data")) as server:

        def broken_off() -> None:
            with connected(server.port) as connection:
                connection.sendall(associate_rq())
                read_one_pdu(connection)
                connection.sendall(c_store_rq(b"1.2.3") + megabyte)
                until(lambda: server.budget.held_bytes >= 1_000_000)
            until(lambda: not server.connections.count() and not server.budget.held_bytes)

        def refused() -> None:
            with connected(server.port) as connection:
                connection.sendall(associate_rq())
                read_one_pdu(connection)
                connection.sendall(c_store_rq(b"1.2.3") + megabyte + p_data(2, b""))
                read_one_pdu(connection)
            until(lambda: not server.connections.count())

        for upload in (broken_off, refused):
            assert _growth_mb(upload) < 3.0  # twelve of them are twelve megabytes


def _growth_mb(work: Callable[[], None]) -> float:
    work()
    tracemalloc.start()
    try:
        work()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(12):
            work()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / 1e6


def test_an_export_retried_for_ever_on_a_permanent_rejection(tmp_path: Path, clock) -> None:
    with storing_peer(0xC000) as (port, got):
        where = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port}
        delivery = Delivery(tmp_path / "data", clock, [{**where, "storage_commitment": False}])
        delivery.add_slices(2)
        delivery.until_counts(REJECTED=2)
        tried = len(got)
        for _ in range(10):
            clock.advance(86_400.0)
            delivery.outbox.step()
            delivery.outbox.deliver_once()
        assert delivery.counts() == {"REJECTED": 2}
        assert len(got) == tried == 2
    (row,) = delivery.ledger.revisions()
    assert row.state == "FAILED"
    assert "0xC000" in row.reason


def test_the_wrong_series_chosen(tmp_path: Path) -> None:
    """Not the first of the study, which is a scout, nor the reformatted one: the axial venous one."""
    phantom = Phantom(shape=(14, 32, 32), spacing_mm=(8.0, 10.0, 10.0))
    values = image(phantom, "portal_venous")
    described = {"a_first": "Scout", "b_second": "MPR coronal", "c_third": "Leber portalvenoes 5.0"}
    for number, (name, description) in enumerate(described.items(), 1):
        spec = SeriesSpec(name=name, description=description, number=number)
        write_series(tmp_path / name, spec, values, phantom.spacing_mm)
    selection = selected(read_case(tmp_path))
    assert [c.series.description for c in selection.chosen] == ["Leber portalvenoes 5.0"]
    assert selection.chosen[0].phase is Phase.PORTAL_VENOUS
    assert {r.description for r in selection.rejected} == {"Scout", "MPR coronal"}
    assert all(r.reason for r in selection.rejected)


def test_duplicate_slice_positions_crash_seg_writing(tmp_path: Path) -> None:
    """The same image twice is used once, and the segmentation has one frame for each position."""
    spec = SeriesSpec(phase="portal_venous", study="results")
    write_series(tmp_path, spec, image(PHANTOM, "portal_venous"), PHANTOM.spacing_mm)
    for path in sorted(tmp_path.iterdir())[4:8]:
        again = pydicom.dcmread(path)
        again.SOPInstanceUID = uid("again", path.name)
        write(again, tmp_path / f"again-{path.name}")
    baseline = load(selected(read_case(tmp_path)))
    assert baseline.primary.grid.shape == PHANTOM.shape
    assert any("twice" in warning for warning in baseline.warnings)
    forecast = results(phases=("portal_venous",))
    written = list(build_segmentations(replace(forecast, baseline=baseline), context()))
    assert written
    for seg in written:
        places = [
            (
                item.SegmentIdentificationSequence[0].ReferencedSegmentNumber,
                tuple(item.PlanePositionSequence[0].ImagePositionPatient),
            )
            for item in seg.PerFrameFunctionalGroupsSequence
        ]
        assert len(places) == len(set(places)) == int(seg.NumberOfFrames)


def test_the_same_sop_uid_in_two_series_overwrites(tmp_path: Path, clock) -> None:
    node = Node(tmp_path, clock)
    first, second = ct_slice(STUDY, SERIES, 1, rows=8), ct_slice(STUDY, f"{SERIES}.2", 2, rows=8)
    second.SOPInstanceUID = first.SOPInstanceUID
    assert node.receive([first, second]) == [Outcome.STORED, Outcome.CONFLICT]
    with reading(node.database) as connection:
        rows = connection.execute(select(instance)).all()
    kept = [pydicom.dcmread(tmp_path / row.path) for row in rows]
    assert {str(ds.SeriesInstanceUID) for ds in kept} == {SERIES, f"{SERIES}.2"}
    assert [np.array_equal(a.pixel_array, b.pixel_array) for a, b in zip(kept, (first, second), strict=True)]
    node.assembler.step()
    step_after(node, clock, 11.0)
    (row,) = node.revisions()
    assert row.state == "HELD"
    assert row.reason


@pytest.mark.e2e
def test_a_job_stranded_in_process_after_a_crash(tmp_path: Path) -> None:
    """kill -9 of a worker at its job: another one takes it over and ends it."""
    at_once = AssemblySettings(series_quiet_period_s=0, study_quiet_period_s=0)
    node = Node(tmp_path, system_clock, assembly=at_once, jobs=JOBS)
    node.receive([ct_slice(rows=8)])
    node.assembler.step()
    command = [sys.executable, "-m", "tests.builders.light_worker", str(tmp_path)]
    with subprocess.Popen([*command, "30"], cwd=ROOT, stderr=subprocess.DEVNULL) as crashed:
        until(lambda: node.states() == ["RUNNING"], within_s=60)
        crashed.kill()
    assert node.states() == ["RUNNING"]
    with subprocess.Popen([*command, "0"], cwd=ROOT, stderr=subprocess.DEVNULL) as successor:
        try:
            until(lambda: node.states() == ["DONE"], within_s=60)
        finally:
            successor.kill()
    assert node.ledger.object_counts(1) == {("pacs", "READY"): FILES}
    with reading(node.database) as connection:
        assert [row.attempts for row in connection.execute(job.select())] == [2]


def test_results_rejected_by_the_pacs_for_a_missing_currentrequestedprocedureevidencesequence() -> None:
    """Every structured report lists all that it refers to, by study, series and instance."""
    reports = [item.dataset for item in build(results(), context(), ("axes", "report"))]
    assert len(reports) >= 2
    for document in reports:
        evidence = {
            str(reference.ReferencedSOPInstanceUID)
            for study in document.CurrentRequestedProcedureEvidenceSequence
            for series in study.ReferencedSeriesSequence
            for reference in series.ReferencedSOPSequence
        }
        assert _referenced(document) <= evidence
        assert evidence


def _referenced(item: Dataset) -> set[str]:
    found = {str(r.ReferencedSOPInstanceUID) for r in item.get("ReferencedSOPSequence", ())}
    for child in item.get("ContentSequence", ()):
        found |= _referenced(child)
    return found


def test_12_bit_jpeg_extended_that_no_decoder_here_reads(tmp_path: Path, caplog) -> None:
    """Refused when the association is negotiated, so that the sender may send it otherwise; nothing lost."""
    caplog.set_level("INFO")
    assert JPEGExtended12Bit not in readable_transfer_syntaxes()
    with listening(listener_settings(tmp_path / "data")) as server:
        ae = AE(ae_title="SENDER")
        contexts = [build_context(CT, JPEGExtended12Bit), build_context("1.2.840.10008.5.1.4.1.1.7")]
        association = ae.associate(
            "127.0.0.1", server.port, contexts=[*contexts, build_context(VERIFICATION)], ae_title="HEPATOCAST"
        )
        assert [c.abstract_syntax for c in association.accepted_contexts] == [VERIFICATION]
        association.release()
        assert send([ct_slice()], Called(server.port)) == [0]
    assert "no decoder for the transfer syntax: CT Image Storage with JPEG Extended" in caplog.text
    assert "SOP class not supported: Secondary Capture Image Storage" in caplog.text


def test_12_bit_jpeg_extended_in_a_folder_is_a_clean_refusal(tmp_path: Path) -> None:
    """A file that came in another way is left where it is, with a reason."""
    source = Path(get_testdata_file("JPEG-lossy.dcm", download=False))
    assert pydicom.dcmread(source).file_meta.TransferSyntaxUID == JPEGExtended12Bit
    path = Path(shutil.copy(source, tmp_path))
    with pytest.raises(PixelsUnreadable, match="JPEG Extended"):
        stored_values(path)
    assert path.read_bytes() == source.read_bytes()
