"""Running a program of the site: with a time limit, without a network, and ended with all it started."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from inference.errors import ModelError

_log = logging.getLogger(__name__)

NO_NETWORK = dict.fromkeys(
    ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
    "http://127.0.0.1:9",
)
"""A proxy that is not there, so that a program that honours proxies neither downloads nor reports usage."""
TAIL_CHARACTERS = 2000
"""Of the output of a program that failed; enough for the last lines of a traceback."""


def run_program(
    program: str, command: Sequence[str], folder: Path, time_limit_s: float, environment: Mapping[str, str]
) -> None:
    """Run a program to its end in `folder`, with `environment` added to this process's own.

    Its output goes to a file beside the data; where it fails, the end of it goes to the log. A program is
    given voxels and a grid, never a header, so that there is nobody to name.

    Raises
    ------
    ModelError
        It cannot be started, did not end in time, or ended with an error.
    """
    surroundings = {**os.environ, **NO_NETWORK, "NO_PROXY": "", "no_proxy": "", **environment}
    output = folder / "output.txt"
    with output.open("wb") as stream:
        try:
            process = subprocess.Popen(
                list(command),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=surroundings,
                start_new_session=True,
            )
        except OSError as error:
            raise ModelError(f"{program} cannot be started: {error.strerror}") from error
        try:
            code = process.wait(time_limit_s)
        except subprocess.TimeoutExpired:
            raise ModelError(f"{program} did not end within {time_limit_s:.0f} s") from None
        finally:
            _end_group(process)
    if code != 0:
        tail = output.read_text(encoding="utf-8", errors="replace")[-TAIL_CHARACTERS:]
        _log.warning("%s ended with code %d: %s", program, code, tail)
        raise ModelError(f"{program} ended with code {code}; the log has the end of its output")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End what the program started and left behind."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
