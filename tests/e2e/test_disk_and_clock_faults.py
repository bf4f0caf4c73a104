"""A disk that is full or read-only, a database that is locked, a clock that jumps: under real processes."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import yaml

from dicom_node.clock import system_clock
from dicom_node.database import database_file, open_database
from dicom_node.jobs.ledger import Ledger
from tests.builders.dicom_files import ct_series
from tests.builders.disks import inside, make_larger, make_read_only, make_writable, own_disk
from tests.builders.jumping_clock import set_clock
from tests.builders.listeners import LISTENER, ListenerProcess, listener_config, listener_process
from tests.builders.raw_peers import (
    VERIFICATION,
    associate_rq,
    c_echo_rq,
    connected,
    read_one_pdu,
    status_of,
    statuses,
)
from tests.builders.waiting import until

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
STUDY = "1.2.9.1"
STORED, OUT_OF_RESOURCES = 0x0000, 0xA700


def _has_part(listener: ListenerProcess) -> bool:
    incoming = listener.data_dir / "spool" / "incoming"
    return bool(inside(listener.process.pid, "find", str(incoming), "-type", "f").strip())


def _kept(listener: ListenerProcess) -> int:
    found = inside(listener.process.pid, "find", str(listener.data_dir / "spool"), "-name", "*.dcm")
    return len(found.splitlines())


@contextmanager
def _listener_on_its_own_disk(tmp_path: Path, size_mib: int) -> Iterator[tuple[ListenerProcess, int]]:
    """Run a listener whose data folder is a disk of its own; yields it and its port.

    The file with the port is on that disk, where this process cannot see it; the log is not.
    """
    data_dir = tmp_path / "data"
    before, config, log = own_disk(data_dir, size_mib), listener_config(data_dir), tmp_path / "log"
    command = [*before, sys.executable, "-m", *LISTENER, "--config", str(config)]
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
    try:
        told = until(lambda: re.search(r" listens on port (\d+)", log.read_text()), within_s=60)
        yield ListenerProcess(data_dir, process, log), int(told.group(1))
    finally:
        process.terminate()
        process.wait(30)


def test_a_disk_that_is_full_and_gets_more_room(tmp_path: Path) -> None:
    """Out of resources, again and again, with nothing half written; what did fit stays; then all is taken."""
    slices = ct_series(40, STUDY, "1.2.9.1.1", rows=256)
    with _listener_on_its_own_disk(tmp_path, size_mib=3) as (listener, port):
        first = statuses(port, slices)
        fitted = first.count(STORED)
        assert set(first) == {STORED, OUT_OF_RESOURCES}
        assert first == [STORED] * fitted + [OUT_OF_RESOURCES] * (len(slices) - fitted)
        assert _kept(listener) - fitted in (0, 1), "a file whose row did not fit is no loss"
        assert not _has_part(listener)
        assert listener.process.poll() is None
        make_larger(listener.process.pid, listener.data_dir, 64)
        assert statuses(port, slices) == [STORED] * len(slices)
        assert _kept(listener) == len(slices)


def test_a_disk_that_becomes_read_only(tmp_path: Path) -> None:
    """Out of resources while it lasts; the service answers, and takes everything when it is over."""
    slices = ct_series(6, STUDY, "1.2.9.1.1", rows=64)
    with _listener_on_its_own_disk(tmp_path, size_mib=64) as (listener, port):
        assert statuses(port, slices[:2]) == [STORED] * 2
        make_read_only(listener.process.pid, listener.data_dir / "spool")
        assert statuses(port, slices[2:]) == [OUT_OF_RESOURCES] * 4
        assert statuses(port, slices[:2]) == [STORED] * 2, "what is there is there"
        make_writable(listener.process.pid, listener.data_dir / "spool")
        assert statuses(port, slices) == [STORED] * 6
        assert _kept(listener) == 6


def test_a_database_that_is_locked(tmp_path: Path) -> None:
    """An object waits for its row: nothing is acknowledged before, and C-ECHO is answered all the while."""
    data_dir = tmp_path / "data"
    slices = ct_series(4, STUDY, "1.2.9.1.1", rows=64)
    answered: list[int] = []
    with listener_process(listener_config(data_dir), data_dir) as listener:
        assert statuses(listener.port, slices[:1]) == [STORED]
        with closing(sqlite3.connect(database_file(data_dir), isolation_level=None)) as locker:
            locker.execute("BEGIN EXCLUSIVE")
            sender = threading.Thread(target=lambda: answered.extend(statuses(listener.port, slices[1:])))
            sender.start()
            sender.join(3)
            assert sender.is_alive()
            assert answered == []
            began = time.monotonic()
            with connected(listener.port) as connection:
                connection.sendall(associate_rq(abstract=VERIFICATION))
                read_one_pdu(connection)
                connection.sendall(c_echo_rq())
                assert status_of(read_one_pdu(connection)[1]) == STORED
            assert time.monotonic() - began < 1
            locker.execute("ROLLBACK")
        sender.join(60)
        assert answered == [STORED] * 3


# --- a clock that jumps -------------------------------------------------------------------------


@pytest.mark.parametrize("jump_s", [-7200, 7200])
def test_the_clock_jumps_while_a_study_arrives(tmp_path: Path, jump_s: int) -> None:
    """The node goes on: one revision of all slices, complete when it was quiet, and routed."""
    offset = tmp_path / "offset"
    set_clock(offset, 0)
    clock = ("tests.builders.jumping_clock", str(offset))
    data_dir = tmp_path / "data"
    config = listener_config(data_dir)
    content = yaml.safe_load(config.read_text())
    content["assembly"] = {"series_quiet_period_s": 3, "study_quiet_period_s": 3}
    content["rules"] = [{"name": "none", "when": "true", "action": "ignore", "reason": "a test"}]
    config.write_text(yaml.safe_dump(content))
    slices = ct_series(6, STUDY, "1.2.9.1.1", rows=32)
    with listener_process(config, data_dir, module=(*clock, *LISTENER)) as listener, _steward(clock, config):
        ledger = Ledger(open_database(data_dir), system_clock)

        def states() -> list[str]:
            return [str(r.state) for r in sorted(ledger.revisions(), key=lambda r: r.id)]

        # A study that has gone through says that the steward works: a slow start is longer than quiet.
        assert statuses(listener.port, ct_series(1, "1.2.9.3", "1.2.9.3.1", rows=32)) == [STORED]
        until(lambda: states() == ["IGNORED"], within_s=60)
        assert statuses(listener.port, slices[:3]) == [STORED] * 3
        until(lambda: states() == ["IGNORED", "RECEIVING"], within_s=60)
        set_clock(offset, jump_s)
        assert statuses(listener.port, slices[3:]) == [STORED] * 3
        until(lambda: states() == ["IGNORED", "IGNORED"], within_s=60)
        assert len(ledger.inputs(STUDY)) == 6
        ledger.database.dispose()


@contextmanager
def _steward(clock: tuple[str, ...], config: Path) -> Iterator[None]:
    """Run a steward whose clock jumps, for a block."""
    command = [sys.executable, "-m", *clock, "dicom_node.processes", "steward", "--config", str(config)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)
