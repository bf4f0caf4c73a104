"""C-STORE as SCU: statuses, rejections, lost answers, bytes as they are."""

from __future__ import annotations

import hashlib
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt

from dicom_node.errors import (
    NodeError,
    PeerRejected,
    PermanentError,
    ProcessingFailed,
    StatusUnknown,
    TransientError,
)
from dicom_node.network.scu import Part10, echo, judge, read_part10, store_session
from dicom_node.settings import PeerSettings
from tests.builders.dicom_files import CT, MR, ct_series
from tests.builders.orthanc import Orthanc, free_port
from tests.builders.storing_peers import storing_peer

OURS = "HEPATOCAST"


def peer_at(port: int, ae_title: str = "PACS", **more: Any) -> PeerSettings:
    return PeerSettings(name="pacs", ae_title=ae_title, host="127.0.0.1", port=port, **more)


def files_of(folder: Path, count: int, rows: int = 64) -> list[Part10]:
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for ds in ct_series(count, rows=rows):
        path = folder / f"{ds.InstanceNumber}.dcm"
        ds.save_as(path, enforce_file_format=True)
        found.append(read_part10(path))
    return found


def kinds(files: list[Part10]) -> set[tuple[str, str]]:
    return {(f.sop_class_uid, f.transfer_syntax_uid) for f in files}


def test_bytes_arrive_as_they_are_whatever_the_peers_pdu_size(tmp_path: Path) -> None:
    files = files_of(tmp_path, 3, rows=100)
    for pdu_size in (0, 4096, 131072):
        with storing_peer(maximum_pdu_size=pdu_size) as (port, got):
            with store_session(peer_at(port), OURS, kinds(files)) as session:
                assert [session.store(f) for f in files] == [0, 0, 0]
        assert got == {f.sop_instance_uid: bytes(f.data_set) for f in files}


def test_implicit_vr_only_peer_gets_the_data_set_encoded_anew(tmp_path: Path) -> None:
    (file,) = files_of(tmp_path, 1)
    with storing_peer(syntaxes=(ImplicitVRLittleEndian,)) as (port, got):
        with store_session(peer_at(port), OURS, kinds([file])) as session:
            session.store(file)
    assert got[file.sop_instance_uid] != bytes(file.data_set)
    assert got[file.sop_instance_uid][:2] == b"\x08\x00"


@pytest.mark.parametrize("status", [0x0000, 0x0001, 0x0107, 0x0111, 0x0116, 0xB000, 0xB006, 0xB007])
def test_success_and_warnings_mean_stored(status: int) -> None:
    judge(status, "pacs")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (0xA700, TransientError),
        (0xA701, TransientError),
        (0x0213, TransientError),
        (0x0110, ProcessingFailed),
        (0x0122, PeerRejected),
        (0x0124, PeerRejected),
        (0xA900, PeerRejected),
        (0xC000, PeerRejected),
        (0xC123, PeerRejected),
        (0x0117, PeerRejected),
        (0x7777, PeerRejected),
    ],
)
def test_failures_are_for_now_or_for_good(tmp_path: Path, status: int, error: type[NodeError]) -> None:
    (file,) = files_of(tmp_path, 1)
    with storing_peer(status) as (port, _):
        with pytest.raises(error, match=f"0x{status:04X}"):
            with store_session(peer_at(port), OURS, kinds([file])) as session:
                session.store(file)


def test_a_refused_object_does_not_end_the_association(tmp_path: Path) -> None:
    files = files_of(tmp_path, 2)
    with storing_peer(0xC000) as (port, got), store_session(peer_at(port), OURS, kinds(files)) as session:
        for file in files:
            with pytest.raises(PeerRejected):
                session.store(file)
        assert len(got) == 2


def test_unknown_calling_ae_is_for_good_and_says_the_fix() -> None:
    with storing_peer(calling=["SOMEBODY"]) as (port, _), pytest.raises(PeerRejected, match="register it"):
        echo(peer_at(port), OURS)


