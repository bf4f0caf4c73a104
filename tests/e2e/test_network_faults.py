"""Faults of the network and of peers: what was acknowledged is kept, what was not is sent again, once."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from sqlalchemy import select

from dicom_node.clock import system_clock
from dicom_node.database import instance, open_database, reading
from dicom_node.network.scp import listening
from tests.builders.dicom_files import CT, Called, ct_series, ct_slice, send
from tests.builders.listeners import listener_settings
from tests.builders.network_namespaces import OURS as OUR_ADDRESS
from tests.builders.network_namespaces import THEIRS as THEIR_ADDRESS
from tests.builders.network_namespaces import second_machine
from tests.builders.orthanc import Orthanc, free_port
from tests.builders.outboxes import OURS, Delivery, orthanc_peer
from tests.builders.raw_peers import associate_rq, connected, pdu, read_one_pdu, status_of, store_pdus
from tests.builders.waiting import until
from tests.conftest import DrivenClock

pytestmark = pytest.mark.e2e


def kept(data_dir: Path) -> set[str]:
    """Return the SOP Instance UIDs of all rows, each with its file."""
    engine = open_database(data_dir)
    with reading(engine) as connection:
        rows = connection.execute(select(instance)).all()
    engine.dispose()
    for row in rows:
        assert str(dcmread(data_dir / row.path).SOPInstanceUID) == row.sop_instance_uid
    return {row.sop_instance_uid for row in rows}


def _abort(connection: socket.socket) -> None:
    connection.sendall(pdu(7, bytes([0, 0, 0, 0])))
    connection.close()


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _close(connection: socket.socket) -> None:
    connection.close()


@pytest.mark.parametrize("end", [_abort, _reset, _close], ids=["abort", "reset", "close"])
@pytest.mark.parametrize("at", [0, 5, 6, 200, 20_000], ids=lambda n: f"after {n} bytes")
def test_an_association_that_ends_inside_an_object(tmp_path: Path, end, at: int) -> None:
    """The acknowledged object is there, nothing of the other one is, and the next sender is served."""
    first, second = ct_slice(number=1), ct_slice(number=2, rows=128)
    assert at < len(store_pdus(second)) - 10_000
    with listening(listener_settings(tmp_path / "data")) as server:
        with connected(server.port) as connection:
            connection.sendall(associate_rq())
            read_one_pdu(connection)
            connection.sendall(store_pdus(first))
            assert status_of(read_one_pdu(connection)[1]) == 0
            connection.sendall(store_pdus(second)[:at])
            end(connection)
            until(lambda: not server.connections.count())
        assert server.budget.held_bytes == 0
        assert kept(tmp_path / "data") == {str(first.SOPInstanceUID)}
        assert send([second], Called(server.port)) == [0]
    assert kept(tmp_path / "data") == {str(first.SOPInstanceUID), str(second.SOPInstanceUID)}
    assert not list((tmp_path / "data" / "spool" / "incoming").iterdir())


def test_an_answer_that_nobody_waits_for_is_still_kept(tmp_path: Path) -> None:
    """The whole object came, its sender is gone before the answer: it is kept, and a repeat is success."""
    ds = ct_slice()
    with listening(listener_settings(tmp_path / "data")) as server:
        with connected(server.port) as connection:
            connection.sendall(associate_rq())
            read_one_pdu(connection)
            connection.sendall(store_pdus(ds))
        until(lambda: kept(tmp_path / "data"))
        with connected(server.port) as connection:
            connection.sendall(associate_rq())
            read_one_pdu(connection)
            connection.sendall(store_pdus(ds))
            assert status_of(read_one_pdu(connection)[1]) == 0
    assert kept(tmp_path / "data") == {str(ds.SOPInstanceUID)}


def test_a_network_that_is_cut_while_a_study_arrives(tmp_path: Path, needs_judge) -> None:
    """No packet arrives and nobody is told: the place is given back, and all is there after a repeat."""
    storescu = needs_judge("storescu")
    files = tmp_path / "files"
    files.mkdir()
    for ds in ct_series(60, rows=256):
        ds.save_as(files / f"{ds.InstanceNumber}.dcm", enforce_file_format=True)
    settings = listener_settings(
        tmp_path / "data", host="0.0.0.0", pdu_deadline_s=2.0, idle_deadline_s=2.0, association_deadline_s=2.0
    )
    command = [storescu, "-v", "-to", "5", "-td", "5", "-aet", "STORESCU", "-aec", "HEPATOCAST", "+sd"]
    with second_machine() as cable, listening(settings) as server:
        sending = cable.over_there([*command, OUR_ADDRESS, str(server.port), str(files)])
        with subprocess.Popen(
            sending, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "TCP_NODELAY": "1"},
        ) as sender:  # fmt: skip
            until(lambda: len(kept(tmp_path / "data")) >= 5)
            cable.cut()
            before = kept(tmp_path / "data")
            assert sender.stdout is not None
            told = sender.stdout.read().count("Received Store Response (Success)")
        assert told <= len(kept(tmp_path / "data")) < 60
        assert before <= kept(tmp_path / "data")
        until(lambda: not server.connections.count())
        assert server.budget.held_bytes == 0
        cable.mend()
        # The machines may need a moment to find each other again; a sender tries again too.
        until(
            lambda: subprocess.run(sending, capture_output=True, timeout=300).returncode == 0, within_s=60.0
        )
    assert len(kept(tmp_path / "data")) == 60


def test_a_network_that_is_cut_while_results_are_sent(tmp_path: Path, needs_judge) -> None:
    """What was sent has an unknown end; it is sent again under the same UIDs and is there once."""
    program = needs_judge("Orthanc")
    port = free_port()
    with second_machine() as cable:
        pacs = Orthanc(program, {OURS: (OUR_ADDRESS, port)}, options={"RemoteAccessAllowed": True})
        with orthanc_there(pacs, cable):
            where = {"host": THEIR_ADDRESS, "dicomweb_url": None, "dimse_timeout_s": 2.0}
            peer = {**orthanc_peer(pacs), **where, "association_timeout_s": 2.0}
            quick = {"backoff_s": [0.5], "commitment_timeout_s": 5.0}
            delivery = Delivery(tmp_path / "data", system_clock, [peer], port, quick)
            delivery.add_slices(80, rows=256)
            settings = delivery.settings.model_copy(
                update={"listener": delivery.settings.listener.model_copy(update={"host": "0.0.0.0"})}
            )
            with listening(settings):
                step = threading.Thread(target=delivery.outbox.deliver_once)
                step.start()
                until(lambda: delivery.counts().get("SENT", 0) > 0 or not step.is_alive())
                cable.cut()
                step.join(60)
                assert not step.is_alive()
                assert delivery.counts().get("REJECTED", 0) == 0
                cable.mend()
                delivery.until_counts(within_s=120, VERIFIED=80)


@contextmanager
def orthanc_there(pacs: Orthanc, cable) -> Iterator[None]:
    """Run an Orthanc on the other machine."""
    pacs.folder.mkdir(parents=True, exist_ok=True)
    configuration = pacs.folder / "orthanc.json"
    configuration.write_text(json.dumps(pacs._configuration()), encoding="utf-8")
    with (
        pacs.log.open("ab") as log,
        subprocess.Popen(
            cable.over_there([pacs.program, str(configuration)]), stdout=log, stderr=log, cwd=pacs.folder
        ) as process,
    ):
        try:
            until(lambda: _answers(THEIR_ADDRESS, pacs.dicom_port), within_s=60)
            yield
        finally:
            process.kill()


def _answers(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, port)) == 0


# --- peers that are slow or away ----------------------------------------------------------------


class SlowPacs:
    """A PACS that takes each object and answers when a test lets it."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.answer = threading.Event()
        ae = AE(ae_title="PACS")
        ae.add_supported_context(CT, [ExplicitVRLittleEndian])
        self.server = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        self.port = int(self.server.server_address[1])

    def _store(self, event) -> int:
        self.got.append(str(event.request.AffectedSOPInstanceUID))
        self.answer.wait(60)
        return 0x0000

    def __enter__(self) -> SlowPacs:
        return self

    def __exit__(self, *_: object) -> None:
        self.answer.set()
        self.server.shutdown()


