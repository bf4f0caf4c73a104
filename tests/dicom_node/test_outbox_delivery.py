"""Delivery to a real PACS, from READY to VERIFIED, and what gets in its way."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset

from dicom_node.clock import system_clock
from dicom_node.database import commitment, reading, writing
from dicom_node.jobs.states import RevisionEvent
from dicom_node.network.scp import listening
from dicom_node.network.scu import part10, read_part10, store_session
from tests.builders.dicom_files import ct_series, data_set
from tests.builders.orthanc import Orthanc, free_port
from tests.builders.outboxes import OURS, SERIES, STUDY, Delivery, orthanc_peer
from tests.builders.waiting import until
from tests.conftest import DrivenClock

QUICK = {"backoff_s": [2, 10, 60], "commitment_timeout_s": 30}


@contextmanager
def pacs_and_node(
    program: str, folder: Path, clock: Any = system_clock, peer: dict[str, Any] | None = None, **orthanc: Any
) -> Iterator[tuple[Orthanc, Delivery]]:
    """Run an Orthanc, and a node's listener for its commitment answers."""
    port = free_port()
    with Orthanc(program, {OURS: ("127.0.0.1", port)}, **orthanc) as pacs:
        peers = [{**orthanc_peer(pacs), **(peer or {})}]
        delivery = Delivery(folder / "node", clock, peers, port=port, outbox_settings=QUICK)
        with listening(delivery.settings):
            yield pacs, delivery


def data_set_at(pacs: Orthanc, uid: str) -> memoryview:
    """The data set that the PACS has under a UID, as encoded."""
    return part10(pacs.file(f"/instances/{pacs.instances(STUDY)[uid]}/file")).data_set


@pytest.mark.parametrize("way", ["WADO-RS", "C-GET"])
def test_all_is_committed_and_read_back(tmp_path: Path, needs_judge, way: str) -> None:
    peer = {} if way == "WADO-RS" else {"dicomweb_url": None}
    with pacs_and_node(needs_judge("Orthanc"), tmp_path, peer=peer) as (pacs, delivery):
        slices = delivery.add_slices(12)
        delivery.until_counts(VERIFIED=12)
        delivery.outbox.step()
        assert delivery.states() == ["DELIVERED"]
        for row in delivery.objects():
            assert delivery.events(row.sop_instance_uid) == [
                "stored by peer",
                "committed by peer",
                "read back equal",
            ]
            ours = read_part10(delivery.data_dir / row.path)
            assert data_set_at(pacs, row.sop_instance_uid) == ours.data_set
        assert set(pacs.instances(STUDY)) == {str(ds.SOPInstanceUID) for ds in slices}


def test_what_is_delivered_is_left_alone(tmp_path: Path, needs_judge) -> None:
    with pacs_and_node(needs_judge("Orthanc"), tmp_path) as (_, delivery):
        delivery.add_slices(3)
        delivery.until_counts(VERIFIED=3)
        delivery.outbox.deliver_once()
        delivery.restart()
        assert not delivery.outbox.deliver_once()
        assert set(delivery.sent_uids().values()) == {1}


def test_a_pacs_that_is_away_is_tried_again_after_each_wait(
    tmp_path: Path, needs_judge, clock: DrivenClock
) -> None:
    port = free_port()
    pacs = Orthanc(needs_judge("Orthanc"), {OURS: ("127.0.0.1", port)})
    delivery = Delivery(tmp_path / "node", clock, [orthanc_peer(pacs)], port=port, outbox_settings=QUICK)
    delivery.add_slices(3)
    with listening(delivery.settings, clock):
        delivery.outbox.deliver_once()
        assert delivery.counts() == {"READY": 3}
        assert "cannot be reached" in delivery.objects()[0].detail
        with pacs:
            delivery.outbox.deliver_once()
            assert delivery.counts() == {"READY": 3}  # 2 s have not passed
            clock.advance(2.1)
            delivery.until_counts(VERIFIED=3)