def test_context_not_accepted_is_for_good(tmp_path: Path) -> None:
    (file,) = files_of(tmp_path, 1)
    mr = Part10(MR, file.sop_instance_uid, file.transfer_syntax_uid, file.data_set)
    with storing_peer() as (port, _):
        with pytest.raises(PeerRejected, match="MR Image Storage"):
            with store_session(peer_at(port), OURS, kinds([mr, file])) as session:
                session.store(mr)


def test_nobody_there_is_for_now() -> None:
    with pytest.raises(TransientError, match="cannot be reached"):
        echo(peer_at(free_port()), OURS)


def test_echo(tmp_path: Path) -> None:
    with storing_peer() as (port, _):
        echo(peer_at(port), OURS)


@contextmanager
def mute_peer(answers: list[bytes]) -> Iterator[int]:
    """Run a TCP server that sends each answer after some bytes came, and then is silent."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                for answer in answers:
                    connection.recv(65536)
                    connection.sendall(answer)
                done.wait(20)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            done.set()
            thread.join()


def test_silence_ends_at_the_timeout() -> None:
    with mute_peer([]) as port, pytest.raises(TransientError, match="association request"):
        echo(peer_at(port, association_timeout_s=0.3), OURS)


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.0 400 Bad request\r\n\r\n", b"\x02\x00\xff\xff\xff\xff", b"\x02\x00\x00\x00\x00\x08garbage!"],
)
def test_garbage_is_for_now(answer: bytes) -> None:
    with mute_peer([answer]) as port, pytest.raises(TransientError):
        echo(peer_at(port, association_timeout_s=1.0), OURS)


def test_lost_answer_is_unknown_and_the_same_uid_is_sent_again(tmp_path: Path) -> None:
    """A peer that stores the object and dies before it answers."""
    (file,) = files_of(tmp_path, 1)
    stored: list[str] = []

    def store(event: evt.Event) -> int:
        stored.append(str(event.request.AffectedSOPInstanceUID))
        if len(stored) == 1:
            event.assoc.dul.socket.close()
        return 0x0000

    ae = AE(ae_title="PACS")
    ae.add_supported_context(CT, [ExplicitVRLittleEndian])
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    peer = peer_at(server.server_address[1], dimse_timeout_s=2.0)
    try:
        with pytest.raises(StatusUnknown), store_session(peer, OURS, kinds([file])) as session:
            session.store(file)
        with store_session(peer, OURS, kinds([file])) as session:
            assert session.store(file) == 0
    finally:
        server.shutdown()
    assert stored == [file.sop_instance_uid] * 2


def test_no_status_is_lost_in_hundreds_of_stores_under_load(tmp_path: Path) -> None:
    """With one reader for each connection nobody else can take an answer; see requestor.py."""
    files = files_of(tmp_path, 100, rows=16)
    stop = threading.Event()

    def burn() -> None:
        while not stop.is_set():
            hashlib.sha256(b"x" * 100).digest()

    load = [threading.Thread(target=burn, daemon=True) for _ in range(2)]
    interval = sys.getswitchinterval()
    with storing_peer(maximum_pdu_size=131072) as (port, got):
        sys.setswitchinterval(1e-4)
        for thread in load:
            thread.start()
        try:
            for _ in range(2):
                with store_session(peer_at(port, dimse_timeout_s=30), OURS, kinds(files)) as session:
                    assert {session.store(f) for f in files} == {0}
        finally:
            stop.set()
            sys.setswitchinterval(interval)
    assert len(got) == 100


def test_not_a_dicom_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"something else")
    for name in ("a", "absent"):
        with pytest.raises(PermanentError):
            read_part10(tmp_path / name)


def test_orthanc_stores_and_keeps_the_first_copy(tmp_path: Path, needs_judge) -> None:
    files = files_of(tmp_path, 20)
    with Orthanc(needs_judge("Orthanc"), {OURS: ("127.0.0.1", 1)}) as orthanc:
        peer = peer_at(orthanc.dicom_port, "ORTHANC")
        echo(peer, OURS)
        for _ in range(2):
            with store_session(peer, OURS, kinds(files)) as session:
                assert {session.store(f) for f in files} == {0}
        assert set(orthanc.instances("1.2.826.1")) == {f.sop_instance_uid for f in files}
