"""Storage commitment, asked and answered, over the same association and over new ones."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance, Verification

from dicom_node.clock import system_clock
from dicom_node.database import inbound_commitment, instance, reading, writing
from dicom_node.errors import NodeError, PeerRejected, TransientError
from dicom_node.jobs.states import ObjectEvent
from dicom_node.network.commitment import request_commitment
from dicom_node.network.scp import listening
from dicom_node.settings import PeerSettings
from tests.builders.dicom_files import CT, Called, ct_series, send
from tests.builders.orthanc import Orthanc, free_port
from tests.builders.outboxes import OURS, Delivery, orthanc_peer
from tests.builders.waiting import until
from tests.conftest import DrivenClock

OBJECTS = [(str(CT), "1.2.3.1"), (str(CT), "1.2.3.2")]
Answer = Callable[[evt.Event], Any]


@contextmanager
def committing_peer(handle: Answer, offers_commitment: bool = True) -> Iterator[PeerSettings]:
    """Run a storage commitment SCP with this N-ACTION handler."""
    ae = AE(ae_title="PACS")
    ae.add_supported_context(Verification)
    if offers_commitment:
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_ACTION, handle)])
    try:
        port = server.server_address[1]
        yield PeerSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=port, dimse_timeout_s=3)
    finally:
        server.shutdown()


def report_of(event: evt.Event, failed: int = 0) -> tuple[Dataset, int]:
    """Return the event report on a request: the last `failed` references are not committed."""
    references = list(event.action_information.ReferencedSOPSequence)
    good, bad = references[: len(references) - failed], references[len(references) - failed :]
    report = Dataset()
    report.TransactionUID = event.action_information.TransactionUID
    report.ReferencedSOPSequence = good
    if bad:
        for item in bad:
            item.FailureReason = 0x0112
        report.FailedSOPSequence = bad
    return report, 2 if bad else 1


def test_answer_on_the_same_association() -> None:
    statuses: list[int] = []

    def handle(event: evt.Event) -> tuple[int, None]:
        report, kind = report_of(event, failed=1)

        def send_report() -> None:
            status, _ = event.assoc.send_n_event_report(
                report, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
            statuses.append(int(status.Status))

        thread = threading.Timer(0.1, send_report)
        thread.start()
        return 0x0000, None

    with committing_peer(handle) as peer:
        answer = request_commitment(peer, OURS, "2.25.1", OBJECTS)
        until(lambda: statuses)
    assert answer is not None
    assert answer.transaction_uid == "2.25.1"
    assert answer.committed == ("1.2.3.1",)
    assert answer.failed == {"1.2.3.2": 0x0112}
    assert statuses == [0x0000]


def test_an_answer_elsewhere_is_not_waited_for() -> None:
    looks: list[int] = []

    def is_answered() -> bool:
        looks.append(1)
        return len(looks) > 2

    with committing_peer(lambda _event: (0x0000, None)) as peer:
        assert request_commitment(peer, OURS, "2.25.1", OBJECTS, is_answered) is None
    assert len(looks) == 3


@pytest.mark.parametrize(
    ("status", "error"), [(0x0110, TransientError), (0x0213, TransientError), (0x0124, PeerRejected)]
)
def test_a_refused_request(status: int, error: type[NodeError]) -> None:
    with committing_peer(lambda _event: (status, None)) as peer, pytest.raises(error, match=f"{status:04X}"):
        request_commitment(peer, OURS, "2.25.1", OBJECTS)


def test_a_peer_without_commitment_says_so() -> None:
    with committing_peer(lambda _event: (0x0000, None), offers_commitment=False) as peer:
        with pytest.raises(PeerRejected, match="does not accept Storage Commitment"):
            request_commitment(peer, OURS, "2.25.1", OBJECTS)


def test_a_refused_request_fails_the_delivery_with_what_to_do(tmp_path: Path) -> None:
    with committing_peer(lambda _event: (0x0124, None)) as peer:
        delivery = Delivery(tmp_path / "node", system_clock, [peer.model_dump()])
        delivery.add_slices(1)
        delivery.ledger.change_objects([1], ObjectEvent.STORED_BY_PEER)
        delivery.outbox.deliver_once()
        assert delivery.counts() == {"REJECTED": 1}
        assert "set storage_commitment: false" in delivery.objects()[0].detail


# --- the node as SCP ----------------------------------------------------------------------------


@contextmanager
def asked_by_orthanc(program: str, folder: Path) -> Iterator[tuple[Orthanc, Delivery]]:
    """Run a node that holds three objects, and an Orthanc that has them too."""
    port = free_port()
    with Orthanc(program, {OURS: ("127.0.0.1", port)}) as orthanc:
        delivery = Delivery(folder / "node", system_clock, [orthanc_peer(orthanc)], port=port)
        with listening(delivery.settings):
            objects = ct_series(3, "1.2.9", "1.2.9.1", rows=16)
            assert send(objects, Called(orthanc.dicom_port, orthanc.ae_title, "SENDER")) == [0, 0, 0]
            assert send(objects, Called(port, OURS, orthanc.ae_title)) == [0, 0, 0]
            yield orthanc, delivery


def commit_report(orthanc: Orthanc, delivery: Delivery) -> dict[str, Any]:
    """Let Orthanc ask for commitment of all it has; returns its report once it was answered."""
    found = list(orthanc.instances("1.2.9").values())
    references = [
        [tags["SOPClassUID"], tags["SOPInstanceUID"]]
        for tags in (orthanc.get(f"/instances/{i}/simplified-tags") for i in found)
    ]
    body = json.dumps({"DicomInstances": references}).encode()
    url = f"{orthanc.url}/modalities/{OURS}/storage-commitment"
    with urllib.request.urlopen(urllib.request.Request(url, body, method="POST"), timeout=20) as answer:
        identifier = json.loads(answer.read())["ID"]

    def answered() -> dict[str, Any] | None:
        delivery.outbox.deliver_once()
        report = orthanc.get(f"/storage-commitment/{identifier}")
        return report if report["Status"] != "Pending" else None

    report = until(answered, 20)
    assert report is not None
    return report


def test_what_others_sent_is_committed_to_them(tmp_path: Path, needs_judge) -> None:
    with asked_by_orthanc(needs_judge("Orthanc"), tmp_path) as (orthanc, delivery):
        report = commit_report(orthanc, delivery)
        assert report["Status"] == "Success"
        assert len(report["Success"]) == 3


def test_a_lost_file_or_row_is_not_committed(tmp_path: Path, needs_judge) -> None:
    with asked_by_orthanc(needs_judge("Orthanc"), tmp_path) as (orthanc, delivery):
        with reading(delivery.database) as connection:
            first, second, third = connection.execute(sa.select(instance).order_by(instance.c.id)).all()
        (delivery.data_dir / first.path).unlink()
        with writing(delivery.database) as connection:
            connection.execute(sa.delete(instance).where(instance.c.id == second.id))
        report = commit_report(orthanc, delivery)
    assert report["Status"] == "Failure"
    assert [item["SOPInstanceUID"] for item in report["Success"]] == [third.sop_instance_uid]
    failures = {item["SOPInstanceUID"]: item["Description"] for item in report["Failures"]}
    assert set(failures) == {first.sop_instance_uid, second.sop_instance_uid}
    assert all("not available" in text for text in failures.values())  # Orthanc's words for 0x0112


def test_a_half_written_file_is_not_committed(tmp_path: Path, needs_judge) -> None:
    with asked_by_orthanc(needs_judge("Orthanc"), tmp_path) as (orthanc, delivery):
        with reading(delivery.database) as connection:
            first = connection.execute(sa.select(instance).order_by(instance.c.id)).first()
        assert first is not None
        path = delivery.data_dir / first.path
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:400])
        assert commit_report(orthanc, delivery)["Status"] == "Failure"


def test_an_answer_that_is_not_taken_is_given_again(tmp_path: Path, clock: DrivenClock) -> None:
    peer = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": free_port()}
    delivery = Delivery(tmp_path / "node", clock, [peer], outbox_settings={"backoff_s": [2, 10]})
    with writing(delivery.database) as connection:
        connection.execute(
            sa.insert(inbound_commitment).values(
                transaction_uid="2.25.1",
                calling_ae_title="PACS",
                requested_at=clock(),
                references_json=json.dumps([OBJECTS[0]]),
            )
        )
    for advance, attempts in ((0.0, 1), (1.0, 1), (1.1, 2), (9.0, 2), (1.1, 3)):
        clock.advance(advance)
        delivery.outbox.deliver_once()
        with reading(delivery.database) as connection:
            row = connection.execute(sa.select(inbound_commitment)).one()
        assert (row.attempts, row.answered) == (attempts, False)