def test_a_pacs_that_restarts_in_between_gets_everything_once(tmp_path: Path, needs_judge) -> None:
    with pacs_and_node(needs_judge("Orthanc"), tmp_path) as (pacs, delivery):
        delivery.add_slices(120)
        courier = delivery.outbox.couriers[0]
        thread = threading.Thread(target=courier.step)
        thread.start()
        until(lambda: pacs.instances(STUDY), every_s=0.005)
        assert pacs.process is not None
        pacs.process.kill()
        pacs.process.wait()
        thread.join()
        pacs.start()
        delivery.until_counts(VERIFIED=120)
        assert len(pacs.instances(STUDY)) == 120


def test_a_rejection_for_good_fails_the_revision_until_a_person_retries(tmp_path: Path, needs_judge) -> None:
    options = {"DicomCheckCalledAet": True, "DicomAet": "OTHER"}
    with pacs_and_node(needs_judge("Orthanc"), tmp_path, options=options) as (pacs, delivery):
        delivery.add_slices(2)
        delivery.until_counts(REJECTED=2)
        delivery.outbox.step()
        (row,) = delivery.ledger.revisions()
        assert row.state == "FAILED"
        assert "correct the peer's ae_title" in row.reason
        assert not delivery.outbox.deliver_once()
        pacs.stop()
        pacs.options = {}
        pacs.start()
        delivery.ledger.retry(row.id)
        delivery.until_counts(VERIFIED=2)
        delivery.outbox.step()
        assert delivery.states() == ["DELIVERED"]


ONLY_SC = """
[[TransferSyntaxes]]
[Plain]
TransferSyntax1 = LocalEndianExplicit
[[PresentationContexts]]
[OnlySC]
PresentationContext1 = SecondaryCaptureImageStorage\\Plain
[[Profiles]]
[Default]
PresentationContexts = OnlySC
"""


def secondary_capture() -> Dataset:
    ds = ct_series(1, STUDY, SERIES, rows=16)[0]
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{STUDY}.7.1"
    ds.SeriesInstanceUID = f"{STUDY}.7"
    ds.Modality = "OT"
    return ds


def test_one_refused_kind_does_not_stop_the_others(tmp_path: Path, needs_judge) -> None:
    """DCMTK's storescp, told to accept secondary captures alone."""
    port, inbox = free_port(), tmp_path / "inbox"
    inbox.mkdir()
    rules = tmp_path / "storescp.cfg"
    rules.write_text(ONLY_SC)
    command = [needs_judge("storescp"), "-od", str(inbox), "-xf", str(rules), "Default", str(port)]
    peer = {"name": "pacs", "ae_title": "DCMTK", "host": "127.0.0.1", "port": port}
    delivery = Delivery(
        tmp_path / "node",
        system_clock,
        [{**peer, "storage_commitment": False}],
        outbox_settings={"read_back": False},
    )
    delivery.add([*ct_series(2, STUDY, SERIES, rows=16), secondary_capture()])
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: _listens(port))
            delivery.until_counts(VERIFIED=1, REJECTED=2)
        finally:
            process.terminate()
    delivery.outbox.step()
    (row,) = delivery.ledger.revisions()
    assert row.state == "FAILED"
    assert "2 objects" in row.reason
    assert "does not accept CT Image Storage" in row.reason
    assert len(list(inbox.iterdir())) == 1


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_what_the_pacs_lost_after_commitment_is_sent_again(
    tmp_path: Path, needs_judge, clock: DrivenClock
) -> None:
    away = f"http://127.0.0.1:{free_port()}/dicom-web"
    with pacs_and_node(needs_judge("Orthanc"), tmp_path, clock, {"dicomweb_url": away}) as (pacs, delivery):
        slices = delivery.add_slices(4)
        delivery.until_counts(COMMITTED=4)
        lost = str(slices[1].SOPInstanceUID)
        pacs.delete(f"/instances/{pacs.instances(STUDY)[lost]}")
        again = Delivery(delivery.data_dir, clock, [orthanc_peer(pacs)], delivery.port, QUICK)
        again.outbox.deliver_once()
        assert again.counts() == {"VERIFIED": 3, "READY": 1}
        clock.advance(2.1)
        again.until_counts(VERIFIED=4)
        assert again.events(lost).count("stored by peer") == 2
        assert "absent at read-back" in again.events(lost)
        assert set(pacs.instances(STUDY)) == {str(ds.SOPInstanceUID) for ds in slices}