def test_a_pacs_that_answers_slowly_is_asked_again_and_gets_the_same(tmp_path: Path) -> None:
    """An answer after the timeout is unknown, never a failure; the same UIDs go again until it comes."""
    with SlowPacs() as pacs:
        peer = {
            "name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": pacs.port,
            "storage_commitment": False, "dimse_timeout_s": 0.5,
        }  # fmt: skip
        outbox = {"backoff_s": [0.1], "read_back": False}
        delivery = Delivery(tmp_path / "data", system_clock, [peer], outbox_settings=outbox)
        (ds,) = delivery.add_slices(1)
        until(lambda: (delivery.outbox.deliver_once(), len(pacs.got) >= 2)[1])
        assert delivery.counts() == {"READY": 1}
        pacs.answer.set()
        until(lambda: (delivery.outbox.deliver_once(), delivery.counts() != {"READY": 1})[1])
        assert "REJECTED" not in delivery.counts()
        assert set(pacs.got) == {str(ds.SOPInstanceUID)}


def test_a_pacs_that_is_down_for_hours(tmp_path: Path, needs_judge) -> None:
    """Tried again at growing waits, not faster; nothing is given up; all is there when it is back."""
    clock = DrivenClock()
    port = free_port()
    pacs = Orthanc(needs_judge("Orthanc"), {OURS: ("127.0.0.1", port)})
    waits = [2.0, 10.0, 60.0, 300.0, 900.0]
    peer = orthanc_peer(pacs, dicomweb_url=None)
    delivery = Delivery(tmp_path / "data", clock, [peer], port, {"backoff_s": waits})
    delivery.add_slices(5)
    tried: list[float] = []
    with counted_connections(pacs.dicom_port, tried, clock):
        for _ in range(8 * 60):  # eight hours, a look at each minute
            delivery.outbox.deliver_once()
            clock.advance(60.0)
    assert delivery.counts() == {"READY": 5}
    assert 8 * 3600 / 900 <= len(tried) <= 8 * 3600 / 900 + len(waits) + 1
    assert delivery.states() == ["DONE"] or "DELIVERING" in delivery.states()
    with pacs, listening(delivery.settings, clock):
        clock.advance(901.0)
        delivery.until_counts(within_s=60, VERIFIED=5)


@contextmanager
def counted_connections(port: int, tried: list[float], clock: DrivenClock) -> Iterator[None]:
    """Hang up on whoever connects to a port, and note when."""
    with socket.create_server(("127.0.0.1", port)) as server:
        stop = threading.Event()
        server.settimeout(0.05)

        def hang_up() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = server.accept()
                    tried.append(clock())
                    connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
