from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from dicom_node.supervisor import Role, Supervisor
from tests.builders.waiting import until

RECORD_PID = """
import os, signal, sys
with open(sys.argv[1], "a") as f:
    f.write(f"{os.getpid()}\\n")
signal.pause()
"""


def _pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _recording_role(record: Path) -> Role:
    return Role("recorder", (sys.executable, "-c", RECORD_PID, str(record)))


def test_a_killed_process_is_started_again_and_ended_at_stop(tmp_path: Path) -> None:
    record = tmp_path / "pids"
    stop = threading.Event()
    supervisor = Supervisor((_recording_role(record),), time.time)
    thread = threading.Thread(target=supervisor.run, args=(stop,))
    thread.start()
    try:
        first = until(lambda: _pids(record))[0]
        os.kill(first, signal.SIGKILL)
        second = until(lambda: _pids(record)[1:])[0]
        assert second != first
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()
    assert not _alive(second)


def test_a_process_that_ends_at_once_is_started_ever_more_rarely(clock, tmp_path: Path) -> None:
    record = tmp_path / "starts"
    command = f"open({str(record)!r}, 'a').write('x')"
    supervisor = Supervisor((Role("short", (sys.executable, "-c", command)),), clock)
    stop = threading.Event()
    thread = threading.Thread(target=supervisor.run, args=(stop,))
    thread.start()

    def starts() -> int:
        return len(record.read_text()) if record.exists() else 0

    try:
        until(lambda: starts() == 1)
        until(lambda: supervisor._children[0].process is None)
        assert supervisor._children[0].due_at == clock.now + 0.2
        clock.advance(0.2)
        until(lambda: starts() == 2)
        until(lambda: supervisor._children[0].restarts == 2)
        assert supervisor._children[0].due_at == clock.now + 1.0
        assert starts() == 2
    finally:
        stop.set()
        thread.join(10)