def test_what_a_pacs_takes_and_never_commits_is_a_failure_in_the_end(
    tmp_path: Path, needs_judge, clock: DrivenClock
) -> None:
    """Orthanc lost the file, still knows the UID, and so takes it again without keeping it."""
    uncached = {"MaximumStorageCacheSize": 0}  # or its commitment and its answers come from memory
    with pacs_and_node(needs_judge("Orthanc"), tmp_path, clock, options=uncached) as (pacs, delivery):
        delivery.add_slices(1)
        delivery.outbox.couriers[0]._send()
        for path in (pacs.folder / "storage").glob("??/??/*"):
            path.unlink()

        def ended() -> bool:
            delivery.outbox.deliver_once()
            clock.advance(20)
            return delivery.counts() == {"REJECTED": 1}

        until(ended, within_s=40)
        delivery.outbox.step()
        assert "not committed by the peer (reason 0x0112), 5 times" in delivery.ledger.revisions()[0].reason


def test_another_object_under_our_uid_is_a_failure(tmp_path: Path, needs_judge) -> None:
    with pacs_and_node(needs_judge("Orthanc"), tmp_path) as (_, delivery):
        slices = ct_series(2, STUDY, SERIES, rows=16)
        foreign = tmp_path / "foreign.dcm"
        other = ct_series(1, STUDY, SERIES, rows=16)[0]
        other.PixelData = bytes(len(other.PixelData))
        other.save_as(foreign, enforce_file_format=True)
        file = read_part10(foreign)
        kinds = [(file.sop_class_uid, file.transfer_syntax_uid)]
        with store_session(delivery.settings.peers[0], OURS, kinds) as session:
            session.store(file)
        delivery.add(slices)
        delivery.until_counts(VERIFIED=1, REJECTED=1)
        delivery.outbox.step()
        assert "another PixelData" in delivery.ledger.revisions()[0].reason


def test_a_peer_without_commitment_is_read_back(tmp_path: Path, needs_judge) -> None:
    peer = {"storage_commitment": False}
    with pacs_and_node(needs_judge("Orthanc"), tmp_path, peer=peer) as (_, delivery):
        delivery.add_slices(2)
        delivery.until_counts(VERIFIED=2)
        assert "no storage commitment" in delivery.objects()[0].detail


def test_a_lost_commitment_answer_is_asked_for_again(tmp_path: Path, needs_judge, clock: DrivenClock) -> None:
    """Nobody listens for the first answer."""
    port = free_port()
    with Orthanc(needs_judge("Orthanc"), {OURS: ("127.0.0.1", port)}) as pacs:
        peer = orthanc_peer(pacs, dimse_timeout_s=1)
        delivery = Delivery(tmp_path / "node", clock, [peer], port, QUICK)
        delivery.add_slices(2)
        delivery.outbox.deliver_once()
        clock.advance(10)
        assert not delivery.outbox.deliver_once()
        assert delivery.counts() == {"SENT": 2}
        with listening(delivery.settings, clock):
            clock.advance(21)
            delivery.until_counts(VERIFIED=2)
        with reading(delivery.database) as connection:
            assert len(connection.execute(sa.select(commitment)).all()) == 2


def test_a_dead_peer_holds_up_nobody(tmp_path: Path, needs_judge) -> None:
    """One peer takes connections and never answers, another one is well."""
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        Orthanc(needs_judge("Orthanc"), {OURS: ("127.0.0.1", port)}) as pacs,
    ):
        dead = {
            "name": "dead",
            "ae_title": "DEAD",
            "host": "127.0.0.1",
            "port": mute.getsockname()[1],
            "association_timeout_s": 30,
        }
        delivery = Delivery(tmp_path / "node", system_clock, [dead, orthanc_peer(pacs)], port, QUICK)
        delivery.add_slices(4, peers=("dead", "pacs"))
        stop = threading.Event()
        with listening(delivery.settings):
            thread = threading.Thread(target=delivery.outbox.run, args=(stop,))
            thread.start()
            started = time.monotonic()
            try:
                until(lambda: delivery.counts() == {"VERIFIED": 4}, 20)
                assert time.monotonic() - started < 15
                assert delivery.counts("dead") == {"READY": 4}
                assert delivery.states() == ["DELIVERING"]
            finally:
                stop.set()
                mute.close()
                thread.join(40)


