"""kill -9 of the listener at random points: what was acknowledged is on disk and in the index."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import subprocess
import threading
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.presentation import build_context
from sqlalchemy import select

from dicom_node.database import instance, open_database, reading
from tests.builders.dicom_files import CT, ct_series
from tests.builders.listeners import ListenerProcess, listener_config, start_listener
from tests.builders.waiting import until

pytestmark = pytest.mark.e2e

_log = logging.getLogger(__name__)

SENDERS = 2


def data_set_of(file: bytes) -> bytes:
    """Return the bytes after the file meta information."""
    stream = BytesIO(file)
    head = stream.read(144)
    return file[144 + int.from_bytes(head[140:144], "little") :]


class Sender(threading.Thread):
    """Sends a series over one association, and notes what was acknowledged."""

    def __init__(self, port: int, series: list[Dataset], halfway: threading.Semaphore) -> None:
        super().__init__()
        self._port = port
        self._series = series
        self._sent = halfway
        self.acknowledged: list[str] = []

    def run(self) -> None:
        ae = AE(ae_title="SENDER")
        ae.dimse_timeout = 5
        association = ae.associate(
            "127.0.0.1", self._port, contexts=[build_context(CT)], ae_title="HEPATOCAST"
        )
        connection = association.dul.socket.socket
        for ds in self._series:
            if not association.is_established:
                break
            if association.send_c_store(ds).get("Status") == 0:
                self.acknowledged.append(str(ds.SOPInstanceUID))
            self._sent.release()
        association.abort()
        connection.close()  # a requestor that lost its peer leaves it open


def kill_while_sending(
    listener: ListenerProcess, series: list[list[Dataset]], rng: random.Random
) -> set[str]:
    """Kill the listener somewhere inside the transfer; return the UIDs that were acknowledged."""
    sent = threading.Semaphore(0)
    senders = [Sender(listener.port, one, sent) for one in series]
    for sender in senders:
        sender.start()
    for _ in range(rng.randrange(1, sum(map(len, series)))):
        if not sent.acquire(timeout=30):
            break
    threading.Event().wait(rng.uniform(0, 0.02))  # somewhere inside an object, not at its end
    listener.kill()
    for sender in senders:
        sender.join()
    return {uid for sender in senders for uid in sender.acknowledged}


def expected(series: list[list[Dataset]]) -> dict[str, bytes]:
    files = {}
    for ds in (ds for one in series for ds in one):
        buffer = BytesIO()
        ds.save_as(buffer, enforce_file_format=True)
        files[str(ds.SOPInstanceUID)] = data_set_of(buffer.getvalue())
    return files


def check(data_dir: Path, acknowledged: set[str], sent: dict[str, bytes]) -> int:
    """Check index and disk after a restart; return how many objects there are."""
    engine = open_database(data_dir)
    with reading(engine) as connection:
        rows = {r.sop_instance_uid: r for r in connection.execute(select(instance))}
    engine.dispose()
    assert acknowledged <= set(rows), "an acknowledged object is not in the index"
    for uid, row in rows.items():
        kept = data_set_of((data_dir / row.path).read_bytes())
        assert kept == sent[uid], "the bytes of an object have changed"
        assert hashlib.sha256(kept).hexdigest() == row.sha256
        assert row.calling_ae_title == "SENDER"
        assert not row.conflicts
    on_disk = {str(p.relative_to(data_dir)) for p in (data_dir / "spool").rglob("*.dcm")}
    assert on_disk == {row.path for row in rows.values()}
    assert not list((data_dir / "spool" / "incoming").iterdir())
    return len(rows)


def one_run(folder: Path, seed: int) -> tuple[int, int]:
    """Kill, restart, check, send all again, check; return (acknowledged, kept) at the kill."""
    rng = random.Random(seed)
    data_dir = folder / f"run{seed}"
    config = listener_config(data_dir)
    series = [ct_series(15, f"1.2.9.{seed}", f"1.2.9.{seed}.{n}", rows=128) for n in range(1, SENDERS + 1)]
    sent = expected(series)
    acknowledged = kill_while_sending(start_listener(config, data_dir), series, rng)
    again = start_listener(config, data_dir)
    try:
        kept = check(data_dir, acknowledged, sent)
        everything = threading.Semaphore(0)
        for one in series:
            sender = Sender(again.port, one, everything)
            sender.start()
            sender.join()
            assert sender.acknowledged == [str(ds.SOPInstanceUID) for ds in one]
        assert check(data_dir, set(sent), sent) == len(sent)
    finally:
        assert again.stop() == 0
    assert "put aside" not in again.log.read_text()
    return len(acknowledged), kept


@pytest.mark.parametrize("seed", range(1))
def test_kill_at_a_random_point(tmp_path: Path, seed: int) -> None:
    one_run(tmp_path, seed)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thirty_kills_at_random_points(tmp_path: Path) -> None:
    runs = [one_run(tmp_path, seed) for seed in range(100, 130)]
    _log.info("acknowledged and kept at each kill: %s", runs)
    assert len(runs) == 30
    assert any(0 < acknowledged < 2 * 15 for acknowledged, _ in runs), "no kill fell inside a transfer"


def test_kill_while_dcmsend_sends(tmp_path: Path, needs_judge) -> None:
    data_dir = tmp_path / "data"
    config = listener_config(data_dir)
    series = ct_series(60, "1.2.8", "1.2.8.1", rows=256)
    source = tmp_path / "source"
    source.mkdir()
    for ds in series:
        ds.save_as(source / f"{ds.InstanceNumber}.dcm", enforce_file_format=True)
    report = tmp_path / "report.txt"
    listener = start_listener(config, data_dir)
    command = [needs_judge("dcmsend"), "-v", "-aet", "DCMSEND", "-aec", "HEPATOCAST", "+sd"]
    command += ["+crf", str(report), "127.0.0.1", str(listener.port), str(source)]
    environment = {**os.environ, "TCP_NODELAY": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as dcmsend:
        until(lambda: len(list((data_dir / "spool").rglob("*.dcm"))) > 20)
        listener.kill()
        output, _ = dcmsend.communicate(timeout=60)
    acknowledged = output.count("Received C-STORE Response (Success)")
    assert 0 < acknowledged < 60, output[-2000:]
    again = start_listener(config, data_dir)
    again.stop()
    engine = open_database(data_dir)
    with reading(engine) as connection:
        rows = connection.execute(select(instance)).all()
    engine.dispose()
    assert len(rows) >= acknowledged
    by_uid = {ds.SOPInstanceUID: ds for ds in series}
    for row in rows:
        assert dcmread(data_dir / row.path) == by_uid[row.sop_instance_uid]
