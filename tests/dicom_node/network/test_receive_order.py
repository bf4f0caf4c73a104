"""The order of system calls behind a success, as the kernel saw it."""

from __future__ import annotations

import re
from pathlib import Path

import psutil

from tests.builders.dicom_files import Called, ct_slice, send
from tests.builders.listeners import listener_config, start_listener

CALL = re.compile(r"^\d+ +(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)")
RESUMED = re.compile(r"^(?P<thread>\d+) +<\.\.\. \w+ resumed>(?P<rest>.*)$")
UNFINISHED = re.compile(r"^(?P<thread>\d+) +(?P<start>.*) <unfinished \.\.\.>$")


def finished_calls(trace: str) -> list[tuple[str, str]]:
    """Return (name, arguments) of the calls that succeeded, in the order in which they ended."""
    started: dict[str, str] = {}
    calls = []
    for line in trace.splitlines():
        text = line
        if match := UNFINISHED.match(line):
            started[match["thread"]] = match["start"]
            continue
        if match := RESUMED.match(line):
            text = f"{match['thread']} {started.pop(match['thread'])}{match['rest']}"
        if (match := CALL.match(text)) and int(match["result"]) >= 0:
            calls.append((match["name"], match["arguments"]))
    return calls


def position(calls: list[tuple[str, str]], after: int, names: str, arguments: str) -> int:
    """Return where the first such call after `after` is."""
    for at in range(after + 1, len(calls)):
        if re.fullmatch(names, calls[at][0]) and re.search(arguments, calls[at][1]):
            return at
    raise AssertionError(f"no {names} with {arguments} after call {after}: {calls[max(after, 0) :]}")


def test_write_fsync_rename_fsync_commit_respond(tmp_path: Path, needs_judge) -> None:
    data_dir = tmp_path / "data"
    trace = tmp_path / "trace"
    watched = "write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,sendto,sendmsg"
    strace = (needs_judge("strace"), "-f", "-y", "-s", "64", "-o", str(trace), "-e", f"trace={watched}")
    listener = start_listener(listener_config(data_dir), data_dir, before=strace)
    try:
        port = listener.port
        assert send([ct_slice(number=1), ct_slice(number=2)], Called(port)) == [0, 0]
    finally:
        (traced,) = psutil.Process(listener.process.pid).children()
        traced.terminate()  # strace itself ends with it, its trace complete
        listener.process.wait(30)
    calls = finished_calls(trace.read_text())
    at = position(calls, -1, "sendto|sendmsg", "socket|TCP")  # the A-ASSOCIATE-AC
    for _ in range(2):
        at = position(calls, at, "write", r"/spool/incoming/[\d-]+\.part")
        at = position(calls, at, "fsync|fdatasync", r"/spool/incoming/[\d-]+\.part")
        at = position(
            calls, at, "rename.*", r"/spool/incoming/[\d-]+\.part.*/spool/[0-9a-f]{2}/[0-9.]+/.*\.dcm"
        )
        at = position(calls, at, "fsync|fdatasync", r"/spool/[0-9a-f]{2}/[0-9.]+>$")
        at = position(calls, at, "pwrite64|write", r"node\.sqlite-wal")
        at = position(calls, at, "fsync|fdatasync", r"node\.sqlite-wal")
        answer = position(calls, at, "sendto|sendmsg", r"TCP|socket")
        between = [arguments for name, arguments in calls[at + 1 : answer] if "part" in arguments]
        assert not between, "nothing of the file is left to do when the answer goes out"
        at = answer
    responses = [c for c in calls if c[0] in ("sendto", "sendmsg") and re.search("TCP|socket", c[1])]
    assert len(responses) == 4  # accept, two C-STORE-RSP, release: no answer came earlier