def test_what_a_superseded_revision_still_had_to_send_is_withdrawn(
    tmp_path: Path, needs_judge, clock: DrivenClock
) -> None:
    away = f"http://127.0.0.1:{free_port()}/dicom-web"
    with pacs_and_node(needs_judge("Orthanc"), tmp_path, clock, {"dicomweb_url": away}) as (pacs, delivery):
        slices = delivery.add_slices(2)
        delivery.until_counts(COMMITTED=2)
        with writing(delivery.database) as connection:
            delivery.ledger.supersede(connection, 1)
        pacs.delete(f"/instances/{pacs.instances(STUDY)[str(slices[0].SOPInstanceUID)]}")
        again = Delivery(delivery.data_dir, clock, [orthanc_peer(pacs)], delivery.port, QUICK)
        again.until_counts(VERIFIED=1, WITHDRAWN=1)
        assert again.states() == ["SUPERSEDED"]


def test_a_lost_file_is_a_failure_of_its_object_alone(tmp_path: Path, needs_judge) -> None:
    with pacs_and_node(needs_judge("Orthanc"), tmp_path) as (_, delivery):
        delivery.add_slices(3)
        (delivery.data_dir / delivery.objects()[1].path).unlink()
        delivery.until_counts(VERIFIED=2, REJECTED=1)
        assert "cannot be read" in delivery.objects()[1].detail


def test_a_file_that_changed_on_the_disk_is_not_sent(tmp_path: Path, needs_judge) -> None:
    with pacs_and_node(needs_judge("Orthanc"), tmp_path) as (pacs, delivery):
        slices = delivery.add_slices(3)
        damaged = delivery.data_dir / delivery.objects()[1].path
        content = bytearray(damaged.read_bytes())
        content[-10] ^= 1
        damaged.write_bytes(content)
        delivery.until_counts(VERIFIED=2, REJECTED=1)
        assert "was damaged on the disk of this node" in delivery.objects()[1].detail
        assert str(slices[1].SOPInstanceUID) not in pacs.instances(STUDY)


class TestRemoval:
    def test_verified_files_go_after_their_time(
        self, tmp_path: Path, needs_judge, clock: DrivenClock
    ) -> None:
        with pacs_and_node(needs_judge("Orthanc"), tmp_path, clock) as (_, delivery):
            delivery.add_slices(2)
            delivery.until_counts(VERIFIED=2)
            delivery.outbox.step()
        clock.advance(6.9 * 86400)
        assert delivery.outbox.remove_delivered() == 0
        clock.advance(0.2 * 86400)
        assert delivery.outbox.remove_delivered() == 1
        assert not list((delivery.data_dir / "results").rglob("*.dcm"))
        assert delivery.outbox.remove_delivered() == 0

    @pytest.mark.parametrize("lacking", ["commitment", "read-back"])
    def test_files_without_both_proofs_stay(
        self, tmp_path: Path, needs_judge, clock: DrivenClock, lacking: str
    ) -> None:
        peer = {"storage_commitment": lacking != "commitment"}
        with pacs_and_node(needs_judge("Orthanc"), tmp_path, clock, peer) as (pacs, delivery):
            if lacking == "read-back":
                off = {**QUICK, "read_back": False}
                delivery = Delivery(delivery.data_dir, clock, [orthanc_peer(pacs)], delivery.port, off)
            delivery.add_slices(2)
            delivery.until_counts(VERIFIED=2)
            delivery.outbox.step()
            assert delivery.states() == ["DELIVERED"]
        clock.advance(100 * 86400)
        assert delivery.outbox.remove_delivered() == 0
        assert len(list((delivery.data_dir / "results").rglob("*.dcm"))) == 2


def test_a_revision_that_was_superseded_while_it_ends_is_left_so(tmp_path: Path, clock: DrivenClock) -> None:
    delivery = Delivery(tmp_path / "node", clock, [])
    delivery.add([data_set(ct_series(1)[0].SOPClassUID, STUDY, SERIES, 1)], peers=())
    delivery.ledger.change(1, RevisionEvent.INPUT_CHANGED)
    assert not delivery.outbox._begin(1)
    assert delivery.states() == ["SUPERSEDED"]
